"""The record of a user-item feature, and the data that it is computed from: the log in training, pairs in serving.

Shapes: U users, I items, V kinds of values, and D = `width` + 2 numbers of a user or item in `factor_model.py`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Bools, Doubles, Floats, Ints, blocks, hashes, offsets
from recsys_assets.datasets.names import (
    DRAW_LOG_RATE,
    ITEM_FACTORS,
    RECENT_ITEMS,
    RECENT_LABELS,
    RECENT_VALUES,
    USER_FACTORS,
)
from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.features.draws import NONE_DRAWN, Drawn
from recsys_assets.features.factor_model import FOLD_ROUNDS, START_ROUNDS, Events, fit_items
from recsys_assets.parallel import map_blocks

# Bounds the memory of the vectors of the users' histories: 13 MB at width 32 and 100 items. 4096 took 30 % longer.
PAIR_BLOCK = 1024
Made = TypeVar("Made")


class Past:
    """Finds the positions of a user's newest chosen events, among M events ordered by user and time."""

    def __init__(self, users: Ints, chosen: Bools, length: int) -> None:
        self.users, self.length = users, length
        self._numbers = np.append(np.flatnonzero(chosen), -1)  # the last entry pads
        self._counts = offsets(chosen)
        self._first = np.searchsorted(users, np.arange(users.max(initial=-1) + 1))  # event of each user

    def before(self, rows: Ints) -> Ints:
        """(N, length) the events before each of N events, newest first, padded with -1."""
        return self._newest(self._first[self.users[rows]], rows)

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

    def take(self, rows: Ints | Bools | slice) -> "Recent":
        """The rows at the given positions, or where the mask is set."""
        return Recent(self.items[rows], self.values[rows], self.labels[rows])


@dataclass(frozen=True)
class Log:
    """M offline events, ordered by user and time.

    Attributes:
        kinds: the same events with each of V kinds of values: ratings, if there are any, and labels.
        labels: (M,) 0 or 1.
        user_ids, item_ids: the ids of all users and items, in ascending order.
        rule: the profile's `features.affinity`.
        drawn: K negatives, or impressions, at the moments of events; a user's history does not hold them.
        drawn_values: (V,) the value of a drawn row, for each kind; NaN for a kind that it does not have.
        drawn_train: (K,) which of them the factors learn from; None: those at the moments of train rows.
        fitted: `item_factors`, if these are known already.
    """

    kinds: Sequence[Events]
    labels: npt.NDArray[np.integer]
    user_ids: pa.Array
    item_ids: pa.Array
    rule: Affinity
    drawn: Drawn = NONE_DRAWN
    drawn_values: Sequence[float] = ()
    drawn_train: Bools | None = None
    fitted: Floats | None = None

    @property
    def users(self) -> Ints:
        """(M,) the number of each event's user."""
        return self.kinds[0].users

    @property
    def items(self) -> Ints:
        """(M,) the number of each event's item."""
        return self.kinds[0].items

    @cached_property
    def row_events(self) -> Ints:
        """(M + K,) the position of the event whose user and moment each row has; drawn rows follow the events."""
        return np.concatenate([np.arange(len(self.users)), self.drawn.events])

    @cached_property
    def row_items(self) -> Ints:
        """(M + K,) the number of each row's item."""
        return np.concatenate([self.items, self.drawn.items])

    @cached_property
    def user_folds(self) -> Ints:
        """(U,) the fold of each user (`affinity.py` says why there are folds), which new users do not change."""
        return (hashes(self.user_ids.to_numpy(zero_copy_only=False)) % self.rule.folds).astype(np.int64)

    @property
    def row_folds(self) -> Ints:
        """(M + K,) the fold of each row's user."""
        return self.user_folds[self.users[self.row_events]]

    @cached_property
    def item_factors(self) -> Floats:
        """(I, V, folds, D) the result of `fit_items` on the train rows of the users of all other folds.

        The folds of one half start from items that were fitted on the users of the other half: to a user, the start
        is as unknown as the rest.
        """
        if self.fitted is not None:
            return self.fitted
        folds, kinds = self.rule.folds, range(len(self.kinds))
        factors = np.zeros((len(self.item_ids), len(kinds), folds, self.rule.width + 2), np.float32)
        late = self.row_folds >= folds // 2
        halves = list(product(kinds, (False, True)))
        starts = dict(zip(halves, map_blocks(lambda half: self._fit(half[0], late != half[1]), halves), strict=True))

        def fit(place: tuple[int, int]) -> None:
            kind, fold = place
            start = starts[kind, fold >= folds // 2]
            factors[:, kind, fold] = self._fit(kind, self.row_folds != fold, start, FOLD_ROUNDS)

        map_blocks(fit, product(kinds, range(folds)))
        return factors

    def _fit(self, kind: int, chosen: Bools, start: Floats | None = None, rounds: int = START_ROUNDS) -> Floats:
        """(I, D) the result of `fit_items` on the chosen train rows, drawn ones included."""
        events = self._valued_rows(kind)
        rows = events.take(chosen & events.train & events.has_value)
        return fit_items(rows, len(self.item_ids), self.rule.width, start, rounds)

    def _valued_rows(self, kind: int) -> Events:
        """The events and the drawn rows with values of a kind."""
        events = self.kinds[kind].take(self.row_events)
        values = events.values.copy()
        values[len(self.users) :] = self.drawn_values[kind] if self.drawn_values else np.nan
        train = events.train
        if self.drawn_train is not None:
            train = np.concatenate([train[: len(self.users)], self.drawn_train])
        return replace(events, items=self.row_items, values=values, train=train)

    @cached_property
    def _past(self) -> Past:
        """The newest events with any label: as many as the newest liked and the newest disliked ones together."""
        return Past(self.users, self.labels >= 0, 2 * self.rule.recent)

    def recent_before(self, rows: Ints) -> Recent:
        """The newest events of the users of N events, before these events; values are of the first kind."""
        return self._recent(self._past.before(rows))

    @property
    def latest(self) -> Recent:
        """The newest events of all users."""
        return self._recent(self._past.latest(np.arange(len(self.user_ids))))

    def _recent(self, numbers: Ints) -> Recent:
        there = numbers >= 0
        values, labels = (
            np.where(there, column[numbers], 0).astype(np.float32) for column in (self.kinds[0].values, self.labels)
        )
        return Recent(np.where(there, self.items[numbers], -1), values, labels)


@dataclass(frozen=True)
class ItemSnapshot:
    """`item_features` of all items, and what is computed from it once for all pairs.

    Attributes:
        table: one row per item.
        rule: the profile's `features.affinity`.
    """

    table: pa.Table
    rule: Affinity
    _made: dict[tuple[Any, int], Any] = field(default_factory=dict, compare=False)

    @cached_property
    def ids(self) -> pa.Array:
        """The ids of the rows."""
        return self.table["item_id"].combine_chunks()

    @cached_property
    def factors(self) -> Floats:
        """(I, V, folds, D) the factors of the items."""
        return read_factors(self.table[ITEM_FACTORS], self.rule)

    @cached_property
    def draw_rates(self) -> Doubles:
        """(I,) the logarithm of how many times an item is drawn as a negative for each positive of a user."""
        rates: Doubles = self.table[DRAW_LOG_RATE].to_numpy()
        return rates

    def of_fold(self, make: Callable[[Floats], Made], fold: int) -> Made:
        """The result of a function of the factors (I, D) of the first kind of values in a fold; it is called once."""
        if (make, fold) not in self._made:
            self._made[make, fold] = make(np.ascontiguousarray(self.factors[:, 0, fold]))
        made: Made = self._made[make, fold]
        return made


@dataclass(frozen=True)
class UserSnapshot:
    """The side of U users of which features of pairs are computed.

    Attributes:
        factors: (U, V, folds, D) the factors of the users; all are zero in the folds that are not the user's.
        recent: their newest events.
        folds: (U,) the fold that each user belongs to.
    """

    factors: Floats
    recent: Recent
    folds: Ints

    @classmethod
    def of(cls, users: pa.Table, items: ItemSnapshot) -> "UserSnapshot":
        """The snapshot of the rows of `user_features`."""
        factors = read_factors(users[USER_FACTORS], items.rule)
        folds = (factors[:, 0, :, 0] != 0).argmax(axis=1)  # a user's numbers begin with a 1 in their own fold
        return cls(factors, _recent_of(users, items.ids), folds)

    def take(self, rows: Ints | slice) -> "UserSnapshot":
        """The users at the given positions."""
        return UserSnapshot(self.factors[rows], self.recent.take(rows), self.folds[rows])


def _recent_of(users: pa.Table, item_ids: pa.Array) -> Recent:
    """The newest events of users, from the columns of their table."""
    counts = pc.list_value_length(users[RECENT_ITEMS]).to_numpy()
    there = np.arange(counts.max(initial=1))[None] < counts[:, None]
    recent = Recent(np.full(there.shape, -1), np.zeros(there.shape, np.float32), np.zeros(there.shape, np.float32))
    recent.items[there] = pc.index_in(pc.list_flatten(users[RECENT_ITEMS]), value_set=item_ids).to_numpy()
    for column, numbers in {RECENT_VALUES: recent.values, RECENT_LABELS: recent.labels}.items():
        numbers[there] = pc.list_flatten(users[column]).to_numpy()
    return recent


@dataclass(frozen=True)
class Pairs:
    """N pairs of a user and an item, and the two snapshots that serving reads.

    Attributes:
        users: of `user_features`.
        items: of `item_features`.
        user: (N,) row numbers in `users`.
        item: (N,) row numbers in `items`.
    """

    users: UserSnapshot
    items: ItemSnapshot
    user: Ints
    item: Ints

    def blocks_by_fold(self) -> Iterator[tuple[int, Ints]]:
        """Each fold with the positions of a block of pairs whose users belong to it."""
        return blocks_by_fold(self.users.folds[self.user], self.items.rule.folds)


@dataclass(frozen=True)
class Fitted:
    """A feature of all rows, events and then drawn ones, and the columns of the snapshots that it is served from.

    Attributes:
        column: gives the feature's column for the rows at the positions (N,).
        of_user: columns with a value for each of the log's users.
        of_item: columns with a value for each of the log's items.
    """

    column: Callable[[Ints], pa.Array]
    of_user: dict[str, pa.Array] = field(default_factory=dict)
    of_item: dict[str, pa.Array] = field(default_factory=dict)


@dataclass(frozen=True)
class PairFeature:
    """The record of a feature of a user and an item; samples, snapshots, schema and serving follow from it.

    Attributes:
        name: its column.
        fit: computes it from the log.
        of_user, of_item: the columns of `user_features` and `item_features` that it is served from.
        serve: gives (N, width) floats; None for lists of a user's items, which the snapshot holds as they are.
        product_of: the two columns whose inner products, one for each kind of values, are the floats; the feature
            schema names them.
    """

    name: str
    fit: Callable[[Log], Fitted]
    of_user: tuple[str, ...]
    of_item: tuple[str, ...] = ()
    serve: Callable[[Pairs], Floats] | None = None
    product_of: tuple[str, ...] = ()

    @property
    def side(self) -> Literal["pair", "user"]:
        """The snapshot that serves it, or both together."""
        return "pair" if self.serve else "user"


def read_factors(column: pa.ChunkedArray, rule: Affinity) -> Floats:
    """(N, V, folds, D) the factors of N users or items, from their column."""
    flat: Floats = pc.list_flatten(column.combine_chunks()).to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1, rule.folds, rule.width + 2)


def vectors(numbers: Floats) -> pa.Array:
    """(N, …) numbers as N lists of a fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), int(np.prod(numbers.shape[1:])))


def blocks_by_fold(fold_of: Ints, folds: int) -> Iterator[tuple[int, Ints]]:
    """Each fold with the positions of a block of rows that `fold_of` (N,) assigns to it."""
    there = np.flatnonzero(np.bincount(fold_of, minlength=folds))
    return ((fold, rows) for fold in there.tolist() for rows in blocks(np.flatnonzero(fold_of == fold), PAIR_BLOCK))
