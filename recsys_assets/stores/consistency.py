"""The same online as offline: what a service reads from a store and computes of it, beside what the lake holds.

recsys_pipeline compares two made-up rows and prints them. Here real users are drawn, their features and those of all
items are read back from the store, and the champion's ONNX file scores pairs from them as it does from the artefacts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.retrieval.casting import is_list
from recsys_assets.stores.store import KEY, Store

TOLERANCE = 1e-5
USERS, PAIRS = 1000, 20  # users that are drawn, and items for each of them
SEED = 1
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Pinned:
    """The collections of a store at the versions of one set: nothing that is published meanwhile is seen."""

    store: Store
    versions: Mapping[str, str]

    def read(self, collection: str, keys: Sequence[str]) -> pa.Table:
        """Rows of the keys that are there, in their order."""
        return self.store.read(collection, keys, self.versions[collection])


def differing(expected: pa.Table, found: pa.Table) -> int:
    """Rows of the expected table that the found one lacks or holds otherwise, and rows that only it has.

    Floats may differ by `TOLERANCE`; NaN is equal to NaN; all else must be the same.
    """
    keys, others = (each[KEY].to_pylist() for each in (expected, found))
    if keys != others:
        return len(set(keys) ^ set(others)) or len(keys)
    odd = np.zeros(len(expected), bool)
    for name in expected.column_names:
        if name not in found.column_names:
            return len(expected)
        odd |= _odd(expected[name].combine_chunks(), found[name].combine_chunks())
    return int(odd.sum())


def differences(
    pinned: Pinned, tables: Mapping[str, pa.Table], scorer: Scorer, rule: Affinity
) -> tuple[dict[str, int], dict[str, float]]:
    """Compare a store with the tables that were published.

    Of collections of users the rows of `USERS` of them are compared, of all others every row.

    Args:
        pinned: the store.
        tables: the published tables by collection, `user` and `item_feature` among them.
        scorer: the champion.
        rule: the profile's `features.affinity`.

    Returns:
        Rows compared and rows that differ, as `<collection>.rows` and `<collection>.differing`; and
        `scores` (pairs scored) with `max_score_difference`.
    """
    drawn = _drawn(tables["user"][KEY])
    expected = {
        name: table.filter(pc.is_in(table[KEY], drawn)) if "user_id" in table.column_names else table
        for name, table in tables.items()
    }
    found = {name: pinned.read(name, table[KEY].to_pylist()) for name, table in expected.items()}
    counts: dict[str, int] = {}
    for name, table in expected.items():
        counts |= {f"{name}.rows": len(table), f"{name}.differing": differing(table, found[name])}
    offline, online = ((side["user"], side["item_feature"]) for side in (expected, found))
    return counts, _scored(scorer, rule, offline, online)


def _drawn(keys: pa.ChunkedArray) -> pa.Array:
    rng = np.random.default_rng(SEED)
    return keys.take(pa.array(np.sort(rng.permutation(len(keys))[:USERS]))).combine_chunks()


def _scored(
    scorer: Scorer, rule: Affinity, offline: tuple[pa.Table, pa.Table], online: tuple[pa.Table, pa.Table]
) -> dict[str, float]:
    """Score the same pairs both ways; infinite where a row is missing, for then nothing can be scored."""
    users, items = offline
    if any(len(each) != len(other) for each, other in zip(offline, online, strict=True)):
        return {"scores": 0.0, "max_score_difference": float("inf")}
    user = np.repeat(np.arange(len(users)), PAIRS)
    item = np.random.default_rng(SEED).integers(len(items), size=len(user))
    expected, found = (scorer.pairs(*side, user, item, rule) for side in (offline, online))
    worst = float(np.abs(expected - found).max(initial=0.0))
    return {"scores": float(len(user)), "max_score_difference": worst if np.isfinite(worst) else float("inf")}


def _odd(expected: pa.Array, found: pa.Array) -> Bools:
    """(N,) which rows of two columns differ; lists by their lengths and what they hold."""
    if expected.type != found.type:
        return np.ones(len(expected), bool)
    odd: Bools = pc.is_null(expected).to_numpy(zero_copy_only=False) != pc.is_null(found).to_numpy(zero_copy_only=False)
    if pa.types.is_struct(expected.type):
        for one, other in zip(expected.flatten(), found.flatten(), strict=True):
            odd |= _odd(one, other)
        return odd
    if is_list(expected.type):
        odd |= _odd_lists(expected, found)
    elif pa.types.is_floating(expected.type):
        one, other = (each.to_numpy(zero_copy_only=False) for each in (expected, found))
        odd |= ~np.isclose(one, other, rtol=0, atol=TOLERANCE, equal_nan=True)
    else:
        odd |= ~pc.fill_null(pc.equal(expected, found), True).to_numpy(zero_copy_only=False)
    return odd


def _odd_lists(expected: pa.Array, found: pa.Array) -> Bools:
    lengths, others = (pc.fill_null(pc.list_value_length(each), 0).to_numpy() for each in (expected, found))
    odd: Bools = lengths != others
    if odd.any():  # the entries of the other rows would not lie beside one another
        kept = pa.array(~odd)
        odd[~odd] |= _odd_lists(expected.filter(kept), found.filter(kept))
        return odd
    row = np.repeat(np.arange(len(expected)), lengths)
    np.logical_or.at(odd, row, _odd(expected.flatten(), found.flatten()))
    return odd
