"""The funnel learns from a small seeded world in which it is known what tells the right items."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from recsys_assets.arrays import Doubles, Floats, Ints, hashes
from recsys_assets.funnel import learning, trees
from recsys_assets.funnel.candidates import Candidates
from recsys_assets.funnel.folds import FOLDS, draw_queries, folds_of
from recsys_assets.funnel.learning import EQUAL, FEWEST_USERS, MERGED, TREES, Learned, choose, learn, next_rows, useful
from recsys_assets.funnel.model import DESCRIPTION, FunnelModel, Sizes, description, recommend
from recsys_assets.funnel.order import ORDER, Order
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.retrieval.interactions import Queries
from recsys_assets.retrieval.lists import Lists, evaluate
from recsys_assets_tests.funnel.test_funnel import KNOWN

ITEMS, LISTED, SIZES = 300, 60, Sizes(60, 80, 50)


def world(users: int, seed: int = 0) -> tuple[dict[str, Lists], Queries, Floats]:
    """Lists of three channels, right answers, and a hidden quality (users, ITEMS) that is known of each pair.

    Channel `near` ranks by taste and noise, `twin` as `near` does, `shuffled` has the items of `near` in any order;
    right is what has the highest sum of taste and quality.
    """
    rng = np.random.default_rng(seed)
    taste, quality = rng.normal(size=(2, users, ITEMS)).astype(np.float32)
    right = np.sort(np.argsort(-(taste + quality), axis=1)[:, :8], axis=1)
    near = _list(taste + rng.normal(0, 0.3, taste.shape))
    mixed = np.argsort(rng.random(near.items.shape), axis=1)
    shuffled = Lists(np.take_along_axis(near.items, mixed, axis=1), near.scores)
    channels = {"near": near, "shuffled": shuffled, "twin": near}
    everyone = np.arange(users)
    asked = Queries(everyone, everyone, everyone, right.ravel(), np.arange(users + 1) * 8)
    return channels, asked, quality


def _list(scores: Floats) -> Lists:
    items = np.argsort(-scores, axis=1)[:, :LISTED]
    return Lists(items, np.take_along_axis(scores, items, axis=1).astype(np.float32))


def taught(users: int) -> Learned:
    channels, asked, quality = world(users)
    return learn(channels, asked, asked.users, ITEMS, lambda each: known(each, quality), SIZES, seed=1)


def known(candidates: Candidates, quality: Floats) -> dict[str, Floats]:
    return {"quality": quality[candidates.query, candidates.item]}


@pytest.fixture(scope="module")
def learned() -> Learned:
    return taught(300)


def test_trees_learn_what_the_channels_do_not_know(learned: Learned, tmp_path: Path) -> None:
    assert learned.evidence.chosen == TREES
    assert learned.evidence.ndcg[TREES] > learned.evidence.ndcg[MERGED] + 0.1
    assert learned.trees
    assert learned.examples
    trees.export(learned.trees, learned.examples.names, tmp_path / ORDER, {})
    content = description(learned.fusion, SIZES, trees=True)
    (tmp_path / DESCRIPTION).write_text(json.dumps(content), encoding="utf-8")
    channels, asked, quality = world(200, seed=9)
    model = FunnelModel.read(tmp_path)
    found = recommend(model, channels, ITEMS, lambda each: known(each, quality), Stopwatch())
    final, merged = (evaluate(each.items, asked, [50])["ndcg@50"] for each in (found.final.lists, found.candidates))
    assert final > merged + 0.1


def test_the_onnx_file_gives_what_the_trees_give_within_a_millisecond(learned: Learned, tmp_path: Path) -> None:
    assert learned.trees
    assert learned.examples
    for name in ("one.onnx", "two.onnx"):
        trees.export(learned.trees, learned.examples.names, tmp_path / name, {})
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    order, columns = Order(tmp_path / "one.onnx"), learned.examples.columns
    found = dict(zip(learned.examples.names, columns.T, strict=True))
    assert np.abs(order(found, len(columns)) - learned.trees.predict(columns)).max() < 1e-4
    some, taken = {name: column[:300] for name, column in found.items()}, []
    for _ in range(50):
        start = time.thread_time()
        order(some, 300)
        taken.append(time.thread_time() - start)
    assert min(taken) < 1e-3


def test_a_channel_that_tells_nothing_is_not_served(learned: Learned) -> None:
    assert "shuffled" in learned.evidence.dropped
    assert learned.examples
    assert not any("shuffled" in name for name in learned.examples.names)
    assert {*learned.fusion.weights, *learned.evidence.dropped} == {"near", "shuffled", "twin"}
    assert {"near", "twin"} & learned.fusion.weights.keys()


def test_channels_go_one_after_the_other_as_long_as_all_together_are_not_better() -> None:
    worth = {"a": 0.3, "b": 0.1, "c": 0.0}

    def ndcg(served: Sequence[str]) -> Doubles:  # b replaces c, and c replaces b
        return np.full(50, worth["a"] * ("a" in served) + 0.1 * bool({"b", "c"} & set(served)))

    costs, served = useful(ndcg, ("a", "b", "c"))
    assert costs == pytest.approx({"a": 0.3, "b": 0.0, "c": 0.0})
    assert served == ("a", "c")
    assert useful(lambda _: np.ones(50), ("fm", "popularity", "term"))[1] == ("popularity",)


def test_a_channel_stays_where_it_is_not_shown_that_nothing_is_lost_without_it() -> None:
    noise = np.where(np.arange(50) % 2, 0.1, -0.1)

    def ndcg(served: Sequence[str]) -> Doubles:
        return np.ones(50) + (0 if "itemcf" in served else noise)

    costs, served = useful(ndcg, ("itemcf", "popularity", "swing"))
    assert costs["itemcf"] == pytest.approx(0)
    assert served == ("itemcf", "popularity")


def test_channels_may_be_judged_by_some_of_the_users(monkeypatch: pytest.MonkeyPatch, learned: Learned) -> None:
    monkeypatch.setattr(learning, "FEW_USERS", 200)
    found = taught(300)
    assert found.evidence.users == learned.evidence.users
    assert found.evidence.ndcg[TREES] == pytest.approx(learned.evidence.ndcg[TREES], abs=0.01)
    assert found.evidence.costs != learned.evidence.costs
    assert "shuffled" in found.evidence.dropped


def test_of_many_candidates_the_right_ones_and_some_wrong_ones_are_learned_from(
    monkeypatch: pytest.MonkeyPatch, learned: Learned
) -> None:
    examples = learned.examples
    assert examples
    assert examples.drawn.all()
    monkeypatch.setattr(trees, "MOST_ROWS", len(examples.gains) // 2)
    assert examples.drawn[examples.gains > 0].all()
    assert examples.drawn.mean() == pytest.approx(0.5, abs=0.02)


def test_a_few_users_teach_nothing() -> None:
    found = taught(FEWEST_USERS - 1)
    assert (found.evidence.chosen, found.trees) == (EQUAL, None)
    assert set(found.fusion.weights.values()) == {1.0}


def test_a_gain_within_its_standard_error_is_none() -> None:
    even = np.linspace(0, 1, 100)
    better, noisy = even + 0.1, even + np.where(np.arange(100) % 2, 0.5, -0.49)
    assert choose({EQUAL: even, MERGED: even, TREES: better}) == TREES
    assert choose({EQUAL: even, MERGED: better, TREES: noisy}) == MERGED
    assert choose({EQUAL: even, MERGED: even, TREES: noisy}) == EQUAL


def test_trees_take_grades_whose_gains_are_nearest() -> None:
    assert trees.grades(np.array([0, 1.0, 3.0, 10.0, 0])).tolist() == [0, 1, 2, 3, 0]
    assert trees.grades(np.array([0, 0.1, 1.0])).tolist() == [0, 1, 3]
    assert trees.grades(np.zeros(2)).tolist() == [0, 0]


def test_learned_again_it_is_the_same(learned: Learned) -> None:
    again = taught(300)
    assert again.trees
    assert learned.trees
    assert again.trees.model_to_string() == learned.trees.model_to_string()
    assert again.evidence == learned.evidence


def test_the_next_rows_of_a_part_are_its_first_ones() -> None:
    found = next_rows(KNOWN, "online", 2)
    assert found.before("online").items.tolist() == KNOWN.before("online").items.tolist()
    online = found.parts == 3
    assert found.items[online].tolist() == [2, 3, 0, 1]
    assert len(next_rows(KNOWN, "test", None)) == len(KNOWN) - 6


@pytest.mark.parametrize("ids", [np.arange(3000), np.array([f"user {number}" for number in range(3000)])])
def test_folds_share_the_users_out_whoever_else_is_there(ids: Ints) -> None:
    folds = folds_of(ids)
    assert np.bincount(folds, minlength=FOLDS).min() > 900
    assert np.array_equal(folds_of(ids[::7]), folds[::7])
    assert len(np.unique(hashes(ids))) == len(ids)


def test_queries_are_drawn_with_their_right_answers() -> None:
    _, asked, _ = world(20)
    some = draw_queries(asked, asked.users, 5)
    assert len(some) == 5
    assert np.array_equal(some.truth.reshape(5, 8), asked.truth.reshape(20, 8)[some.users])
    assert np.array_equal(draw_queries(asked, asked.users, 50).truth, asked.truth)
