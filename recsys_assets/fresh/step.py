"""The step from rows to vectors: rows are taken, what they change is joined and encoded, all in one transaction.

Whoever has rows calls it: the service for `POST /items`, the sensor's job for files, a stream's job. It is safe to take
the same rows again.
"""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.disk import writing_to
from recsys_assets.datasets.duck import quote
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.fresh.database import UPDATE_TIME, WITHDRAWN, Database
from recsys_assets.fresh.joins import joined_rows, link_columns
from recsys_assets.fresh.judge import NO_OBJECT, SIDES, Judge, row_names
from recsys_assets.fresh.towers import AnyTower, Encoder

# The newest value of each column; `RETURNING` names the rows of which one changed.
_MERGE = """
INSERT INTO cells
SELECT coming.source, coming.key, cell.key, coming.line -> cell.fullkey, coming.time
FROM coming, json_each(coming.line) AS cell WHERE cell.key IN ({names})
ON CONFLICT DO UPDATE SET value = excluded.value, time = excluded.time
WHERE (excluded.time, excluded.value) > (time, value)
RETURNING source, key
"""
_TIMES = """
INSERT INTO rows SELECT source, key, min(time), max(time) FROM coming WHERE true GROUP BY source, key
ON CONFLICT DO UPDATE SET born = min(born, excluded.born), time = max(time, excluded.time)
"""
_LINK = """
INSERT INTO links SELECT cells.key, name, CAST(json_extract(value, '$') AS TEXT)
FROM cells JOIN changed USING (source, key)
WHERE source = 'items' AND name IN ({names})
ON CONFLICT DO UPDATE SET value = excluded.value
"""
_WRITE = """
INSERT INTO entities VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)
ON CONFLICT DO UPDATE SET seq = excluded.seq, line = excluded.line, created = excluded.created,
    updated = excluded.updated, withdrawn = excluded.withdrawn, tower = excluded.tower, vector = excluded.vector,
    arrived = excluded.arrived, file = NULL
"""


@dataclass(frozen=True)
class FreshRow:
    """A row as it was told: its table (`items`, `users` or a side table), and the row as JSON."""

    source: str
    line: str


@dataclass(frozen=True)
class Taken:
    """The result of N rows.

    Attributes:
        reasons: (N,) why a row was not kept, or None.
        changed: how many joined rows changed.
    """

    reasons: list[str | None] = field(default_factory=list)
    changed: int = 0


class Step:
    """Takes rows, for one thread at a time.

    Args:
        profile: of the data set.
        database: keeps them.
        duck: a connection of its own, as `duck.connect_without_lake` gives it.
        towers: by side, `items` and `users`; without one, rows are kept without vectors until somebody has one.
    """

    def __init__(
        self, profile: Profile, database: Database, duck: duckdb.DuckDBPyConnection, towers: Mapping[str, AnyTower]
    ) -> None:
        self.profile, self.database, self.towers = profile, database, towers
        self.judge, self._connection = Judge(duck, profile), database.connect()
        self._connection.execute("CREATE TEMP TABLE coming (source TEXT, key TEXT, line TEXT, time INTEGER)")
        self._connection.execute("CREATE TEMP TABLE changed (source TEXT, key TEXT, PRIMARY KEY (source, key))")
        names = {name for source in self.judge.sources for name in row_names(profile, source)} | {WITHDRAWN}
        links = dict.fromkeys(link_columns(profile).values())
        self._merge = _MERGE.format(names=", ".join(map(quote, sorted(names - {UPDATE_TIME}))))
        self._link = _LINK.format(names=", ".join(map(quote, links)) or "NULL")
        self._joined = {side: joined_rows(profile, side) for side in SIDES if side in profile.tables}

    def take(
        self,
        rows: Sequence[FreshRow],
        now: dt.datetime,
        *,
        told: dt.datetime | None = None,
        all_or_none: bool = False,
    ) -> Taken:
        """Take rows; those that cannot be kept are left out, each with its reason.

        Args:
            rows: in any order.
            now: the present time.
            told: the time of a row that says none; by default the present. Whoever may take the same rows again names
                it, because a later time would let an old row win over a newer one.
            all_or_none: keep none if one cannot be kept.

        Raises:
            PlaceUnwritable: the folder cannot be written.
        """
        reasons, coming = self._judged(rows, now, told or now)
        if not coming or (all_or_none and any(reasons)):
            return Taken(reasons)
        with writing_to(self.database.place), self.database.writing(self._connection):
            self._put(coming)
            return Taken(reasons, sum(self._renew(side, now) for side in self._joined))

    def _judged(
        self, rows: Sequence[FreshRow], now: dt.datetime, told: dt.datetime
    ) -> tuple[list[str | None], list[tuple[str, str, str, int]]]:
        """Why each row cannot be kept, and the others as (source, key, line, time)."""
        reasons: list[str | None] = [None] * len(rows)
        coming = list[tuple[str, str, str, int]]()
        by_source: dict[str, list[int]] = {}
        for place, (row, is_sound) in enumerate(zip(rows, self._are_sound(rows), strict=True)):
            if is_sound:
                by_source.setdefault(row.source, []).append(place)
            else:
                reasons[place] = NO_OBJECT
        for source, places in by_source.items():
            if source not in self.judge.sources:
                known = ", ".join(self.judge.sources) or "none"
                for place in places:
                    reasons[place] = f"this data set takes no rows of '{source}': there are {known}"
                continue
            judged = self.judge(source, [rows[place].line for place in places], now, told)
            for place, each in zip(places, judged, strict=True):
                reasons[place] = each.reason
                if each.reason is None:
                    coming.append((source, each.key, rows[place].line, each.time))
        return reasons, coming

    def _are_sound(self, rows: Sequence[FreshRow]) -> list[bool]:
        """Whether SQLite can merge each row: DuckDB, which judges them, also takes NaN and a comma at the end."""
        lines = json.dumps([row.line for row in rows])
        found = self._connection.execute("SELECT json_valid(value) FROM json_each(?) ORDER BY key", (lines,))
        return [bool(is_valid) for (is_valid,) in found.fetchall()]

    def _put(self, coming: Sequence[tuple[str, str, str, int]]) -> None:
        """Merge the rows into the cells; `changed` then has those that one of them changed."""
        self._connection.execute("DELETE FROM coming")
        self._connection.execute("DELETE FROM changed")
        self._connection.executemany("INSERT INTO coming VALUES (?, ?, ?, ?)", coming)
        changed = self._connection.execute(self._merge).fetchall()
        self._connection.execute(_TIMES)
        self._connection.executemany("INSERT OR IGNORE INTO changed VALUES (?, ?)", set(changed))
        self._connection.execute(self._link)

    def _renew(self, side: TableName, now: dt.datetime) -> int:
        """Join and encode the rows of a side that changed, or whose side rows did; returns how many."""
        found = self._connection.execute(self._joined[side], {"now": int(now.timestamp())}).fetchall()
        if not found:
            return 0
        ((seq,),) = self._connection.execute(
            "UPDATE about SET value = value + ? WHERE name = 'seq' RETURNING value - ?", (len(found), len(found))
        ).fetchall()
        lines = [line for _, line, *_ in found]
        name, vectors = self._encoded(side, self.judge.typed(side, lines))
        self._connection.executemany(
            _WRITE,
            [
                (side, key, seq + place + 1, line, created, updated, withdrawn, name, vector, int(now.timestamp()))
                for place, ((key, line, created, updated, withdrawn), vector) in enumerate(
                    zip(found, vectors, strict=True)
                )
            ],
        )
        return len(found)

    def _encoded(self, side: str, table: pa.Table) -> tuple[str | None, list[bytes] | list[None]]:
        """The hash of the side's tower, and the rows' vectors; nothing without one."""
        tower = self.towers.get(side)
        if tower is None:
            return None, [None] * len(table)
        return tower.name, [vector.tobytes() for vector in vectors_of(tower.encode, table)]


def vectors_of(encode: Encoder, table: pa.Table) -> Vectors:
    """(N, D) the vectors of typed rows; a feature that they do not have, such as a history, is missing."""
    for name, kind in encode.types.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    return encode(table)


def read_vectors(blobs: Sequence[bytes]) -> Vectors:
    """(N, D) vectors as they are kept."""
    return np.frombuffer(b"".join(blobs), np.float32).reshape(len(blobs), -1) if blobs else np.zeros((0, 0), np.float32)
