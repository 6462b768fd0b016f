import pytest

from recsys_assets.settings import NoPort, settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("DAGSTER_PORT", "MLFLOW_PORT", "RECSYS_DAGSTER_UI", "RECSYS_MLFLOW_UI"):
        monkeypatch.delenv(variable, raising=False)


def test_links_to_the_uis_follow_the_variables_that_move_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (settings().dagster_ui, settings().tracking_ui) == ("http://127.0.0.1:3000", "http://127.0.0.1:5000")
    monkeypatch.setenv("DAGSTER_PORT", "3100")
    monkeypatch.setenv("MLFLOW_PORT", "5100")
    assert (settings().dagster_ui, settings().tracking_ui) == ("http://127.0.0.1:3100", "http://127.0.0.1:5100")
    monkeypatch.setenv("RECSYS_DAGSTER_UI", "https://dagster.example.com")
    assert settings().dagster_ui == "https://dagster.example.com"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "3000.0", "tcp://10.0.0.1:3000", " 3000"])
def test_what_is_not_a_port_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("DAGSTER_PORT", port)
    with pytest.raises(NoPort, match=r"^DAGSTER_PORT=.* is not a port: give a number"):
        settings()
