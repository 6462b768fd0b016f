"""The funnel of a bizdate, opened once: `funnel_report` judges its lists, and a service answers with them."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Floats, Ints, find
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.candidates import Candidates
from recsys_assets.funnel.channels import Recall
from recsys_assets.funnel.inputs import Inputs
from recsys_assets.funnel.known import Known, item_trends
from recsys_assets.funnel.methods import RECALL_METHODS
from recsys_assets.funnel.model import Describe, FunnelLists, FunnelModel
from recsys_assets.funnel.model import recommend as recommend_by
from recsys_assets.funnel.repeats import repeats
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.funnel.users import Users
from recsys_assets.manifest import Partition
from recsys_assets.retrieval.interactions import Interactions, Queries, read, user_queries
from recsys_assets.retrieval.lists import Lists, empty_lists

NEEDED = ("splits", "users", "items", "user_features", "item_features", "funnel_model")


class Funnel:
    """The steps from histories to final lists, about the online part.

    Args:
        profile: of the data set.
        inputs: the partitions of `NEEDED`, and those of the channels that are there.
        log: all events of `splits`.
        watch: measures the steps of `lists_of`.
    """

    def __init__(self, profile: Profile, inputs: Inputs, log: Interactions, watch: Stopwatch) -> None:
        self.profile, self.inputs, self.log, self.watch = profile, inputs, log, watch
        self.filter_seen = profile.recall.filter_seen
        self.model = FunnelModel.read(inputs["funnel_model"].folder)
        self.channels = open_channels(inputs, log, "online")
        rows = pq.read_table(inputs["splits"].path(ROWS), columns=["item_id", "timestamp", "part"])
        items = pq.read_table(inputs["item_features"].path(ROWS))
        self.known = Known(profile, item_trends(rows, "online", items), inputs.ranker, inputs.touch)
        self.users = self.known.users(pq.read_table(inputs["user_features"].path(ROWS)))

    @property
    def served(self) -> dict[str, Recall]:
        """The channels that the model serves, in its order."""
        return {name: self.channels[name] for name in self.model.channels}

    def lists(
        self,
        events: Interactions,
        asked: Queries,
        users: Users,
        moments: Mapping[str, pa.Array],
        watch: Stopwatch,
        channels: Mapping[str, Recall],
    ) -> FunnelLists:
        """The lists of N queries at each step.

        Args:
            events: the histories, whose items are numbered as those of the log.
            asked: the queries, their users ascending.
            users: these users, and maybe others.
            moments: features of the moment of each query's request, (N,) each.
            watch: makes the steps, or leaves them out: a channel then lists nothing.
            channels: at least the served ones; the lists of others change nothing.
        """
        found = recall(channels, events, asked, self.model.sizes.channel, self.filter_seen, watch)
        describe = describer(self.known, users, events, asked, moments)
        return recommend_by(self.model, found, len(events.item_ids), describe, watch)

    def changed(self, factors: Mapping[str, float], *, learned: bool = True, ranked: bool = True) -> "Funnel":
        """The same funnel with other rules, whose final lists hold all candidates.

        Args:
            factors: on the learned weights of some channels; 0 leaves a channel out.
            learned: whether the learned order applies; otherwise candidates keep the order of the merge.
            ranked: whether the order reads the ranker's probabilities.
        """
        weights = {name: each * factors.get(name, 1.0) for name, each in self.model.fusion.weights.items()}
        fusion = replace(
            self.model.fusion, weights={name: each for name, each in weights.items() if factors.get(name, 1)}
        )
        sizes, twin = replace(self.model.sizes, final=self.model.sizes.candidates), copy(self)
        twin.model = replace(self.model, fusion=fusion, sizes=sizes, order=self.model.order if learned else None)
        twin.channels = {name: each for name, each in self.channels.items() if name in fusion.weights}
        twin.known = self.known if ranked else self.known.with_ranker(None)
        return twin

    def ranked_by(self, ranker: Scorer) -> "Funnel":
        """The same funnel with another ranking model."""
        twin = copy(self)
        twin.known = self.known.with_ranker(ranker)
        twin.users = twin.known.encoded(self.users, pq.read_table(self.inputs["user_features"].path(ROWS)))
        return twin

    def lists_of(self, users: Ints) -> tuple[Queries, FunnelLists]:
        """The queries and lists of users of the log (N,), ascending, as of just before their online events.

        The lists are those of all channels, served or not.
        """
        asked, splits = user_queries(self.log, "online", users), self.inputs["splits"].path(ROWS)
        moments = moments_of(self.profile, splits, asked.part, self.log.user_ids[users])
        return asked, self.lists(self.log, asked, self.users, moments, self.watch, self.channels)


def events_of(splits: Partition, users: Partition) -> Interactions:
    """All events of `splits`, numbered among all users of `users`."""
    user_ids = np.sort(pq.read_table(users.path(ROWS), columns=["user_id"])["user_id"].to_numpy())
    return read(splits.path(ROWS)).with_users(user_ids)


def open_channels(inputs: Inputs, log: Interactions, part: str) -> dict[str, Recall]:
    """The channels that are there, ready to be asked about a part."""
    return {name: RECALL_METHODS[name].open(log, part, *inputs.of_channel(name)) for name in inputs.channels}


def recall(
    channels: Mapping[str, Recall], events: Interactions, asked: Queries, k: int, filter_seen: bool, watch: Stopwatch
) -> dict[str, Lists]:
    """The k items of each channel."""
    found = {}
    for name, channel in channels.items():
        made = watch.make(step_of(name), partial(channel, events, asked, k, filter_seen))
        found[name] = empty_lists(len(asked), k) if made is None else made
    return found


def step_of(channel: str) -> str:
    """The name of the step in which a channel makes its list."""
    return f"recall {channel}"


def describer(
    known: Known, users: Users, events: Interactions, asked: Queries, moments: Mapping[str, pa.Array]
) -> Describe:
    """A function that describes candidates for these queries, whose users are in ascending order.

    `users` are these users, and maybe others; `moments` has the features of the moment of each query's request, (N,)
    each.
    """
    user = find(users.ids, events.user_ids[asked.users])  # (N,)
    now = known.moments(moments, len(asked))

    def describe(candidates: Candidates) -> Mapping[str, Floats]:
        item = find(known.item_ids, events.item_ids[candidates.item])
        moment = now[candidates.query] if len(asked) > 1 else now
        found = known.describe(users, user[candidates.query], item, moment)
        return found | repeats(events, asked, candidates) if known.repeats else found

    return describe
