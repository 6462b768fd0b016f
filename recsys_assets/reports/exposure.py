"""Whom and what lists show: coverage, concentration, popularity, and how many users' lists changed."""

import numpy as np

from recsys_assets.arrays import Bools, Ids, Ints, find, offsets, place_in_group
from recsys_assets.retrieval.interactions import Interactions
from recsys_assets.retrieval.qualities import diversity, novelty

TOP = 10


def exposure(items: Ints, known: Interactions, catalogue: Bools) -> dict[str, float]:
    """Figures of the first items of lists.

    * `coverage`: the share of the catalogue that some list shows.
    * `gini`: how unequal the catalogue's shares of the places are, 0 (equal) to 1 (one item has them all).
    * `popularity lift`: the mean number of events of a listed item divided by that of a touched item: 1 if lists are
      as popular as what users touch.
    * `diversity`, `novelty`: see `retrieval/qualities.py`.

    Args:
        items: (N, K) numbers of items, padded with -1.
        known: the events that say how popular items are.
        catalogue: (I,) whether an item can be shown.
    """
    listed = items[items >= 0]
    shown = np.bincount(listed, minlength=len(catalogue)).astype(np.float64)
    counts = known.item_counts.astype(np.float64)
    touched = float(counts @ counts) / max(counts.sum(), 1.0)
    return {
        "coverage": float((shown[catalogue] > 0).sum() / max(catalogue.sum(), 1)),
        "gini": gini(shown[catalogue]),
        "popularity lift": float(counts[listed].mean() / touched) if len(listed) and touched else 0.0,
        "diversity": diversity(items, known),
        "novelty": novelty(items, known),
    }


def gini(shares: np.ndarray) -> float:
    """The Gini coefficient of amounts (N,), 0 if there are none."""
    ordered, total = np.sort(shares), float(shares.sum())
    if not total:
        return 0.0
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def changed_share(users: Ids, items: Ids, sizes: Ints, other: tuple[Ids, Ids, Ints]) -> tuple[float, int]:
    """The share of the users of two sets of lists whose first `TOP` items are not the same set, and how many they are.

    Args:
        users: (N,) ascending ids.
        items: (sum of sizes,) the ids of their lists, one after the other.
        sizes: (N,) lengths of the lists.
        other: the same of the other set.
    """
    both = np.intersect1d(users, other[0])
    if not len(both):
        return 0.0, 0
    known = np.unique(np.concatenate([items, other[1]]))
    tops = [_tops(both, known, *each) for each in ((users, items, sizes), other)]
    return float(np.any(tops[0] != tops[1], axis=1).mean()), len(both)


def _tops(wanted: Ids, known: Ids, users: Ids, items: Ids, sizes: Ints) -> Ints:
    """(N, TOP) for each wanted user the numbers of the first items, in ascending order, padded with -1."""
    row = np.repeat(np.arange(len(users)), sizes)
    place = place_in_group(row)
    kept = place < TOP
    table = np.full((len(users), TOP), -1)
    table[row[kept], place[kept]] = np.searchsorted(known, items[kept])
    return np.sort(table[find(users, wanted)], axis=1)


def padded(items: Ints, sizes: Ints, most: int = TOP) -> Ints:
    """(N, most) the first items of lists that are given one after the other, padded with -1."""
    starts, width = offsets(sizes)[:-1], np.arange(most)
    there = width < sizes[:, None]
    places = np.where(there, starts[:, None] + width, 0)
    return np.where(there, items[places] if len(items) else -1, -1)
