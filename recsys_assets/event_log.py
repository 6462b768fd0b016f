"""Dagster's event log in SQLite files, for runs of thousands of days: the events of many partitions are stored at once.

Dagster sends the events of a run's partitions in batches and stores each on its own, with a transaction in two files:
20 ms of a core per event, and every partition has two of them. Put here what makes that cheaper, and nothing that
changes what is stored.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.events import ASSET_EVENTS
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData

BATCH = 1000  # events in a transaction


class BatchedEventLog(SqliteEventLogStorage):
    """The event log of Dagster, which stores the asset events of a batch in one transaction per file."""

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store events of one run: what `store_event` does for each, with the asset's newest event as its last one."""
        of_assets = [event for event in events if event.dagster_event_type in ASSET_EVENTS]
        for event in events:
            if event.dagster_event_type not in ASSET_EVENTS:
                self.store_event(event)
        inserts = [self.prepare_insert_event(event) for event in of_assets]
        with self.run_connection(events[0].run_id) as connection:
            for insert in inserts:
                connection.execute(insert)
        with self.index_transaction() as connection:
            keys = [connection.execute(insert).inserted_primary_key for insert in inserts]
            ids = [key[0] for key in keys if key]
            self._store_asset_event_tags(connection, of_assets, ids)
            newest = {
                event.get_dagster_event().asset_key: (event, number)
                for event, number in zip(of_assets, ids, strict=True)
            }
            for event, number in newest.values():
                self._store_asset_event(connection, event, number)

    def delete_events(self, run_id: str) -> None:
        """Delete a run's events, and the file that held them: SQLite would keep its size."""
        super().delete_events(run_id)
        for end in ("", "-wal", "-shm"):
            Path(self.path_for_shard(run_id) + end).unlink(missing_ok=True)
        self._initialized_dbs.discard(run_id)


class BatchedStorage(DagsterSqliteStorage):
    """Dagster's storage in SQLite files, with a `BatchedEventLog`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = BatchedEventLog(self._event_log_storage._base_dir)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> "BatchedStorage":
        """The storage that an instance's configuration describes."""
        return cls.from_local(inst_data=inst_data, **config_value)


def batched_storage(base_dir: str) -> ConfigurableClassData:
    """A description of the storage below a folder, for the configuration of an instance."""
    return ConfigurableClassData(__name__, BatchedStorage.__name__, yaml.dump({"base_dir": base_dir}))
