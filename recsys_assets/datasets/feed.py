"""The interface between a source and the landing: tables, or lines of text, by day.

A source (`movielens.py`, `sample.py`, `criteo.py`) writes nothing; `landing_write.py` writes what it gives.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import pyarrow as pa

from recsys_assets.datasets.profile_parts import TableName

Content: TypeAlias = pa.Table | bytes
EPOCH = dt.date(1970, 1, 1)
SECONDS_A_DAY = 86_400


class LandingError(ValueError):
    """Landing files cannot be made or read; the message names the file or option and what to do."""


@dataclass(frozen=True)
class Feed:
    """An opened source.

    Attributes:
        bizdates: the days it will land, in order.
        day: gives a day's tables with the platform's column names, or bytes: whole lines of a TSV, unchanged.
            A table may come in several parts, so that a large day need not fit into memory; the parts are
            read in the order in which they come.
        undated: user and item tables that are known from the start.
        notes: text files for the landing folder itself, by name.
    """

    bizdates: list[dt.date]
    day: Callable[[dt.date], Iterator[tuple[TableName, Content]]]
    undated: dict[TableName, pa.Table] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
