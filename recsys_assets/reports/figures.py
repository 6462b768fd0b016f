"""Figures of a report: the rows of its table, and the sections that show them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    Attributes:
        section: of the page.
        name: what it is of: a column, a model, a list.
        metric: which figure of it.
        value: the number.
        low, high: its 95 % interval, or the range that is allowed, if there is one.
        bizdate: the day that the number is of; figures of earlier days are repeated from their own manifests.
    """

    section: str
    name: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    bizdate: str = ""


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("section", "name", "metric")]
    + [(name, pa.float64()) for name in ("value", "low", "high")]
    + [("bizdate", pa.string())]
)


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        figures: rows of the table.
        html: its content.
        attention: sentences for the first lines of the page: what to look at.
        notes: sentences on what the section lacks, or does not tell.
    """

    title: str
    figures: list[Figure] = field(default_factory=list)
    html: list[str] = field(default_factory=list)
    attention: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(
        self, name: str, metric: str, value: float, low: float | None = None, high: float | None = None, day: str = ""
    ) -> None:
        """Add a figure; without a day it is of the report's."""
        self.figures.append(Figure(self.title, name, metric, float(value), low, high, day))


def to_table(sections: Iterable[Section], bizdate: str) -> pa.Table:
    """The figures of all sections: `section`, `name`, `metric`, `value`, `low`, `high`, `bizdate`."""
    rows = [(*vars(each).values(),) for section in sections for each in section.figures]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in SCHEMA]
    columns[-1] = [day or bizdate for day in columns[-1]]
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)], SCHEMA)
