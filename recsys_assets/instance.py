"""Dagster's instance as this project runs it: where its history lies, and what becomes of runs that were killed.

Put here what `dagster.yaml` cannot say. Its own setting of the history's folder is resolved against the current
folder, so that a command started elsewhere leaves a second history there, and without `DAGSTER_HOME` the
history is a temporary one. And a run whose process is killed stays "started" for ever, with its place in a pool:
no later training would begin. What libraries say when they fail is kept for ever too, and shown in the UI: secrets of
the places that the environment names are left out of it.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar, cast

import dagster as dg
import psutil
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import InstigatorTick

from recsys_assets.datasets.disk import Place, private_folder, written_to
from recsys_assets.uris import reveals, without_secrets

HISTORY = ".dagster"
SPOKEN = ("message", "user_message", "stack")  # of Dagster's events and errors: what was said, as text or lines
T = TypeVar("T")
_RUNNING = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


class ProjectInstance(dg.DagsterInstance):
    """Runs, events, schedules and compute logs in `.dagster/` beside `dagster.yaml`; a new run ends dead ones."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """No settings beyond Dagster's own."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Dagster's defaults, in the folder that holds `dagster.yaml`.

        Without `DAGSTER_HOME` Dagster reads `dagster.yaml` from the current folder but passes a temporary
        one as `base_dir`; the history belongs beside the file all the same.
        """
        home = Path(base_dir if os.environ.get("DAGSTER_HOME") else Path.cwd()).absolute()
        private_folder(home / HISTORY)
        return InstanceRef.config_defaults(str(home / HISTORY))

    def handle_new_event(self, event: dg.EventLogEntry, **kwargs: Any) -> None:
        """As Dagster's, for every event of a run."""
        with self._written_to():
            super().handle_new_event(without_spoken_secrets(event), **kwargs)

    def update_tick(self, tick: InstigatorTick) -> Any:
        """As Dagster's, for what became of a look of a sensor or schedule."""
        return super().update_tick(without_spoken_secrets(tick))

    def create_run(self, *args: Any, **kwargs: Any) -> dg.DagsterRun:
        """As Dagster's, for the UI, schedules, sensors and backfills."""
        with self._written_to():
            end_dead_runs(self)
            return super().create_run(*args, **kwargs)

    def create_run_for_job(self, *args: Any, **kwargs: Any) -> dg.DagsterRun:
        """As Dagster's, for the command line and Python."""
        with self._written_to():
            end_dead_runs(self)
            return super().create_run_for_job(*args, **kwargs)

    def _written_to(self) -> AbstractContextManager[None]:
        """Says what to do where the history's disk is full."""
        return written_to(Place("Dagster's history", Path(self.root_directory), "DAGSTER_HOME"))


def without_spoken_secrets(kept: T) -> T:
    """What is about to be kept, its messages and tracebacks without the lines that show a secret."""
    text = dg.serialize_value(kept)  # type: ignore[arg-type]
    if not reveals(text):
        return kept
    return cast(T, dg.deserialize_value(json.dumps(_spoken(json.loads(text)))))


def _spoken(value: Any, key: str = "") -> Any:
    """The JSON with the texts under the keys of `SPOKEN` looked through; names and ids stay, whatever they are."""
    match value:
        case dict():
            return {name: _spoken(each, name) for name, each in value.items()}
        case list():
            return [_spoken(each, key) for each in value]
        case str() if key in SPOKEN:
            return without_secrets(value)
    return value


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark started runs whose process is gone as failed and free their places in pools; their ids."""
    dead = [
        record.dagster_run
        for record in instance.get_run_records(dg.RunsFilter(statuses=_RUNNING))
        if record.start_time and _is_gone(instance, record.dagster_run.run_id, record.start_time)
    ]
    for run in dead:
        instance.report_run_failed(run, "The run's process is gone: it was killed, or the machine went down.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _is_gone(instance: dg.DagsterInstance, run_id: str, started: float) -> bool:
    """Whether the process that executes the run has ended; False while it has not said which one it is."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    told = [event.dagster_event.engine_event_data.metadata for event in events if event.dagster_event]
    pids = [int(str(metadata["pid"].value)) for metadata in told if "pid" in metadata]
    if not pids:
        return False
    try:
        process = psutil.Process(pids[0])
        # A process that began after the run is another one with the same number; 1 s: clocks are rounded.
        return process.status() == psutil.STATUS_ZOMBIE or process.create_time() > started + 1
    except psutil.NoSuchProcess:
        return True
