"""Ranking and probability metrics, as plain functions of arrays.

Put a metric here when it needs labels, scores and groups only. Ties count one half everywhere, and every function
sorts its rows once and never loops over users.
"""

from collections.abc import Callable, Mapping

import numpy as np

from recsys_assets.arrays import Array, Doubles, Ints


class UndefinedMetric(ValueError):
    """The rows do not define the metric: there are none, they have one class only, or scores are not numbers."""


class OnlyOneClass(UndefinedMetric):
    """The metric compares positives with negatives, and the rows have only one of the two."""


class NotNumbers(UndefinedMetric):
    """Some scores are not numbers (NaN): the model that gave them is broken."""


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve: how often a positive is scored above a negative (Mann-Whitney U).

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) any real numbers; equal scores count one half.

    Raises:
        OnlyOneClass: all rows have the same label.
        UndefinedMetric: there are no rows, or a score is not a number.
    """
    values, rows = group_aucs(labels, scores, np.zeros(len(labels), np.int64))
    if not rows.any():
        raise OnlyOneClass("every row has the same label")
    return float(values[0])


def gauc(labels: Array, scores: Array, groups: Array) -> float:
    """AUC inside each group, averaged with the groups' rows as weights (Zhu et al. 2017, DIN's GAUC).

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) any real numbers.
        groups: (N,) the user of each row; those with one class only have no AUC and are left out.

    Raises:
        OnlyOneClass: no group has both classes.
        UndefinedMetric: there are no rows, or a score is not a number.
    """
    values, rows = group_aucs(labels, scores, np.unique(groups, return_inverse=True)[1])
    if not rows.any():
        raise OnlyOneClass("no group has both classes")
    return float(np.average(values, weights=rows))


def log_loss(labels: Array, probabilities: Array) -> float:
    """Mean negative log-likelihood in nats; probabilities are clipped to 1e-7 from 0 and 1 (float32's precision).

    Raises:
        UndefinedMetric: there are no rows, or a probability is not a number.
    """
    return float(np.mean(row_losses(labels, probabilities)))


def row_losses(labels: Array, probabilities: Array) -> Doubles:
    """(N,) negative log-likelihood of each row; the mean is `log_loss`.

    Raises:
        UndefinedMetric: there are no rows, or a probability is not a number.
    """
    labels, p = _check_scores(labels, probabilities)
    p = np.clip(p, 1e-7, 1 - 1e-7)
    losses: Doubles = -np.where(labels > 0, np.log(p), np.log1p(-p))
    return losses


def group_aucs(labels: Array, scores: Array, groups: Ints) -> tuple[Doubles, Doubles]:
    """AUC and number of rows of each group; both are 0 if a group has one class only.

    AUC = (sum of the positives' ranks - p (p + 1) / 2) / (p n), with the mean rank for tied rows.

    Args:
        labels: (N,) 0 or 1.
        scores: (N,) any real numbers; equal scores count one half.
        groups: (N,) numbers from 0 on.

    Raises:
        UndefinedMetric: there are no rows, or a score is not a number.
    """
    labels, scores = _check_scores(labels, scores)
    order = np.lexsort((scores, groups))
    labels, scores, groups = labels[order], scores[order], groups[order]
    rows = np.bincount(groups).astype(np.float64)
    first_of_group = np.cumsum(rows) - rows
    new_run = np.append(True, (scores[1:] != scores[:-1]) | (groups[1:] != groups[:-1]))
    run = np.cumsum(new_run) - 1
    first = np.flatnonzero(new_run)
    last = np.append(first[1:], len(labels)) - 1
    rank = ((first + last) / 2)[run] - first_of_group[groups] + 1
    positives = np.bincount(groups, labels)
    pairs = positives * (rows - positives)
    above = np.bincount(groups, labels * rank) - positives * (positives + 1) / 2
    values: Doubles = np.where(pairs > 0, above / np.maximum(pairs, 1), 0.0)
    return values, np.where(pairs > 0, rows, 0.0)


def calibration(labels: Array, probabilities: Array, bins: int = 10) -> dict[str, Doubles]:
    """Predicted and observed rates in bins with equal numbers of rows, from the lowest prediction up.

    Returns:
        `rows`, `predicted` (mean probability) and `observed` (share of positives), each (bins,), or shorter
        if there are fewer rows than bins.

    Raises:
        UndefinedMetric: there are no rows, or a probability is not a number.
    """
    labels, p = _check_scores(labels, probabilities)
    order = np.argsort(p, kind="stable")
    place = np.arange(len(p)) * min(bins, len(p)) // len(p)
    rows = np.bincount(place).astype(np.float64)
    return {
        "rows": rows,
        "predicted": np.bincount(place, p[order]) / rows,
        "observed": np.bincount(place, labels[order]) / rows,
    }


def calibration_error(labels: Array, probabilities: Array, bins: int = 10) -> float:
    """Expected calibration error: mean distance between predicted and observed rate over equal bins."""
    table = calibration(labels, probabilities, bins)
    return float(np.average(np.abs(table["predicted"] - table["observed"]), weights=table["rows"]))


def ranker_metrics(
    labels: Array, probabilities: Array, users: Array | None = None
) -> tuple[dict[str, float], dict[str, str]]:
    """`auc`, `logloss`, `calibration_error` and, if rows have users, `gauc` of a ranking model: see `defined_metrics`.

    Raises:
        UndefinedMetric: there are no rows, or a probability is not a number.
    """
    measures: dict[str, Callable[[], float]] = {
        "auc": lambda: auc(labels, probabilities),
        "logloss": lambda: log_loss(labels, probabilities),
        "calibration_error": lambda: calibration_error(labels, probabilities),
    }
    if users is not None:
        measures["gauc"] = lambda: gauc(labels, probabilities, users)
    return defined_metrics(measures)


def defined_metrics(measures: Mapping[str, Callable[[], float]]) -> tuple[dict[str, float], dict[str, str]]:
    """The metrics that the rows define, and for the others the reason: they need two classes, and there is one."""
    found, absent = {}, {}
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except OnlyOneClass as error:
            absent[name] = str(error)
    return found, absent


def _check_scores(labels: Array, scores: Array) -> tuple[Doubles, Doubles]:
    if len(labels) != len(scores):
        raise UndefinedMetric(f"{len(labels)} labels but {len(scores)} scores")
    if not len(labels):
        raise UndefinedMetric("no rows to evaluate")
    numbers: Doubles = np.asarray(scores, np.float64)
    if np.isnan(numbers).any():
        raise NotNumbers(f"{np.isnan(numbers).sum()} of {len(numbers)} scores are not numbers (NaN)")
    return np.asarray(labels, np.float64), numbers
