"""The engine: answers of one release, by the funnel that `funnel_report` judges."""

import datetime as dt
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Ids, Ints, Vectors, find
from recsys_assets.coldstart.choice import serving_model
from recsys_assets.datasets.ingest import ROWS, checked_tables
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.features.raw import rows_of
from recsys_assets.funnel.by_vector import ByVector
from recsys_assets.funnel.funnel import NEEDED, Funnel, events_of, recall, step_of
from recsys_assets.funnel.inputs import CHAMPION
from recsys_assets.funnel.inputs import read_inputs as read_partitions
from recsys_assets.funnel.merge import Fusion
from recsys_assets.funnel.model import FEATURES, ORDERING, FunnelLists, fused_lists
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.funnel.users import Users
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition, PartitionDamaged, PartitionMissing
from recsys_assets.ranking.champion import Champion, read_champion
from recsys_assets.retrieval.interactions import Interactions, Queries, State
from recsys_assets.retrieval.lists import Lists
from recsys_assets.serving.budget import ALWAYS, ONLINE, PERSONAL, Budget, Usual
from recsys_assets.serving.people import NOTHING, History, People, Person, newcomer
from recsys_assets.serving.user_tower import UserTower

ITEM_TO_ITEM = ("itemcf", "swing")
Row = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """A request, besides its user.

    Attributes:
        size: the most items.
        hidden: ids that must not be listed.
        only: ids of which alone the list may be; None: of all.
        allowed: (I,) items by number of which alone the list may be, besides `only`; None: of all.
        funnel: makes the lists in place of the release's own, as `Funnel.changed` gives it.
        context: features of the moment, as the profile names them; what is not said is unknown.
        judged: answer from the state before the online rows, for a user of the log, as `funnel_report` does.
        budget: makes the steps, or leaves them out; None: all are made.
        withdrawn: (I,) items by number that no list may hold; None: there are none.
    """

    size: int = 50
    hidden: Sequence[object] = ()
    only: Sequence[object] | None = None
    allowed: Bools | None = None
    funnel: Funnel | None = None
    context: Mapping[str, object] = field(default_factory=dict)
    judged: bool = False
    budget: Budget | None = None
    withdrawn: Bools | None = None


@dataclass(frozen=True)
class Found:
    """A personal list as the funnel made it: one query about a user's history, and the lists and seconds of each step.

    `history` is all that the user did, `users` is what the funnel knows of the user, `moments` are the features of the
    moment, (1,) each.
    """

    history: History
    events: Interactions
    asked: Queries
    users: Users
    moments: Mapping[str, pa.Array]
    lists: FunnelLists
    seconds: Mapping[str, float]


class Engine:
    """A release, opened: `recommend` and `similar` are pure functions of their arguments.

    Attributes:
        known_ids: the ids, ascending, of `user` and of `item`, where the profile rejects events with others.
        user_columns: the columns of `user_features`.
        online: gives the row of a user from a store, as in `user_features`; None: rows are the release's.
        fresh_model: the two-tower model that gives the vectors of fresh and cold items.
        fresh_towers: its ONNX files; None: the release has none.
        pins: where the models are that rules of scenes pin.

    Args:
        profile: of the data set.
        lake: its lake.
        bizdate: of the release.
        pins: where pinned models are; None: in the same lake.

    Raises:
        PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed: something that it needs is not there, or
            may not be used.
    """

    def __init__(self, profile: Profile, lake: Lake, bizdate: str, pins: Lake | None = None) -> None:
        needed = {asset: lake.read_sound(asset, bizdate) for asset in NEEDED}
        inputs = read_partitions(profile, lake, bizdate, needed)
        self.profile, self.bizdate, self.without = profile, bizdate, dict(inputs.without)
        self._partitions, self.pins, self._release = inputs.partitions, pins or lake, self
        self.log, self.usual = events_of(inputs["splits"], inputs["users"]), Usual()
        self.funnel = Funnel(profile, inputs, self.log, Stopwatch())
        self.user_columns: pa.Schema = pq.read_schema(inputs["user_features"].path(ROWS))
        self.online: Callable[[object], pa.Table] | None = None
        self.people = self._people()
        self.items = rows_of(pq.read_table(inputs["items"].path(ROWS)), "item_id", pa.array(self.log.item_ids))
        self.known_ids = {table[:-1]: _ids(inputs[table], KEYS[table][0]) for table in checked_tables(profile)}
        users = pq.read_table(inputs["users"].path(ROWS))
        for name, channel in self.funnel.channels.items():
            if isinstance(channel, ByVector) and (tower := _towers(lake, name, bizdate)):
                channel.encode = UserTower(tower, users, self.log.item_ids)
        self.fresh_model = serving_model(profile, lake, bizdate).model
        self.fresh_towers = _towers(lake, self.fresh_model, bizdate)

    def with_ranker(self, ranker: Scorer, partitions: Sequence[Partition]) -> "Engine":
        """The same release with another ranking model, and the partitions that it was read from."""
        twin, kept = copy(self), {CHAMPION: self._partitions[CHAMPION]}
        kept |= {name: each for name, each in self._partitions.items() if not name.startswith("rank_")}
        twin._partitions = kept | {each.manifest.asset: each for each in partitions}
        twin.funnel = self.funnel.ranked_by(ranker)
        twin.people = twin._people()
        return twin

    def _people(self) -> People:
        """The users as the funnel knows them."""
        file = pq.ParquetFile(self._partitions["user_features"].path(ROWS))
        first = pa.Table.from_batches(list(itertools.islice(file.iter_batches(1), 1)), file.schema_arrow)
        nobody = newcomer(first, self.profile.features.affinity)
        return People(self.log, self.funnel.users, self.funnel.known, nobody)

    @property
    def model(self) -> str | None:
        """The ranking model, as `<model>/<bizdate>`; None without one."""
        ranker = next((name for name in self._partitions if name.startswith("rank_") and name != CHAMPION), None)
        return f"{ranker.removeprefix('rank_')}/{self._partitions[ranker].manifest.bizdate}" if ranker else None

    @property
    def champion(self) -> Champion | None:
        """The record of the ranking model; None without one."""
        return read_champion(self._partitions[CHAMPION]) if self.model else None

    @property
    def steps(self) -> set[str]:
        """The steps of a list that may be left out."""
        return {PERSONAL, ONLINE, FEATURES, ORDERING, *map(step_of, self.funnel.channels)} - {ALWAYS}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all partitions that it was opened from: another one means that something was made again."""
        named = sorted((name, each.manifest.fingerprint) for name, each in self._partitions.items())
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]

    def now(self) -> dt.datetime:
        """The present time in the profile's time zone."""
        return dt.datetime.now(ZoneInfo(self.profile.files.timezone))

    def warm_up(self) -> None:
        """Answer for a user of each fold, so that the first request finds everything loaded.

        Computing what is the same for a fold takes 0.7 s with 500,000 items. Indexes are not searched: once a process
        has searched one, faiss crashes in the processes that are copied from it.
        """
        channels = self.funnel.channels.items()
        indexed = {step_of(name) for name, each in channels if isinstance(each, ByVector) and each.is_indexed}
        given = dict.fromkeys(indexed, "nothing is searched yet") or None
        _, first = np.unique(self.funnel.users.snapshot.folds, return_index=True)
        for user_id in self.funnel.users.ids[first].tolist():
            self.recommend(user_id, NOTHING, Wish(budget=Budget(self.usual, given=given)))

    def recommend(self, user_id: object, told: History, wish: Wish) -> list[Row]:
        """The best items for a user, with `item_id`, `score`, `probability` and `channels`."""
        return self.rows(self.find(user_id, told, wish))[: wish.size]

    def find(self, user_id: object, told: History, wish: Wish) -> Found:
        """The lists of a user at each step of the funnel."""
        watch = wish.budget or Stopwatch()
        person = self.people(user_id, told, judged=wish.judged, row=self._online_row(user_id, watch))
        events, asked = self.ask(user_id, person, wish)
        moments = {name: _moment(wish.context.get(name)) for name in self.profile.features.moment}
        if wish.judged and (number := self.people.number(user_id)) >= 0:
            moments |= {name: column.slice(number, 1) for name, column in self._judged.items()}
        users, funnel = replace(person.row, ids=events.user_ids), wish.funnel or self.funnel
        lists = funnel.lists(events, asked, users, moments, watch, funnel.served)
        return Found(person.history, events, asked, users, moments, lists, watch.seconds)

    def _online_row(self, user_id: object, watch: Stopwatch) -> Users | None:
        """The user's row from the feature store; None if there is no store, or the step is left out."""
        ask = self._release.online
        if ask is None or self.people.number(user_id) < 0:
            return None
        return watch.make(ONLINE, lambda: self.funnel.known.users(ask(user_id)))

    def recall(self, user_id: object, told: History, wish: Wish, channels: Sequence[str]) -> dict[str, Lists]:
        """The candidates of some channels for a user, up to the wished size of each."""
        events, asked = self.ask(user_id, self.people(user_id, told, judged=wish.judged), wish)
        opened = {name: self.funnel.channels[name] for name in channels}
        return recall(opened, events, asked, wish.size, self.funnel.filter_seen, Stopwatch())

    def rows(self, found: Found) -> list[Row]:
        """The final list, with `item_id`, `score`, `probability` and `channels`."""
        likely = found.lists.final.probabilities[0].tolist()
        rows = self._rows(found.lists.final.lists, found.lists.served)
        return [{**row, "probability": None if math.isnan(p) else p} for row, p in zip(rows, likely, strict=False)]

    @cached_property
    def _judged(self) -> Mapping[str, pa.Array]:
        """The moments of the requests that `funnel_report` judges, (U,) each."""
        splits = self._partitions["splits"].path(ROWS)
        return moments_of(self.profile, splits, "online", self.log.user_ids)

    def listed(self, lists: Lists) -> list[Row]:
        """The one list of `lists`, best first, with `item_id` and `score`."""
        there = lists.items[0] >= 0
        columns = self.log.item_ids[lists.items[0][there]].tolist(), lists.scores[0][there].tolist()
        return [{"item_id": item_id, "score": score} for item_id, score in zip(*columns, strict=True)]

    def popular(self, told: History, wish: Wish) -> list[Row]:
        """The most popular items that were not seen: for users of whom nothing is known."""
        events, asked = self.ask(None, Person(self.people.newcomer, told, State.BEFORE), wish)
        listed = self.funnel.channels["popularity"](events, asked, wish.size, self.funnel.filter_seen)
        return self._rows(listed, {"popularity": listed})

    def nearest(self, model: str, vector: Vectors, told: History, wish: Wish) -> list[Row]:
        """The items of the highest inner product with the vector (D,) of somebody of whom the release knows nothing."""
        channel = self.funnel.channels[model]
        if not isinstance(channel, ByVector):
            raise TypeError(f"{model} has no vectors")
        events, asked = self.ask(None, Person(self.people.newcomer, told, State.BEFORE), wish)
        known = np.ones(1, bool)
        listed = channel.of_vectors(vector[None], known, events, asked, wish.size, self.funnel.filter_seen)
        return self._rows(listed, {model: listed})

    def history(self, items: Sequence[object], labels: Sequence[int], weights: Sequence[float] = ()) -> History:
        """Events of known items, in their order; others are left out. Each is worth 1 if no weights are given."""
        numbers = self.numbers(items)
        kept, worth = numbers >= 0, np.asarray(weights or np.ones(len(items)), float)
        return History(numbers[kept], np.asarray(labels, np.int8)[kept], worth[kept])

    def numbers(self, items: Sequence[object]) -> Ints:
        """(N,) the number of each item, -1 for an unknown one."""
        ids = self.log.item_ids
        return find(ids, np.array(list(items), ids.dtype)) if len(items) else np.zeros(0, np.int64)

    def describe(self, rows: list[Row], fields: Sequence[str]) -> list[Row]:
        """The rows with columns of the items' table."""
        table = self.items.select(list(fields)).take(pa.array(self.numbers([row["item_id"] for row in rows])))
        return [{**row, **more} for row, more in zip(rows, table.to_pylist(), strict=True)]

    def similar(self, item_id: object, wish: Wish) -> list[Row]:
        """The items that are like an item, by reciprocal ranks; empty for an unknown one.

        They are those of the item-to-item tables, and those whose vectors of two-tower models have nearly the same
        direction.
        """
        history = self.history([item_id], [1])
        if not len(history):
            return []
        events, asked = self.ask(None, Person(self.people.newcomer, history, State.BEFORE), wish)
        names = [name for name in ITEM_TO_ITEM if name in self.funnel.channels]
        found = {name: self.funnel.channels[name](events, asked, wish.size, True) for name in names}
        (item,), channels = history.items.tolist(), self.funnel.channels.items()
        found |= {name: each.alike(item, wish.size) for name, each in channels if isinstance(each, ByVector)}
        fused = fused_lists(found, Fusion.equal(list(found)), len(self.log.item_ids), wish.size)
        return self._rows(fused, found)

    def ask(self, user_id: object, person: Person, wish: Wish) -> tuple[Interactions, Queries]:
        """The user's history as interactions, and one query about it."""
        history, ids = person.history, self.log.user_ids
        their_id = ids[:1] if user_id is None else np.array([user_id], ids.dtype)
        none, before = np.zeros(len(history), np.int64), np.zeros(len(history), np.int8)
        columns = (history.items, history.labels, before, history.weights)
        events = Interactions(their_id, self.log.item_ids, none, *columns, np.zeros(1, bool))
        first, end, unasked = np.zeros(1, np.int64), np.array([len(history)]), np.zeros(2, np.int64)
        hidden = self.hidden(wish)
        return events, Queries(first, first, end, first[:0], unasked, "online", hidden=hidden, state=person.state)

    def hidden(self, wish: Wish) -> Bools | None:
        """(1, I) the items that a request leaves out; None: none."""
        if not wish.hidden and wish.only is None and wish.allowed is None and wish.withdrawn is None:
            return None
        hidden = np.full(len(self.log.item_ids), wish.only is not None)
        for ids, value in ((wish.only or (), False), (wish.hidden, True)):
            numbers = self.numbers(ids)
            hidden[numbers[numbers >= 0]] = value
        if wish.allowed is not None:
            hidden |= ~wish.allowed
        if wish.withdrawn is not None:
            hidden |= wish.withdrawn
        return hidden[None]

    def _rows(self, listed: Lists, channels: Mapping[str, Lists]) -> list[Row]:
        """The rows of a list, with the channels that list each item."""
        items = listed.items[0][listed.items[0] >= 0]
        held = (np.stack([each.items[0] for each in channels.values()])[:, None] == items[:, None]).any(axis=2)
        patterns = (held.T @ (1 << np.arange(len(channels)))).tolist()
        known = {each: [name for place, name in enumerate(channels) if each >> place & 1] for each in set(patterns)}
        rows = self.listed(listed)
        return [{**row, "channels": known[each].copy()} for row, each in zip(rows, patterns, strict=True)]


def _towers(lake: Lake, name: str, bizdate: str) -> Partition | None:
    """The ONNX files of a two-tower model; without them its channel keeps the vectors of the release's state."""
    try:
        towers = lake.read_sound(f"onnx_{name}", bizdate)
    except (PartitionMissing, PartitionDamaged):
        return None
    return towers if towers.manifest.is_usable else None


def _ids(table: Partition, key: str) -> Ids:
    """The ids of a table, ascending."""
    return np.sort(pq.read_table(table.path(ROWS), columns=[key])[key].to_numpy())


def _moment(value: object) -> pa.Array:
    """A feature of the moment of one request."""
    return pa.array([value])
