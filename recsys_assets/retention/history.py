"""Dagster's history of what was removed: the UI must show no partition that is gone, and all that are there."""

import datetime as dt
from collections.abc import Iterator, Sequence

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from recsys_assets.lake import Lake
from recsys_assets.partitions import days

AT_ONCE = 500  # ids in a statement: SQLite takes 999


def busy_days(instance: dg.DagsterInstance) -> set[str]:
    """The bizdates of runs that wait or are running."""
    return {day for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)) for day in days_of(run)}


def days_of(run: dg.DagsterRun) -> list[str]:
    """The bizdates of a run."""
    first = run.tags.get("dagster/asset_partition_range_start", run.tags.get("dagster/partition"))
    last = run.tags.get("dagster/asset_partition_range_end", first)
    return days(dt.date.fromisoformat(first), dt.date.fromisoformat(last)) if first and last else []


def forget(instance: dg.DagsterInstance, asset: str, bizdates: Sequence[str]) -> None:
    """Remove everything that Dagster knows of partitions of an asset; `wipe_asset_partitions` does not do it for SQL.

    Raises:
        TypeError: the history is not in an SQL database.
    """
    storage, key = instance.event_log_storage, dg.AssetKey(asset)
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"{type(storage).__name__} is not a history in an SQL database: partitions cannot be removed")
    events, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    with storage.index_transaction() as connection:
        of_days = sa.and_(events.asset_key == key.to_string(), events.partition.in_(bizdates))
        ids = [row[0] for row in connection.execute(sa.select(events.id).where(of_days))]
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(some)))
            connection.execute(SqlEventLogStorageTable.delete().where(events.id.in_(some)))
        of_checks = sa.and_(checks.asset_key == key.to_string(), checks.partition.in_(bizdates))
        connection.execute(AssetCheckExecutionsTable.delete().where(of_checks))
    storage.wipe_asset_cached_status(key)


def old_runs(instance: dg.DagsterInstance, before: dt.datetime) -> list[dg.DagsterRun]:
    """The ended runs that were created before a moment, oldest first."""
    found = instance.get_run_records(dg.RunsFilter(created_before=before), ascending=True)
    return [each.dagster_run for each in found if each.dagster_run.is_finished]


def remove_runs(instance: dg.DagsterInstance, lake: Lake, runs: Sequence[dg.DagsterRun]) -> None:
    """Delete runs with their events and logs; partitions of theirs that are still in the lake stay materialized."""
    there = {f"{asset}/{day}" for asset, day in lake.partitions()}
    for run in runs:
        for made in _last_made_by(instance, run, there):
            instance.report_runless_asset_event(made)
        instance.delete_run(run.run_id)
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])


def _last_made_by(
    instance: dg.DagsterInstance, run: dg.DagsterRun, there: set[str]
) -> Iterator[dg.AssetMaterialization]:
    """The run's materializations of partitions that are in the lake, unless a later run made them again."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
        made = entry.asset_materialization
        if made is None or f"{made.asset_key.to_user_string()}/{made.partition}" not in there:
            continue
        of_partition = dg.AssetRecordsFilter(asset_key=made.asset_key, asset_partitions=[str(made.partition)])
        newest = instance.fetch_materializations(of_partition, limit=1).records
        if newest and newest[0].run_id == run.run_id:
            yield made
