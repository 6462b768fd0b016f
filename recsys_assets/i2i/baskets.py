"""The user-item matrix, without repetitions, that item-to-item methods start from."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array, csr_array

from recsys_assets.arrays import Bools, Doubles, Floats, Ints, offsets
from recsys_assets.retrieval.interactions import Interactions


@dataclass(frozen=True)
class Baskets:
    """U users' histories without repetitions, none longer than the cap.

    Attributes:
        matrix: (U, I) of ones; the items of a row are in time order, oldest first, not in order of their numbers.
        worth: (nnz,) the highest weight of the user's events with the item, for each entry of the matrix.
        cuts: `users_cut`, users whose history was longer than the cap; `rows_cut`, the items cut from them.
    """

    matrix: csr_array
    worth: Floats
    cuts: dict[str, int]

    @property
    def user_sizes(self) -> Ints:
        """(U,) items of each user."""
        sizes: Ints = np.diff(self.matrix.indptr).astype(np.int64)
        return sizes

    @property
    def item_sizes(self) -> Ints:
        """(I,) users of each item."""
        return np.bincount(self.matrix.indices, minlength=self.matrix.shape[1])

    def columns(self) -> csc_array:
        """(U, I) the same by item, its users in ascending order; the data are positions in `matrix.indices`."""
        places = np.arange(self.matrix.nnz)
        return csr_array((places, self.matrix.indices, self.matrix.indptr), self.matrix.shape).tocsc()


def baskets(interactions: Interactions, max_history: int) -> Baskets:
    """The newest `max_history` different items of each user; only the newest of an item's repetitions is kept."""
    shape = (len(interactions.user_ids), len(interactions.item_ids))
    users, items = interactions.users, interactions.items
    newest = _is_newest(csr_array((np.arange(len(users)), items, _starts(users, shape[0])), shape))
    worth = _highest(users * shape[1] + items, interactions.weights)[newest]
    users, items = users[newest], items[newest]
    starts = _starts(users, shape[0])
    from_the_end = starts[users + 1] - np.arange(len(users))
    kept = from_the_end <= max_history
    cuts = {"users_cut": int((np.diff(starts) > max_history).sum()), "rows_cut": int((~kept).sum())}
    matrix = csr_array((np.ones(kept.sum(), np.float32), items[kept], _starts(users[kept], shape[0])), shape)
    return Baskets(matrix, worth[kept].astype(np.float32), cuts)


def _highest(groups: Ints, values: Doubles) -> Doubles:
    """(M,) the highest of the values of each element's group."""
    if (values == values[:1]).all():
        return values
    place = np.unique(groups, return_inverse=True)[1]
    highest = np.zeros(place.max(initial=-1) + 1)
    np.maximum.at(highest, place, values)
    return highest[place]


def _starts(users: Ints, count: int) -> Ints:
    """(U + 1,) where the events of each user begin, and where the last one's end."""
    return offsets(np.bincount(users, minlength=count))


def _is_newest(events: csr_array) -> Bools:
    """(M,) whether an event is its user's last one with its item; the data of `events` are the events' numbers."""
    # By columns an item's events are already ordered by user and time: no sort is needed.
    columns = events.tocsc()
    item = np.repeat(np.arange(events.shape[1]), np.diff(columns.indptr))
    last = np.ones(columns.nnz, bool)
    last[:-1] = (columns.indices[1:] != columns.indices[:-1]) | (item[1:] != item[:-1])
    newest = np.zeros(columns.nnz, bool)
    newest[columns.data] = last
    return newest
