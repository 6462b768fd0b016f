"""Parts of the test rows on which rankers may differ: new users, rare items, the most frequent terms."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Bools, Doubles
from recsys_assets.metrics import auc

COUNTS = {"user_count": "user", "item_count": "item"}  # columns with ln(1 + earlier rows)
EDGES = (10, 100, 1000)
TOP_TERMS = 10
FEWEST = 20  # rows of each class: the AUC of fewer rows says nothing


def slices(test: pa.Table, term: str | None) -> dict[str, Bools]:
    """(N,) whether rows are in a slice, for each slice that has at least `FEWEST` rows of each class.

    Args:
        test: (N rows) with `label`, and `user_count`, `item_count` and the terms' column if there are any.
        term: the column of lists whose `TOP_TERMS` most frequent values are slices, ties by name.
    """
    found: dict[str, Bools] = {}
    for column, what in COUNTS.items():
        if column in test.column_names:
            found |= count_slices(what, np.rint(np.expm1(test[column].to_numpy().astype(np.float64))))
    if term:
        found |= _term_slices(term, test[term].combine_chunks())
    positive = test["label"].to_numpy() > 0
    return {name: rows for name, rows in found.items() if _fewest(rows, positive) >= FEWEST}


def slice_aucs(
    chosen: Mapping[str, Bools], labels: Doubles, scores: Mapping[str, Doubles]
) -> dict[str, dict[str, float]]:
    """AUC of each ranker's scores (N,) in each slice, by slice and ranker."""
    return {
        name: {model: auc(labels[rows], each[rows]) for model, each in scores.items()} for name, rows in chosen.items()
    }


def count_slices(what: str, counts: npt.NDArray[np.number[Any]]) -> dict[str, Bools]:
    """(N,) slices by the number (N,) of earlier rows of the user or item."""
    place = np.searchsorted(EDGES, counts, side="right")
    ranges = [f"under {EDGES[0]}", *(f"{low} to {high - 1}" for low, high in zip(EDGES, EDGES[1:], strict=False))]
    return {f"{what} with {each} earlier rows": place == n for n, each in enumerate([*ranges, f"{EDGES[-1]} or more"])}


def _term_slices(column: str, lists: pa.Array) -> dict[str, Bools]:
    """Slices by the values of a list column; a row with several values is in several slices."""
    row, value = pc.list_parent_indices(lists).to_numpy(), pc.list_flatten(lists).dictionary_encode()
    number, names = value.indices.to_numpy(zero_copy_only=False), value.dictionary.to_pylist()
    counts = np.bincount(number, minlength=len(names))
    order = sorted(range(len(names)), key=lambda n: (-counts[n], names[n]))[:TOP_TERMS]
    return {f"{column}: {names[n]}": np.isin(np.arange(len(lists)), row[number == n]) for n in order}


def _fewest(rows: Bools, positive: Bools) -> int:
    """The number of the rows that are positive, or of those that are negative if these are fewer."""
    return int(min((rows & positive).sum(), (rows & ~positive).sum()))
