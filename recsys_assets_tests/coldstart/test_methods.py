"""Methods for cold items on a world whose right answer is known, and their closed forms against plain algebra."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from recsys_assets.arrays import Doubles
from recsys_assets.coldstart import factors, methods
from recsys_assets.coldstart.content import Content
from recsys_assets.coldstart.factors import Als
from recsys_assets.coldstart.merge import merged
from recsys_assets.coldstart.methods import Known
from recsys_assets.declined import CannotBeBuilt

USERS, ITEMS, COLD = 60, 40, 8
COLOURS = np.arange(ITEMS) % 2


@pytest.fixture(scope="module")
def known() -> Known:
    """Even users like even items and odd users odd ones; the last items are cold, and content names the colour."""
    rng = np.random.default_rng(0)
    liked = (rng.random((USERS, ITEMS)) < 0.4) & ((np.arange(USERS) % 2)[:, None] == COLOURS)
    liked[:, -COLD:] = False
    noise = rng.normal(0, 0.3, (ITEMS, 3))
    values = np.column_stack([np.eye(2)[COLOURS], noise])
    content = Content(values, np.array([0, 0, 1, 1, 1]), ["colour", "noise"])
    return Known(csr_array(liked.astype(float)), liked.sum(0), content)


@pytest.mark.parametrize("method", [methods.neighbours, methods.ridge, methods.aligned_ease])
def test_cold_items_of_the_user_s_own_colour_come_first(known: Known, method: object) -> None:
    scores = method(known)(known.liked)[:, -COLD:]  # type: ignore[operator]
    own = COLOURS[-COLD:] == (np.arange(USERS) % 2)[:, None]
    assert (np.where(own, scores, np.inf).min(1) > np.where(own, -np.inf, scores).max(1)).all()


@pytest.mark.parametrize("method", [methods.als, methods.ease])
def test_a_preference_model_says_nothing_of_cold_items(known: Known, method: object) -> None:
    assert np.allclose(method(known)(known.liked)[:, -COLD:], 0)  # type: ignore[operator]


def test_popularity_counts_warm_items_and_expects_of_cold_ones_what_their_content_says() -> None:
    counts = np.array([80, 90, 10, 2, 0, 0])
    content = Content(np.eye(2)[[0, 0, 1, 1, 0, 1]], np.zeros(2, np.int64), ["kind"])
    (scores,) = methods.popularity(Known(csr_array((1, 6)), counts, content), l2=0.1)(csr_array((1, 6)))
    np.testing.assert_allclose(scores[:4], np.log1p(counts[:4]))
    assert scores[4] > scores[2] > scores[5] > scores[3]


@pytest.mark.parametrize("users", [USERS, ITEMS, ITEMS // 2])
def test_the_inverse_is_the_same_for_more_users_than_items_and_for_fewer(known: Known, users: int) -> None:
    some = Known(known.liked[:users], known.counts, known.content)
    products = (some.liked.T @ some.liked).toarray() + 7.0 * np.eye(ITEMS)
    np.testing.assert_allclose(some.inverse(7.0), np.linalg.inv(products), atol=1e-12)


def test_ease_is_the_best_matrix_without_a_diagonal(known: Known) -> None:
    x, l2 = known.liked.toarray(), 7.0
    weights = methods.ease(known, l2)(csr_array(np.eye(ITEMS)))
    for item in (0, 5, ITEMS - 1):
        others = np.delete(np.arange(ITEMS), item)
        left = x[:, others].T @ x[:, others] + l2 * np.eye(ITEMS - 1)
        np.testing.assert_allclose(weights[others, item], np.linalg.solve(left, x[:, others].T @ x[:, item]), atol=1e-9)
        assert weights[item, item] == 0


def test_aligned_ease_is_the_best_matrix_for_likes_and_for_likeness_together(known: Known) -> None:
    x, l2, rare = known.liked.toarray(), 7.0, 20.0
    weights = methods.aligned_ease(known, l2, rare)(csr_array(np.eye(ITEMS)))
    alike = methods.likeness(known)
    for item in (0, 5, ITEMS - 1):
        others = np.delete(np.arange(ITEMS), item)
        heavy = rare / max(known.counts[item], 1e-9)  # d
        left = (x[:, others].T @ x[:, others] + l2 * np.eye(ITEMS - 1)) * (1 + heavy)
        right = x[:, others].T @ (x[:, item] + heavy * (x @ alike[:, item]))
        np.testing.assert_allclose(weights[others, item], np.linalg.solve(left, right), atol=1e-6)


def test_without_content_aligned_ease_knows_nothing_of_cold_items(known: Known) -> None:
    bare = Known(known.liked, known.counts, Content(np.zeros((ITEMS, 0)), np.zeros(0, np.int64), []))
    assert np.allclose(methods.aligned_ease(bare)(bare.liked)[:, -COLD:], 0)


def test_a_feature_that_says_nothing_gets_less_weight_than_one_that_does(known: Known) -> None:
    alike = methods.likeness(known)
    same = COLOURS[:, None] == COLOURS
    np.fill_diagonal(same, False)
    assert alike[same].mean() > 5 * np.abs(alike[~same]).mean()


def test_vectors_of_als_solve_the_weighted_least_squares(known: Known) -> None:
    settings = Als(width=4, alpha=3.0, l2=2.0)
    items = np.random.default_rng(1).normal(size=(ITEMS, 4))
    found = factors.solve(known.liked, items, settings)
    likes = known.liked.toarray()[7]
    weights = 1 + settings.alpha * likes
    left = (items * weights[:, None]).T @ items + settings.l2 * np.eye(4)
    np.testing.assert_allclose(found[7], np.linalg.solve(left, (items * weights[:, None]).T @ likes), atol=1e-9)
    assert (factors.solve(csr_array((2, ITEMS)), items, settings) == 0).all()


def test_too_many_items_for_a_matrix_of_pairs_are_refused() -> None:
    with pytest.raises(CannotBeBuilt, match="at most 20,000"):
        methods.refuse_many(20_001)


def test_merged_scores_keep_the_order_of_each_method_and_the_lift_moves_only_the_others() -> None:
    rng = np.random.default_rng(2)
    preference, content = rng.normal(5, 9, (3, ITEMS)), rng.normal(-1, 0.01, (3, ITEMS))
    routed = np.arange(ITEMS) < ITEMS - COLD

    def score(lift: float) -> Doubles:
        return merged(lambda block: preference[block], lambda block: content[block], routed, lift)(slice(0, 3))

    found = score(0.0)
    for part, scores in ((routed, preference), (~routed, content)):
        np.testing.assert_array_equal(np.argsort(found[:, part]), np.argsort(scores[:, part]))
    np.testing.assert_allclose(found[:, routed].std(1), 1)
    np.testing.assert_allclose(score(2.0) - found, np.where(routed, 0.0, 2.0)[None].repeat(3, 0), atol=1e-12)
