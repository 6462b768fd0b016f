"""A backup that is taken while programs write, and put back on an empty machine."""

import shutil
import sqlite3
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main
from recsys_assets.cli.running import open_instance
from recsys_assets.lake import Lake
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.environment import forget_tracking_uri

DAY = "2026-01-05"


@dg.asset
def made() -> None:
    pass


class Machine:
    """A home and a data folder, which the environment names."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.patch = home, patch
        home.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", home)
        self.use()

    def use(self) -> None:
        self.patch.setenv("DAGSTER_HOME", str(self.home))
        self.patch.setenv("RECSYS_DATA", str(self.home / "data"))
        self.patch.setenv("RECSYS_PROFILE", "sample")
        forget_tracking_uri(self.patch)

    @property
    def serving(self) -> Path:
        return self.home / "data" / "serving" / "sample"

    def fill(self) -> str:
        """A run of Dagster, a partition, an event that a service was told and a file that it copied; the run's id."""
        with open_instance() as instance:
            run = dg.materialize([made], instance=instance).run_id
        with Lake(str(self.home / "data" / "lake"), "sample").draft("splits", DAY) as draft:
            draft.path("a.csv").write_text("1")
        (self.serving / "copies").mkdir(parents=True)
        (self.serving / "copies" / "model.onnx").write_text("a copy of the lake")
        (self.serving / "served.json").write_text("{}")
        self.writer = sqlite3.connect(self.serving / "told.db")
        self.writer.execute("PRAGMA journal_mode = WAL")
        self.writer.execute("CREATE TABLE events (user)")
        self.writer.execute("INSERT INTO events VALUES (7)")
        self.writer.commit()  # the row is in the write-ahead log, not in the file
        return run


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "old", monkeypatch)


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_what_was_written_until_the_backup_is_there_after_a_restore(old: Machine, tmp_path: Path) -> None:
    run, place = old.fill(), str(tmp_path / "backup")
    saved = recsys("backup", place)
    old.writer.close()
    assert saved.exit_code == 0, saved.output
    again = recsys("backup", place)
    assert again.exit_code == 1 and "exists already" in again.stderr
    assert recsys("restore", place).exit_code == 1  # the old machine still has everything

    new = Machine(tmp_path / "new", old.patch)
    done = recsys("restore", place)
    assert done.exit_code == 0, done.output
    assert f"the lake lacks, or has changed: splits/{DAY}" in done.stdout
    with open_instance() as instance:
        assert [each.run_id for each in instance.get_runs()] == [run]
        assert instance.get_latest_materialization_event(dg.AssetKey("made")) is not None
    assert sorted(path.name for path in new.serving.iterdir()) == ["served.json", "told.db"]
    assert sqlite3.connect(new.serving / "told.db").execute("SELECT user FROM events").fetchall() == [(7,)]


def test_a_backup_that_was_damaged_is_refused_and_nothing_is_written(old: Machine, tmp_path: Path) -> None:
    old.fill()
    place = tmp_path / "backup"
    assert recsys("backup", str(place)).exit_code == 0
    old.writer.close()
    (place / "serving" / "sample" / "told.db").write_bytes(b"")
    new = Machine(tmp_path / "new", old.patch)
    refused = recsys("restore", str(place))
    assert refused.exit_code == 1 and "told.db is missing or changed" in refused.stderr
    assert not new.serving.exists()
    (place / "backup.json").unlink()
    assert "holds no backup" in recsys("restore", str(place)).stderr
