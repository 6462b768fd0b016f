"""Count the rows in which two tables differ: what a store gives back, and what was or should have been written."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Bools, is_list
from recsys_assets.stores.store import KEY


def count_differing(expected: pa.Table, found: pa.Table, tolerance: float = 0.0) -> int:
    """The number of rows that are missing, different or unexpected in `found`.

    Floats may differ by `tolerance`; NaN equals NaN; all else must be the same, the columns and their types too.
    """
    keys, others = (each[KEY].to_pylist() for each in (expected, found))
    if keys != others:
        return len(set(keys) ^ set(others)) or len(keys)
    if found.column_names != expected.column_names:
        return len(expected)
    odd = np.zeros(len(expected), bool)
    for name in expected.column_names:
        odd |= _differing_rows(expected[name].combine_chunks(), found[name].combine_chunks(), tolerance)
    return int(odd.sum())


def _differing_rows(expected: pa.Array, found: pa.Array, tolerance: float) -> Bools:
    """(N,) whether the rows of two columns differ; lists are compared by their lengths and entries."""
    if expected.type != found.type:
        return np.ones(len(expected), bool)
    odd: Bools = pc.is_null(expected).to_numpy(zero_copy_only=False) != pc.is_null(found).to_numpy(zero_copy_only=False)
    if pa.types.is_struct(expected.type):
        for one, other in zip(expected.flatten(), found.flatten(), strict=True):
            odd |= _differing_rows(one, other, tolerance)
        return odd
    if is_list(expected.type):
        odd |= _differing_lists(expected, found, tolerance)
    elif pa.types.is_floating(expected.type):
        one, other = (each.to_numpy(zero_copy_only=False) for each in (expected, found))
        odd |= ~np.isclose(one, other, rtol=0, atol=tolerance, equal_nan=True)
    else:
        odd |= ~pc.fill_null(pc.equal(expected, found), True).to_numpy(zero_copy_only=False)
    return odd


def _differing_lists(expected: pa.Array, found: pa.Array, tolerance: float) -> Bools:
    lengths, others = (pc.fill_null(pc.list_value_length(each), 0).to_numpy() for each in (expected, found))
    odd: Bools = lengths != others
    if odd.any():  # the flattened entries of the other rows would not be aligned
        kept = pa.array(~odd)
        odd[~odd] |= _differing_lists(expected.filter(kept), found.filter(kept), tolerance)
        return odd
    row = np.repeat(np.arange(len(expected)), lengths)
    np.logical_or.at(odd, row, _differing_rows(expected.flatten(), found.flatten(), tolerance))
    return odd
