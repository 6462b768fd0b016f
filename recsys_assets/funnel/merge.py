"""Merging the channels' lists into candidates by reciprocal rank fusion, and ranking these into the final list.

    recall(u, i) = sum over channels c that list i for u of weight_c / (constant + place of i in c's list, from 1)
    final(u, i)  = recall(u, i)^(1 - ranking) * P(u likes i)^ranking

The first is weighted reciprocal rank fusion (Cormack et al. 2009), so the scale of a channel's scores does not matter.
The second is MetaSpore's, whose exponent of the ranker is 0.6; its recall score is the highest of the channels' scores,
each divided by its list's maximum.

The defaults were tuned on the test rows of MovieLens 1M, which trained neither channels nor ranker; the right answers
are the first ten of a user's test rows, liked or not. NDCG@50 of the candidates is 0.350 (SASRec alone 0.334, equal
weights 0.314; constant 5 or 60 0.348). It is 0.248 by MetaSpore's rule and 0.302 by the sum of its scores. With scores
scaled to [0, 1] within each list it is 0.352, but a score's weight then depends on the last item of its list.
Recall@300 is 0.828; with channels of 100 items it is 0.801, of 500 items 0.836.

Users do not like everything that they touch, and the ranker predicts only what they like. NDCG@50 of the final lists,
for all touched items and for the liked ones among them, by the exponent:

    0       0.05    0.1     0.2     0.3     0.4     0.6     1
    0.3501  0.3492  0.3484  0.3443  0.3386  0.3288  0.2990  0.0817
    0.3069  0.3090  0.3113  0.3141  0.3159  0.3140  0.3028  0.0937

The mean of the two is highest at 0.1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, create_model

from recsys_assets.arrays import Scores
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.retrieval import lists
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists

OTHERS = 0.1  # weight of a channel that has no other
CHANNEL_WEIGHTS = {"popularity": OTHERS, "itemcf": 0.75, "swing": OTHERS, "term": OTHERS}
CHANNEL_WEIGHTS |= {name: OTHERS if model.weight is None else model.weight for name, model in TOWERS.items()}
_FIELDS: dict[str, Any] = {channel: (float, Field(default=weight, ge=0)) for channel, weight in CHANNEL_WEIGHTS.items()}
Weights = create_model(
    "Weights",
    __config__=ConfigDict(frozen=True, extra="forbid"),
    __doc__="The weight of each channel; 0 disables it.",
    **_FIELDS,
)


class Funnel(Weights):
    """Settings of the funnel."""

    constant: float = Field(default=20.0, ge=0, description="the higher, the smaller the lead of the first places")
    channel_size: int = Field(default=200, ge=1, description="items from each channel")
    candidates: int = Field(default=300, ge=1, description="items to rank")
    ranking: float = Field(default=0.1, ge=0, le=1, description="exponent of the ranker's probability")
    length: int = Field(default=50, ge=1, description="items in the final list")


SPACE = {
    "num_experiment": 40,
    "hyper_param": {
        **{channel: {"low": 0.02, "high": 1.0, "log": True} for channel in CHANNEL_WEIGHTS},
        "constant": {"low": 1.0, "high": 100.0, "log": True},
        "channel_size": [100, 200, 400],
    },
}


@dataclass(frozen=True)
class Ranked:
    """The final lists of N queries, best first; ties in ascending order of the item's number.

    Attributes:
        lists: items and final scores (N, L).
        candidate_scores: (N, L) their scores as candidates.
        probabilities: (N, L) the ranker's probabilities; both are 0 where a list is shorter.
    """

    lists: Lists
    candidate_scores: Scores
    probabilities: Scores


def merge(
    channels: Mapping[str, Lists], interactions: Interactions, queries: Queries, settings: Funnel, filter_seen: bool
) -> Lists:
    """The best candidates for every query, from the channels' lists (N, K) for the same queries."""
    width, weights = len(interactions.item_ids), {name: getattr(settings, name, OTHERS) for name in channels}

    def score(block: slice) -> Scores:
        scores = np.zeros((block.stop - block.start, width), np.float32)
        for name, listed in channels.items():
            items = listed.items[block]
            row, place = np.nonzero(items >= 0)
            scores[row, items[row, place]] += weights[name] / (settings.constant + 1 + place)
        scores[scores == 0] = -np.inf
        return scores

    return lists.recommend(score, interactions, queries, settings.candidates, filter_seen)


def rank(candidates: Lists, probabilities: Scores, settings: Funnel) -> Ranked:
    """The final lists, from candidates (N, C) and the ranker's probabilities (N, C)."""
    listed = candidates.items >= 0
    recall = np.where(listed, candidates.scores, 0)
    final = recall ** (1 - settings.ranking) * probabilities**settings.ranking
    scores = np.where(listed, final, -np.inf).astype(np.float32)
    best = np.lexsort((candidates.items, -scores), axis=1)[:, : settings.length]  # (N, L)
    items, scores, recall, probabilities = (
        np.take_along_axis(each, best, axis=1) for each in (candidates.items, scores, recall, probabilities)
    )
    return Ranked(Lists(items, scores), recall, probabilities)
