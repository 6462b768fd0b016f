"""The two stages of an evaluation of cold start: choices on validation rows, then one judgement on test rows.

Cold items of a stage are those without an event before its part: they appeared in it, or they were drawn and all
their earlier events were taken out (ColdRec's protocol: a fifth of the items, half of them for each stage).
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from recsys_assets.arrays import Bools, Ints, is_among
from recsys_assets.datasets.splits import PARTS
from recsys_assets.retrieval.interactions import Interactions, Queries, queries

_SEED = 1
StagePart = Literal["validation", "test"]


@dataclass(frozen=True)
class Drawn:
    """Items (I,) that are held out, by stage: 0 for an item that is not, 1 for validation, 2 for test."""

    stage: Ints

    @staticmethod
    def of(log: Interactions, share: float, seed: int) -> "Drawn":
        """A share of the items with events, drawn by a seed: the first half validates, the second one tests."""
        items = np.flatnonzero(log.item_counts)
        chosen = np.random.default_rng(seed).permutation(items)[: round(share * len(items))]
        stage = np.zeros(len(log.item_ids), np.int64)
        stage[chosen] = np.where(np.arange(len(chosen)) < len(chosen) / 2, 1, 2)
        return Drawn(stage)

    @staticmethod
    def nothing(log: Interactions) -> "Drawn":
        """No item is held out: only those that appear in a stage's part are cold."""
        return Drawn(np.zeros(len(log.item_ids), np.int64))


@dataclass(frozen=True)
class Stage:
    """The events that a stage may know, its queries, and which items are candidates.

    Attributes:
        log: the events; those of the stage's part are its right answers.
        asked: the queries of the part, one per user.
        warm, cold: (I,) the items with an event before the part; those without one that have an event in it.
    """

    log: Interactions
    asked: Queries
    warm: Bools
    cold: Bools

    @property
    def known(self) -> Interactions:
        """The events before the part."""
        return self.log.before(self.asked.part)

    def sample(self, count: int) -> "Stage":
        """The stage with as many of its queries, drawn by a fixed seed, or with all if there are fewer."""
        drawn = np.random.default_rng(_SEED).permutation(len(self.asked))[:count]
        return replace(self, asked=self.asked.restrict(is_among(self.asked.truth_queries, drawn)))

    @property
    def sets(self) -> dict[str, Bools]:
        """The sets of candidates that figures are about: `all` is what a service sees."""
        return {"cold": self.cold, "warm": self.warm, "all": self.cold | self.warm}


def stage_of(log: Interactions, drawn: Drawn, part: StagePart, filter_seen: bool) -> Stage:
    """One stage: items that are drawn for it have events in its part alone, and those drawn for the other have none.

    A right answer of a drawn item may come from any part of the log, so that there are enough of them: all its events
    count as events of the stage's part.
    """
    place, own = PARTS.index(part), {"validation": 1, "test": 2}[part]
    held = drawn.stage[log.items]
    parts = np.where(held == own, place, log.parts).astype(np.int8)
    kept = ((held == 0) | (held == own)) & (parts <= place)
    order = np.lexsort((np.arange(len(log)), parts, log.users))  # a user's parts stay in order
    moved = Interactions(
        log.user_ids,
        log.item_ids,
        log.users[order],
        log.items[order],
        log.labels[order],
        parts[order],
        log.weights[order],
        log.anonymous,
    ).where(kept[order])
    before = moved.before(part).item_counts > 0
    present = moved.item_counts > 0
    return Stage(moved, queries(moved, part, filter_seen), before, present & ~before)
