"""Fresh vectors in stores: rows that changed since a release, put next to its vectors under their keys.

A store knows up to which change it has them. A process that is killed in between puts the last ones again, which
changes nothing: of two states of a row, the newer one stays.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol, Self, runtime_checkable

import pyarrow as pa

from recsys_assets.fresh.changes import Changes, changes
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.towers import Tower

ROWS_AT_ONCE = 5_000


@runtime_checkable
class FreshStore(Protocol):
    """A store that takes fresh rows next to the live version of a collection of vectors."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def live_version(self, collection: str) -> str | None:
        """See `Store.live_version`."""

    def fresh_number(self, collection: str, version: str) -> int:
        """The number of the newest change that a version has; 0 before the first one.

        Raises:
            VersionMissing: there is no such version.
        """

    def put_fresh(self, collection: str, version: str, rows: Changes) -> None:
        """Put rows next to a version under their keys; withdrawn ones are no longer found.

        An interrupted call leaves the number as it was, so that its rows are put again.

        Raises:
            VersionMissing: there is no such version.
        """


def push(
    store: FreshStore,
    collection: str,
    version: str,
    database: Database,
    side: str,
    tower: Tower,
    typed: Callable[[Sequence[str]], pa.Table],
) -> int:
    """Put all rows of a side that changed since the last push into a version; returns how many.

    `tower` is that of the model of the version.

    Raises:
        VersionMissing: there is no such version any more.
        StoreUnavailable: the store does not answer.
    """
    done = 0
    with contextlib.closing(database.connect()) as connection:
        after = store.fresh_number(collection, version)
        while (rows := changes(connection, side, after, tower, typed, ROWS_AT_ONCE)).keys:
            store.put_fresh(collection, version, rows)
            after, done = rows.number, done + len(rows.keys)
    return done
