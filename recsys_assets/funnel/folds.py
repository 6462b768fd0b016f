"""Which users a choice is learned from and which it is judged by: a hash of the id decides, the same on every day."""

import numpy as np

from recsys_assets.arrays import Ids, Ints, hashes, is_among
from recsys_assets.retrieval.interactions import Queries

FOLDS = 3


def folds_of(ids: Ids) -> Ints:
    """(N,) the fold of each user."""
    return (hashes(ids) % FOLDS).astype(np.int64)


def draw_queries(asked: Queries, ids: Ids, most: int) -> Queries:
    """The queries of the `most` users whose ids (N,) have the lowest hashes."""
    return asked.restrict(is_among(asked.truth_queries, lowest(ids, most)))


def lowest(ids: Ids, most: int) -> Ints:
    """(n,) positions, ascending, of the `most` users whose ids (N,) have the lowest hashes."""
    return np.sort(np.argsort(hashes(ids), kind="stable")[:most])
