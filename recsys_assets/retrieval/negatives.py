"""Negative sampling: items drawn by weight with Walker's alias method, and the log of each item's probability.

The caller gives the weights: ones for uniform sampling, `popularity` for word2vec's counts to the power 0.75, or the
weights of a table (`weighted_items`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.arrays import Doubles, Ints

POWER = 0.75  # Mikolov et al. 2013


@dataclass(frozen=True)
class AliasTable:
    """Items 0 to I - 1, each with its own probability; every draw takes constant time.

    A draw picks a column uniformly, and then the column's own item or its alias:

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
        """Items drawn with replacement, in an array of any shape."""
        points = generator.random(shape)
        points *= len(self.keep)
        column = points.astype(np.int64)
        points -= column  # the fraction is uniform, too, and independent of the column
        return np.where(points < self.keep[column], column, self.alias[column])


def popularity(counts: Ints, power: float = POWER) -> Doubles:
    """(I,) weights of items from their numbers of events: counts to a power below one; zero stays zero."""
    weights: Doubles = np.power(counts, power, dtype=np.float64)
    return weights


def alias_table(weights: npt.ArrayLike) -> AliasTable:
    """The table for weights (I,); only their ratios matter.

    Raises:
        ValueError: a weight is negative or not finite, or no weight is above zero.
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
    """(keep, alias) of columns of height one, made from heights (I,) whose mean is one; without a loop.

    Vose's method fills each low column from a high one, and goes on to the next high one when that has become low
    itself. In this order, what the low columns lack and what the high columns have above one are two cumulative sums
    along the same line, so a binary search finds which high column fills which low one.
    """
    least = min(1.0, heights.max())  # rounding may leave all of them a little below one
    low, high = np.flatnonzero(heights < least), np.flatnonzero(heights >= least)
    lacks, ends = np.cumsum(1 - heights[low]), np.cumsum(heights[high] - 1)
    starts = lacks - (1 - heights[low])
    keep, alias = heights.copy(), np.arange(len(heights))
    alias[low] = high[np.minimum(np.searchsorted(ends, starts, side="right"), len(high) - 1)]
    # A high column ends at one, less what the last column that it fills takes beyond its surplus; the next high
    # column fills that gap.
    taken = np.append(0.0, lacks)[np.searchsorted(starts, ends, side="left")]
    keep[high] = 1 - np.maximum(taken - ends, 0)
    alias[high[:-1]] = high[1:]
    return np.clip(keep, 0, 1), alias
