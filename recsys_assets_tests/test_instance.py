import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log import SqliteEventLogStorage

from recsys_assets.instance import MACHINE_TAG, ProjectInstance, end_dead_runs, main
from recsys_assets_tests.conftest import PROJECT

SLEEPER = """
import time
from pathlib import Path
import dagster as dg

@dg.asset(pool="training")
def sleeper() -> None:
    Path("begun").touch()
    time.sleep({seconds})

if __name__ == "__main__":
    dg.materialize([sleeper], instance=dg.DagsterInstance.get())
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as opened:
        yield opened


def begun(folder: Path) -> "subprocess.Popen[bytes]":
    """Start a process and wait until it is in the middle of a training step."""
    script = folder / "sleeper.py"
    script.write_text(SLEEPER.format(seconds=120), encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script)], cwd=folder, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert process.poll() is None and time.monotonic() < deadline, "the step never began"
        time.sleep(0.1)
    return process


def claims(instance: dg.DagsterInstance) -> int:
    return len(instance.event_log_storage.get_concurrency_info("training").claimed_slots)


def test_history_lies_beside_dagster_yaml_wherever_the_command_runs(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert isinstance(instance, ProjectInstance)
    assert (tmp_path / ".dagster" / "history").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dagster", "dagster.yaml"]


def test_history_lies_in_the_current_folder_when_only_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    places = ProjectInstance.config_defaults("/a/temporary/folder")
    assert places["storage"].config_dict == {"base_dir": str(tmp_path / ".dagster")}


def test_events_of_a_run_s_partitions_are_stored_together_and_completely(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = dg.StaticPartitionsDefinition(["one", "two", "three"])
    alone: list[dg.EventLogEntry] = []
    store = SqliteEventLogStorage.store_event

    def store_alone(log: SqliteEventLogStorage, event: dg.EventLogEntry) -> None:
        alone.append(event)
        store(log, event)

    monkeypatch.setattr(SqliteEventLogStorage, "store_event", store_alone)

    @dg.asset(partitions_def=days, backfill_policy=dg.BackfillPolicy.single_run())
    def daily() -> None: ...

    span = {"dagster/asset_partition_range_start": "one", "dagster/asset_partition_range_end": "three"}
    assert dg.materialize([daily], instance=instance, tags=span).success
    log, key = instance.event_log_storage, daily.key
    of_assets = (dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert not [each for each in alone if each.dagster_event_type in of_assets]
    assert log.get_materialized_partitions(key) == {"one", "two", "three"}
    (run,) = instance.get_runs()
    for kind in of_assets:
        assert len(instance.all_logs(run.run_id, of_type=kind)) == 3
    newest, *_ = reversed(instance.all_logs(run.run_id, of_type=of_assets[1]))
    assert instance.get_latest_materialization_event(key) == newest
    versions = log.get_latest_tags_by_partition(key, of_assets[1], ["dagster/data_version"])
    assert versions.keys() == {"one", "two", "three"}


def test_a_killed_training_does_not_block_the_next_one(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    process = begun(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert claims(instance) == 1
    (run,) = instance.get_runs()
    assert run.tags[MACHINE_TAG] == socket.gethostname()
    instance.add_run_tags(run.run_id, {MACHINE_TAG: "another-container"})
    assert end_dead_runs(instance) == []  # its process id means nothing here
    instance.add_run_tags(run.run_id, {MACHINE_TAG: socket.gethostname()})

    @dg.asset(pool="training")
    def trained() -> None: ...

    assert dg.materialize([trained], instance=instance).success
    assert claims(instance) == 0
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}


def test_a_training_at_work_is_left_alone(
    instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = begun(tmp_path)
    try:
        main()
        assert capsys.readouterr().out == "runs that had died: none\n"
        assert claims(instance) == 1
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    main()
    (run,) = instance.get_runs()
    assert capsys.readouterr().out == f"runs that had died: {run.run_id}\n"
