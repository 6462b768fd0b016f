"""Backfills: which partitions of a range of days are to be built, and how Dagster's daemon is asked to build them.

The daemon runs one day per run, with the trainings of all runs in one pool; `interactions` is one run, and assets that
train nothing are one run for a month (`assets/ranges.py`). Its runs have the lowest priority and take the turn of
older days, so that neither the newest bizdate nor fresh items wait.
"""

import datetime as dt
import hashlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.selector import PartitionRangeSelector, PartitionsByAssetSelector, PartitionsSelector
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.utils import make_new_backfill_id

from recsys_assets.instance import end_dead_runs
from recsys_assets.jobs import BACKFILL, LAST, in_turn
from recsys_assets.lake import Lake
from recsys_assets.partitions import stretches

DAEMON = "BACKFILL"  # Dagster's name of the daemon's part that looks for backfills
HEARTBEAT_SECONDS = 90  # it reports every 30 s that it runs
_AT_WORK = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


@dataclass(frozen=True)
class Backfill:
    """Partitions to build: for each asset its bizdates, in order, and the range and the assets that were asked for."""

    days_of: Mapping[dg.AssetKey, Sequence[str]]
    first: str
    last: str
    keys: frozenset[dg.AssetKey]

    @property
    def days(self) -> list[str]:
        """All bizdates, in order."""
        return sorted(set[str]().union(*self.days_of.values()))

    @property
    def tags(self) -> dict[str, str]:
        """The tags of its runs; one names what was asked for, whatever of it was there already."""
        names = ",".join(sorted(key.to_user_string() for key in self.keys))
        asked = f"{self.first} to {self.last}, {hashlib.sha256(names.encode()).hexdigest()[:8]}"
        return {BACKFILL: asked, **in_turn("later", LAST)}


def plan(
    keys: frozenset[dg.AssetKey], days: Sequence[str], lake: Lake, span: tuple[str, str], *, only_missing: bool
) -> Backfill:
    """The partitions of these assets and landed days, or only those of them that are not in the lake."""
    there = {key: _there(lake, key) if only_missing else () for key in keys}
    days_of = {key: [day for day in days if day not in there[key]] for key in keys}
    return Backfill({key: wanted for key, wanted in days_of.items() if wanted}, *span, keys)


def _there(lake: Lake, key: dg.AssetKey) -> Collection[str]:
    return set(lake.bizdates(key.to_user_string()))


def daemon_runs(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon that would take the backfill has reported within the last `HEARTBEAT_SECONDS`."""
    heartbeat = instance.get_daemon_heartbeats().get(DAEMON)
    return heartbeat is not None and heartbeat.timestamp > time.time() - HEARTBEAT_SECONDS


def at_work(instance: dg.DagsterInstance, backfill: Backfill) -> str | None:
    """The backfill of the same assets and range that is at work, in words; None if there is none."""
    asked = {BACKFILL: backfill.tags[BACKFILL]}
    if found := instance.get_backfills(BulkActionsFilter(statuses=_AT_WORK, tags=asked), limit=1):
        return f"backfill {found[0].backfill_id}"
    end_dead_runs(instance)
    runs = instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, tags=asked), limit=1)
    return f"run {runs[0].run_id} of another `recsys backfill`" if runs else None


def request(instance: dg.DagsterInstance, graph: AssetGraph, backfill: Backfill, title: str) -> str:
    """Ask the daemon for the backfill; returns its id, under which the UI shows it and can cancel it."""
    made = PartitionBackfill.from_partitions_by_assets(
        backfill_id=make_new_backfill_id(),
        asset_graph=graph,
        backfill_timestamp=time.time(),
        tags=backfill.tags,
        dynamic_partitions_store=instance,
        partitions_by_assets=[_selected(key, days) for key, days in backfill.days_of.items()],
        title=title,
        description=None,
        run_config=None,
    )
    instance.add_backfill(made)
    return str(made.backfill_id)


def _selected(key: dg.AssetKey, days: Sequence[str]) -> PartitionsByAssetSelector:
    """An asset with its days, as Dagster's UI would send them."""
    ranges = [PartitionRangeSelector(start=first, end=last) for first, last in spans(days)]
    return PartitionsByAssetSelector(asset_key=key, partitions=PartitionsSelector(ranges=ranges))


def spans(days: Sequence[str]) -> list[tuple[str, str]]:
    """The first and last bizdate of each unbroken stretch."""
    found = stretches([dt.date.fromisoformat(day) for day in days])
    return [(first.isoformat(), last.isoformat()) for first, last in found]
