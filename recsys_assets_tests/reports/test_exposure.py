import itertools

import numpy as np
import pytest

from recsys_assets.metrics import UndefinedMetric, auc
from recsys_assets.reports.expected import expected_auc
from recsys_assets.reports.exposure import changed_share, gini, padded


def test_the_expected_auc_is_that_of_all_pairs() -> None:
    p = np.array([0.1, 0.4, 0.4, 0.9])
    pairs = [(a * (1 - b), (a > b) + 0.5 * (a == b)) for a, b in itertools.product(p, p)]
    expected = sum(weight * win for weight, win in pairs) / sum(weight for weight, _ in pairs)
    assert expected_auc(p) == pytest.approx(expected)


def test_labels_drawn_from_the_probabilities_have_the_expected_auc() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(2, 5, 200_000)
    assert expected_auc(p) == pytest.approx(auc((rng.random(len(p)) < p).astype(float), p), abs=0.004)


@pytest.mark.parametrize("p", [[], [0.0, 0.0], [1.0]])
def test_probabilities_of_one_class_have_no_auc(p: list[float]) -> None:
    with pytest.raises(UndefinedMetric):
        expected_auc(np.array(p))


def test_the_gini_coefficient_of_known_shares() -> None:
    assert gini(np.ones(5)) == pytest.approx(0)
    assert gini(np.array([0.0, 0, 0, 8])) == pytest.approx(0.75)
    x = np.random.default_rng(1).random(50)
    assert gini(x) == pytest.approx(np.abs(x[:, None] - x).mean() / (2 * x.mean()))
    assert gini(np.zeros(3)) == 0


def test_a_list_has_changed_if_its_first_ten_are_another_set() -> None:
    first = np.arange(12)
    swapped, other = first[[1, 0, *range(2, 12)]], np.append(first[:9], [99, 10, 11])
    sizes = np.array([12, 12, 2])
    one = (np.array([1, 2, 5]), np.concatenate([first, first, first[:2]]), sizes)
    two = (np.array([1, 2, 9]), np.concatenate([swapped, other, first[:2]]), sizes)
    assert changed_share(*one, two) == (0.5, 2)
    assert changed_share(*one, (np.array([7]), first, np.array([12]))) == (0.0, 0)


def test_lists_are_padded_and_cut() -> None:
    assert padded(np.array([4, 5, 6]), np.array([1, 0, 2]), 2).tolist() == [[4, -1], [-1, -1], [5, 6]]
