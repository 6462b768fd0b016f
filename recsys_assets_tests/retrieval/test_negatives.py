"""Negative sampling: the alias table, and the correction of its draws."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from recsys_assets.retrieval.negatives import AliasTable, alias_table, popularity

RNG = np.random.default_rng(1)
WEIGHTS = {
    "uniform": np.ones(1000),
    "popularity": popularity(RNG.zipf(1.4, 1000)),
    "given": RNG.random(1000) + 0.01,
    "one heavy": np.append(np.ones(999), 10_000),
    "many zeros": np.where(np.arange(1000) % 3, 0.0, RNG.random(1000) + 0.1),
    "heavy tail": RNG.pareto(0.5, 1000),
    "huge": np.full(1000, 1e305),
}
every_weight = pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())


def probabilities(table: AliasTable) -> np.ndarray:
    """The probability of each item, computed only from the two columns."""
    found = table.keep.copy()
    np.add.at(found, table.alias, 1 - table.keep)
    return found / len(found)


@every_weight
def test_the_table_holds_the_distribution_of_the_weights(weights: np.ndarray) -> None:
    table, expected = alias_table(weights), weights / weights.max() / (weights / weights.max()).sum()
    np.testing.assert_allclose(probabilities(table), expected, atol=1e-12)
    np.testing.assert_allclose(np.exp(table.log_probability), expected, atol=1e-12)
    assert ((table.keep >= 0) & (table.keep <= 1)).all()


@every_weight
def test_draws_follow_the_weights(weights: np.ndarray) -> None:
    """A chi-square test at 10^6 draws, which detects a distribution that is off by a hundredth."""
    table = alias_table(weights)
    counts = np.bincount(table.draw(np.random.default_rng(2), 1_000_000).ravel(), minlength=len(weights))
    assert (counts[weights == 0] == 0).all()
    expected = np.exp(table.log_probability) * 1_000_000
    common = expected > 5
    found = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    assert chisquare(found[wanted > 0], wanted[wanted > 0]).pvalue > 0.001


def test_the_test_of_draws_finds_another_distribution() -> None:
    counts = np.bincount(alias_table(np.ones(1000)).draw(np.random.default_rng(2), 1_000_000), minlength=1000)
    other = np.ones(1000)
    other[:100] += 0.05
    assert chisquare(counts, other / other.sum() * 1_000_000).pvalue < 0.001


def test_a_million_items_have_a_table_too() -> None:
    weights = RNG.pareto(1.0, 1_000_000)
    np.testing.assert_allclose(probabilities(alias_table(weights)), weights / weights.sum(), atol=1e-12)


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_equal_weights_give_equal_chances_however_their_shares_are_rounded(weight: float) -> None:
    for count in range(1, 400):
        table = alias_table(np.full(count, weight))
        chances = table.keep + np.bincount(table.alias, 1 - table.keep, count)
        np.testing.assert_allclose(chances, 1.0, rtol=1e-9)


def test_a_single_item_is_all_that_is_drawn() -> None:
    assert (alias_table([0.3]).draw(np.random.default_rng(1), 100) == 0).all()


def test_draws_have_the_shape_that_is_asked_for_and_repeat_with_the_seed() -> None:
    table = alias_table(WEIGHTS["given"])
    drawn = table.draw(np.random.default_rng(5), (7, 11))
    assert drawn.shape == (7, 11)
    np.testing.assert_array_equal(drawn, table.draw(np.random.default_rng(5), (7, 11)))


def test_torch_draws_from_the_same_table() -> None:
    table, generator = alias_table(WEIGHTS["popularity"]), torch.Generator().manual_seed(1)
    keep, alias = torch.from_numpy(table.keep), torch.from_numpy(table.alias)
    column = torch.randint(len(keep), (1_000_000,), generator=generator)
    item = torch.where(torch.rand(1_000_000, generator=generator) < keep[column], column, alias[column])
    counts = np.bincount(item.numpy(), minlength=len(keep))
    assert chisquare(counts, np.exp(table.log_probability) * 1_000_000).pvalue > 0.001


def test_popularity_is_counts_to_the_power_three_quarters() -> None:
    np.testing.assert_allclose(popularity(np.array([0, 1, 16, 81])), [0, 1, 8, 27])
    np.testing.assert_allclose(popularity(np.array([1, 16]), power=0), [1, 1])


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1, -2], "item 1 is -2.0"), ([np.nan, 1], "item 0 is nan"), ([1, np.inf], "item 1"), ([0, 0], "none of 2")],
)
def test_weights_that_are_none_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        alias_table(weights)


def test_corrected_draws_sum_to_the_softmax_over_all_items() -> None:
    """The sum of exp(score - log expected) over draws equals on average the sum of exp(score) over all items."""
    weights = WEIGHTS["given"]
    scores, table = np.log(weights) + RNG.standard_normal(1000), alias_table(weights)
    drawn = table.draw(np.random.default_rng(3), (4000, 256))
    sums = np.exp(scores[drawn] - table.log_probability[drawn] - np.log(256)).sum(axis=1)
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.02)
    uncorrected = np.exp(scores[drawn]).sum(axis=1) * 1000 / 256
    assert np.mean(uncorrected) > 1.1 * np.exp(scores).sum()
