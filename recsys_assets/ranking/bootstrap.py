"""Confidence intervals of rankers' test figures and of their differences, by the bootstrap (Efron 1979).

Users are drawn with replacement, each with all their rows, as the rows of one user are not independent; if rows have
no user, rows are drawn. A draw is a weight for each row, so the cost is one sort, and a few sums per draw. All rankers
are judged on the same draws, so that differences are paired and their intervals narrower.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from recsys_assets.arrays import Doubles, Ints
from recsys_assets.metrics import OnlyOneClass, group_aucs, row_losses

Intervals = dict[str, dict[str, "Interval"]]
DRAWS = 200
SEED = 1
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A range that contains the true figure with probability `CONFIDENCE`, estimated from the test rows."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


def draws(units: int, count: int, seed: int) -> Iterator[Doubles]:
    """(units,) how often each unit is drawn, for `count` draws; the same for the same arguments."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield np.bincount(rng.integers(units, size=units), minlength=units).astype(np.float64)


class WeightedAuc:
    """The AUC of N rows as a function of the weights of their units (users); equal scores count one half.

    Whatever does not depend on the weights is looked up once: for each positive, how many negatives have a lower score,
    and how many have none that is higher.
    """

    def __init__(self, labels: Doubles, scores: Doubles, units: Ints | None = None) -> None:
        units, positive = np.arange(len(labels)) if units is None else units, labels > 0
        negatives = np.sort(scores[~positive])
        self._positives = units[positive]
        self._negatives = units[~positive][np.argsort(scores[~positive], kind="stable")]
        self._below, self._up_to = (np.searchsorted(negatives, scores[positive], side) for side in ("left", "right"))

    def __call__(self, weights: Doubles) -> float:
        """AUC under the weights of all units; NaN if they leave only one class."""
        positives, negatives = weights[self._positives], np.append(0.0, np.cumsum(weights[self._negatives]))
        pairs = positives.sum() * negatives[-1]
        below = positives @ negatives[self._below] + positives @ negatives[self._up_to]
        return float(below / 2 / pairs) if pairs else float("nan")


def bootstrap_figures(
    labels: Doubles, scores: Doubles, users: Ints | None = None, count: int = DRAWS, seed: int = SEED
) -> dict[str, Doubles]:
    """Test metrics of one ranker on `count` draws.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) probabilities.
        users: (N,) the user of each row, from 0 on; without them rows are drawn and there is no GAUC.
        count: how many draws.
        seed: of the draws; rankers with the same seed, rows and users are judged on the same draws.

    Returns:
        (count,) figures of `test_auc`, `test_gauc` (the users' mean AUC) and `test_logloss`; NaN where undefined.
    """
    auc_of, loss = WeightedAuc(labels, scores, users), row_losses(labels, scores)
    if users is None:
        drawn = [(auc_of(weights), weights @ loss / weights.sum()) for weights in draws(len(labels), count, seed)]
        return dict(zip(("test_auc", "test_logloss"), np.array(drawn).T, strict=True))
    rows, loss = np.bincount(users).astype(np.float64), np.bincount(users, loss).astype(np.float64)
    by_user, counted = group_aucs(labels, scores, users)
    figures = [
        (auc_of(weights), _mean(by_user, weights * counted), weights @ loss / (weights @ rows))
        for weights in draws(len(rows), count, seed)
    ]
    return dict(zip(("test_auc", "test_gauc", "test_logloss"), np.array(figures).T, strict=True))


def _mean(values: Doubles, weights: Doubles) -> float:
    """The weighted mean; NaN if nothing has weight."""
    total = weights.sum()
    return float(weights @ values / total) if total else float("nan")


def interval(values: Doubles) -> Interval:
    """The middle `CONFIDENCE` of the draws that define the figure.

    Raises:
        OnlyOneClass: no draw defines it.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        raise OnlyOneClass("no draw of rows has both classes")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """Intervals by name (of a ranker or list) and metric.

    Attributes:
        reference: the name that the others are compared with.
        intervals: the interval of each figure.
        differences: the interval of each figure's difference to the reference's; without the reference.
    """

    reference: str
    intervals: Intervals
    differences: Intervals


def compare_draws(drawn: Mapping[str, Mapping[str, Doubles]], reference: str, *, sign: int = 1) -> Comparison:
    """Compare figures that come from the same draws, by name and metric; metrics that no draw defines are left out.

    With sign -1 a difference is the reference's figure minus the other one.
    """
    known = [metric for metric, values in drawn[reference].items() if np.isfinite(values).any()]
    others = {name: each for name, each in drawn.items() if name != reference}
    return Comparison(
        reference,
        {name: {metric: interval(each[metric]) for metric in known} for name, each in drawn.items()},
        {
            name: {metric: interval(sign * (each[metric] - drawn[reference][metric])) for metric in known}
            for name, each in others.items()
        },
    )


def compare(labels: Doubles, scores: Mapping[str, Doubles], reference: str, users: Ints | None = None) -> Comparison:
    """Intervals of each ranker's figures and of its differences to the reference, for figures that draws define.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) probabilities of each ranker.
        reference: the ranker that the others are compared with.
        users: (N,) the user of each row, from 0 on; without them rows are drawn.
    """
    drawn = {model: bootstrap_figures(labels, each, users) for model, each in scores.items()}
    return compare_draws(drawn, reference)
