"""Correction of probabilities for drawn negatives: from the rate among ranked rows to that among all pairs.

A ranking model that learned from positives and drawn negatives gives the probability that a row is a positive among
such rows. At a moment at which a user touches something, the item i is touched with the probability p and drawn
rate * q times as a negative, so the odds of the model are p / (1 - p) / (rate * q), and

    log(p / (1 - p)) = log(score / (1 - score)) + log(rate * q)

With q the same for all items this is the prior correction of case-control studies (King & Zeng 2001, Logistic
regression in rare events data). `draw_log_rate` is log(rate * q) of a row, as of its moment, and in `item_features`
that of an item as of the end of the bizdate.

ONNX files and the rows of `rank_<model>` have the uncorrected probability, which AUC and calibration of the reports
refer to. Probabilities of pairs from the snapshots are corrected (`funnel/scoring.py`).
"""

import numpy as np

from recsys_assets.arrays import Doubles, Floats, Scores

_LARGEST = 1 - 2.0**-24  # the last float32 below 1, so that the odds are finite


def corrected(scores: Scores, log_rates: Doubles | Floats) -> Scores:
    """(N,) the probability that a user's next positive event is about the item; 0 for an item that was not known.

    Args:
        scores: (N,) probabilities of a positive among positives and drawn negatives.
        log_rates: (N,) `draw_log_rate` of the items.
    """
    probable = np.minimum(np.asarray(scores, np.float64), _LARGEST)
    odds = probable / (1 - probable) * np.exp(log_rates)
    return (odds / (1 + odds)).astype(np.float32)
