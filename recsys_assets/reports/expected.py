"""The figures that a ranker should have without labels, if its probabilities are right (NannyML calls it CBPE)."""

import numpy as np

from recsys_assets.arrays import Doubles
from recsys_assets.metrics import UndefinedMetric


def expected_auc(probabilities: Doubles) -> float:
    """The AUC that rows are expected to have if each is a positive with its own probability.

    Row i counts p positives and 1 - p negatives: the AUC is the sum over pairs of p_i (1 - p_j) where p_i > p_j, and
    half of it where they are equal, divided by the sum over all pairs.

    Args:
        probabilities: (N,) of a positive.

    Raises:
        UndefinedMetric: all are 0, or all are 1, or there is none.
    """
    p = np.sort(np.asarray(probabilities, np.float64))
    starts = np.flatnonzero(np.append(True, p[1:] != p[:-1])) if len(p) else np.zeros(0, np.int64)
    positives, negatives = np.add.reduceat(p, starts), np.add.reduceat(1 - p, starts)
    pairs = positives.sum() * negatives.sum()
    if not pairs:
        raise UndefinedMetric("the probabilities leave only one class")
    return float(positives @ (np.cumsum(negatives) - negatives / 2) / pairs)
