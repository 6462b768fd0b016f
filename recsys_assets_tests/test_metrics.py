import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from recsys_assets.metrics import UndefinedMetric, auc, calibration, calibration_error, gauc, log_loss


def test_auc_counts_the_pairs_in_order() -> None:
    assert auc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])) == 0.75


def test_tied_scores_count_half() -> None:
    assert auc(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.9])) == 0.75
    assert auc(np.array([0, 1, 1]), np.zeros(3)) == 0.5


def test_auc_is_that_of_sklearn_with_many_ties() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 3000), rng.integers(0, 40, 3000).astype(np.float32)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_gauc_weighs_users_by_their_rows_and_leaves_out_those_of_one_class() -> None:
    users = np.array(["a", "b", "a", "b", "b", "c", "c"])
    labels = np.array([0, 1, 1, 0, 0, 1, 1])
    scores = np.array([0.2, 0.1, 0.9, 0.5, 0.05, 0.3, 0.4])
    assert gauc(labels, scores, users) == pytest.approx((2 * 1.0 + 3 * 0.5) / 5)


def test_gauc_is_the_loop_over_users() -> None:
    rng = np.random.default_rng(1)
    users, labels, scores = rng.integers(0, 80, 4000), rng.integers(0, 2, 4000), rng.integers(0, 9, 4000)
    each = [roc_auc_score(labels[users == user], scores[users == user]) for user in range(80)]
    assert gauc(labels, scores, users) == pytest.approx(np.average(each, weights=np.bincount(users)), abs=1e-12)


def test_log_loss_by_hand_and_finite_for_a_sure_mistake() -> None:
    assert log_loss(np.array([1, 0]), np.array([0.8, 0.4])) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)
    assert log_loss(np.array([0]), np.array([1.0])) == pytest.approx(-np.log(1e-7))


def test_calibration_bins_hold_equal_numbers_of_rows_from_the_lowest_prediction_up() -> None:
    table = calibration(np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.7, 0.3]), bins=2)
    assert table["rows"].tolist() == [2, 2]
    assert table["predicted"] == pytest.approx([0.2, 0.8])
    assert table["observed"].tolist() == [0, 1]
    assert calibration_error(np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.7, 0.3]), bins=2) == pytest.approx(0.2)


def test_fewer_rows_than_bins_give_a_bin_a_row() -> None:
    assert calibration(np.array([1, 0]), np.array([0.6, 0.2]))["observed"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([], [], "no rows"),
        ([1, 1], [0.1, 0.2], "same label"),
        ([0, 1], [0.1, np.nan], "1 of 2 scores"),
        ([0, 1], [0.1], "2 labels but 1 scores"),
    ],
)
def test_what_has_no_auc_is_an_error_that_says_why(labels: list[int], scores: list[float], says: str) -> None:
    with pytest.raises(UndefinedMetric, match=says):
        auc(np.array(labels), np.array(scores))


def test_no_user_with_both_classes_has_no_gauc() -> None:
    with pytest.raises(UndefinedMetric, match="no group"):
        gauc(np.array([0, 1]), np.array([0.1, 0.2]), np.array([1, 2]))
