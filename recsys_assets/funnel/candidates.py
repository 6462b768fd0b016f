"""Candidates: every item that some channel lists for a query, with its place and its score in each channel.

A channel's scores have a scale of their own, and this may differ by user. So they are scaled within their list, from 1
for the first item to 0 for the last one, and rounded to `GRID`: a last bit of a network's sum, which depends on
how many rows are computed at once, then does not reach the trees that order candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.arrays import Bools, Floats, Ints, place_in_group
from recsys_assets.retrieval.lists import Lists, empty_lists

GRID = 1 / 1024  # numbers that come from a network are multiples of this


@dataclass(frozen=True)
class Candidates:
    """M candidates of N queries, ascending by query and within a query by item.

    Attributes:
        query: (M,) index of the query.
        item: (M,) number of the item.
        places: (M, C) place in each channel's list, from 1; NaN where the channel does not list the item.
        scores: (M, C) score there, scaled to [0, 1]; NaN likewise.
    """

    query: Ints
    item: Ints
    places: Floats
    scores: Floats

    def __len__(self) -> int:
        return len(self.query)

    def take(self, rows: Ints | Bools) -> "Candidates":
        """The candidates at the given positions, ascending, or where the mask is set."""
        return Candidates(self.query[rows], self.item[rows], self.places[rows], self.scores[rows])

    def shift(self, by: int) -> "Candidates":
        """The same with higher numbers of queries."""
        return Candidates(self.query + by, self.item, self.places, self.scores)

    @classmethod
    def concatenate(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """The candidates of several blocks of queries."""
        columns = zip(*((part.query, part.item, part.places, part.scores) for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))

    def listed_by(self, kept: Bools) -> Bools:
        """(M,) whether one of the channels that `kept` (C,) marks lists the candidate."""
        return np.asarray(~np.isnan(self.places[:, kept]).all(axis=1))

    def of_channels(self, kept: Bools) -> "Candidates":
        """The candidates of the channels that `kept` (C,) marks, with the columns of these alone."""
        rows = self.listed_by(kept)
        return Candidates(self.query[rows], self.item[rows], self.places[rows][:, kept], self.scores[rows][:, kept])

    @property
    def of_one(self) -> bool:
        """Whether all are candidates of one query."""
        return len(self.query) == 0 or self.query[0] == self.query[-1]

    @property
    def channels(self) -> Ints:
        """(M,) how many channels list the candidate."""
        counts: Ints = (~np.isnan(self.places)).sum(axis=1)
        return counts


def gather(channels: Mapping[str, Lists], width: int) -> Candidates:
    """The candidates of the channels' lists (N, K) for the same queries; `width` is the number of all items."""
    queries = len(next(iter(channels.values())).items)
    listed = empty_lists(len(channels) * queries, max(each.items.shape[1] for each in channels.values()))
    for number, each in enumerate(channels.values()):
        rows, k = slice(number * queries, (number + 1) * queries), each.items.shape[1]
        listed.items[rows, :k], listed.scores[rows, :k] = each.items, each.scores
    row, place = np.nonzero(listed.items >= 0)  # channel after channel
    channel, query = np.divmod(row, max(queries, 1))
    union, of = np.unique(query * width + listed.items[row, place], return_inverse=True)
    places, scores = (np.full((len(union), len(channels)), np.nan, np.float32) for _ in range(2))
    places[of, channel], scores[of, channel] = place + 1, _scale(listed)[row, place]
    return Candidates(union // width, union % width, places, scores)


def _scale(listed: Lists) -> Floats:
    """(N, K) the scores from 1 for a list's first item to 0 for its last, on the grid; equal scores are all 1."""
    there = listed.items >= 0
    scores = np.where(there, listed.scores, np.nan).astype(np.float64)
    sizes = there.sum(axis=1)
    last = scores[np.arange(len(sizes)), np.maximum(sizes - 1, 0)][:, None]
    span = scores[:, :1] - last
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(span > 0, (scores - last) / span, 1.0)
    return on_grid(scaled)


def on_grid(numbers: npt.NDArray[np.floating]) -> Floats:
    """The numbers, rounded to multiples of `GRID`."""
    rounded: Floats = (np.rint(numbers / GRID) * GRID).astype(np.float32)
    return rounded


def best(candidates: Candidates, scores: npt.NDArray[np.floating], k: int) -> Ints:
    """Positions of each query's k candidates of the highest scores (M,), best first; ties by the item's number."""
    kept = ordered(candidates, scores)
    return kept[:k] if candidates.of_one else kept[place_in_group(candidates.query[kept]) < k]


def ordered(candidates: Candidates, scores: npt.NDArray[np.floating]) -> Ints:
    """(M,) positions of each query's candidates, the highest score first; ties by the item's number."""
    falling = -scores
    if candidates.of_one:  # sorts are stable, and items are ascending within a query
        return np.argsort(falling, kind="stable")
    starts, sizes = np.unique(candidates.query, return_index=True, return_counts=True)[1:]
    # A sort of all candidates by query and score takes 0.17 s for 900,000 of them, one of the rows of a table 0.04 s.
    table = np.full((len(sizes), sizes.max(initial=0)), np.nan, falling.dtype)  # NaN comes last
    there = np.arange(table.shape[1]) < sizes[:, None]
    table[there] = falling
    order: Ints = (np.argsort(table, axis=1, kind="stable") + starts[:, None])[there]
    return order


def as_lists(query: Ints, items: Ints, scores: npt.NDArray[np.floating], queries: int, k: int) -> Lists:
    """Lists of `queries` rows from items in the order of their query (ascending) and place."""
    lists, place = empty_lists(queries, k), place_in_group(query)
    lists.items[query, place], lists.scores[query, place] = items, scores
    return lists
