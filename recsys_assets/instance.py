"""The project's Dagster instance: where its history is kept, and how killed runs are ended.

Put here what `dagster.yaml` cannot express. Its own setting for the history's folder is resolved against the current
folder, so a command started elsewhere would leave a second history there, and without `DAGSTER_HOME` the history would
be temporary. A run whose process is killed would stay "started" for ever and keep its place in a pool, so that no
later training could begin. Error messages of libraries are also kept for ever and shown in the UI, so secrets in the
URLs that the environment holds are removed from them.

`python -m recsys_assets.instance` ends the dead runs of this machine: a code server that starts has none that live.
"""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

import dagster as dg
import psutil
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import InstigatorTick

from recsys_assets.datasets.disk import DAGSTER_HISTORY, Place, private_folder, writing_to
from recsys_assets.event_log import BATCH, batched_storage
from recsys_assets.uris import reveals, without_secrets

SPOKEN = ("message", "user_message", "stack")  # keys of Dagster's events and errors that hold free text or its lines
T = TypeVar("T")
MACHINE_TAG = "recsys/machine"  # of a run: the machine, or the container, that its process id belongs to
_RUNNING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


class ProjectInstance(dg.DagsterInstance):
    """Runs, events, schedules and compute logs in `.dagster/` next to `dagster.yaml`; a new run ends dead ones."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings beyond Dagster's own."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Dagster's defaults, in the folder that holds `dagster.yaml`.

        Without `DAGSTER_HOME` Dagster reads `dagster.yaml` from the current folder but passes a temporary
        one as `base_dir`; the history still belongs next to the file.
        """
        home = Path(base_dir if os.environ.get("DAGSTER_HOME") else Path.cwd()).absolute()
        private_folder(home / DAGSTER_HISTORY)
        history = str(home / DAGSTER_HISTORY)
        return {**InstanceRef.config_defaults(history), "storage": batched_storage(history)}

    def _get_event_batch_size(self) -> int:
        """Events of partitions that are stored together, in place of the environment's setting."""
        return BATCH

    def handle_new_event(self, event: dg.EventLogEntry, **kwargs: Any) -> None:
        """Store an event of a run as Dagster does, without secrets; an error of a full disk says what to do."""
        with self._writing():
            if event.dagster_event_type == dg.DagsterEventType.RUN_START:
                self.add_run_tags(event.run_id, {MACHINE_TAG: socket.gethostname()})
            super().handle_new_event(without_spoken_secrets(event), **kwargs)

    def update_tick(self, tick: InstigatorTick) -> Any:
        """Store the result of a tick of a sensor or schedule as Dagster does, without secrets."""
        return super().update_tick(without_spoken_secrets(tick))

    def create_run(self, *args: Any, **kwargs: Any) -> dg.DagsterRun:
        """Create a run for the UI, a schedule, a sensor or a backfill; end dead runs first."""
        with self._writing():
            end_dead_runs(self)
            return super().create_run(*args, **kwargs)

    def create_run_for_job(self, *args: Any, **kwargs: Any) -> dg.DagsterRun:
        """Create a run for the command line or Python; end dead runs first."""
        with self._writing():
            end_dead_runs(self)
            return super().create_run_for_job(*args, **kwargs)

    def _writing(self) -> AbstractContextManager[None]:
        """Turn the error of a full disk into one that says what to do."""
        return writing_to(Place("Dagster's history", Path(self.root_directory), "DAGSTER_HOME"))


def without_spoken_secrets(kept: T) -> T:
    """The object to store, its messages and tracebacks without the lines that show a secret."""
    text = dg.serialize_value(kept)  # type: ignore[arg-type]
    if not reveals(text):
        return kept
    return cast(T, dg.deserialize_value(json.dumps(_redact(json.loads(text)))))


def _redact(value: Any, key: str = "") -> Any:
    """The JSON without secrets in the texts under the keys of `SPOKEN`; names and ids stay as they are."""
    match value:
        case dict():
            return {name: _redact(each, name) for name, each in value.items()}
        case list():
            return [_redact(each, key) for each in value]
        case str() if key in SPOKEN:
            return without_secrets(value)
    return value


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark started runs whose process is gone as failed and free their places in pools; returns their ids.

    Runs of other machines and containers are left alone: their process ids mean nothing here.
    """
    here = socket.gethostname()
    dead = [
        record.dagster_run
        for record in instance.get_run_records(dg.RunsFilter(statuses=_RUNNING))
        if record.start_time
        and record.dagster_run.tags.get(MACHINE_TAG, here) == here
        and _is_gone(instance, record.dagster_run.run_id, record.start_time)
    ]
    for run in dead:
        instance.report_run_failed(run, "The run's process is gone: it was killed, or the machine went down.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _is_gone(instance: dg.DagsterInstance, run_id: str, started: float) -> bool:
    """Whether the process that executes the run has ended; False until the run has logged its process id."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    told = [event.dagster_event.engine_event_data.metadata for event in events if event.dagster_event]
    pids = [int(str(metadata["pid"].value)) for metadata in told if "pid" in metadata]
    if not pids:
        return False
    try:
        process = psutil.Process(pids[0])
        # A process that began after the run is a different one with the same id; 1 s, because clocks are rounded.
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > started + 1
    except psutil.NoSuchProcess:
        return True


def main() -> None:
    """End the dead runs of this machine, so that the daemon can retry them."""
    from recsys_assets.uris import guard_logs

    guard_logs()
    with dg.DagsterInstance.get() as instance:
        ended = end_dead_runs(instance)
    print(f"runs that had died: {', '.join(ended) or 'none'}")  # noqa: T201


if __name__ == "__main__":
    main()
