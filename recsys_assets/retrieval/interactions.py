"""The rows of `recall_samples` as arrays: users and items by number, each user's events together, in time order.

A history is never copied: it is a slice of the array of items, from the user's first event to the moment of the query.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Doubles, Ids, Ints, is_among, number_values, offsets, slices
from recsys_assets.datasets.names import ANONYMOUS, RECALL_LABEL, WEIGHT
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Right
from recsys_assets.datasets.splits import PARTS

MOST_EVENTS = 50_000  # that successive queries are about: lists of more would not fit into memory
BLOCK = 1 << 14  # queries at once: 40 MB of lists of 200
_SEED = 1


@dataclass(frozen=True)
class Interactions:
    """M events of U users and I items, ordered by user and time.

    Attributes:
        user_ids: (U,) in ascending order; a user's number is its index here.
        item_ids: (I,) in ascending order; an item's number is its index here.
        users: (M,) number of each event's user, ascending.
        items: (M,) number of each event's item.
        labels: (M,) 1 for a positive, 0 for a negative.
        parts: (M,) index of each event's part in `datasets.splits.PARTS`, ascending within a user.
        weights: (M,) what each event is worth, by its kind; 1 in a log without kinds.
        anonymous: (U,) whether the user is an anonymous session.
    """

    user_ids: Ids
    item_ids: Ids
    users: Ints
    items: Ints
    labels: npt.NDArray[np.int8]
    parts: npt.NDArray[np.int8]
    weights: Doubles = field(default_factory=lambda: np.ones(0))
    anonymous: Bools = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        if not len(self.weights):
            object.__setattr__(self, "weights", np.ones(len(self.users)))
        if not len(self.anonymous):
            object.__setattr__(self, "anonymous", np.zeros(len(self.user_ids), bool))

    def __len__(self) -> int:
        return len(self.users)

    def before(self, part: str) -> "Interactions":
        """The events of the parts before `part`; users and items keep their numbers."""
        return self.where(self.parts < PARTS.index(part))

    def where(self, kept: Bools) -> "Interactions":
        """The events that `kept` (M,) marks; users and items keep their numbers."""
        users, items, labels, parts = self.users[kept], self.items[kept], self.labels[kept], self.parts[kept]
        return replace(self, users=users, items=items, labels=labels, parts=parts, weights=self.weights[kept])

    def with_users(self, user_ids: Ids) -> "Interactions":
        """The events of users numbered among all of `user_ids`, (U',) ascending, some of whom may have none.

        Those of anonymous sessions are left out.
        """
        known = self.where(~self.anonymous[self.users]) if self.anonymous.any() else self
        places = np.searchsorted(user_ids, self.user_ids)
        columns = known.items, known.labels, known.parts, known.weights
        return Interactions(user_ids, self.item_ids, places[known.users], *columns)

    @property
    def gains(self) -> Doubles:
        """(M,) the weight of each positive, 0 for a negative."""
        return self.labels * self.weights

    @property
    def item_counts(self) -> Ints:
        """(I,) number of events of each item."""
        return np.bincount(self.items, minlength=len(self.item_ids))


class State(Enum):
    """How far histories go, which says whether vectors of their users are kept."""

    BEFORE = auto()  # as of just before the part that is asked about
    LATEST = auto()  # to the last row
    BEYOND = auto()  # with events after the last row


@dataclass(frozen=True)
class Queries:
    """N queries for the next items: a user, a history, and the items that turned out to be right.

    Attributes:
        users: (N,) number of the user.
        starts, ends: (N,) the history is `interactions.items[start:end]`, oldest first; it may be empty.
        truth: (T,) numbers of the right items, distinct and ascending within a query.
        truth_starts: (N + 1,) the right items of query n are `truth[truth_starts[n] : truth_starts[n + 1]]`.
        part: the part to predict: methods may use everything before it, and of it nothing but the histories.
        gains: (T,) what each right item is worth, above 0; 1 unless the weights of events count.
        successive: whether each is about one event of the part, so that a user has many, whose histories reach into it.
        hidden: (N, I) items that no list may hold, besides those that were seen; None: there are none.
        state: how far the histories go.
    """

    users: Ints
    starts: Ints
    ends: Ints
    truth: Ints
    truth_starts: Ints
    part: str = "test"
    gains: Doubles = field(default_factory=lambda: np.ones(0))
    successive: bool = False
    hidden: Bools | None = None
    state: State = State.BEFORE

    def __post_init__(self) -> None:
        if not len(self.gains):
            object.__setattr__(self, "gains", np.ones(len(self.truth)))

    def __len__(self) -> int:
        return len(self.users)

    @property
    def truth_sizes(self) -> Ints:
        """(N,) number of right items of each query."""
        return np.diff(self.truth_starts)

    @property
    def truth_queries(self) -> Ints:
        """(T,) the index of each right item's query."""
        return np.repeat(np.arange(len(self)), self.truth_sizes)

    def restrict(self, kept: Bools) -> "Queries":
        """The queries with only the right items that `kept` (T,) marks, without queries that have none left."""
        sizes = np.bincount(self.truth_queries[kept], minlength=len(self))
        left = sizes > 0
        columns = (self.users[left], self.starts[left], self.ends[left], self.truth[kept])
        return Queries(*columns, offsets(sizes[left]), self.part, self.gains[kept], self.successive)

    def blocks(self, size: int) -> Iterator["Queries"]:
        """The same in blocks of up to `size` queries; successive ones, which are never many, in one block."""
        if self.successive or len(self) <= size:
            yield self
            return
        for rows in slices(len(self), size):
            begin, end = self.truth_starts[[rows.start, rows.stop]]
            yield replace(
                self,
                users=self.users[rows],
                starts=self.starts[rows],
                ends=self.ends[rows],
                truth=self.truth[begin:end],
                truth_starts=self.truth_starts[rows.start : rows.stop + 1] - begin,
                gains=self.gains[begin:end],
                hidden=None if self.hidden is None else self.hidden[rows],
            )


def read(path: Path) -> Interactions:
    """Interactions of a `recall_samples` or `splits` file; with kinds of events, labels are those for recall."""
    more = [name for name in pq.read_schema(path).names if name in (RECALL_LABEL, WEIGHT, ANONYMOUS)]
    return from_table(pq.read_table(path, columns=["user_id", "item_id", "label", "part", *more]))


def from_table(table: pa.Table) -> Interactions:
    """Interactions of a table of user_id, item_id, label and part, ordered by user_id and time.

    `recall_label` replaces the label, and `kind_weight` gives the weights, if the table has them; `anonymous` marks
    the rows of anonymous sessions.
    """
    user_ids, users = number_values(table["user_id"])
    item_ids, items = number_values(table["item_id"])
    parts = pc.index_in(table["part"], value_set=pa.array(PARTS)).to_numpy().astype(np.int8)
    labels = table[RECALL_LABEL if RECALL_LABEL in table.column_names else "label"].to_numpy().astype(np.int8)
    weights = table[WEIGHT].to_numpy() if WEIGHT in table.column_names else np.ones(len(labels))
    if (np.diff(users) < 0).any():
        raise ValueError("the events are not ordered by user_id")
    anonymous = np.zeros(len(user_ids), bool)
    if ANONYMOUS in table.column_names:
        anonymous[users] = table[ANONYMOUS].to_numpy()
    return Interactions(user_ids, item_ids, users, items, labels, parts, weights, anonymous)


def queries(interactions: Interactions, part: str, filter_seen: bool, right: Right = "liked") -> Queries:
    """One query for each user with a right item in `part`, no anonymous session: the history is all events before.

    With `filter_seen` an item of the history is not a right answer, because no list holds it then. Right are the items
    that the user `liked` (the positives), or all that they `touched`; `weighted` are all as well, and each is worth the
    highest weight of the user's events with it.
    """
    place = PARTS.index(part)
    starts, ends = histories(interactions, part)
    kept = (interactions.parts == place) & (interactions.labels >= int(right == "liked"))
    if interactions.anonymous.any():
        kept &= ~interactions.anonymous[interactions.users]
    width = len(interactions.item_ids)
    pairs = interactions.users * width + interactions.items
    truth, of = np.unique(pairs[kept], return_inverse=True)
    gains = np.ones(len(truth))
    if right == "weighted":
        gains[:] = 0
        np.maximum.at(gains, of, interactions.weights[kept])
    if filter_seen:
        new = ~is_among(truth, pairs[interactions.parts < place])
        truth, gains = truth[new], gains[new]
    asked, sizes = np.unique(truth // width, return_counts=True)
    return Queries(asked, starts[asked], ends[asked], truth % width, offsets(sizes), part, gains)


def judged_queries(interactions: Interactions, profile: Profile) -> Queries:
    """The queries that recall methods are judged by: one for each user, or with the split `successive` each event."""
    ask = successive_queries if profile.split.strategy == "successive" else queries
    return ask(interactions, "test", profile.recall.filter_seen)


def successive_queries(interactions: Interactions, part: str, filter_seen: bool) -> Queries:
    """One query for each positive of `part`, not of anonymous sessions: the history is all earlier events of its user.

    With `filter_seen` there is none for an item of the history. If there are more than `MOST_EVENTS`, as many are
    drawn, always the same ones. Queries are ordered by user and time.
    """
    right = (interactions.parts == PARTS.index(part)) & (interactions.labels > 0)
    right &= ~interactions.anonymous[interactions.users]
    if filter_seen:
        width = len(interactions.item_ids)
        _, first = np.unique(interactions.users * width + interactions.items, return_index=True)
        right &= is_among(np.arange(len(interactions)), first)
    drawn = np.random.default_rng(_SEED).permutation(np.flatnonzero(right))[:MOST_EVENTS]
    events, users = np.sort(drawn), interactions.users[np.sort(drawn)]
    starts = np.searchsorted(interactions.users, users)
    return Queries(users, starts, events, interactions.items[events], np.arange(len(events) + 1), part, successive=True)


def user_queries(interactions: Interactions, part: str, users: Ints) -> Queries:
    """One query for each user (N,), without right items."""
    starts, ends = histories(interactions, part)
    return Queries(users, starts[users], ends[users], users[:0], np.zeros(len(users) + 1, np.int64), part)


def histories(interactions: Interactions, part: str | None) -> tuple[Ints, Ints]:
    """(starts, ends), each (U,), of the slice with each user's events of the parts before `part`; None: of all."""
    users = np.arange(len(interactions.user_ids))
    known = interactions.parts < (PARTS.index(part) if part else len(PARTS))
    starts = np.searchsorted(interactions.users, users)
    return starts, starts + np.bincount(interactions.users[known], minlength=len(users))
