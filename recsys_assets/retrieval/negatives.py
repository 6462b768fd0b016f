"""Negative sampling: items drawn by weight with Walker's alias method, and what must be known of the draws.

Weights are the user's: ones for uniform sampling, `popularity` for word2vec's counts to the power 0.75, or the
weights of a table (`weighted_items`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.retrieval.interactions import Ints
from recsys_assets.retrieval.lists import Bools

Doubles = npt.NDArray[np.float64]
POWER = 0.75  # Mikolov et al. 2013


@dataclass(frozen=True)
class AliasTable:
    """Items 0 to I - 1, each to be drawn with a probability of its own at the same cost.

    A draw picks a column evenly, and then the column's own item or its alias:

        column = torch.randint(I, shape)
        item = torch.where(torch.rand(shape) < keep[column], column, alias[column])

    Attributes:
        keep: (I,) probability of the column's own item.
        alias: (I,) the other item of the column.
        log_probability: (I,) log of the probability that a draw is the item; -inf for items of weight zero.
    """

    keep: Doubles
    alias: Ints
    log_probability: Doubles

    def draw(self, generator: np.random.Generator, shape: int | tuple[int, ...]) -> Ints:
        """Items drawn with replacement, of any shape."""
        points = generator.random(shape)
        points *= len(self.keep)
        column = points.astype(np.int64)
        points -= column  # the fraction is as even as the column, and independent of it
        return np.where(points < self.keep[column], column, self.alias[column])

    def log_expected(self, items: Ints, draws: int) -> Doubles:
        """Log of how often each of the items is expected among so many draws: what logQ correction subtracts.

        A softmax over the positive and the draws estimates the one over all items without bias (as the draws
        become many) when this is taken from the score of each draw (Bengio and Senécal 2008).
        """
        expected: Doubles = self.log_probability[items] + np.log(draws)
        return expected


def popularity(counts: Ints, power: float = POWER) -> Doubles:
    """(I,) weights of items with so many events: counts to a power below one; zero stays zero."""
    weights: Doubles = np.power(counts, power, dtype=np.float64)
    return weights


def alias_table(weights: npt.ArrayLike) -> AliasTable:
    """The table for weights (I,), of which only the ratios matter.

    Raises:
        ValueError: a weight is negative or not finite, or none is above zero.
    """
    given = np.asarray(weights, np.float64)
    wrong = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
    if wrong.size:
        raise ValueError(f"the weight of item {wrong[0]} is {given[wrong[0]]}: weights are finite and not negative")
    if not given.any():
        raise ValueError(f"none of {len(given)} weights is above zero: there is nothing to draw")
    given = given / given.max()  # so that no sum overflows
    probability = given / given.sum()
    keep, alias = _columns(probability * len(given))
    with np.errstate(divide="ignore"):
        return AliasTable(keep, alias, np.log(probability))


def _columns(heights: Doubles) -> tuple[Doubles, Ints]:
    """(keep, alias) of columns of height one, made of heights (I,) whose mean is one; no loop.

    Vose fills each low column from a high one, and goes on to the next high one when that has become low
    itself. In that order the low columns and the high ones lie along one line: what low columns lack and what
    high columns have above one are sums from its start, so that searching finds who fills whom.
    """
    least = min(1.0, heights.max())  # rounding may leave all of them a little below one
    low, high = np.flatnonzero(heights < least), np.flatnonzero(heights >= least)
    lacks, ends = np.cumsum(1 - heights[low]), np.cumsum(heights[high] - 1)
    starts = lacks - (1 - heights[low])
    keep, alias = heights.copy(), np.arange(len(heights))
    alias[low] = high[np.minimum(np.searchsorted(ends, starts, side="right"), len(high) - 1)]
    # A high column is left with one, less what the last column that it fills takes beyond its own surplus;
    # that is filled by the next high column.
    taken = np.append(0.0, lacks)[np.searchsorted(starts, ends, side="left")]
    keep[high] = 1 - np.maximum(taken - ends, 0)
    alias[high[:-1]] = high[1:]
    return np.clip(keep, 0, 1), alias


def accidental_hits(positives: Ints, negatives: Ints, known: tuple[Ints, Ints] | None = None) -> Bools:
    """(B, N) which of N negatives, shared by B rows, are no negatives of a row.

    Args:
        positives: (B,) the right item of each row.
        negatives: (N,) drawn items; an item may be there several times.
        known: (row, item) pairs in any order: further items that are right for a row, as those of the user.
    """
    drawn, place = np.unique(negatives, return_inverse=True)
    masked = positives[:, None] == drawn
    if known is not None and len(drawn):
        row, item = known
        found = np.minimum(np.searchsorted(drawn, item), len(drawn) - 1)
        there = drawn[found] == item
        masked[row[there], found[there]] = True
    shared: Bools = masked[:, place]
    return shared
