"""The funnel's lists of a bizdate, of all users or of one: `funnel_report` judges and `recsys recommend` shows them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Scores, find
from recsys_assets.assets.reports.hitrate import RECALL_METHODS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.merge import Funnel, Ranked, merge, rank
from recsys_assets.funnel.scoring import Scorer
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.manifest import Partition
from recsys_assets.retrieval.interactions import Interactions, Queries, read
from recsys_assets.retrieval.lists import Lists

CHANNELS = tuple(method for method in RECALL_METHODS if method != "random")
RECALL_READS = ("splits", "users", *(asset for channel in CHANNELS for asset in RECALL_METHODS[channel].reads))
READS = (*RECALL_READS, "user_features", "item_features", "rank_champion")


@dataclass(frozen=True)
class FunnelLists:
    """The lists of N queries at each step: per channel, merged, and ranked."""

    channels: dict[str, Lists]
    candidates: Lists
    final: Ranked


def events_of(inputs: Mapping[str, Partition]) -> Interactions:
    """All events of `splits`, numbered among all users of `users`."""
    user_ids = np.sort(pq.read_table(inputs["users"].path(ROWS), columns=["user_id"])["user_id"].to_numpy())
    return read(inputs["splits"].path(ROWS)).with_users(user_ids)


def recommend(
    profile: Profile,
    inputs: Mapping[str, Partition],
    scorer: Scorer | None,
    events: Interactions,
    asked: Queries,
    settings: Funnel,
    watch: Stopwatch,
) -> FunnelLists:
    """The lists of queries about the online part, their users ascending; `inputs` are the partitions of `READS`.

    Without a scorer, the candidates are not ranked again: the probabilities are not numbers, and have the exponent 0.
    """
    channels = recall(profile, inputs, events, asked, settings.channel_size, watch)
    with watch("merge"):
        candidates = merge(channels, events, asked, settings, profile.recall.filter_seen)
    if scorer is None:
        unknown = np.full(candidates.items.shape, np.nan, np.float32)
        return FunnelLists(channels, candidates, rank(candidates, unknown, settings.model_copy(update={"ranking": 0})))
    with watch("features and scores"):
        probabilities = _probabilities(profile, inputs, scorer, events, asked, candidates)
    with watch("rank"):
        return FunnelLists(channels, candidates, rank(candidates, probabilities, settings))


def recall(
    profile: Profile, inputs: Mapping[str, Partition], events: Interactions, asked: Queries, k: int, watch: Stopwatch
) -> dict[str, Lists]:
    """The k items of each channel whose partitions are there; `inputs` are partitions of `RECALL_READS`."""
    channels = {}
    for name in CHANNELS:
        if not inputs.keys() >= set(RECALL_METHODS[name].reads):
            continue
        with watch(f"recall {name}"):
            partitions = [inputs[asset] for asset in RECALL_METHODS[name].reads]
            channels[name] = RECALL_METHODS[name].lists(events, asked, k, profile.recall.filter_seen, *partitions)
    return channels


def _probabilities(
    profile: Profile,
    inputs: Mapping[str, Partition],
    scorer: Scorer,
    events: Interactions,
    asked: Queries,
    candidates: Lists,
) -> Scores:
    """(N, C) the ranker's probability for each candidate, from the feature snapshots; 0 where a list is shorter."""
    users, items = (pq.read_table(inputs[f"{side}_features"].path(ROWS)) for side in ("user", "item"))
    row, place = np.nonzero(candidates.items >= 0)
    user = find(users["user_id"].to_numpy(), events.user_ids[asked.users])  # (N,)
    item = find(items["item_id"].to_numpy(), events.item_ids)  # (items,)
    probabilities = np.zeros(candidates.items.shape, np.float32)
    rule = profile.features.affinity
    probabilities[row, place] = scorer.pairs(users, items, user[row], item[candidates.items[row, place]], rule)
    return probabilities
