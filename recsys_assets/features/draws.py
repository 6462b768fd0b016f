"""Drawn negatives: for each positive of a ranked part, other items that were known at the moment of the event.

An item is mentioned by every offline event, and by its arrival: the start of the day of its first dated row. At a
moment it is drawn with the probability c^a / (sum over items of c^a), where c is the number of its mentions before the
moment and a the exponent of the profile's rule (0: uniformly among the items mentioned). The mentions in order of time
have weights c^a - (c - 1)^a, so that those before a moment add up to that sum, and a draw is one search in the running
sum. An item without a mention is not known yet: it is not drawn, and its own row is not ranked, because no negative
could stand against it.

An item that the user touches in the same part of the split is drawn again, up to `ATTEMPTS` times, and so is one that
they touched before if lists leave out seen items; then the place stays empty. Random numbers come from a hash of the
row's own content: they depend neither on the order of the rows nor on other rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.arrays import Array, Bools, Doubles, Ints, distinct, find, place_in_group

ATTEMPTS = 32
RANKED = ("train", "validation", "test")  # the order of time in a user's history


@dataclass(frozen=True)
class Moments:
    """M offline events in any order, and the arrivals of I items.

    Attributes:
        order: (M,) the place of each event in the order of time, from 0.
        days: (M,) the day of each event, as a number.
        users, items: (M,) numbers from 0 on.
        parts: (M,) index of the event's part in `RANKED`.
        labels: (M,) 1 for a positive.
        seeds: (M,) a hash of the event's content.
        arrivals: (I,) the day of the item's first dated row; -1 if it has none.
    """

    order: Ints
    days: Ints
    users: Ints
    items: Ints
    parts: Ints
    labels: Ints
    seeds: npt.NDArray[np.uint64]
    arrivals: Ints


@dataclass(frozen=True)
class Drawn:
    """K drawn rows, in the order of their events.

    Attributes:
        events: (K,) position of the event whose user and moment the row has.
        items: (K,) number of the drawn item.
    """

    events: Ints
    items: Ints


NONE_DRAWN = Drawn(np.empty(0, np.int64), np.empty(0, np.int64))


class Mentions:
    """The mentions of items in order of time; an arrival comes before all events of its day."""

    def __init__(self, moments: Moments, exponent: float) -> None:
        arrived, self.arrivals = np.flatnonzero(moments.arrivals >= 0), moments.arrivals
        by_time = np.argsort(moments.order)
        items = np.concatenate([arrived, moments.items[by_time]])
        days = np.concatenate([moments.arrivals[arrived], moments.days[by_time]])
        order = np.argsort(days, kind="stable")  # arrivals stand before events, and both are in order already
        self.items, self.exponent = items[order], exponent
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self.of_event = place[len(arrived) :][moments.order]  # (M,) the place of each event among the mentions
        self._by_item = np.argsort(self.items, kind="stable")
        self._keys = self.items[self._by_item] * len(self.items) + self._by_item  # ascending
        self._first = np.searchsorted(self._keys, np.arange(len(self.arrivals)) * len(self.items))  # of each item
        counts = np.empty(len(self.items), np.float64)
        counts[self._by_item] = place_in_group(self.items[self._by_item]) + 1
        self.sums = np.append(0.0, np.cumsum(counts**exponent - (counts - 1) ** exponent * (counts > 1)))

    def count(self, items: Ints, places: Ints) -> Ints:
        """(N,) the mentions of each of N items before each of N places."""
        return np.searchsorted(self._keys, items * len(self.items) + places) - self._first[items]

    def events(self, items: Ints, places: Ints) -> Ints:
        """(N,) the events among these mentions."""
        count = self.count(items, places)
        return count - ((count > 0) & (self.arrivals[items] >= 0))

    def log_share(self, items: Ints, places: Ints) -> Doubles:
        """(N,) the log of the probability that a draw at a place is the item; -inf if it is not known."""
        count = self.count(items, places).astype(np.float64)
        weight = np.where(count > 0, np.maximum(count, 1) ** self.exponent, 0)
        with np.errstate(divide="ignore"):
            shares: Doubles = np.log(weight) - np.log(np.maximum(self.sums[places], 1))
        return shares

    def draw(self, points: Doubles, places: Ints) -> Ints:
        """(N,) the item at a point in [0, 1) of the running sum before each place, where something is mentioned."""
        found = np.searchsorted(self.sums, points * self.sums[places], side="right") - 1
        items: Ints = self.items[np.clip(found, 0, places - 1)]
        return items


def draw(moments: Moments, mentions: Mentions, rate: int, without_seen: bool) -> Drawn:
    """`rate` items for each positive whose item was known; fewer for a user who touched nearly everything.

    With `without_seen` no item is drawn that the user touched before.
    """
    known = np.isfinite(mentions.log_share(moments.items, mentions.of_event))
    events = np.repeat(np.flatnonzero(known & (moments.labels > 0)), rate)
    slots, found = np.arange(len(events)) % max(rate, 1), np.full(len(events), -1)
    touched, left = _Touched(moments, without_seen), np.arange(len(events))
    for attempt in range(ATTEMPTS):
        rows = events[left]
        points = _uniform(moments.seeds[rows], slots[left] * ATTEMPTS + attempt)
        items = mentions.draw(points, mentions.of_event[rows])
        free = ~touched(rows, items)
        found[left[free]] = items[free]
        left = left[~free]
    return Drawn(events[found >= 0], found[found >= 0])


def share_left(moments: Moments, mentions: Mentions, without_seen: bool) -> Doubles:
    """(M,) the share of draws at each event that are not drawn again, as of the user's last event in the same part.

    Draws of touched items fall to the others: each of these is drawn 1 / share times as often as by its own chance.
    """
    width, last = len(moments.arrivals), np.full((moments.users.max(initial=-1) + 1) * len(RANKED), -1)
    own = moments.users * len(RANKED) + moments.parts
    np.maximum.at(last, own, mentions.of_event)
    later = range(len(RANKED)) if without_seen else range(1)
    pairs = [((own + k) * width + moments.items)[moments.parts + k < len(RANKED)] for k in later]
    part, item = np.divmod(distinct(np.concatenate(pairs)), width)
    part, item = part[last[part] >= 0], item[last[part] >= 0]
    taken = np.bincount(part, np.exp(mentions.log_share(item, last[part])), len(last))
    return _left(taken[own])


def share_unseen(moments: Moments, mentions: Mentions, users: int) -> Doubles:
    """(U,) the share of draws after the last event that are of items which each of U users has not touched."""
    width = len(moments.arrivals)
    user, item = np.divmod(distinct(moments.users * width + moments.items), width)
    end = np.full(len(item), len(mentions.items))
    return _left(np.bincount(user, np.exp(mentions.log_share(item, end)), users))


def _left(taken: Array) -> Doubles:
    """The rest of shares that are taken; not less than draws that are tried so many times can find."""
    left: Doubles = np.maximum(1 - np.asarray(taken, np.float64), 1 / ATTEMPTS)
    return left


class _Touched:
    """Whether an item is not to be drawn at the moment of an event, because of what its user touched."""

    def __init__(self, moments: Moments, without_seen: bool) -> None:
        self.moments, self.without_seen = moments, without_seen
        pairs = self._pairs(np.arange(len(moments.users)), moments.items)
        self._in_part = distinct(pairs * len(RANKED) + moments.parts)
        by_time = np.lexsort((moments.order, pairs))
        self._known, first = np.unique(pairs[by_time], return_index=True)
        self._since = moments.order[by_time][first]

    def _pairs(self, rows: Ints, items: Ints) -> Ints:
        """(N,) one number for the user of each of N events and an item."""
        return self.moments.users[rows] * len(self.moments.arrivals) + items

    def __call__(self, rows: Ints, items: Ints) -> Bools:
        """(N,) whether the user of each of N events touched an item in the same part, or before if that counts."""
        pairs = self._pairs(rows, items)
        touched = find(self._in_part, pairs * len(RANKED) + self.moments.parts[rows]) >= 0
        if self.without_seen:
            place = find(self._known, pairs)
            touched |= (place >= 0) & (self._since[place] < self.moments.order[rows])
        return touched


def _uniform(seeds: npt.NDArray[np.uint64], numbers: Ints) -> Doubles:
    """(N,) points in [0, 1): splitmix64 (Steele et al. 2014) of each seed, at the given number in its sequence."""
    mixed = seeds + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    points: Doubles = ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return points
