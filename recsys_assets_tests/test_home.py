import os
from pathlib import Path

import pytest

from recsys_assets import home
from recsys_assets.home import FILES, prepare_home
from recsys_assets_tests.conftest import PROJECT


def test_a_folder_without_a_checkout_gets_what_dagster_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path / "mine"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr(home, "PACKED", PROJECT)
    assert prepare_home() == tmp_path / "mine"
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "mine")
    for name in FILES:
        assert (tmp_path / "mine" / name).read_bytes() == (PROJECT / name).read_bytes()


def test_a_file_that_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setattr(home, "PACKED", PROJECT)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    prepare_home()
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"
