"""Intervals of a ranker's figures, and rows on which rankers differ, compared with known truths."""

import math
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.metrics import auc, gauc, log_loss
from recsys_assets.ranking.bootstrap import WeightedAuc, bootstrap_figures, compare, draws, interval
from recsys_assets.ranking.slices import FEWEST, slice_aucs, slices

USERS, EACH, LIFT, SPREAD = 100, 20, 1.0, 1.0


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and users; positives score higher by a lift that differs by user and is `LIFT` on average."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(USERS), EACH)
    labels = rng.integers(0, 2, len(users)).astype(np.float64)
    lift = rng.normal(LIFT, SPREAD, USERS)[users]
    return labels, lift * labels + rng.normal(size=len(users)), users


def probabilities(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-scores)))


def test_the_auc_of_whole_weights_is_that_of_the_rows_repeated() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 500).astype(np.float64), rng.integers(0, 30, 500) / 7
    judge = WeightedAuc(labels, scores)
    assert judge(np.ones(500)) == pytest.approx(auc(labels, scores), abs=1e-12)
    for weights in draws(500, 5, seed=3):
        times = weights.astype(np.int64)
        repeated = auc(np.repeat(labels, times), np.repeat(scores, times))
        assert judge(weights) == pytest.approx(repeated, abs=1e-12)
    assert math.isnan(judge(labels))  # only one class


def test_a_draw_of_users_is_all_metrics_of_their_rows_repeated() -> None:
    labels, scores, users = world(1)
    found = bootstrap_figures(labels, probabilities(scores), users, count=3, seed=5)
    for place, weights in enumerate(draws(USERS, 3, seed=5)):
        rows = np.concatenate(
            [np.flatnonzero(users == user) for user in np.repeat(np.arange(USERS), weights.astype(int))]
        )
        # A user drawn twice counts as two users, each with an AUC.
        drawn = np.repeat(np.arange(USERS), EACH)
        p = probabilities(scores)
        assert found["test_auc"][place] == pytest.approx(auc(labels[rows], p[rows]), abs=1e-12)
        assert found["test_gauc"][place] == pytest.approx(gauc(labels[rows], p[rows], drawn), abs=1e-12)
        assert found["test_logloss"][place] == pytest.approx(log_loss(labels[rows], p[rows]), abs=1e-12)


def test_given_a_seed_the_draws_repeat_bit_by_bit() -> None:
    labels, scores, users = world(2)
    once, again, other = (bootstrap_figures(labels, probabilities(scores), users, 20, seed) for seed in (7, 7, 8))
    assert {metric: values.tobytes() for metric, values in once.items()} == {m: v.tobytes() for m, v in again.items()}
    assert once["test_auc"].tobytes() != other["test_auc"].tobytes()


def test_the_interval_of_users_holds_the_truth_as_often_as_it_says_and_that_of_rows_does_not() -> None:
    """Positives score N(LIFT, 1 + SPREAD^2) and negatives N(0, 1): the true AUC is known."""
    truth = NormalDist().cdf(LIFT / math.sqrt(2 + SPREAD**2))
    worlds = [world(seed) for seed in range(100, 180)]
    by_user = [interval(bootstrap_figures(y, probabilities(s), users)["test_auc"]) for y, s, users in worlds]
    by_row = [interval(bootstrap_figures(y, probabilities(s))["test_auc"]) for y, s, _ in worlds]
    held = [sum(truth in found for found in each) / len(worlds) for each in (by_user, by_row)]
    assert held[0] >= 0.9
    assert held[1] <= 0.8


def test_a_difference_can_be_sure_where_the_figures_are_not() -> None:
    labels, scores, users = world(3)
    worse = scores + np.random.default_rng(4).normal(0, 0.7, len(scores))
    found = compare(labels, {"good": probabilities(scores), "worse": probabilities(worse)}, "good", users)
    good, noisy = found.intervals["good"]["test_auc"], found.intervals["worse"]["test_auc"]
    assert good.low < noisy.high  # the intervals overlap
    assert found.differences.keys() == {"worse"}
    assert found.differences["worse"]["test_auc"].high < 0


def test_slices_are_the_rows_with_the_counts_and_terms_they_name() -> None:
    rng = np.random.default_rng(5)
    counts = np.repeat([0, 9, 10, 99, 100, 5000], 60)
    genres = [[["Drama", "War"], ["Drama"], [], None][n % 4] for n in range(len(counts))]
    labels = rng.integers(0, 2, len(counts))
    table = {"label": labels, "user_count": np.log1p(counts).astype(np.float32), "genres": genres}
    found = slices(pa.table(table), "genres")
    assert {name: int(rows.sum()) for name, rows in found.items()} == {
        "user with under 10 earlier rows": 120,
        "user with 10 to 99 earlier rows": 120,
        "user with 100 to 999 earlier rows": 60,
        "user with 1000 or more earlier rows": 60,
        "genres: Drama": 180,
        "genres: War": 90,
    }
    assert (found["user with 10 to 99 earlier rows"] == ((counts >= 10) & (counts < 100))).all()
    scores = rng.random(len(counts))
    rows = found["genres: War"]
    aucs = slice_aucs(found, labels.astype(np.float64), {"model": scores})
    assert aucs["genres: War"] == {"model": auc(labels[rows], scores[rows])}


def test_a_slice_of_few_rows_of_a_class_is_left_out() -> None:
    labels = np.array([1] * FEWEST + [0] * (FEWEST - 1))
    assert slices(pa.table({"label": labels, "item_count": np.zeros(len(labels))}), None) == {}
    enough = pa.table({"label": np.append(labels, 0), "item_count": np.zeros(len(labels) + 1)})
    assert list(slices(enough, None)) == ["item with under 10 earlier rows"]
