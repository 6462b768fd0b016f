"""Check that online equals offline: compare what a service reads and computes from a store with what the lake holds.

recsys_pipeline compares two made-up rows and prints them. Here real users are drawn, their features and those of all
items are read back from the store, and the champion's ONNX file scores the same pairs from them and from the lake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.features.pair_data import ItemSnapshot
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.parallel import map_blocks
from recsys_assets.stores.compare import count_differing
from recsys_assets.stores.store import KEY, Store

STORE_TOLERANCE = 1e-5
COMPARED_USERS, ITEMS_PER_USER = 1000, 20
_SAMPLE_SEED = 1


@dataclass(frozen=True)
class Pinned:
    """The collections of a store at the versions of one set: a set that is published meanwhile is not seen."""

    store: Store
    versions: Mapping[str, str]

    def read(self, collection: str, keys: Sequence[str]) -> pa.Table:
        """Rows of the keys that are there, in their order."""
        return self.store.read(collection, keys, self.versions[collection])


def compare_with_lake(
    pinned: Pinned, tables: Mapping[str, pa.Table], scorer: Scorer | None, rule: Affinity
) -> tuple[dict[str, tuple[int, int]], dict[str, float]]:
    """Compare a store with the tables that were published.

    In collections of users, the rows of `COMPARED_USERS` users are compared; in all others, every row.

    Args:
        pinned: the store.
        tables: the published tables by collection, `user` and `item_feature` among them.
        scorer: the champion; None if there is none: then no pairs are scored.
        rule: the profile's `features.affinity`.

    Returns:
        The number of rows that were compared and of those that differ, by collection; and `scores` (pairs scored) with
        `max_score_difference`.
    """
    drawn = draw_keys(tables["user"][KEY])
    expected = {
        name: table.filter(pc.is_in(table[KEY], drawn)) if "user_id" in table.column_names else table
        for name, table in tables.items()
    }
    # Several at a time, because one waits for the store while another is taken apart.
    rows = map_blocks(lambda name: pinned.read(name, expected[name][KEY].to_pylist()), expected)
    found = dict(zip(expected, rows, strict=True))
    counts = {
        name: (len(table), count_differing(table, found[name], STORE_TOLERANCE)) for name, table in expected.items()
    }
    if scorer is None:
        return counts, {"scores": 0.0, "max_score_difference": 0.0}
    offline, online = ((side["user"], side["item_feature"]) for side in (expected, found))
    return counts, _compare_scores(scorer, rule, offline, online)


def draw_keys(keys: pa.ChunkedArray) -> pa.Array:
    """Up to `COMPARED_USERS` of the keys, the same ones each time, in their order."""
    rng = np.random.default_rng(_SAMPLE_SEED)
    return keys.take(pa.array(np.sort(rng.permutation(len(keys))[:COMPARED_USERS]))).combine_chunks()


def _compare_scores(
    scorer: Scorer, rule: Affinity, offline: tuple[pa.Table, pa.Table], online: tuple[pa.Table, pa.Table]
) -> dict[str, float]:
    """Score the same pairs both ways; the difference is infinite if a row is missing, since nothing can be scored."""
    users, items = offline
    if any(len(each) != len(other) for each, other in zip(offline, online, strict=True)):
        return {"scores": 0.0, "max_score_difference": float("inf")}
    user = np.repeat(np.arange(len(users)), ITEMS_PER_USER)
    item = np.random.default_rng(_SAMPLE_SEED).integers(len(items), size=len(user))
    expected, found = (scorer.pairs(its, ItemSnapshot(their, rule), user, item) for its, their in (offline, online))
    worst = float(np.abs(expected - found).max(initial=0.0))
    return {"scores": float(len(user)), "max_score_difference": worst if np.isfinite(worst) else float("inf")}
