"""Runs of the asset graph through Dagster's own API: finding missing days, starting a run, reading its events.

This module imports Dagster and the definitions: import it only inside commands that need it.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run_iterator
from dagster._core.instance.ref import InstanceRef

from recsys_assets.datasets.disk import DAGSTER_HISTORY, Place, writing_to
from recsys_assets.home import prepare_home
from recsys_assets.lake import Lake
from recsys_assets.manifest import PartitionDamaged, PartitionMissing
from recsys_assets.partitions import span_tags, stretches

INTERACTIONS = dg.AssetKey("interactions")
# The command itself shows the events; Dagster keeps the full log in its history.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Run:
    """One Dagster run: its assets, its first day and its last, and tags of its own."""

    keys: frozenset[dg.AssetKey]
    first: str
    last: str
    own_tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def tags(self) -> dict[str, str]:
        """Its own tags, and Dagster's for the partition or the range of partitions."""
        return {**self.own_tags, **span_tags(self.first, self.last)}


def missing_days(keys: frozenset[dg.AssetKey], landed: Sequence[str], lake: Lake, bizdate: str) -> list[Run]:
    """Runs that ingest the landed days up to the bizdate that the assets read, do not build, and the lake lacks."""
    from recsys_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    if INTERACTIONS not in keys and not any(INTERACTIONS in graph.get(key).parent_keys for key in keys):
        return []
    there = set(lake.bizdates(INTERACTIONS.to_user_string())) | ({bizdate} if INTERACTIONS in keys else set())
    days = [dt.date.fromisoformat(day) for day in landed if day <= bizdate and day not in there]
    return [Run(frozenset({INTERACTIONS}), first.isoformat(), last.isoformat()) for first, last in stretches(days)]


def refuse_outdated(keys: frozenset[dg.AssetKey], lake: Lake, bizdate: str) -> None:
    """Check the partitions that the assets read but do not build, before a run is started that would fail.

    Raises:
        PartitionOutdated: such a partition was built from something that has changed since.
    """
    from recsys_assets.definitions import defs

    graph = defs.resolve_asset_graph()
    read = {parent.to_user_string() for key in keys for parent in graph.get(key).parent_keys - keys}
    for asset in sorted(read - {INTERACTIONS.to_user_string()}):
        with contextlib.suppress(PartitionMissing, PartitionDamaged):  # the step that reads it says so
            lake.refuse_outdated(lake.manifest(asset, bizdate))


def open_instance() -> dg.DagsterInstance:
    """Open Dagster's instance of `DAGSTER_HOME` (default: the project); its processes do not log to the terminal."""
    home = prepare_home()
    with writing_to(Place("Dagster's history", home / DAGSTER_HISTORY, "DAGSTER_HOME")):
        return dg.DagsterInstance.from_ref(
            InstanceRef.from_dir(str(home), overrides={"python_logs": {"python_log_level": "INFO"}})
        )


def start(instance: dg.DagsterInstance, run: Run) -> tuple[dg.DagsterRun, Iterator[dg.DagsterEvent]]:
    """Create the run; its events arrive while it executes in this process (and its steps in processes of their own)."""
    repository = ReconstructableRepository.for_module("recsys_assets.definitions", fn_name="defs")
    job = repository.get_reconstructable_job(IMPLICIT_ASSET_JOB_NAME).get_subset(asset_selection=run.keys)
    made = instance.create_run_for_job(
        job.get_definition(),
        run_config=QUIET,
        tags=run.tags,
        asset_selection=run.keys,
        job_code_origin=job.get_python_origin(),
    )
    return made, _events(execute_run_iterator(job, made, instance))


def _events(events: Iterator[dg.DagsterEvent]) -> Iterator[dg.DagsterEvent]:
    """The events; Dagster's error for Ctrl-C becomes a KeyboardInterrupt again."""
    try:
        yield from events
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None
