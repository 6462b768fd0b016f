"""Candidates from the channels' lists, and their merge, on examples small enough to count by hand."""

import numpy as np
import pytest

from recsys_assets.arrays import Ints
from recsys_assets.funnel.candidates import GRID, Candidates, best, gather
from recsys_assets.funnel.merge import QUERIES_AT_ONCE, Fusion, merge
from recsys_assets.funnel.model import FunnelModel, Sizes, fused_lists, recommend
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.retrieval.lists import Lists
from recsys_assets_tests.funnel.test_funnel import lists

WIDTH = 6
CHANNELS = {"itemcf": lists([2, 3, 4], [0]), "sasrec": lists([3, 2], [1])}


def test_every_listed_item_is_a_candidate_with_its_places_and_scaled_scores() -> None:
    found = gather(CHANNELS, WIDTH)
    assert list(zip(found.query.tolist(), found.item.tolist(), strict=True)) == [(0, 2), (0, 3), (0, 4), (1, 0), (1, 1)]
    absent = np.nan
    places = [[1, 2], [2, 1], [3, absent], [1, absent], [absent, 1]]
    scores = [[1, 0], [0.5, 1], [0, absent], [1, absent], [absent, 1]]
    assert np.array_equal(found.places, np.array(places, np.float32), equal_nan=True)
    assert np.array_equal(found.scores, np.array(scores, np.float32), equal_nan=True)
    assert found.channels.tolist() == [2, 2, 1, 1, 1]


def test_a_last_bit_of_a_score_does_not_reach_the_candidates() -> None:
    items, scores = np.arange(4)[None], np.array([[0.9, 0.61, 0.3, 0.1]], np.float32)
    nudged = np.nextafter(scores, np.float32(1))
    one, other = (gather({"fm": Lists(items, each)}, WIDTH) for each in (scores, nudged))
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(one.scores / GRID, np.rint(one.scores / GRID))


def test_places_in_the_channels_are_added_up_by_weight() -> None:
    found = fused_lists(CHANNELS, Fusion(1.0, {"itemcf": 0.5, "sasrec": 1.0}), WIDTH, 3)
    assert found.items.tolist() == [[3, 2, 4], [1, 0, -1]]
    assert found.scores[0] == pytest.approx([0.5 / 3 + 1 / 2, 0.5 / 2 + 1 / 3, 0.5 / 4])


def made(items: Ints) -> Lists:
    """Lists of these items (N, K), whose scores fall by 1 from place to place."""
    return Lists(items, -np.arange(items.shape[1], dtype=np.float32)[None].repeat(len(items), axis=0))


def test_candidates_are_cut_and_ties_go_by_number() -> None:
    channels = {"itemcf": lists([4, 5], [0]), "sasrec": lists([3, 5], [1])}
    found = fused_lists(channels, Fusion.equal(tuple(channels)), WIDTH, 2)
    assert found.items.tolist() == [[5, 3], [0, 1]]


def test_blocks_of_queries_are_merged_as_one() -> None:
    rng = np.random.default_rng(0)
    items = np.argsort(rng.random((QUERIES_AT_ONCE + 5, WIDTH)), axis=1)
    channels = {"one": made(items), "other": made(items[:, ::-1])}
    fusion = Fusion.equal(tuple(channels))
    candidates, fused = merge(channels, fusion, WIDTH, 4)
    whole = gather(channels, WIDTH)
    scores = fusion.scores(whole)
    kept = np.sort(best(whole, scores, 4))
    assert np.array_equal(candidates.query, whole.query[kept])
    assert np.array_equal(candidates.item, whole.item[kept])
    assert np.array_equal(fused, scores[kept])


def test_a_channel_that_tells_the_right_items_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    good, bad = (np.argsort(rng.random((200, 50)), axis=1)[:, :20] for _ in range(2))
    channels = {"bad": made(bad), "good": made(good)}
    candidates = gather(channels, 50)
    right = np.where(candidates.places[:, 1] <= 5, 1.0, 0.0)
    learned = Fusion.learn(candidates, right, tuple(channels))
    assert learned.weights["good"] == 1
    assert learned.weights["bad"] < 0.2
    assert learned == Fusion.learn(candidates, right, tuple(channels))


def test_a_channel_that_finds_what_is_worth_more_gets_more_weight() -> None:
    candidates = Candidates(*np.divmod(np.arange(400), 20), *np.full((2, 400, 2), np.nan, np.float32))
    candidates.places[:, 0], candidates.places[:, 1] = candidates.item + 1, 20 - candidates.item
    gains = np.where(candidates.item < 5, 1.0, np.where(candidates.item >= 15, 10.0, 0))
    weights = Fusion.learn(candidates, gains, ("light", "heavy")).weights
    assert weights["heavy"] == 1 > weights["light"]
    assert Fusion.learn(candidates, np.sign(gains), ("light", "heavy")).weights["light"] == pytest.approx(1, abs=1e-3)


def test_without_right_answers_all_channels_weigh_the_same() -> None:
    candidates = gather(CHANNELS, WIDTH)
    assert Fusion.learn(candidates, np.zeros(len(candidates)), tuple(CHANNELS)) == Fusion.equal(tuple(CHANNELS))


def test_only_served_channels_propose_items() -> None:
    model = FunnelModel(Fusion(1.0, {"sasrec": 1.0}), Sizes(candidates=3, final=2), None)
    found = recommend(model, CHANNELS, WIDTH, lambda _: {}, Stopwatch())
    assert found.final.lists.items.tolist() == [[3, 2], [1, -1]]
    assert found.channels == CHANNELS
    assert np.isnan(found.final.probabilities[0]).all()
