"""Comparison of rankers on the same draws of the test rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys_assets.arrays import Doubles, Ints
from recsys_assets.ranking.bootstrap import DRAWS, Interval, interval, resampled

Intervals = dict[str, dict[str, Interval]]


@dataclass(frozen=True)
class Comparison:
    """Intervals of the rankers' figures, by ranker and metric.

    Attributes:
        reference: the ranker that the others are compared with.
        figures: the interval of each figure.
        differences: the interval of each figure minus the reference's, on the same draws; without the reference.
    """

    reference: str
    figures: Intervals
    differences: Intervals


def compare(
    labels: Doubles,
    scores: Mapping[str, Doubles],
    reference: str,
    users: Ints | None = None,
    count: int = DRAWS,
    seed: int = 1,
) -> Comparison:
    """Intervals of each ranker's figures and of its differences to the reference, for figures that draws define.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) probabilities of each ranker.
        reference: the ranker that the others are compared with.
        users: (N,) the user of each row, from 0 on; without them rows are drawn.
        count: how many draws.
        seed: of the draws.
    """
    drawn = {model: resampled(labels, each, users, count, seed) for model, each in scores.items()}
    known = [metric for metric, values in drawn[reference].items() if np.isfinite(values).any()]
    return Comparison(
        reference,
        {model: {metric: interval(each[metric]) for metric in known} for model, each in drawn.items()},
        {
            model: {metric: interval(each[metric] - drawn[reference][metric]) for metric in known}
            for model, each in drawn.items()
            if model != reference
        },
    )
