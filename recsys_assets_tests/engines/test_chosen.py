"""The engine that the setting names, and what is said of one that cannot be had."""

import importlib.util
import socket
from pathlib import Path

import pytest

from recsys_assets.engines.chosen import EngineInvalid, open_engine
from recsys_assets.engines.spark import EngineUnreachable, SparkMissing
from recsys_assets_tests.helpers.dagster_dev import free_port


@pytest.fixture(autouse=True)
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path))


@pytest.mark.parametrize("chosen", ["", "duckdb"])
def test_duckdb_is_the_engine_unless_another_one_is_named(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("RECSYS_ENGINE", chosen)
    with open_engine() as engine:
        assert engine.execute("SELECT library_version FROM pragma_version()").fetchall()


@pytest.mark.parametrize("chosen", ["polars", "spark", "sc://", "local-cluster[2]", "DUCKDB", "yarn "])
def test_a_setting_that_names_no_engine_is_refused(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    monkeypatch.setenv("RECSYS_ENGINE", chosen)
    with pytest.raises(EngineInvalid, match=r"^RECSYS_ENGINE=.* is no engine: give duckdb, sc://"), open_engine():
        pass


@pytest.mark.parametrize("scheme", ["sc", "spark"])
def test_an_address_at_which_nothing_listens_is_named(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    chosen = f"{scheme}://127.0.0.1:{free_port()}"
    monkeypatch.setenv("RECSYS_ENGINE", chosen)
    with pytest.raises(EngineUnreachable, match=rf"^RECSYS_ENGINE={chosen}: nothing answers"), open_engine():
        pass


def test_a_token_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_ENGINE", f"sc://127.0.0.1:{free_port()}/;token=s3same")
    with pytest.raises(EngineUnreachable) as said, open_engine():
        pass
    assert "s3same" not in str(said.value)


@pytest.mark.skipif(bool(importlib.util.find_spec("pyspark")), reason="Spark is installed")
def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("RECSYS_ENGINE", f"sc://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(SparkMissing, match="pip install 'recsys-assets"), open_engine():
            pass
