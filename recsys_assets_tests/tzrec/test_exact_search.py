"""Exact search always finds the same items in the same order as plain products in double precision."""

from typing import get_args

import numpy as np
import pytest
import torch

from recsys_assets.arrays import Doubles, Ints, Vectors
from recsys_assets.retrieval.lists import Lists
from recsys_assets.tzrec import exact_search, screen
from recsys_assets.tzrec.exact_search import Flat, Metric, UnusableVectors

SHAPES = ["normal", "whole numbers", "lengths differ by 10^4", "all the same", "far from zero", "tiny", "zeros"]
every_metric = pytest.mark.parametrize("metric", get_args(Metric))


def vectors(shape: str, queries: int, items: int, dimensions: int) -> tuple[Vectors, Vectors]:
    rng = np.random.default_rng(1)
    asked = rng.standard_normal((queries, dimensions), dtype=np.float32)
    there = rng.standard_normal((items, dimensions), dtype=np.float32)
    match shape:
        case "whole numbers":
            asked, there = asked.round(), there.round()
        case "lengths differ by 10^4":
            there *= np.exp(3 * rng.standard_normal((items, 1), dtype=np.float32))
        case "all the same":
            there[:] = there[0]
        case "far from zero":
            asked, there = asked + 50, there + 100
        case "tiny":
            asked, there = asked * 1e-18, there * 1e-18
        case "zeros":
            asked[::2], there[::3] = 0, 0
    return asked.astype(np.float32), there.astype(np.float32)


def expected(asked: Vectors, there: Vectors, k: int, metric: Metric, seen: tuple[Ints, Ints] | None = None) -> Lists:
    """The items and scores of all products, sorted."""
    scores = np.full((len(asked), max(k, len(there))), -np.inf)
    q, x = asked.astype(np.float64), there.astype(np.float64)
    scores[:, : len(there)] = q @ x.T if metric == "IP" else -np.square(q[:, None] - x).sum(2)
    if seen:
        scores[seen] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    return Lists(np.where(best > -np.inf, order, -1), best.astype(np.float32))


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of queries in each round, filled whenever thresholds are set."""
    asked, plain = [], screen.Screen.thresholds

    def counted(self: screen.Screen, queries: Vectors, ranks: Ints) -> Doubles:
        asked.append(len(queries))
        return plain(self, queries, ranks)

    monkeypatch.setattr(screen.Screen, "thresholds", counted)
    return asked


def same(found: Lists, right: Lists) -> None:
    np.testing.assert_array_equal(found.items, right.items)
    np.testing.assert_allclose(found.scores, right.scores, rtol=1e-5, atol=1e-5)


@every_metric
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(50, 3000, 16, 20), (3, 100, 8, 200), (1, 1, 1, 3)], ids=str)
def test_the_lists_are_those_of_all_products_sorted(metric: Metric, shape: str, size: tuple[int, ...]) -> None:
    queries, items, dimensions, k = size
    asked, there = vectors(shape, queries, items, dimensions)
    same(Flat(there, metric).search(asked, k), expected(asked, there, k, metric))


def test_a_score_that_bfloat16_rounds_up_is_found_at_once(rounds: list[int]) -> None:
    """16 x 16 + 3 rounds to 260 in bfloat16, though its factors are exact: no item would reach that threshold."""
    asked = there = np.tile(np.array([16, 1, 1, 1], np.float32), (500, 1))
    same(Flat(there).search(asked[:1], 5), expected(asked[:1], there, 5, "IP"))
    assert rounds == [1]


@every_metric
def test_seen_items_are_in_no_list(metric: Metric) -> None:
    asked, there = vectors("normal", 40, 2000, 8)
    rng = np.random.default_rng(2)
    best = expected(asked, there, 30, metric).items
    seen = (
        np.append(np.repeat(np.arange(40), 30), rng.integers(0, 40, 500)),
        np.append(best, rng.integers(0, 2000, 500)),
    )
    same(Flat(there, metric).search(asked, 20, seen), expected(asked, there, 20, metric, seen))


def test_who_has_seen_nearly_all_gets_what_is_left() -> None:
    asked, there = vectors("normal", 3, 50, 4)
    seen = np.repeat(0, 45), np.arange(45)
    found = Flat(there).search(asked, 10, seen)
    same(found, expected(asked, there, 10, "IP", seen))
    assert (found.items[0, 5:] == -1).all()


@every_metric
def test_thresholds_from_a_sample_of_many_items(metric: Metric) -> None:
    asked, there = vectors("normal", 30, screen.SAMPLE_SIZE + 20_000, 12)
    same(Flat(there, metric).search(asked, 100), expected(asked, there, 100, metric))


def test_a_threshold_that_was_too_high_is_lowered(rounds: list[int]) -> None:
    asked, there = vectors("normal", 5, 4 * screen.SAMPLE_SIZE, 4)
    drawn = screen.sample(len(there))
    there[drawn[::400]] = asked[0] * 10  # 164, all in the sample, which suggests 656
    same(Flat(there).search(asked[:1], 200), expected(asked[:1], there, 200, "IP"))
    assert len(rounds) > 1


@every_metric
def test_without_fast_bfloat16_the_lists_are_the_same(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, there = vectors("lengths differ by 10^4", 40, 3000, 16)
    fast = Flat(there, metric).search(asked, 50)
    monkeypatch.setattr(screen, "bfloat16_is_fast", lambda device: False)  # noqa: ARG005
    plain = Flat(there, metric).search(asked, 50)
    np.testing.assert_array_equal(plain.items, fast.items)
    np.testing.assert_array_equal(plain.scores, fast.scores)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_screen_lets_every_item_pass_that_reaches_the_threshold(
    shape: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "bfloat16_is_fast", lambda device: kind == torch.bfloat16)  # noqa: ARG005
    asked, there = vectors(shape, 20, 2000, 16)
    scores = asked.astype(np.float64) @ there.astype(np.float64).T
    for place in (0, 10, 1000, 1999):
        thresholds = -np.sort(-scores, axis=1)[:, place]
        passed = np.zeros(scores.shape, bool)
        for row, item in screen.Screen(there).passing_pairs(asked, thresholds):
            passed[row, item] = True
        assert not ((scores >= thresholds[:, None]) & ~passed).any()


def test_the_screen_lets_few_others_pass() -> None:
    asked, there = vectors("normal", 20, 20_000, 32)
    thresholds = -np.sort(-(asked.astype(np.float64) @ there.astype(np.float64).T), axis=1)[:, 199]
    passed = sum(len(row) for row, _ in screen.Screen(there).passing_pairs(asked, thresholds))
    assert 200 * 20 <= passed < 300 * 20


def test_many_candidates_are_thinned_out_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, there = vectors("whole numbers", 30, 5000, 4)
    right = Flat(there).search(asked, 40)
    monkeypatch.setattr(exact_search, "_HELD", 100)
    found = Flat(there).search(asked, 40)
    np.testing.assert_array_equal(found.items, right.items)


def test_blocks_and_cores_change_nothing_and_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, there = vectors("normal", 101, 4000, 16)
    right, threads = Flat(there).search(asked, 20), torch.get_num_threads()
    monkeypatch.setattr(exact_search, "QUERY_BLOCK", 7)
    torch.set_num_threads(3)
    try:
        found = Flat(there).search(asked, 20)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found.items, right.items)
    np.testing.assert_array_equal(found.scores, right.scores)


def test_no_queries_give_no_lists() -> None:
    assert Flat(np.ones((3, 2), np.float32)).search(np.empty((0, 2), np.float32), 5).items.shape == (0, 5)


def test_vectors_that_cannot_be_searched_are_named() -> None:
    items = np.ones((5, 3), np.float32)
    with pytest.raises(UnusableVectors, match="of 3 dimensions"):
        Flat(items).search(np.ones((2, 2), np.float32), 1)
    with pytest.raises(UnusableVectors, match="nothing to search"):
        Flat(items[:0])
    for wrong in (np.nan, np.inf, 1e10):
        items[4, 1] = wrong
        with pytest.raises(UnusableVectors, match="item 4"):
            Flat(items)
        with pytest.raises(UnusableVectors, match="query 4"):
            Flat(np.ones((5, 3), np.float32)).search(items, 1)


@every_metric
@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_in_a_list_is_out_of_reach(metric: Metric, shape: str) -> None:
    asked, there = vectors(shape, 40, 5000, 8)
    best = expected(asked, there, 20, metric).items
    assert not Flat(there, metric).unreachable_pairs(asked, np.repeat(np.arange(40), 20), best.ravel(), 20).any()


@every_metric
def test_most_other_items_are_out_of_reach(metric: Metric) -> None:
    asked, there = vectors("normal", 40, 5000, 16)
    row, item = np.repeat(np.arange(40), 5000), np.tile(np.arange(5000), 40)
    assert Flat(there, metric).unreachable_pairs(asked, row, item, 20).mean() > 0.95
    assert Flat(there, metric).unreachable_pairs(asked, row[:0], item[:0], 20).shape == (0,)


def test_no_item_is_out_of_reach_of_a_list_of_all() -> None:
    asked, there = vectors("normal", 2, 30, 4)
    assert not Flat(there).unreachable_pairs(asked, np.repeat([0, 1], 30), np.tile(np.arange(30), 2), 30).any()


def test_a_list_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="524,288 is the longest"):
        Flat(np.ones((3, 2), np.float32)).search(np.ones((1, 2), np.float32), 1_000_000)
