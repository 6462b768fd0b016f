"""Which users a choice is learned from and which it is judged by: a hash of the id decides, the same on every day."""

import numpy as np
import numpy.typing as npt

from recsys_assets.arrays import Ids, Ints
from recsys_assets.retrieval.interactions import Queries

FOLDS = 3


def folds_of(ids: Ids) -> Ints:
    """(N,) the fold of each user."""
    return (hashes(ids) % FOLDS).astype(np.int64)


def draw_queries(asked: Queries, ids: Ids, most: int) -> Queries:
    """The queries of the `most` users whose ids (N,) have the lowest hashes."""
    return asked.restrict(np.isin(asked.truth_queries, lowest(ids, most)))


def lowest(ids: Ids, most: int) -> Ints:
    """(n,) positions, ascending, of the `most` users whose ids (N,) have the lowest hashes."""
    return np.sort(np.argsort(hashes(ids), kind="stable")[:most])


def hashes(ids: Ids) -> npt.NDArray[np.uint64]:
    """(N,) a hash of each id as text: a polynomial over its characters, mixed as in SplitMix64 (Steele et al. 2014)."""
    text = np.ascontiguousarray(ids.astype(str))
    letters = text.view(np.uint32).reshape(len(text), -1).astype(np.uint64)
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(letters.shape[1], 1_099_511_628_211, np.uint64))
        mixed = (letters * powers).sum(axis=1, dtype=np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    hashed: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return hashed
