"""Whether today differs from last week at all: a classifier that tells the rows of both apart, and what it looks at."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Bools, Doubles, is_list, number_values
from recsys_assets.metrics import UndefinedMetric, auc
from recsys_assets.ranking.bootstrap import Interval, bootstrap_figures, interval
from recsys_assets.reports.bins import Bins
from recsys_assets.reports.day_rows import KEY_COLUMNS

MOST_ROWS = 20_000  # of either side
_USER = KEY_COLUMNS[0]
_TREES = {"objective": "binary", "num_leaves": 8, "learning_rate": 0.1, "min_data_in_leaf": 20, "seed": 1}
_FIXED = {"num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1}


@dataclass(frozen=True)
class Shift:
    """How well a classifier tells today's rows from last week's.

    Attributes:
        auc: on rows of users that it did not learn from; 0.5 if it cannot.
        interval: of it, from draws of users.
        columns: the share of the gain of each column, the largest first.
    """

    auc: float
    interval: Interval
    columns: dict[str, float]


def tell_apart(today: pa.Table, week: pa.Table, bins: dict[str, Bins]) -> Shift:
    """Train on the rows of one half of the users, judge on those of the other half, both ways.

    A row's columns are its numbers, the bins of its categories, and whether its lists hold a value.

    Args:
        today: the watched rows of the day.
        week: those of the last days.
        bins: of their columns.

    Raises:
        UndefinedMetric: one half of the users has no row of the day, or none of last week.
    """
    import lightgbm

    both = pa.concat_tables([_thin(today), _thin(week)], promote_options="permissive")
    labels = (np.arange(len(both)) < len(_thin(today))).astype(np.float64)
    names, rows = _matrix(both, {name: each for name, each in bins.items() if name in both.column_names})
    users = number_values(both[_USER])[1] if _USER in both.column_names else np.arange(len(both))
    first = users % 2 == 0
    if any(len(np.unique(labels[half])) < 2 for half in (first, ~first)):
        raise UndefinedMetric("there are too few users to tell the day from last week")
    scores, gains = np.zeros(len(both)), np.zeros(len(names))
    for learnt in (first, ~first):
        data = lightgbm.Dataset(rows[learnt], labels[learnt], params={"verbosity": -1, "max_bin": 63})
        trees = lightgbm.train({**_TREES, **_FIXED}, data, 40)
        scores[~learnt] = trees.predict(rows[~learnt], num_threads=1)
        gains += trees.feature_importance("gain")
    drawn = bootstrap_figures(labels, scores, users, count=100)
    return Shift(auc(labels, scores), interval(drawn["test_auc"]), _by_column(names, gains))


def _by_column(names: list[str], gains: Doubles) -> dict[str, float]:
    """The share of the gain of each column, over all its values."""
    total: dict[str, float] = {}
    for name, gain in zip(names, gains, strict=True):
        total[name] = total.get(name, 0.0) + float(gain)
    everything = sum(total.values()) or 1.0
    return {name: total[name] / everything for name in sorted(total, key=lambda each: (-total[each], each))}


def _thin(table: pa.Table) -> pa.Table:
    """Each n-th row, so that at most `MOST_ROWS` are left."""
    step = -(-len(table) // MOST_ROWS) or 1
    return table.take(np.arange(0, len(table), step))


def _matrix(table: pa.Table, bins: dict[str, Bins]) -> tuple[list[str], Doubles]:
    """(N, columns) numbers, NaN where one is missing, and the column of the table that each is from."""
    names, columns = list[str](), list[Doubles | Bools]()
    for name, each in bins.items():
        column = table[name].combine_chunks()
        if is_list(column.type):
            found = _holds(column, each.values)
            names += [name] * len(found)
            columns += found
            continue
        names.append(name)
        if each.edges is not None:
            columns.append(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
        else:
            places = pc.index_in(column.cast(pa.string()), value_set=pa.array(each.values, pa.string()))
            columns.append(pc.fill_null(places, len(each.values)).to_numpy(zero_copy_only=False).astype(np.float64))
    return names, np.column_stack(columns).astype(np.float64)


def _holds(lists: pa.Array, values: list[str]) -> list[Bools]:
    """For each value, (N,) whether the lists hold it."""
    row = pc.list_parent_indices(lists).to_numpy()
    flat = pc.list_flatten(lists).cast(pa.string())
    places = pc.fill_null(pc.index_in(flat, value_set=pa.array(values, pa.string())), -1).to_numpy()
    return [np.bincount(row[places == n], minlength=len(lists)) > 0 for n in range(len(values))]
