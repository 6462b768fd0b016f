"""The fresh layer: vectors of fresh items, the withdrawn ones, and the told users, as one process sees them.

Each process keeps its own copy of what the database has, and before each answer takes what changed since: a row that
one process was told is in the next answer of every other. Vectors of another tower than the release's, as after a new
release, are made again from the joined rows.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_assets.arrays import Bools, Ids, Vectors, find
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.fresh.changes import Changes, changes
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.judge import Judge
from recsys_assets.fresh.towers import Tower
from recsys_assets.serving.fresh.cold import Cold

_PLACES = 1024  # at first; doubled when they are taken
Number = TypeVar("Number", bound=np.generic)


class Layer:
    """The fresh rows of a profile, for one thread at a time.

    Args:
        profile: of the data set.
        database: that keeps the rows.
        towers: of the release, by side.
        cold: the items of the release that no event names; None: there are none.
        clock: gives the time in seconds since 1970.

    Attributes:
        database, towers, cold: the arguments.
        users: the joined rows of told users as JSON, by key.
        number: of the newest change that was taken.
    """

    def __init__(
        self,
        profile: Profile,
        database: Database,
        towers: Mapping[str, Tower],
        cold: Cold | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.towers, self.cold, self._profile, self._clock = database, towers, cold, profile, clock
        self._local, self._version, self._opened = threading.local(), -1, contextlib.ExitStack()
        self._places: dict[str, int] = {}
        self._keys, self._lines = list[str](), list[str]()
        self._created, self._gone = np.zeros(_PLACES), np.zeros(_PLACES, bool)
        self._among_cold = np.full(_PLACES, -1)  # places of told items among the cold ones; -1 for others
        self._vectors: Vectors | None = None
        self._withdrawn: tuple[int, Bools | None] = -1, None
        self._known: tuple[int, Mapping[str, Ids]] = -1, {}
        self.users: dict[str, str] = {}
        self.number = 0

    def look(self) -> None:
        """Take what changed in the database since the last look."""
        connection = self._connection
        ((version,),) = connection.execute("PRAGMA data_version").fetchall()
        if version == self._version:
            return
        self._version = version
        connection.execute("BEGIN")  # both sides are read as of one moment
        ask = partial(changes, connection, after=self.number)
        items = ask("items", tower=self.towers.get("items"), typed=partial(self.typed, "items"))
        users = ask("users", tower=None, typed=partial(self.typed, "users"))
        connection.execute("COMMIT")
        self._take(items)
        self.users |= dict(zip(users.keys, users.lines, strict=True))
        self.number = max(items.number, users.number)

    def close(self) -> None:
        """Close what this thread opened: a process that is copied must have no connection open."""
        if hasattr(self._local, "connection"):
            self._local.connection.close()
        self._opened.close()
        self._local = threading.local()

    @property
    def has_items(self) -> bool:
        """Whether there are told items or cold ones."""
        return bool(self._keys) or self.cold is not None

    def nearest(self, vector: Vectors, k: int, barred: set[str]) -> tuple[list[str], list[float]]:
        """Keys and inner products of the k fresh items with the highest products with a vector (D,).

        Those that are withdrawn, too old, or barred are left out. Of equal products, that of the item that was told
        first comes first.
        """
        count = len(self._keys)
        if self._vectors is None or not count:
            return [], []
        scores = self._vectors[:count] @ vector
        scores[self._gone[:count] | ~self._is_fresh] = -np.inf
        scores[[self._places[key] for key in barred if key in self._places]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        best = best[scores[best] > -np.inf]
        return [self._keys[place] for place in best.tolist()], scores[best].tolist()

    def nearest_cold(self, vector: Vectors, k: int, barred: set[str]) -> tuple[list[str], list[float]]:
        """The same for the cold items of the release, without those that are among the fresh ones."""
        if self.cold is None:
            return [], []
        count = len(self._keys)
        hidden = self._among_cold[:count][self._gone[:count] | self._is_fresh]
        return self.cold.nearest(vector, k, barred, hidden[hidden >= 0])

    def knows(self, key: str) -> bool:
        """Whether an item is told or cold."""
        return key in self._places or (self.cold is not None and key in self.cold.places)

    def is_withdrawn(self, key: str) -> bool:
        """Whether an item is told and withdrawn."""
        return key in self._places and bool(self._gone[self._places[key]])

    def rows(self, keys: Sequence[str]) -> pa.Table:
        """The rows of told and cold items in the types of the items' table: what was told last, if anything was."""
        told = [key for key in keys if key in self._places]
        table = self.typed("items", [self._lines[self._places[key]] for key in told])
        if self.cold is None or len(told) == len(keys):
            return table
        others = [key for key in keys if key not in self._places]
        table = pa.concat_tables([table, self.cold.rows(others)], promote_options="permissive")
        place = {key: number for number, key in enumerate([*told, *others])}
        return table.take(pa.array([place[key] for key in keys], pa.int64()))

    def typed(self, side: TableName, lines: Sequence[str]) -> pa.Table:
        """Joined rows in the types of their table."""
        if not hasattr(self._local, "judge"):
            self._local.judge = Judge(self._opened.enter_context(connect_without_lake()), self._profile)
        judge: Judge = self._local.judge
        return judge.typed(side, lines)

    def withdrawn(self, item_ids: Ids) -> Bools | None:
        """(I,) which items of the release are withdrawn; None: none is."""
        if self._withdrawn[0] != self.number:
            self._withdrawn = self.number, self._find_withdrawn(item_ids)
        return self._withdrawn[1]

    def known_ids(self, known: Mapping[str, Ids]) -> Mapping[str, Ids]:
        """The ids, ascending, that events may have: those of the release, by `user` and `item`, and the told ones."""
        if not self.number:
            return known
        if self._known[0] != self.number:
            keys = {"item": self._keys, "user": list(self.users)}
            self._known = self.number, {side: np.union1d(ids, ids_of(keys[side], ids)) for side, ids in known.items()}
        return self._known[1]

    @property
    def _is_fresh(self) -> Bools:
        """(N,) which told items are new enough."""
        found: Bools = self._created[: len(self._keys)] >= self._clock() - self._profile.fresh.seconds
        return found

    @property
    def _connection(self) -> sqlite3.Connection:
        """The connection of this thread; a process that was copied has threads of its own."""
        if not hasattr(self._local, "connection"):
            self._local.connection, self._version = self.database.connect(), -1
        connection: sqlite3.Connection = self._local.connection
        return connection

    def _take(self, items: Changes) -> None:
        """Put changed items in their places."""
        if not items.keys:
            return
        places = np.array([self._places.setdefault(key, len(self._places)) for key in items.keys])
        more = len(self._places) - len(self._keys)
        self._keys += list(self._places)[len(self._keys) :]
        self._lines += [""] * more
        while len(self._created) < len(self._keys):
            self._created, self._gone = _doubled(self._created), _doubled(self._gone)
            self._among_cold = _doubled(self._among_cold)
        for place, line in zip(places.tolist(), items.lines, strict=True):
            self._lines[place] = line
        self._created[places], self._gone[places] = items.created, items.withdrawn
        known = self.cold.places if self.cold else {}
        self._among_cold[places] = [known.get(key, -1) for key in items.keys]
        if items.vectors is not None:
            vectors = (
                np.zeros((_PLACES, items.vectors.shape[1]), np.float32) if self._vectors is None else self._vectors
            )
            while len(vectors) < len(self._keys):
                vectors = _doubled(vectors)
            vectors[places] = items.vectors
            self._vectors = vectors

    def _find_withdrawn(self, item_ids: Ids) -> Bools | None:
        keys = [self._keys[place] for place in np.flatnonzero(self._gone[: len(self._keys)]).tolist()]
        if not keys:
            return None
        numbers = find(item_ids, ids_of(keys, item_ids))
        gone = np.zeros(len(item_ids), bool)
        gone[numbers[numbers >= 0]] = True
        return gone


def _doubled(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """The values, with as many empty places after them."""
    return np.concatenate([values, np.zeros_like(values)])


def ids_of(keys: Sequence[str], like: Ids) -> Ids:
    """Ids from their keys, in the type of others."""
    if np.issubdtype(like.dtype, np.integer):
        return np.array([int(key) for key in keys], like.dtype)
    return np.array(list(keys), object if like.dtype == object else np.str_)
