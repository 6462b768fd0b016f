"""Users as the service knows them: what the release says of them, and what was told since.

A told event moves the history, which channels and the encoders of users read, and the columns of the newest items in
the user's row. The other statistics of the row stay those of the release's snapshot.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from recsys_assets.arrays import Doubles, Ints, find
from recsys_assets.datasets.names import DISLIKED, LIKED, RECENT_ITEMS, RECENT_LABELS, RECENT_VALUES, USER_FACTORS
from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.features.pair_data import Recent
from recsys_assets.features.schema import Encoded
from recsys_assets.funnel.known import Known
from recsys_assets.funnel.users import Encodings, Users
from recsys_assets.retrieval.interactions import Interactions, State, histories

Number = TypeVar("Number", bound=np.generic)


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
        row: what the funnel knows of the user, one row.
        history: all that they did.
        state: how far the history goes.
    """

    row: Users
    history: History
    state: State


class People:
    """The users of a release.

    The release's state is that before the online rows; these are events that followed it, which are applied in the
    same way as told ones.

    Args:
        log: all events.
        users: of the release.
        known: prepares the rows of users.
        newcomer: the row of `user_features` of somebody of whom nothing is known.

    Attributes:
        newcomer: the same, prepared.
    """

    def __init__(self, log: Interactions, users: Users, known: Known, newcomer: pa.Table) -> None:
        self.log, self._users, self.newcomer = log, users, known.users(newcomer)
        self._renew = Renewal(known, log)
        self._starts, self._ends = histories(log, "online")
        _, self._all = histories(log, None)
        self._rows = find(users.ids, log.user_ids)

    def number(self, user_id: object) -> int:
        """The number of a user in the log; -1 for None, and for a user whom the release does not know."""
        ids = self.log.user_ids
        if user_id is None:
            return -1
        return int(find(ids, np.array([user_id], ids.dtype))[0])

    def __call__(
        self, user_id: object, told: History = NOTHING, *, judged: bool = False, row: Users | None = None
    ) -> Person:
        """A user with what was told of them.

        Args:
            user_id: of any user.
            told: the events after those of the release.
            judged: leave the online rows out, as `funnel_report` does.
            row: of the user, from a feature store; None: that of the release.
        """
        number = self.number(user_id)
        if number < 0 or self._rows[number] < 0:
            return Person(self._renew(self.newcomer, told), told, State.BEYOND if len(told) else State.BEFORE)
        before = self._events(slice(self._starts[number], self._ends[number]))
        since = (NOTHING if judged else self._events(slice(self._ends[number], self._all[number]))) + told
        row = row or self._users.take(slice(self._rows[number], self._rows[number] + 1))
        state = State.BEYOND if len(told) else State.BEFORE if judged else State.LATEST
        return Person(self._renew(row, since), before + since, state)

    def _events(self, places: slice) -> History:
        return History(self.log.items[places], self.log.labels[places], self.log.weights[places])


class Renewal:
    """Puts the newest items into the row of a user: those of more events, which have no rating."""

    def __init__(self, known: Known, log: Interactions) -> None:
        self._recent = known.items.rule.recent
        self._rows = find(known.item_ids, log.item_ids)  # (I,) of the items' table
        self._sequences = [known.sequences(name, log.item_ids) for name in (LIKED, DISLIKED)]

    def __call__(self, row: Users, since: History) -> Users:
        """The row as it is after these events."""
        if not len(since):
            return row
        items, labels = since.items[::-1], since.labels[::-1]
        old = row.snapshot.recent
        unrated = np.full(len(items), np.nan, np.float32)
        recent = Recent(
            self._put_first(self._rows[items], old.items),
            self._put_first(unrated, old.values),
            self._put_first(labels.astype(np.float32), old.labels),
        )
        encoded = {name: self._renewed(name, each, items, labels) for name, each in row.encoded.of_schema.items()}
        snapshot = replace(row.snapshot, recent=recent)
        return replace(row, snapshot=snapshot, encoded=Encodings(encoded, 1))

    def _renewed(self, schema: str, old: Encoded, items: Ints, labels: npt.NDArray[np.int8]) -> Encoded:
        """The features of a schema with new items, the newest first."""
        indices = old.indices.copy()
        for of_schema, wanted in zip(self._sequences, (1, 0), strict=True):
            places, encode = of_schema[schema]
            indices[0, places] = np.append(encode[items[labels == wanted]], indices[0, places])[: len(places)]
        return Encoded(indices, old.numeric)

    def _put_first(self, new: npt.NDArray[Number], old: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """(1, L) the values with new ones in front."""
        return np.append(new, old[0])[None, : 2 * self._recent]


def newcomer(users: pa.Table, rule: Affinity) -> pa.Table:
    """A row of `user_features` of somebody of whom nothing is known, with the factors that everyone begins with.

    Args:
        users: `user_features`, for its columns.
        rule: the profile's `features.affinity`.
    """
    columns = {field.name: pa.array([[] if field.name in _LISTS else None], field.type) for field in users.schema}
    size = len(users[USER_FACTORS][0])
    factors = np.zeros((size // (rule.folds * (rule.width + 2)), rule.folds, rule.width + 2), np.float32)
    factors[:, 0, 0] = 1  # see `factor_model.follow`: in the first fold, to which a newcomer belongs
    return pa.table(columns | {USER_FACTORS: pa.array([factors.ravel()], users.schema.field(USER_FACTORS).type)})
