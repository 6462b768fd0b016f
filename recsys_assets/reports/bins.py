"""Bins of a column: fixed edges of a number, or fixed values of a category or list; and distances between counts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Doubles, is_list

BINS, VALUES, KNOWN = 10, 50, 200  # bins of a number; values with a bin of their own; values that can all be known


@dataclass(frozen=True)
class Bins:
    """How values are counted. The counts are those of the bins, then of other known, unknown and missing values.

    Attributes:
        edges: of a number: ascending; a value belongs to the bin above an edge that it equals.
        values: of a category or list: the values with a bin of their own, as text.
        known: all known values; None if any value is one of the others.
    """

    edges: Doubles | None = None
    values: list[str] = field(default_factory=list)
    known: frozenset[str] | None = None

    @cached_property
    def _known_values(self) -> pa.Array:
        return pa.array(sorted(self.known or ()), pa.string())

    @property
    def labels(self) -> list[str]:
        """The names of the bins."""
        if self.edges is None:
            return [*self.values, "other", "unknown", "missing"]
        ends = [f"{edge:.4g}" for edge in self.edges]
        if not ends:
            return ["any", "other", "unknown", "missing"]
        inner = [f"{low} to {high}" for low, high in zip(ends, ends[1:], strict=False)]
        return [f"under {ends[0]}", *inner, f"{ends[-1]} or more", "other", "unknown", "missing"]

    def count(self, column: pa.ChunkedArray) -> Doubles:
        """How many values are in each bin; a missing or empty list counts once, as missing."""
        if self.edges is not None:
            numbers = column.cast(pa.float64()).to_numpy()
            known = np.isfinite(numbers)
            places = np.searchsorted(self.edges, numbers[known], side="right")
            inner = np.bincount(places, minlength=len(self.edges) + 1).astype(np.float64)
            return np.append(inner, [0.0, 0.0, float((~known).sum())])
        texts, missing = _texts(column)
        places = pc.fill_null(pc.index_in(texts, value_set=pa.array(self.values, pa.string())), len(self.values))
        counts = np.bincount(places.to_numpy(), minlength=len(self.values) + 1).astype(np.float64)
        unknown = 0.0
        if self.known is not None:
            unknown = float(len(texts) - (pc.sum(pc.is_in(texts, value_set=self._known_values)).as_py() or 0))
            counts[-1] -= unknown
        return np.append(counts, [unknown, float(missing)])


def fit_bins(
    columns: Sequence[pa.ChunkedArray], *, edges: Sequence[float] | None = None, known: Sequence[object] | None = None
) -> Bins:
    """Bins for the columns of the reference days: the given edges or vocabulary, otherwise of the columns' own values.

    A number with few distinct values is counted by value.
    """
    column = pa.chunked_array([chunk for each in columns for chunk in each.chunks], columns[0].type)
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if edges is not None:
        return Bins(np.array(edges, np.float64))
    if numeric and known is None:
        numbers = column.cast(pa.float64()).to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        distinct = np.unique(numbers)
        if pa.types.is_floating(column.type) or len(distinct) > VALUES:
            return Bins(_quantiles(numbers) if len(distinct) > BINS else distinct[1:])
    texts, _ = _texts(column)
    counts = sorted((pc.value_counts(texts)).to_pylist(), key=lambda each: (-each["counts"], each["values"]))
    own = frozenset(each["values"] for each in counts)
    all_known = frozenset(map(str, known)) if known is not None else own if len(own) <= KNOWN else None
    chosen = [each["values"] for each in counts if all_known is None or each["values"] in all_known][:VALUES]
    return Bins(None, chosen, all_known)


def distance(counts: Doubles, reference: Doubles) -> tuple[float, int]:
    """The Jensen-Shannon distance (the root of the divergence in bits, 0 to 1), and the degrees of freedom."""
    p, q = counts / max(counts.sum(), 1), reference / max(reference.sum(), 1)
    there = (p + q) > 0
    p, q = p[there], q[there]
    middle = (p + q) / 2
    bits = sum(float((part[part > 0] * np.log2(part[part > 0] / middle[part > 0])).sum()) for part in (p, q)) / 2
    return float(np.sqrt(np.clip(bits, 0.0, 1.0))), int(there.sum()) - 1


def stability_index(counts: Doubles, reference: Doubles) -> float:
    """The population stability index in nats: the sum of (p - q) ln(p / q); an empty bin counts half a row."""
    there = (counts + reference) > 0
    p, q = (np.maximum(each[there], 0.5) / max(each.sum(), 1) for each in (counts, reference))
    return float(((p - q) * np.log(p / q)).sum())


def _texts(column: pa.ChunkedArray) -> tuple[pa.Array, int]:
    """The values as text, those of lists one after the other; and the number of rows without any."""
    array = column.combine_chunks()
    if is_list(array.type):
        sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        array, missing = pc.list_flatten(array), int((sizes == 0).sum())
    else:
        missing = array.null_count
    return pc.drop_null(array).cast(pa.string()), missing


def _quantiles(numbers: Doubles) -> Doubles:
    """The edges between `BINS` bins with about equally many numbers; the lowest number is not an edge."""
    edges = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS, method="lower"))
    above: Doubles = edges[edges > numbers.min()]
    return above
