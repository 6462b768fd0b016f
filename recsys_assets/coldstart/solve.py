"""The weights of the two-tower model `ridge`, in closed form: no epochs, and nothing to continue from.

Settings are chosen on validation rows, with some items held out, as `cold_start_report` does: the strength of the
regression by the NDCG@20 on cold items, then, by that on all items, how many events make an item keep its own vector,
and by what number predicted vectors are multiplied, because a regression gives shorter ones than those that it learns.
The rows before the validation part are then solved for and judged, and in the end all rows before the test part.
"""

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, cast

import numpy as np

from recsys_assets.arrays import Doubles, slices
from recsys_assets.coldstart import factors
from recsys_assets.coldstart.content import Content, content_of
from recsys_assets.coldstart.factors import Als
from recsys_assets.coldstart.methods import Known, positives, regression, ridge_to
from recsys_assets.coldstart.stages import Drawn, Stage, stage_of
from recsys_assets.coldstart.trial import CHOICE, CHOOSING, L2, LEAST_EVENTS, figures
from recsys_assets.retrieval.interactions import Interactions

if TYPE_CHECKING:
    from recsys_assets.models.ridge import LinearContent, Ridge, RidgeConfig
    from recsys_assets.training.loop import Fitted, Judge, OnEpoch
    from recsys_assets.training.recall import Source
    from recsys_assets.training.tower_data import TowerData

SHARE = 0.2  # of the items, drawn to be cold; half of them validate, as in the report
SCALES = (1.0, 1.5, 2.0, 3.0)
_ROWS = 1024  # users solved for at once


@dataclass(frozen=True)
class Rule:
    """Settings that were chosen on validation rows.

    Attributes:
        l2: of the regression.
        least: events from which on an item keeps its own vector.
        scale: that predicted vectors of items are multiplied by.
    """

    l2: float
    least: float
    scale: float


def solve(fitted: "Fitted", source: "Source", data: "TowerData", judge: "Judge", on_epoch: "OnEpoch | None") -> None:
    """Give an untrained `ridge` its weights; its history is one entry, with the rule and the validation metrics.

    Raises:
        NothingToLearn: no train row, or no validation row, is a positive.
    """
    from recsys_assets.training.tower_data import targets_of

    model, log = cast("Ridge", fitted.model), source.interactions
    for part in ("train", "validation"):
        targets_of(data, part, labelled=False)
    tables = Tables.of(model, source)
    config: RidgeConfig = fitted.config
    settings = Als(config.width, config.alpha, config.l2, config.rounds, fitted.seed)
    before = log.before("test")
    stage = stage_of(before, Drawn.of(before, SHARE, fitted.seed), "validation", source.filter_seen).sample(CHOOSING)
    rule = choose(Known.of(stage.known, tables.items, settings), stage, source.filter_seen)
    _take(model, Known.of(log.before("validation"), tables.items, settings), tables.users, rule, data)
    fitted.history.append({**asdict(rule), **judge(model)})
    if on_epoch:
        on_epoch(0, fitted.best)
    _take(model, Known.of(before, tables.items, settings), tables.users, rule, data)


@dataclass(frozen=True)
class Tables:
    """The content of both sides."""

    users: Content
    items: Content

    @staticmethod
    def of(model: "Ridge", source: "Source") -> "Tables":
        """That of the users and items of a log."""
        log: Interactions = source.interactions
        users = content_of(model.user_schema, source.users, log.user_ids, "user")
        return Tables(users, content_of(model.item_schema, source.items, log.item_ids))


def choose(known: Known, stage: Stage, filter_seen: bool) -> Rule:
    """The rule with the best NDCG@20; the first of equals, also if no right answer is cold."""
    users = _users(known, stage)

    def judged(items: Doubles, among: str) -> float:
        found = figures(stage, lambda block: users[block] @ items.T, filter_seen, [among])
        return found.get(f"{among}_{CHOICE}", 0.0)

    predicted = {l2: ridge_to(known, known.vectors, l2) for l2 in L2}
    l2 = max(L2, key=lambda each: judged(predicted[each], "cold"))

    def merged(least: float, scale: float) -> Doubles:
        return np.where((known.counts >= least)[:, None], known.vectors, scale * predicted[l2])

    least, scale = max(product(LEAST_EVENTS, SCALES), key=lambda each: judged(merged(*each), "all"))
    return Rule(l2, float(least), scale)


def _users(known: Known, stage: Stage) -> Doubles:
    """(N, D) the vectors of a stage's queries."""
    blocks = slices(len(stage.asked), _ROWS)
    found = [factors.solve(positives(stage.log, stage.asked, b), known.vectors, known.settings) for b in blocks]
    return np.concatenate([np.zeros((0, known.settings.width)), *found])


def _take(model: "Ridge", known: Known, people: Content, rule: Rule, data: "TowerData") -> None:
    """Set the weights of both towers by what is known."""
    import torch

    vectors, settings = known.vectors, known.settings
    lower = np.linalg.cholesky(vectors.T @ vectors + settings.l2 * np.eye(settings.width))
    own = np.linalg.solve(lower, vectors.T).T  # (I, D) as `models/ridge.py` explains
    folded = factors.solve(known.liked, vectors, settings) @ lower  # (U, D)
    weights, shift = regression(known.content.values, known.counts, own, rule.l2)
    _set(model.item_content, rule.scale * weights, rule.scale * shift)
    _set(model.user_content, *regression(people.values, known.liked.sum(1), folded, rule.l2))
    items = np.flatnonzero(data.token_of)
    tokens = torch.from_numpy(data.token_of[items])
    with torch.no_grad():
        model.known.weight[tokens] = torch.from_numpy(own[items].astype(np.float32)).to(model.known.weight)
        model.keeps[tokens, 0] = torch.from_numpy(known.counts[items] >= rule.least).to(model.keeps)


def _set(content: "LinearContent", weights: Doubles, shift: Doubles) -> None:
    import torch

    content.take(torch.from_numpy(weights).float(), torch.from_numpy(shift).float())
