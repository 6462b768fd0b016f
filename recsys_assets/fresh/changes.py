"""Changes of the fresh rows since one that is known: readers keep their own copies by them."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Bools, Doubles, Vectors
from recsys_assets.fresh.step import read_vectors, vectors_of
from recsys_assets.fresh.towers import Tower

_CHANGED = """
SELECT seq, key, line, created / 1e6, updated / 1e6, withdrawn, CASE WHEN tower = ? THEN vector END FROM entities
WHERE side = ? AND seq > ? ORDER BY seq LIMIT ?
"""
EVERYTHING = -1  # as a limit


@dataclass(frozen=True)
class Changes:
    """N joined rows in their present state, in the order of their changes.

    Attributes:
        keys: (N,).
        lines: (N,) the rows as JSON.
        created: (N,) seconds since 1970.
        updated: (N,) the newest update time of what the row was joined from, in seconds since 1970.
        withdrawn: (N,).
        vectors: (N, D); None without a tower.
        number: of the newest of these changes, or of the known one.
    """

    keys: list[str]
    lines: list[str]
    created: Doubles
    updated: Doubles
    withdrawn: Bools
    vectors: Vectors | None
    number: int


def changes(
    connection: sqlite3.Connection,
    side: str,
    after: int,
    tower: Tower | None,
    typed: Callable[[Sequence[str]], pa.Table],
    limit: int = EVERYTHING,
) -> Changes:
    """The rows of a side that changed after a change.

    Args:
        connection: to the database.
        side: `items` or `users`.
        after: the number of the change.
        tower: whose vectors are wanted; those of another one are made again from the rows.
        typed: gives rows of JSON in the types of their table.
        limit: the most rows.
    """
    asked = (tower.name if tower else "", side, after, limit)
    rows = connection.execute(_CHANGED, asked).fetchall()
    numbers, keys, lines, created, updated, withdrawn, blobs = zip(*rows, strict=True) if rows else ([],) * 7
    vectors = _vectors(lines, blobs, tower, typed) if tower else None
    times = np.array(created, float), np.array(updated, float)
    return Changes(list(keys), list(lines), *times, np.array(withdrawn, bool), vectors, max([after, *numbers]))


def _vectors(
    lines: Sequence[str], blobs: Sequence[bytes | None], tower: Tower, typed: Callable[[Sequence[str]], pa.Table]
) -> Vectors:
    """(N, D) the vectors of rows, of which some are kept."""
    is_kept = np.array([blob is not None for blob in blobs], bool)
    kept = read_vectors([blob for blob in blobs if blob is not None])
    if is_kept.all() and len(kept):
        return kept
    made = vectors_of(tower.encode, typed([line for line, there in zip(lines, is_kept, strict=True) if not there]))
    found = np.empty((len(lines), made.shape[1]), np.float32)
    found[~is_kept] = made
    if len(kept):
        found[is_kept] = kept
    return found
