"""The funnel's model as a service uses it: which channels are served, how they are merged, and what orders the result.

It is two files: `funnel.json`, and `model.onnx` if trees order the candidates. Without trees the fused score does.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recsys_assets.arrays import Floats, Scores
from recsys_assets.funnel.candidates import Candidates, as_lists, best
from recsys_assets.funnel.known import PROBABILITY
from recsys_assets.funnel.merge import Fusion, merge
from recsys_assets.funnel.order import ORDER, Order, columns
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.retrieval.lists import Lists

DESCRIPTION = "funnel.json"
MERGE, FEATURES, ORDERING = "merge", "features and scores", "order"  # steps
Describe = Callable[[Candidates], Mapping[str, Floats]]  # the columns of `Known.describe` for some candidates


@dataclass(frozen=True)
class Sizes:
    """The lengths of the channels' lists, of the merged candidates, and of the final lists."""

    channel: int = 200
    candidates: int = 300
    final: int = 50


@dataclass(frozen=True)
class FunnelModel:
    """The funnel of a bizdate; `order` is None where no trees were learned, or where these gained nothing."""

    fusion: Fusion
    sizes: Sizes
    order: Order | None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that are served."""
        return tuple(self.fusion.weights)

    @classmethod
    def read(cls, folder: Path) -> "FunnelModel":
        """Read the files of a partition of `funnel_model`."""
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        order = Order(folder / ORDER) if content["trees"] else None
        return cls(Fusion(**content["fusion"]), Sizes(**content["sizes"]), order)


def description(fusion: Fusion, sizes: Sizes, *, trees: bool) -> dict[str, Any]:
    """The content of `funnel.json` that `FunnelModel.read` reads; `trees` says whether `model.onnx` is next to it."""
    return {"fusion": asdict(fusion), "sizes": asdict(sizes), "trees": trees}


def fused_lists(channels: Mapping[str, Lists], fusion: Fusion, width: int, k: int) -> Lists:
    """The k items of the highest fused scores for each query; `channels` are those of the fusion, in its order."""
    candidates, fused = merge(channels, fusion, width, k)
    kept = best(candidates, fused, k)
    queries = len(next(iter(channels.values())).items)
    return as_lists(candidates.query[kept], candidates.item[kept], fused[kept], queries, k)


@dataclass(frozen=True)
class Ranked:
    """The final lists of N queries, best first; ties in ascending order of the item's number.

    Attributes:
        lists: items and final scores (N, L).
        candidate_scores: (N, L) their fused scores.
        probabilities: (N, L) the ranker's probabilities, NaN without one; all are 0 where a list is shorter.
    """

    lists: Lists
    candidate_scores: Scores
    probabilities: Scores


@dataclass(frozen=True)
class Scored:
    """M merged candidates of N queries, ascending by query and item, with all that they were given.

    Attributes:
        channels: names of the served channels, which are the columns of the candidates.
        candidates: with their places and scores in these channels.
        fused: (M,) scores of the merge.
        probabilities: (M,) of the ranker, NaN without one.
        scores: (M,) that order them.
    """

    channels: tuple[str, ...]
    candidates: Candidates
    fused: Floats
    probabilities: Floats
    scores: Floats


@dataclass(frozen=True)
class FunnelLists:
    """The lists of N queries at each step: per channel, merged, and ranked; and the scores of every candidate."""

    channels: Mapping[str, Lists]
    candidates: Lists
    final: Ranked
    scored: Scored

    @property
    def served(self) -> Mapping[str, Lists]:
        """The lists of the served channels, which say where an item of the final lists is from."""
        return {name: self.channels[name] for name in self.scored.channels}


def recommend(
    model: FunnelModel, channels: Mapping[str, Lists], width: int, describe: Describe, watch: Stopwatch
) -> FunnelLists:
    """The lists of N queries at each step; without features or order, in the order of the merge.

    Args:
        model: the funnel.
        channels: lists (N, K) of at least the served channels; others are only passed on.
        width: the number of all items.
        describe: gives what is known of candidates.
        watch: makes the steps, or leaves them out.
    """
    served = {name: channels[name] for name in model.channels}
    queries = len(next(iter(served.values())).items)
    with watch(MERGE):
        candidates, fused = merge(served, model.fusion, width, model.sizes.candidates)
    known, scores = watch.make(FEATURES, partial(describe, candidates)), fused
    if known is not None and (order := model.order):
        found = columns(model.channels, candidates, fused, known)
        ordered = watch.make(ORDERING, partial(order, found, len(candidates)))
        scores = fused if ordered is None else ordered
    likely = (known or {}).get(PROBABILITY, np.full(len(candidates), np.nan, np.float32))

    kept = best(candidates, fused, model.sizes.candidates)
    merged = as_lists(candidates.query[kept], candidates.item[kept], fused[kept], queries, model.sizes.candidates)
    kept = best(candidates, scores, model.sizes.final)
    query, k = candidates.query[kept], model.sizes.final
    final = as_lists(query, candidates.item[kept], scores[kept], queries, k)
    there = final.items >= 0
    shown = [np.zeros((queries, k), np.float32) for _ in range(2)]
    for made, column in zip(shown, (fused, likely), strict=True):
        made[there] = column[kept]
    return FunnelLists(
        channels, merged, Ranked(final, *shown), Scored(model.channels, candidates, fused, likely, scores)
    )
