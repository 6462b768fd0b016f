"""The funnel's lists of a bizdate, of all users or of one: `funnel_report` judges and `recsys recommend` shows them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Floats, find
from recsys_assets.assets.funnel.inputs import Inputs
from recsys_assets.assets.reports.hitrate import RECALL_METHODS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.candidates import Candidates
from recsys_assets.funnel.known import Known, item_trends
from recsys_assets.funnel.model import Describe, FunnelLists, FunnelModel
from recsys_assets.funnel.model import recommend as recommend_by
from recsys_assets.funnel.requests import moments_of
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.manifest import Partition
from recsys_assets.retrieval.interactions import Interactions, Queries, read
from recsys_assets.retrieval.lists import Lists

NEEDED = ("splits", "users", "user_features", "item_features", "funnel_model")


def events_of(splits: Partition, users: Partition) -> Interactions:
    """All events of `splits`, numbered among all users of `users`."""
    user_ids = np.sort(pq.read_table(users.path(ROWS), columns=["user_id"])["user_id"].to_numpy())
    return read(splits.path(ROWS)).with_users(user_ids)


def recommend(
    profile: Profile, inputs: Inputs, events: Interactions, asked: Queries, model: FunnelModel, watch: Stopwatch
) -> FunnelLists:
    """The lists of queries about the online part, their users ascending; `inputs` have the partitions of `NEEDED`."""
    channels = recall(profile, inputs, events, asked, model.sizes.channel, watch)
    users, items = (pq.read_table(inputs[f"{side}_features"].path(ROWS)) for side in ("user", "item"))
    rows = pq.read_table(inputs["splits"].path(ROWS), columns=["item_id", "timestamp", "part"])
    known = Known(profile, users, item_trends(rows, asked.part, items), inputs.ranker)
    moments = moments_of(profile, inputs["splits"].path(ROWS), asked.part, events.user_ids[asked.users])
    describe = describer(known, events, asked, moments)

    def timed(candidates: Candidates) -> Mapping[str, Floats]:
        with watch("features and scores"):
            return describe(candidates)

    with watch("merge and order"):
        return recommend_by(model, channels, len(events.item_ids), timed)


def recall(
    profile: Profile, inputs: Inputs, events: Interactions, asked: Queries, k: int, watch: Stopwatch
) -> dict[str, Lists]:
    """The k items of each channel that is there."""
    channels = {}
    for name in inputs.channels:
        with watch(f"recall {name}"):
            partitions = [inputs[asset] for asset in RECALL_METHODS[name].reads]
            channels[name] = RECALL_METHODS[name].lists(events, asked, k, profile.recall.filter_seen, *partitions)
    return channels


def describer(known: Known, events: Interactions, asked: Queries, moments: Mapping[str, pa.Array]) -> Describe:
    """A function that describes candidates for these queries, whose users are in ascending order.

    `moments` has the features of the moment of each query's request, (N,) each.
    """
    user = find(known.users["user_id"].to_numpy(), events.user_ids[asked.users])  # (N,)
    item = find(known.items["item_id"].to_numpy(), events.item_ids)  # (I,)

    def describe(candidates: Candidates) -> Mapping[str, Floats]:
        now = {name: column.take(pa.array(candidates.query)) for name, column in moments.items()}
        return known.describe(user[candidates.query], item[candidates.item], now)

    return describe
