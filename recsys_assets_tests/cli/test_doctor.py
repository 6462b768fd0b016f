"""`recsys doctor` checks the actual configuration, and reads the lake only on request."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main
from recsys_assets.lake import Lake
from recsys_assets.manifest import MANIFEST
from recsys_assets_tests.conftest import PROJECT

DAY, NEXT = "2026-06-29", "2026-06-30"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("RECSYS_", "DAGSTER_", "MLFLOW_", "MONGO"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("MONGO_URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    return tmp_path


def doctor(*options: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *options])


def said(result: Result, what: str) -> list[str]:
    """The lines on a subject, each with its advice."""
    lines = result.output.splitlines()
    return [
        line + ("".join(lines[place + 1 : place + 2]) if "->" in "".join(lines[place + 1 : place + 2]) else "")
        for place, line in enumerate(lines)
        if line[6:].startswith(what)
    ]


def test_one_problem_is_one_problem() -> None:
    result = doctor()
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "Error: 1 problem found"  # MongoDB


def test_a_landing_folder_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LANDING", "/nowhere")
    (line,) = said(doctor(), "landing")
    assert line.startswith("FIX   landing    /nowhere is not a folder") and "correct RECSYS_LANDING" in line


def test_a_landing_folder_of_a_profile_of_ones_own_that_is_not_there_is_a_problem(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = (PROJECT / "recsys_assets/datasets/profiles/sample.yaml").read_text()
    lines = [line for line in bundled.splitlines() if not line.startswith(("source:", "landing:"))]
    (home / "own.yaml").write_text("\n".join([*lines, "landing: /nowhere/own"]))
    monkeypatch.setenv("RECSYS_PROFILE", str(home / "own.yaml"))
    (line,) = said(doctor(), "landing")
    assert "/nowhere/own is not a folder" in line


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_cannot_be_read_in_the_landing_folder_is_a_problem(open_folder: Path) -> None:
    for day in (DAY, NEXT):
        place = open_folder / "sample" / "interactions" / f"bizdate={day}"
        place.mkdir(parents=True)
        (place / "a.csv").touch()
    (open_folder / "sample" / "interactions" / f"bizdate={NEXT}").chmod(0o700)
    code = (
        "import os; from recsys_assets.datasets import landing as _; from recsys_assets.cli import days; "
        "from recsys_assets.cli.doctor import check_landing; "
        "from recsys_assets.settings import settings; from recsys_assets.datasets.profile import load_profile; "
        "load_profile(); os.setuid(65534); print(check_landing(settings()))"
    )
    environment = {**os.environ, "RECSYS_LANDING": str(open_folder), "PYTHONPATH": str(PROJECT)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "state='fix'" in found.stdout
    assert "cannot be read" in found.stdout
    assert f"chmod -R u+rX '{open_folder}/sample'" in found.stdout


def test_a_history_that_has_no_settings_is_a_problem(home: Path) -> None:
    (home / "dagster.yaml").unlink()
    (line,) = said(doctor(), "history")
    assert line.startswith("FIX") and f"DAGSTER_HOME={PROJECT}" in line


def test_a_data_folder_that_everybody_may_read_is_noted(home: Path) -> None:
    (home / "data").mkdir(mode=0o755)
    (home / "data").chmod(0o755)
    (line,) = said(doctor(), "data")
    assert line.startswith("note") and f"chmod go-rwx '{home / 'data'}'" in line
    (home / "data").chmod(0o700)
    (line,) = said(doctor(), "data")
    assert line.startswith("ok")


def test_a_database_that_is_none_is_a_problem(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "mlflow.db").write_bytes(b"no database" * 100)
    (line,) = said(doctor(), "mlflow     ")
    assert line.startswith("FIX") and "file is not a database" in line


def test_every_damaged_partition_is_named_with_the_command_that_rebuilds_it(home: Path) -> None:
    lake = Lake(str(home / "data" / "lake"), "sample")
    for asset in ("users", "items", "splits"):
        for day in (DAY, NEXT):
            with lake.draft(asset, day) as draft:
                draft.path("data.csv").write_text("a\n1\n")
    assert said(doctor("--verify"), "partition")[0].startswith("ok    partitions 6 of 6 are as their manifests say")
    place = home / "data" / "lake" / "sample"
    (place / "users" / f"bizdate={DAY}" / "data.csv").write_text("a\n2\n")  # one byte
    (place / "items" / f"bizdate={NEXT}" / "data.csv").unlink()
    (place / "splits" / f"bizdate={DAY}" / MANIFEST).write_text("{")
    (place / "splits" / f"bizdate={NEXT}" / MANIFEST).unlink()
    result = doctor("--verify")
    assert result.exit_code == 1
    lines = said(result, "partition")
    assert lines[-1].startswith("ok    partitions 2 of 6")
    for line, (asset, day) in zip(
        lines, [("items", NEXT), ("splits", DAY), ("splits", NEXT), ("users", DAY)], strict=False
    ):
        assert line.startswith(f"FIX   partition  {asset} {day}: ")
        assert line.endswith(f"-> recsys materialize {asset} --bizdate {day}")
    assert [line for line in said(doctor(), "partition") if "users" in line] == []
