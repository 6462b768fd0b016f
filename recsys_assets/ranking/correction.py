"""Correction of probabilities for drawn negatives: from the rate among ranked rows to that among all pairs.

A ranking model that learned from positives and drawn negatives gives the probability that a row is a positive among
such rows. At a moment at which a user touches something, the item i is touched with the probability p and drawn
rate * q times as a negative, so the odds of the model are p / (1 - p) / (rate * q), and

    log(p / (1 - p)) = log(score / (1 - score)) + log(rate * q)

With q the same for all items this is the prior correction of case-control studies (King & Zeng 2001, Logistic
regression in rare events data). `draw_log_rate` is log(rate * q) of a row, as of its moment, and in `item_features`
that of an item as of the end of the bizdate.

The model's own odds are not quite right: items that a user touches in the train part are never their negatives there,
which makes the model too sure of what someone touches often, and what a count says changes as the log grows. So each
ranker's correction has three numbers (Platt 1999, with the draw's rate as a second input), fitted on the test rows,
which no ranker was trained on:

    log(p / (1 - p)) = slope * log(score / (1 - score)) + share * log(rate * q) + shift

ONNX files and the rows of `rank_<model>` have the uncorrected probability, which AUC and calibration of the reports
refer to. Probabilities of pairs from the snapshots are corrected (`funnel/scoring.py`).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from recsys_assets.arrays import Array, Doubles, Scores

CORRECTION = "correction.json"
_NEAREST = 2.0**-24  # to 0 and to 1, so that odds are finite
_STEPS, _RIDGE = 25, 1.0  # steps of Newton's method; rows that the plain correction is worth


@dataclass(frozen=True)
class Correction:
    """The numbers of a ranker's correction; by default those of the plain one."""

    slope: float = 1.0
    share: float = 1.0
    shift: float = 0.0

    def __call__(self, scores: Scores, log_rates: Array) -> Scores:
        """(N,) the probability that a user's next positive event is about the item; 0 for an item that was not known.

        Args:
            scores: (N,) probabilities of a positive among positives and drawn negatives.
            log_rates: (N,) `draw_log_rate` of the items.
        """
        logits = self.slope * _logits(scores) + self.share * np.asarray(log_rates, np.float64) + self.shift
        found: Scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return found

    def save(self, folder: Path) -> None:
        """Write `correction.json`."""
        (folder / CORRECTION).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> "Correction":
        """Read what `save` wrote."""
        return Correction(**json.loads(path.read_text(encoding="utf-8")))


def fit_correction(labels: Array, scores: Scores, log_rates: Array) -> Correction:
    """The correction by which scores (N,) of rows that a ranker was not trained on fit their labels best.

    It is a logistic regression of the labels (N,) on the scores' logits and the centred log rates (N,), by Newton's
    method, held to the plain correction by a small penalty.
    """
    rates = np.asarray(log_rates, np.float64)
    middle, wanted = rates.mean(), np.asarray(labels, np.float64)
    inputs = np.stack([_logits(scores), rates - middle, np.ones(len(rates))], axis=1)
    plain = weights = np.array([1.0, 0.0, 0.0])
    for _ in range(_STEPS):
        probable = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (wanted - probable) - _RIDGE * (weights - plain)
        curve = (inputs.T * (probable * (1 - probable))) @ inputs + _RIDGE * np.eye(3)
        weights = weights + np.linalg.solve(curve, slope)
    return Correction(float(weights[0]), float(1 + weights[1]), float(weights[2] - weights[1] * middle))


def _logits(scores: Scores) -> Doubles:
    """(N,) log odds of probabilities (N,)."""
    probable: Doubles = np.clip(np.asarray(scores, np.float64), _NEAREST, 1 - _NEAREST)
    return np.log(probable / (1 - probable))
