"""Neighbour features: the recent items of a user, and the user's opinion of those nearest to a candidate item."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.arrays import Bools, Floats, Ints

SHARPNESS = (2, 4, 8)
NUMBERS = 2 * len(SHARPNESS)  # numbers per row
EVEN = 0.02  # prior weight of close items that everyone starts with, half of them liked


class Past:
    """Numbers of the newest chosen events of a user, among M events ordered by user and time."""

    def __init__(self, users: Ints, chosen: Bools, length: int) -> None:
        self.users, self.length = users, length
        self._numbers = np.append(np.flatnonzero(chosen), -1)
        self._counts = np.append(0, np.cumsum(chosen))

    def before(self, rows: Ints) -> Ints:
        """(N, length) the events before each of N events, newest first, padded with -1."""
        return self._newest(np.searchsorted(self.users, self.users[rows]), rows)

    def latest(self, users: Ints) -> Ints:
        """(N, length) the last events of N users, newest first, padded with -1."""
        return self._newest(np.searchsorted(self.users, users), np.searchsorted(self.users, users, side="right"))

    def _newest(self, first: Ints, end: Ints) -> Ints:
        """(N, length) the newest of the events from `first` up to, but not including, `end`."""
        places = self._counts[end, None] - 1 - np.arange(self.length)
        found: Ints = self._numbers[np.where(places >= self._counts[first, None], places, -1)]
        return found


@dataclass(frozen=True)
class Recent:
    """The newest events of N users: items (N, L), padded with -1, and their values and labels (N, L).

    The value of an event without one is NaN.
    """

    items: Ints
    values: Floats
    labels: Floats

    def take(self, rows: Ints | Bools) -> "Recent":
        """The rows at the given positions, or where the mask is set."""
        return Recent(self.items[rows], self.values[rows], self.labels[rows])


@dataclass(frozen=True)
class History:
    """The newest events of users, with the items, values and labels (M,) of all events."""

    past: Past
    items: Ints
    values: Floats
    labels: npt.NDArray[np.integer]

    def before(self, rows: Ints) -> Recent:
        """The newest events of the users of N events, before these events."""
        return self._of(self.past.before(rows))

    def latest(self, users: Ints) -> Recent:
        """The newest events of N users, up to now."""
        return self._of(self.past.latest(users))

    def _of(self, numbers: Ints) -> Recent:
        there = numbers >= 0
        values, labels = (
            np.where(there, column[numbers], 0).astype(np.float32) for column in (self.values, self.labels)
        )
        return Recent(np.where(there, self.items[numbers], -1), values, labels)


class Nearby:
    """A user's opinion of their recent items, weighted by nearness to a candidate item.

    The weight of an item is its cosine with the candidate to the power of 2, 4 and 8. The affinity is linear in what
    a user has liked; this is a kernel regression, and added 0.003 to the validation AUC of Wide & Deep on MovieLens 1M.

    Args:
        items: (I, D) the result of `fit_items`. Item vectors, without the level term, are normalised; those of rarely
            seen items are shrunk.
    """

    def __init__(self, items: Floats) -> None:
        self.bias, vectors = items[:, 0], items[:, 2:]
        self.vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 0.05)

    def __call__(self, candidates: Ints, recent: Recent) -> Floats:
        """(N, 6) the share of liked items for each sharpness, then for each sharpness the mean of value - b.

        Args:
            candidates: (N,) numbers of items.
            recent: the users' newest events.
        """
        cosine = np.matmul(self.vectors[recent.items], self.vectors[candidates][:, :, None])[:, :, 0]  # (N, L)
        close = np.where(recent.items >= 0, cosine, 0).clip(0)
        known = ~np.isnan(recent.values)
        above = np.where(known, recent.values - self.bias[recent.items], 0)
        weights = [close**power for power in SHARPNESS]
        liked = [((weight * recent.labels).sum(axis=1) + EVEN / 2) / (weight.sum(axis=1) + EVEN) for weight in weights]
        valued = [(weight * above).sum(axis=1) / ((weight * known).sum(axis=1) + EVEN) for weight in weights]
        return np.stack([*liked, *valued], 1)
