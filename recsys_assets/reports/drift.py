"""Drift: how a day's rows differ from those of the last days, column by column, and which differences are alarms."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Doubles
from recsys_assets.reports.alarms import FEWEST, MOST, Judged, Statistic, judge
from recsys_assets.reports.bins import Bins, distance, fit_bins, stability_index
from recsys_assets.reports.day_rows import KEY_COLUMNS

WEEK = 7  # days that a day is compared with
HISTORY = WEEK + MOST  # days that are read besides the day itself
HOUR = "interactions.timestamp"
_HOURS = [str(hour) for hour in range(24)]
Read = Callable[[str], pa.Table]


@dataclass(frozen=True)
class Known:
    """Bins that are fixed elsewhere: the edges of numeric features, and the vocabularies of the others, by column."""

    edges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    vocabularies: Mapping[str, Sequence[object]] = field(default_factory=dict)


@dataclass(frozen=True)
class DayCounts:
    """A day's counts by column, and the share of each key's most frequent value."""

    rows: int
    counts: dict[str, Doubles]
    largest: dict[str, float]


@dataclass(frozen=True)
class Drift:
    """A day compared with the last `WEEK` days.

    Attributes:
        judged: all statistics with what is allowed.
        stability: the population stability index of each column.
        bins: of each column.
        today, reference: counts of each column.
        history: how many earlier days had the statistics that bounds are computed from, by column.
        without: columns of the day that no day of the last week has.
    """

    judged: list[Judged]
    stability: dict[str, float]
    bins: dict[str, Bins]
    today: dict[str, Doubles]
    reference: dict[str, Doubles]
    history: dict[str, int]
    without: list[str]

    @property
    def alarms(self) -> list[Judged]:
        """The unusual statistics, the farthest first."""
        return sorted((each for each in self.judged if each.is_alarm), key=lambda each: -each.excess)

    @property
    def too_early(self) -> list[str]:
        """Columns with fewer than `FEWEST` days of history."""
        return [column for column, days in self.history.items() if days < FEWEST]


def measure(read: Read, today: str, earlier: Sequence[str], known: Known, more: Sequence[Statistic] = ()) -> Drift:
    """The drift of a day.

    Args:
        read: gives the watched rows of a day, as `read_day` does; a column may be absent on a day.
        today: the bizdate.
        earlier: bizdates before it, ascending; the last `HISTORY` of them count.
        known: bins that are fixed elsewhere.
        more: further statistics that are judged together with those of columns.
    """
    earlier = list(earlier)[-HISTORY:]
    now = read(today)
    week = [read(day) for day in earlier[-WEEK:]]
    bins = {name: found for name in now.column_names if name not in KEY_COLUMNS for found in _bins(name, week, known)}
    days = {day: _count(table, bins) for day, table in zip(earlier[-WEEK:], week, strict=True)}
    days |= {day: _count(read(day), bins) for day in earlier[:-WEEK]}
    days = {day: days[day] for day in earlier} | {today: _count(now, bins)}
    found = {name: _statistics(name, days, today) for name in (*days[today].counts, *days[today].largest)}
    of_columns = [each for statistics, _ in found.values() for each in statistics]
    reference = {name: total for name, (_, total) in found.items() if total is not None}
    return Drift(
        judge([*more, *of_columns]),
        {name: stability_index(days[today].counts[name], total) for name, total in reference.items()},
        bins,
        {name: days[today].counts[name] for name in reference},
        reference,
        {name: len(statistics[0].history) if statistics else 0 for name, (statistics, _) in found.items()},
        [name for name in now.column_names if name not in found],
    )


def _bins(name: str, week: Sequence[pa.Table], known: Known) -> list[Bins]:
    """The column's bins; none if no day of the last week has a value."""
    if name == HOUR:
        return [Bins(None, _HOURS)]
    columns = [table[name] for table in week if name in table.column_names]
    columns = [column for column in columns if column.null_count < len(column)]
    if not columns:
        return []
    return [fit_bins(columns, edges=known.edges.get(name), known=known.vocabularies.get(name))]


def _count(table: pa.Table, bins: Mapping[str, Bins]) -> DayCounts:
    there = [name for name in bins if name in table.column_names]
    keys = [name for name in KEY_COLUMNS if name in table.column_names]
    return DayCounts(
        len(table),
        {name: bins[name].count(table[name]) for name in there},
        {name: _largest_share(table[name]) for name in keys},
    )


def _largest_share(column: pa.ChunkedArray) -> float:
    counts = pc.value_counts(pc.drop_null(column.combine_chunks())).field("counts")
    return float(pc.max(counts).as_py() or 0) / max(len(column), 1)


def _statistics(name: str, days: Mapping[str, DayCounts], today: str) -> tuple[list[Statistic], Doubles | None]:
    """A column's statistics, and the counts of the last week; no statistics if no earlier day has the column.

    An early day without `WEEK` days before it is compared with the nearest days, the day itself aside.
    """
    if name in KEY_COLUMNS:
        shares = {day: each.largest[name] for day, each in days.items() if name in each.largest}
        now = shares.pop(today)
        rows = float(days[today].rows)
        return [Statistic(name, "largest share", "share", now, list(shares.values()), rows=rows)], None
    there = {day: each.counts[name] for day, each in days.items() if name in each.counts and each.rows}
    past = [day for day in there if day != today]
    if not past or today not in there:
        return [], None
    totals = {
        day: np.sum([there[other] for other in _nearest(past, day)], axis=0) for day in there if _nearest(past, day)
    }
    found = {day: distance(there[day], total) for day, total in totals.items()}
    value, degrees = found[today]
    rows, others = (float(each[today].sum()) for each in (there, totals))
    history = [found[day][0] for day in past if day in found]
    statistics = [Statistic(name, "distance", "distance", value, history, degrees, rows, others)]
    for place, what in ((-2, "unknown"), (-1, "missing")):
        shares = {day: each[place] / max(each.sum(), 1) for day, each in there.items()}
        statistics.append(Statistic(name, what, "share", shares[today], [shares[day] for day in past], rows=rows))
    return statistics, np.asarray(totals[today])


def _nearest(past: Sequence[str], day: str) -> list[str]:
    """The last `WEEK` days before the day, filled up with the next ones after it if there are fewer."""
    before, after = [each for each in past if each < day], [each for each in past if each > day]
    return [*before[-WEEK:], *after[: max(WEEK - len(before), 0)]]
