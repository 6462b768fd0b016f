"""Users as the service knows them: what the release says of them, and what was told since.

A told event moves the history, which channels and the encoders of users read, and the columns of the newest items in
the user's row. The other statistics of the row stay those of the release's snapshot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_assets.arrays import Doubles, Ids, Ints, find
from recsys_assets.datasets.names import DISLIKED, LIKED, RECENT_ITEMS, RECENT_LABELS, RECENT_VALUES, USER_FACTORS
from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.retrieval.interactions import Interactions, histories


@dataclass(frozen=True)
class History:
    """M events of one user, oldest first.

    Attributes:
        items: (M,) numbers of the items.
        labels: (M,) 1 for a positive, 0 for a negative.
        weights: (M,) what each is worth, by its kind.
    """

    items: Ints
    labels: npt.NDArray[np.int8]
    weights: Doubles

    def __add__(self, later: "History") -> "History":
        return History(
            np.concatenate([self.items, later.items]),
            np.concatenate([self.labels, later.labels]),
            np.concatenate([self.weights, later.weights]),
        )

    def __len__(self) -> int:
        return len(self.items)


_LISTS = (RECENT_ITEMS, RECENT_LABELS, RECENT_VALUES, LIKED, DISLIKED)
NOTHING = History(np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0))


@dataclass(frozen=True)
class Person:
    """A user as one answer sees them.

    Attributes:
        row: `user_features` of the user, one row.
        history: all that they did.
        changed: whether the history goes on after the release's state.
    """

    row: pa.Table
    history: History
    changed: bool


class People:
    """The users of a release.

    The release's state is that before the online rows; these are events that followed it, which are applied in the
    same way as told ones.

    Args:
        log: all events.
        users: `user_features`, ordered by user_id.
        rule: the profile's `features.affinity`.

    Attributes:
        newcomer: the row of `user_features` of somebody of whom nothing is known.
    """

    def __init__(self, log: Interactions, users: pa.Table, rule: Affinity) -> None:
        self.log, self._users, self._rule = log, users, rule
        self._starts, self._ends = histories(log, "online")
        self._all = self._starts + np.bincount(log.users, minlength=len(log.user_ids))
        self._rows = find(users["user_id"].to_numpy(), log.user_ids)
        self.newcomer = _newcomer(users, rule)

    def number(self, user_id: object) -> int:
        """The number of a user in the log; -1 for None, and for a user whom the release does not know."""
        ids = self.log.user_ids
        if user_id is None:
            return -1
        return int(find(ids, np.array([user_id], ids.dtype))[0])

    def __call__(self, user_id: object, told: History = NOTHING, *, judged: bool = False) -> Person:
        """A user with what was told of them.

        Args:
            user_id: of any user.
            told: the events after those of the release.
            judged: leave the online rows out, as `funnel_report` does.
        """
        number = self.number(user_id)
        if number < 0 or self._rows[number] < 0:
            return Person(_renewed(self.newcomer, told, self.log.item_ids, self._rule), told, bool(len(told)))
        before = self._events(slice(self._starts[number], self._ends[number]))
        since = (NOTHING if judged else self._events(slice(self._ends[number], self._all[number]))) + told
        row = self._users.slice(self._rows[number], 1)
        row = _renewed(row, since, self.log.item_ids, self._rule) if len(since) else row
        return Person(row, before + since, bool(len(since)))

    def _events(self, places: slice) -> History:
        return History(self.log.items[places], self.log.labels[places], self.log.weights[places])


def _newcomer(users: pa.Table, rule: Affinity) -> pa.Table:
    """A row of `user_features` of somebody of whom nothing is known, with the factors that everyone begins with."""
    columns = {field.name: pa.array([[] if field.name in _LISTS else None], field.type) for field in users.schema}
    size = len(users[USER_FACTORS][0])
    factors = np.zeros((size // (rule.folds * (rule.width + 2)), rule.folds, rule.width + 2), np.float32)
    factors[:, 0, 0] = 1  # see `factor_model.follow`: in the first fold, to which a newcomer belongs
    return pa.table(columns | {USER_FACTORS: pa.array([factors.ravel()], users.schema.field(USER_FACTORS).type)})


def _renewed(row: pa.Table, since: History, item_ids: Ids, rule: Affinity) -> pa.Table:
    """The user's row with the newest items as they are after more events; told events have no rating."""
    ids, labels = item_ids[since.items[::-1]], since.labels[::-1]
    unrated = np.full(len(ids), np.nan, np.float32)
    row = _put_first(row, RECENT_ITEMS, ids, 2 * rule.recent)
    row = _put_first(row, RECENT_LABELS, labels.astype(np.float32), 2 * rule.recent)
    row = _put_first(row, RECENT_VALUES, unrated, 2 * rule.recent)
    row = _put_first(row, LIKED, ids[labels > 0], rule.recent)
    return _put_first(row, DISLIKED, ids[labels == 0], rule.recent)


def _put_first(row: pa.Table, name: str, values: Ids, most: int) -> pa.Table:
    """The row with values in front of those of a list column, which keeps `most`."""
    if name not in row.column_names:
        return row
    kind = row.schema.field(name).type
    listed: Sequence[object] = [*values.tolist(), *(row[name][0].as_py() or [])][:most]
    return row.set_column(row.column_names.index(name), row.schema.field(name), pa.array([listed], kind))
