"""Correction of probabilities for drawn negatives: on rates that are known, and on a generated shop."""

from pathlib import Path

import numpy as np
import pytest

from recsys_assets.ranking.correction import Correction, fit_correction, undrawn
from recsys_assets_tests.helpers.calibration import calibrate
from recsys_assets_tests.helpers.shop_log import generate

NONE_MISSING = np.zeros(100_000)


def drawn_rows(power: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(true rate, label, log rate of the draw) of positives and of four negatives for each, over 50 items.

    Without a power the chances in a draw have nothing to do with the rates.
    """
    rng = np.random.default_rng(1)
    rates = rng.dirichlet(np.ones(50))
    shares = rng.dirichlet(np.full(50, 5)) if power is None else rates**power / (rates**power).sum()
    positives, negatives = rng.choice(50, 20_000, p=rates), rng.choice(50, 80_000, p=shares)
    items, labels = np.concatenate([positives, negatives]), np.repeat([1, 0], [20_000, 80_000])
    return rates[items], labels, np.log(4 * shares[items])


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_the_plain_correction_gives_back_the_rates_whatever_the_draw(power: float) -> None:
    rates, _, log_rates = drawn_rows(power)
    odds = rates / (1 - rates) / np.exp(log_rates)
    found = Correction()((odds / (1 + odds)).astype(np.float32), log_rates)
    assert found == pytest.approx(rates, rel=1e-4)


def test_a_fitted_correction_undoes_scores_that_are_too_sure() -> None:
    rates, labels, log_rates = drawn_rows(None)
    plain = np.log(rates / (1 - rates))
    found, bent = (
        fit_correction(labels, scores, log_rates, NONE_MISSING)(scores, log_rates)
        for odds in (plain - log_rates, 1.5 * plain + np.maximum(plain + 3, 0) + 1 - log_rates)
        for scores in [(1 / (1 + np.exp(-odds))).astype(np.float32)]
    )
    assert np.log(found / rates) == pytest.approx(0, abs=0.25)
    assert np.log(bent / rates) == pytest.approx(0, abs=0.25)


def test_negatives_that_are_never_drawn_are_counted_and_given_back() -> None:
    """Users with 20 positives among 50 items: what they touched is no negative, and the others are drawn instead."""
    rng, users, moments = np.random.default_rng(1), 1000, 20
    rates = rng.dirichlet(np.ones(50))
    positives = rng.choice(50, (users, moments), p=rates)
    negatives = rng.integers(0, 50, (users, moments * 4))
    kept = ~(negatives[:, :, None] == positives[:, None]).any(axis=2)
    number = np.repeat(np.arange(users), moments), np.nonzero(kept)[0]
    items, labels = (
        np.concatenate([positives.ravel(), negatives[kept]]),
        np.repeat([1, 0], [len(number[0]), kept.sum()]),
    )
    log_rates = np.full(len(items), np.log(4 / 50))
    missing = undrawn(np.concatenate(number), items, labels, log_rates)
    assert missing[labels == 0].sum() == 0
    assert missing.sum() == pytest.approx((~kept).sum(), rel=0.1), "and its own moment, which has the positive"
    odds = rates / (1 - rates) / (4 / 50)
    scores = (odds / (1 + odds)).astype(np.float32)[items]
    corrected = fit_correction(labels, scores, log_rates, missing)(scores, log_rates)
    unaware = fit_correction(labels, scores, log_rates, np.zeros(len(items)))(scores, log_rates)
    frequent = rates[items] > 0.05
    assert corrected[frequent] == pytest.approx(rates[items][frequent], rel=0.1)
    assert (unaware[frequent] > 1.3 * rates[items][frequent]).all()


def test_scores_at_the_edges_and_unknown_items_have_probabilities() -> None:
    found = Correction()(np.array([0, 1, 0.5], np.float32), np.array([0.0, 0.0, -np.inf]))
    assert np.isfinite(found).all()
    assert found[2] == 0
    few = np.ones(3), np.full(3, 0.5, np.float32), np.zeros(3)
    assert fit_correction(*few, np.zeros(3)).slope == pytest.approx(1, abs=0.5)


def test_a_curve_that_would_fall_has_fewer_bends() -> None:
    rates, labels, log_rates = drawn_rows(None)
    odds = np.sin(4 * np.log(rates)) - log_rates
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    assert not Correction(0, 1, (0.0,), (-2.0,)).rises
    found = fit_correction(labels, scores, log_rates, NONE_MISSING)
    assert found.rises or not found.places


def test_a_correction_reads_back(tmp_path: Path) -> None:
    given = Correction(0.8, 0.9, (-4.0, -2.0), (0.1, -0.2))
    given.save(tmp_path)
    assert Correction.read(tmp_path / "correction.json") == given


def test_expected_visits_are_those_of_the_known_rates_by_group(tmp_path: Path) -> None:
    """The whole way: a log of views, drawn negatives, a ranker, its ONNX file, and what users did next."""
    shop = generate(users=600, items=300, visits=9000, days=10, focus=0.4).first_views()
    found = calibrate(tmp_path, shop, {"rate": 4, "draw": "popularity"}, "lgbm")
    assert found.expected.sum() == pytest.approx(found.true.sum(), rel=0.06)
    within = np.abs(found.errors) <= found.allowed
    assert within[1:-1].all(), found  # so small a log says too little about the lowest and the highest rates
