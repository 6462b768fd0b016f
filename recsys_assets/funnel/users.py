"""Knowledge of users as arrays: made once for all users of a table, and taken by row for each request."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Doubles, Floats, Ids, Ints
from recsys_assets.features.pair_data import UserSnapshot
from recsys_assets.features.schema import Encoded


@dataclass(frozen=True)
class Numbers:
    """Named numbers of N users or items: values (N, F), NaN where there is none."""

    names: tuple[str, ...]
    values: Floats

    @classmethod
    def of(cls, table: pa.Table, names: tuple[str, ...]) -> "Numbers":
        """Those of the names that the table has as columns."""
        there = tuple(name for name in names if name in table.column_names)
        columns = [table[name].cast(pa.float32()).to_numpy(zero_copy_only=False) for name in there]
        return cls(there, np.array(columns, np.float32).reshape(len(there), table.num_rows).T.copy())

    def take(self, rows: Ints | slice) -> "Numbers":
        """The chosen rows."""
        return Numbers(self.names, self.values[rows])

    @property
    def columns(self) -> dict[str, Floats]:
        """Each column (N,) by name."""
        return dict(zip(self.names, self.values.T, strict=True))


@dataclass(frozen=True)
class Encodings:
    """The features of N users, or of N moments, as models read them: by the fingerprint of a model's schema."""

    of_schema: Mapping[str, Encoded]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Ints | slice) -> "Encodings":
        """The chosen rows."""
        number = len(np.arange(self.rows)[rows])
        return Encodings({schema: each[rows] for schema, each in self.of_schema.items()}, number)


@dataclass(frozen=True)
class Users:
    """U users.

    Attributes:
        ids: (U,) in ascending order.
        snapshot: what features of pairs are computed from.
        numbers: those by which candidates are ordered.
        encoded: (U, …) the features that models read of users.
        draw_left: (U,) see `scoring.log_draw_left`.
    """

    ids: Ids
    snapshot: UserSnapshot
    numbers: Numbers
    encoded: Encodings
    draw_left: Doubles | None

    def take(self, rows: Ints | slice) -> "Users":
        """The users at the given positions."""
        left = None if self.draw_left is None else self.draw_left[rows]
        found = self.snapshot.take(rows), self.numbers.take(rows), self.encoded[rows], left
        return Users(self.ids[rows], *found)
