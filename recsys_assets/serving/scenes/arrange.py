"""Arranging candidates: which of them takes which place of a list. Plain arrays, without a release or a scene."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recsys_assets.arrays import Bools, Doubles, Floats

_ROUND = 1e-9  # a share of 0.29 of 100 places is 29 of them


@dataclass(frozen=True)
class Window:
    """At most `count` items with the same value in any `places` that follow one another; (C, V) who has which value."""

    has: Bools
    count: int
    places: int


@dataclass(frozen=True)
class Pool:
    """C candidates, best first, and the rules by which they take places.

    Attributes:
        relevance: (C,) from 1 for the best to 0; used with `similarity` alone.
        free: (C,) which may take any place; the others are listed only if they are pinned.
        pinned: the candidate of a place, counted from 0.
        windows: rules on the values of neighbours.
        similarity: (C, C) from 0 to 1, if the list is to be diverse.
        weight: of relevance against similarity.
        new: (C,) which are new items.
        share: of places for new items.
    """

    relevance: Doubles
    free: Bools
    pinned: Mapping[int, int] = field(default_factory=dict)
    windows: Sequence[Window] = ()
    similarity: Doubles | None = None
    weight: float = 1.0
    new: Bools | None = None
    share: float = 0.0


def arrange(pool: Pool, size: int) -> list[int]:
    """The candidates of the places of a list of at most `size`.

    A pinned candidate takes its place. Any other place goes to the free candidate that fits all windows and comes
    first: by marginal relevance if the list is to be diverse, otherwise as the best. Equal ones keep their order. If
    fewer new items are listed than the share of the places so far, rounded down, a new item takes the place, as long as
    one fits. The list ends where nothing fits.
    """
    left, listed, windows = pool.free.copy(), list[int](), [_Filled(each, pool.pinned, size) for each in pool.windows]
    nearest = np.zeros(len(left))
    for place in range(size):
        chosen = pool.pinned.get(place)
        if chosen is None:
            fitting = left.copy()
            for each in windows:
                fitting &= ~each.breaks(place)
            fitting = _due(pool, listed, fitting, place)
            if not fitting.any():
                break
            chosen = int(np.argmax(np.where(fitting, _values(pool, nearest), -np.inf)))
        listed.append(chosen)
        left[chosen] = False
        for each in windows:
            each.take(place, chosen)
        if pool.similarity is not None:
            nearest = np.maximum(nearest, pool.similarity[chosen])
    return listed


def _due(pool: Pool, listed: list[int], fitting: Bools, place: int) -> Bools:
    """(C,) those that may take the place: new ones alone if they are due."""
    if pool.new is None:
        return fitting
    due = math.floor(pool.share * (place + 1) + _ROUND) > pool.new[listed].sum()
    fresh = fitting & pool.new
    return fresh if due and fresh.any() else fitting


def _values(pool: Pool, nearest: Doubles) -> Doubles:
    """(C,) what a place goes by: the highest comes first."""
    if pool.similarity is None:
        return -np.arange(len(nearest), dtype=np.float64)
    return pool.weight * pool.relevance - (1 - pool.weight) * nearest


class _Filled:
    """A window over the places that are taken so far, those of pinned candidates included."""

    def __init__(self, rule: Window, pinned: Mapping[int, int], size: int) -> None:
        self._rule, self._taken = rule, np.zeros((size, rule.has.shape[1]), np.float32)
        self._has = rule.has.astype(np.float32)  # the product of floats is one fast call
        for place, candidate in pinned.items():
            if place < size:
                self.take(place, candidate)

    def take(self, place: int, candidate: int) -> None:
        self._taken[place] = self._has[candidate]

    def breaks(self, place: int) -> Bools:
        """(C,) whether a candidate at this place would be one too many in a window that holds the place."""
        full = self._most(place) >= self._rule.count
        return np.asarray(self._has @ full.astype(np.float32) > 0)

    def _most(self, place: int) -> Floats:
        """(V,) how many items have a value, in that window with the place where these are most."""
        first, end = max(0, place - self._rule.places + 1), place + self._rule.places
        before: Floats = self._taken[first:place].sum(axis=0)
        if not self._taken[place:end].any():  # nothing is pinned ahead: the window that ends here holds the most
            return before
        sums = np.cumsum(np.concatenate([np.zeros_like(before)[None], self._taken[first:end]]), axis=0)
        starts = np.arange(place - first + 1)
        ends = np.minimum(starts + self._rule.places, len(sums) - 1)
        return np.asarray((sums[ends] - sums[starts]).max(axis=0))
