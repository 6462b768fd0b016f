"""Swing for data too large or too sparse for a matrix (U, U): its sum is taken over single pairs of users.

The histories of an item's users are compared. Users who have another item in common are a group, and any two of a
group are a pair of users for that item. All pairs are listed twice: first to count how many items two users share,
then to add up the scores. Users who share nothing cost nothing.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array, csr_array

from recsys_assets.arrays import Ints, Scores, offsets
from recsys_assets.parallel import cost_blocks

_PAIRS = 1 << 20  # listed at once: about 40 MB


def pair_scores(
    histories: csr_array, users: csr_array, items: Ints, weights: Scores, alpha: float, min_support: int
) -> csr_array:
    """Swing's scores of some items, not yet divided by popularity.

    Args:
        histories: (U, I) the items of all users.
        users: (B, U) the users of the items to score.
        items: (B,) numbers of these items.
        weights: (U,) weights of the users.
        alpha: Swing's alpha.
        min_support: number of users, at least 2, that two items must have in common.

    Returns:
        (B, I) an entry for each pair of items with that support.
    """
    sizes = np.diff(users.indptr).astype(np.int64)
    owner = np.repeat(np.arange(len(items)), sizes)
    member, other, starts = _groups(histories[users.indices], owner, items)
    # Any two users of an item have a cell; the cells of a user with all earlier users are consecutive.
    place = np.arange(len(owner)) - np.repeat(users.indptr[:-1], sizes)
    starts_of_cells = offsets(sizes * (sizes - 1) // 2)
    cells = starts_of_cells[owner] + place * (place - 1) // 2
    cells, place, weight = cells[member], place[member], weights[users.indices[member]]

    shared = np.full(starts_of_cells[-1], alpha + 1, np.float32)  # 1 for the item itself
    for _, _, cell, _ in _pairs(starts, cells, place):
        np.add.at(shared, cell, np.float32(1))
    kernel, scores = 1 / shared, np.zeros(len(member))
    for later, earlier, cell, bounds in _pairs(starts, cells, place):
        scores[later] = weight[later] * np.add.reduceat(kernel[cell] * weight[earlier], bounds)

    groups = np.flatnonzero(starts == np.arange(len(starts)))
    support = np.diff(np.append(groups, len(starts)))
    sums = np.add.reduceat(scores, groups) if len(groups) else scores
    kept = support >= min_support
    where = owner[member[groups[kept]]], other[groups[kept]]
    return coo_array((sums[kept].astype(np.float32), where), (len(items), histories.shape[1])).tocsr()


def _groups(histories: csr_array, owner: Ints, items: Ints) -> tuple[Ints, Ints, Ints]:
    """The entries (E,) of the histories (R, I) of the items' users that another user of the same item has too.

    Args:
        histories: (R, I) items of the users of each item, item by item.
        owner: (R,) index of the item in `items`.
        items: (B,) number of each item, which is left out of its users' histories.

    Returns:
        (E,) row and item of the entries, ordered by item; and where each entry's group begins.
    """
    columns = histories.tocsc()
    row, other = columns.indices, np.repeat(np.arange(columns.shape[1]), np.diff(columns.indptr))
    item = owner[row]
    follows, leads = np.zeros((2, len(row)), bool)  # the previous entry, or the next one, is of the same group
    follows[1:] = leads[:-1] = (other[1:] == other[:-1]) & (item[1:] == item[:-1])
    kept = (follows | leads) & (other != items[item])
    first = ~follows[kept]
    return row[kept], other[kept], np.flatnonzero(first)[np.cumsum(first) - 1]


def _pairs(starts: Ints, cells: Ints, place: Ints) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
    """All pairs of two entries of a group, part by part.

    Yields:
        (L,) later entries; (P,) the earlier entries of each of them in turn; (P,) the pairs' cells; (L,) where the
        pairs of each later entry begin.
    """
    before = np.arange(len(starts)) - starts
    entries = np.flatnonzero(before)
    for block in cost_blocks(before[entries], _PAIRS):
        later = entries[block]
        count = before[later]
        bounds = np.cumsum(count) - count
        of = np.repeat(np.arange(len(later)), count)
        earlier = np.arange(len(of)) + (starts[later] - bounds)[of]
        yield later, earlier, cells[later][of] + place[earlier], bounds
