"""Correction of probabilities for drawn negatives: from the rate among ranked rows to that among all pairs.

A ranking model that learned from positives and drawn negatives gives the probability that a row is a positive among
such rows. At a moment at which a user touches something, an item is touched with the probability p and drawn r times as
a negative, so the odds of the model are p / (1 - p) / r, and

    log(p / (1 - p)) = log(score / (1 - score)) + log(r)

With r the same for all items this is the prior correction of case-control studies (King & Zeng 2001, Logistic
regression in rare events data). Here it differs by item and user: r is rate * q / left, where q is the item's chance in
a draw, and `left` is the share of draws that are not drawn again, because the user touched the item. `draw_log_rate` of
a row is log(r), as of its moment; in `item_features` it is log(rate * q) as of the end of the bizdate, and
`draw_log_left` in `user_features` is log(left).

The model's own odds are not quite right. Above all, items that a user touches in the train part are never their
negatives there, which makes the model too sure of what someone touches often: odds of p / (1 - p) come out larger by a
factor that grows with p. So each ranker has a curve from the plain log odds to the right ones, a line with up to five
bends. It is fitted on the test rows: rankers are trained on train and validation rows, and on rows that they know their
scores are too good (see docs/implicit.md). Nothing but the probability that people are shown depends on the curve.

In the test rows, too, touched items are never negatives. Their number is known: `undrawn` gives how many negatives are
missing for each positive, and the fit has them back.

ONNX files and the rows of `rank_<model>` have the uncorrected probability, which AUC and calibration of the reports
refer to. Probabilities of pairs from the snapshots are corrected (`funnel/scoring.py`, `funnel/known.py`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from recsys_assets.arrays import Array, Doubles, Ints, Scores

CORRECTION = "correction.json"
_NEAREST = 2.0**-24  # to 0 and to 1, so that odds are finite
_BENDS = ((0.1, 0.3, 0.5, 0.7, 0.9), (0.25, 0.5, 0.75), (0.5,), ())  # quantiles of the positives
_RIDGE = 10.0  # rows that the plain correction is worth


@dataclass(frozen=True)
class Correction:
    """A ranker's correction; by default the plain one.

    The right log odds are shift + slope * x + sum over bends of change * max(x - place, 0), for plain log odds x.
    """

    shift: float = 0.0
    slope: float = 1.0
    places: tuple[float, ...] = ()
    changes: tuple[float, ...] = ()

    def __call__(self, scores: Scores, log_rates: Array) -> Scores:
        """(N,) the probability that a user's next positive event is about the item; 0 for an item that was not known.

        Args:
            scores: (N,) probabilities of a positive among positives and drawn negatives.
            log_rates: (N,) how many times the pairs are drawn as negatives, as logs.
        """
        plain = _logits(scores) + np.asarray(log_rates, np.float64)
        logits = self.shift + self.slope * plain
        for place, change in zip(self.places, self.changes, strict=True):
            logits += change * np.maximum(plain - place, 0)
        found: Scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return found

    @property
    def rises(self) -> bool:
        """Whether a higher score is always a higher probability."""
        return bool((self.slope + np.cumsum([0.0, *self.changes]) > 0).all())

    def save(self, folder: Path) -> None:
        """Write `correction.json`."""
        (folder / CORRECTION).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> "Correction":
        """Read what `save` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        places, changes = (tuple(content.pop(name)) for name in ("places", "changes"))
        return Correction(**content, places=places, changes=changes)


def undrawn(users: Ints, items: Ints, labels: Array, log_rates: Array) -> Doubles:
    """(N,) for each positive, how many negatives like it are missing, because its user touched the item; else 0.

    The item is not drawn at the moments of the user's other positives in the part: each of them would have drawn it as
    many times as the rate says. An item that the user touched several times is missing once, shared by its rows.

    Args:
        users: (N,) numbers of the rows' users; the rows are all of one part of the split.
        items: (N,) numbers of their items.
        labels: (N,) 1 for a positive.
        log_rates: (N,) `draw_log_rate` of the rows.
    """
    positive = np.asarray(labels, np.float64) > 0
    user = np.unique(users, return_inverse=True)[1]
    pair = np.unique(users * (items.max(initial=0) + 1) + items, return_inverse=True)[1]
    of_user, of_pair = (np.bincount(each[positive], minlength=len(each)) for each in (user, pair))
    others = (of_user[user] - of_pair[pair]) / np.maximum(of_pair[pair], 1)
    missing: Doubles = np.where(positive, others * np.exp(log_rates), 0.0)
    return missing


def fit_correction(labels: Array, scores: Scores, log_rates: Array, missing: Doubles) -> Correction:
    """The correction by which scores (N,) of rows that a ranker was not trained on fit their labels best.

    It is a logistic regression of the labels (N,) on the plain log odds, with their bends at quantiles of the
    positives, and the log rates (N,) as an offset; a small penalty holds it to the plain correction. A positive stands
    for `missing` (N,) negatives as well. There are fewer bends if the curve would not rise everywhere.
    """
    rates = np.asarray(log_rates, np.float64)
    plain, weights = _logits(scores) + rates, 1 + missing
    wanted, middle = np.asarray(labels, np.float64) / weights, float(plain.mean())
    for quantiles in _BENDS:
        places = np.unique(np.quantile(plain[wanted > 0], quantiles)) if (wanted > 0).any() else np.zeros(0)
        inputs = np.column_stack([np.ones(len(plain)), plain - middle, np.maximum(plain[:, None] - places, 0)])
        level, slope, *changes = _regress(inputs, rates, wanted, weights, [middle, 1.0, *(0.0 for _ in places)])
        found = Correction(level - slope * middle, slope, tuple(places.tolist()), tuple(changes))
        if found.rises:
            break
    return found


def _regress(inputs: Doubles, rates: Doubles, wanted: Doubles, weights: Doubles, start: Sequence[float]) -> list[float]:
    """The coefficients by which log odds inputs (N, C) @ coefficients - rates (N,) explain `wanted` (N,) best."""
    from scipy.optimize import minimize

    plain = np.array(start)

    def loss(found: Doubles) -> tuple[float, Doubles]:
        logits = inputs @ found - rates
        costs = np.logaddexp(0, logits) - wanted * logits
        slope = inputs.T @ (weights * (np.exp(-np.logaddexp(0, -logits)) - wanted))
        pull = found - plain
        return float(weights @ costs + _RIDGE / 2 * pull @ pull), slope + _RIDGE * pull

    def curvature(found: Doubles) -> Doubles:
        probable = np.exp(-np.logaddexp(0, rates - inputs @ found))
        curved: Doubles = (inputs.T * (weights * probable * (1 - probable))) @ inputs + _RIDGE * np.eye(len(plain))
        return curved

    coefficients: list[float] = minimize(loss, plain, jac=True, hess=curvature, method="trust-exact").x.tolist()
    return coefficients


def _logits(scores: Scores) -> Doubles:
    """(N,) log odds of probabilities (N,)."""
    probable: Doubles = np.clip(np.asarray(scores, np.float64), _NEAREST, 1 - _NEAREST)
    return np.log(probable / (1 - probable))
