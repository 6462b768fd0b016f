"""Interactions, queries, lists and their metrics: small cases worked out by hand, and loops that agree."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.arrays import Scores, find
from recsys_assets.metrics import UndefinedMetric
from recsys_assets.retrieval import lists as lists_module
from recsys_assets.retrieval.details import details, faults, read_items
from recsys_assets.retrieval.interactions import Interactions, Queries, from_table, histories, queries, read
from recsys_assets.retrieval.lists import (
    Lists,
    additions,
    by_query,
    chance_recall,
    evaluate,
    hits,
    ndcg_of_items,
    recommend,
    tallied,
    top_k,
)

ROWS = [
    # user, item, label, part
    ("ann", "d", 1, "train"),
    ("ann", "b", 0, "train"),
    ("ann", "d", 1, "validation"),
    ("ann", "b", 1, "test"),
    ("ann", "a", 1, "test"),
    ("ann", "c", 0, "test"),
    ("bob", "c", 1, "train"),
    ("bob", "c", 1, "test"),
    ("eve", "é", 1, "test"),
    ("eve", "é", 1, "test"),
]


def table(rows: list[tuple[str, str, int, str]]) -> pa.Table:
    return pa.table(dict(zip(("user_id", "item_id", "label", "part"), map(list, zip(*rows, strict=True)), strict=True)))


def asking(*truth: list[int]) -> Queries:
    """Queries for users 0, 1, … with these right answers and no history."""
    none, ends = np.zeros(len(truth), np.int64), np.cumsum([0, *map(len, truth)])
    return Queries(np.arange(len(truth)), none, none, np.concatenate([np.array(t, np.int64) for t in truth]), ends)


def truths(asked: Queries) -> list[list[int]]:
    return [part.tolist() for part in np.split(asked.truth, asked.truth_starts[1:-1])]


def random_case(seed: int, users: int = 40, items: int = 30) -> tuple[Interactions, Queries, Scores]:
    """Users with histories, queries about their test rows, and scores with many ties."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user:02}", f"i{item:02}", int(rng.random() < 0.7), part)
        for user in range(users)
        for part, count in (("train", rng.integers(0, 12)), ("test", rng.integers(1, 6)))
        for item in rng.integers(0, items, count)
    ]
    interactions = from_table(table(rows))
    asked = queries(interactions, "test", True)
    scores = rng.integers(0, 6, (len(asked), len(interactions.item_ids))).astype(np.float32)
    return interactions, asked, scores


# --- interactions and queries ---


def test_users_and_items_are_numbered_in_ascending_order_of_their_text_ids() -> None:
    found = from_table(table(ROWS))
    assert found.user_ids.tolist() == ["ann", "bob", "eve"]
    assert found.item_ids.tolist() == ["a", "b", "c", "d", "é"]
    assert found.user_ids[found.users].tolist() == [row[0] for row in ROWS]
    assert found.item_ids[found.items].tolist() == [row[1] for row in ROWS]
    assert found.labels.tolist() == [row[2] for row in ROWS]
    assert len(found) == 10
    assert found.item_counts.tolist() == [1, 2, 3, 2, 2]


def test_text_in_several_chunks_is_numbered_as_in_one(tmp_path: Path) -> None:
    whole = table(ROWS)
    pq.write_table(whole, tmp_path / "rows.parquet", row_group_size=3)
    chunked, found = from_table(pa.concat_tables([whole[:4], whole[4:]])), from_table(whole)
    for other in (chunked, read(tmp_path / "rows.parquet")):
        assert other.item_ids.tolist() == found.item_ids.tolist()
        assert other.items.tolist() == found.items.tolist()


def test_numbers_stand_for_whole_ids_too() -> None:
    found = from_table(
        pa.table({"user_id": [-5, -5, 7], "item_id": [30, 9, 30], "label": [1, 0, 1], "part": ["train"] * 3})
    )
    assert (found.user_ids.tolist(), found.item_ids.tolist()) == ([-5, 7], [9, 30])
    assert (found.users.tolist(), found.items.tolist()) == ([0, 0, 1], [1, 0, 1])


def test_events_that_are_not_ordered_by_user_are_refused() -> None:
    with pytest.raises(ValueError, match="not ordered by user_id"):
        from_table(table(ROWS[::-1]))


def test_what_was_before_a_part_keeps_the_numbers_of_users_and_items() -> None:
    found = from_table(table(ROWS)).before("test")
    assert len(found) == 4
    assert found.item_ids.tolist() == ["a", "b", "c", "d", "é"]
    assert found.item_counts.tolist() == [0, 1, 1, 2, 0]
    assert len(from_table(table(ROWS)).before("validation")) == 3


def test_among_more_users_each_keeps_the_own_events_and_the_others_have_none() -> None:
    few = from_table(table(ROWS))
    found = few.with_users(np.array(["ada", "ann", "bob", "cleo", "eve", "zoe"], object))
    assert found.user_ids[found.users].tolist() == few.user_ids[few.users].tolist()
    starts, ends = histories(found, "test")
    assert (ends - starts).tolist() == [0, 3, 1, 0, 0, 0]
    assert starts[[1, 2]].tolist() == [0, 6]


def test_a_history_ends_where_the_part_begins() -> None:
    found = from_table(table(ROWS))
    for part, expected in {"test": [[0, 3], [6, 7], [8, 8]], "online": [[0, 6], [6, 8], [8, 10]]}.items():
        assert np.stack(histories(found, part), 1).tolist() == expected


def test_right_are_the_positives_of_the_part_once_each() -> None:
    asked = queries(from_table(table(ROWS)), "test", False)
    assert asked.users.tolist() == [0, 1, 2]
    assert truths(asked) == [[0, 1], [2], [4]]
    assert asked.truth_sizes.tolist() == [2, 1, 1]
    assert np.stack([asked.starts, asked.ends], 1).tolist() == [[0, 3], [6, 7], [8, 8]]


def test_when_seen_items_are_left_out_they_are_no_right_answers_and_a_user_without_any_is_not_asked() -> None:
    asked = queries(from_table(table(ROWS)), "test", True)
    assert asked.users.tolist() == [0, 2]
    assert truths(asked) == [[0], [4]]
    assert np.stack([asked.starts, asked.ends], 1).tolist() == [[0, 3], [8, 8]]


def test_ids_are_found_by_their_place_and_others_are_nowhere() -> None:
    assert find(np.array([2, 5, 9]), np.array([9, 1, 5, 10])).tolist() == [2, -1, 1, -1]
    assert find(np.array(["a", "c"], object), np.array(["c", "b"], object)).tolist() == [1, -1]
    assert find(np.array([], np.int64), np.array([3])).tolist() == [-1]


# --- lists ---


def test_the_highest_scores_come_first_and_ties_in_ascending_order_of_the_item() -> None:
    low = -np.inf
    found = top_k(np.array([[1, 3, 3, 2, 3], [low, 0, low, 0, -1], [low] * 5], np.float32), 3)
    assert found.items.tolist() == [[1, 2, 4], [1, 3, 4], [-1, -1, -1]]
    assert found.scores.tolist() == [[3, 3, 3], [0, 0, -1], [low] * 3]


@pytest.mark.parametrize("k", [1, 7, 30, 50])
def test_the_k_best_are_those_of_a_full_sort(k: int) -> None:
    scores = random_case(3)[2]
    scores[scores == 2] = -np.inf
    for row, items, listed in zip(scores, top_k(scores, k).items, top_k(scores, k).scores, strict=True):
        expected = sorted((-score, item) for item, score in enumerate(row) if score > -np.inf)[:k]
        padding = k - len(expected)
        assert items.tolist() == [item for _, item in expected] + [-1] * padding
        assert listed.tolist() == [-score for score, _ in expected] + [-np.inf] * padding


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 scores are not numbers"):
        top_k(np.array([[1.0, np.nan, 2.0]], np.float32), 2)


@pytest.mark.parametrize("filter_seen", [True, False])
def test_lists_made_block_by_block_are_those_made_at_once(filter_seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    interactions, asked, scores = random_case(5)
    whole = recommend(lambda block: scores[block].copy(), interactions, asked, 8, filter_seen)
    monkeypatch.setattr(lists_module, "_BLOCK_SCORES", 3 * len(interactions.item_ids))
    parts = recommend(lambda block: scores[block].copy(), interactions, asked, 8, filter_seen)
    np.testing.assert_array_equal(parts.items, whole.items)
    np.testing.assert_array_equal(parts.scores, whole.scores)
    for row, items in enumerate(whole.items):
        seen = set(interactions.items[asked.starts[row] : asked.ends[row]].tolist())
        expected = [item for item in np.argsort(-scores[row], kind="stable") if not (filter_seen and item in seen)]
        assert items.tolist() == expected[:8]


# --- metrics ---


def test_metrics_are_those_worked_out_by_hand() -> None:
    items = np.array([[7, 1, 5, 3], [2, 9, -1, -1]])
    asked = asking([1, 3, 8], [9])
    assert hits(items, asked).tolist() == [[False, True, False, True], [False, True, False, False]]
    log3, log5 = math.log2(3), math.log2(5)
    expected = {
        "hitrate@2": 2 / 4,
        "recall@2": (1 / 3 + 1) / 2,
        "precision@2": (1 / 2 + 1 / 2) / 2,
        "map@2": (1 / 2 / 2 + 1 / 2) / 2,
        "ndcg@2": (1 / log3 / (1 + 1 / log3) + 1 / log3) / 2,
        "hitrate@4": 3 / 4,
        "recall@4": (2 / 3 + 1) / 2,
        "precision@4": (2 / 4 + 1 / 4) / 2,
        "map@4": ((1 / 2 + 2 / 4) / 3 + 1 / 2) / 2,
        "ndcg@4": ((1 / log3 + 1 / log5) / (1 + 1 / log3 + 1 / 2) + 1 / log3) / 2,
    }
    assert evaluate(items, asked, (2, 4)) == pytest.approx(expected, abs=1e-12)


def naive(items: list[list[int]], truth: list[list[int]], k: int) -> dict[str, float]:
    """The same metrics, computed one query and one place at a time."""
    queries_of = list(zip(items, map(set, truth), strict=True))
    found = [len(right.intersection(listed[:k])) for listed, right in queries_of]
    precisions, gains = [], []
    for listed, right in queries_of:
        count, precision, gain = 0, 0.0, 0.0
        for rank, item in enumerate(listed[:k], start=1):
            if item in right:
                count += 1
                precision += count / rank
                gain += 1 / math.log2(rank + 1)
        best = min(len(right), k)
        precisions.append(precision / best)
        gains.append(gain / sum(1 / math.log2(rank + 1) for rank in range(1, best + 1)))
    return {
        "hitrate": sum(found) / sum(len(right) for right in truth),
        "recall": float(np.mean([f / len(right) for f, right in zip(found, truth, strict=True)])),
        "precision": float(np.mean([f / k for f in found])),
        "map": float(np.mean(precisions)),
        "ndcg": float(np.mean(gains)),
    }


def test_metrics_are_those_of_a_plain_loop_at_every_cutoff() -> None:
    interactions, asked, scores = random_case(11)
    items = recommend(lambda block: scores[block].copy(), interactions, asked, 10, True).items
    course = tallied(items, asked, 15).curves()  # longer than the lists
    for k in range(1, 16):
        at_k = {metric: float(curve[k - 1]) for metric, curve in course.items()}
        assert at_k == pytest.approx(naive(items.tolist(), truths(asked), k), abs=1e-12)
    assert evaluate(items, asked, (5,)) == {f"{metric}@5": float(curve[4]) for metric, curve in course.items()}


def test_each_right_item_has_its_share_of_the_mean_ndcg() -> None:
    items, asked = np.array([[3, 1, 0], [1, 2, -1]]), asking([0, 3], [2])
    found = ndcg_of_items(items, asked, 5)
    ideal = 1 + 1 / np.log2(3)
    assert found == pytest.approx([1 / np.log2(4) / ideal / 2, 0, 1 / np.log2(3) / 2, 1 / ideal / 2, 0])
    assert found.sum() == pytest.approx(evaluate(items, asked, [3])["ndcg@3"])


def test_with_weights_an_item_is_worth_the_highest_of_its_events() -> None:
    parts = ("train", *("test",) * 4)
    rows = list(zip("uuuuv", "abcba", (1, 0, 1, 1, 0), parts, strict=True))
    events = replace(from_table(table(rows)), weights=np.array([10.0, 1.0, 3.0, 10.0, 1.0]))
    asked = queries(events, "test", True, "weighted")
    assert truths(asked) == [[1, 2], [0]]
    assert asked.gains.tolist() == [10, 3, 1]
    log3 = np.log2(3)
    found = by_query(np.array([[2, 1], [1, 0]]), asked, 2)
    assert found["ndcg"] == pytest.approx(np.array([[3 / 10, (3 + 10 / log3) / (10 + 3 / log3)], [0, 1 / log3]]))
    assert queries(events, "test", True, "touched").gains.tolist() == [1, 1, 1]
    some = asked.restrict(np.array([False, True, True]))
    assert (truths(some), some.gains.tolist()) == ([[2], [0]], [3, 1])


def test_with_one_right_answer_a_query_hitrate_and_recall_are_the_same() -> None:
    found = evaluate(np.array([[1, 2], [3, 4], [5, 6]]), asking([2], [1], [5]), (1, 2))
    assert found["hitrate@1"] == found["recall@1"] == pytest.approx(1 / 3)
    assert found["hitrate@2"] == found["recall@2"] == pytest.approx(2 / 3)


def test_without_a_query_there_is_no_metric() -> None:
    asked = queries(from_table(table(ROWS[:3])), "test", True)
    with pytest.raises(UndefinedMetric, match="no query to evaluate"):
        evaluate(np.empty((0, 5), np.int64), asked)


# --- methods compared ---


def test_chance_is_the_mean_of_many_random_lists() -> None:
    interactions, asked, scores = random_case(17)
    catalogue = interactions.before("test").item_counts > 2
    rng = np.random.default_rng(0)

    def draw(block: slice) -> Scores:
        drawn: Scores = rng.random(scores[block].shape, dtype=np.float32)
        drawn[:, ~catalogue] = -np.inf
        return drawn

    listed = [recommend(draw, interactions, asked, 6, True).items for _ in range(400)]
    recalls = [evaluate(items, asked, (6,))["recall@6"] for items in listed]
    expected = chance_recall(interactions, asked.blocks(7), catalogue, 6, True)
    assert abs(np.mean(recalls) - expected) < 4 * np.std(recalls) / math.sqrt(len(recalls))


def test_a_method_adds_the_right_answers_that_no_other_method_finds() -> None:
    asked = asking([0, 1, 2, 3], [5])
    found = {"one": np.array([[0, 1], [9, -1]]), "two": np.array([[1, 2], [5, 6]]), "none": np.array([[8, 9], [7, 8]])}
    whole, parts = (
        additions(list(found), [([each[rows] for each in found.values()], block) for rows, block in blocks])
        for blocks in ([(slice(0, 2), asked)], zip((slice(0, 1), slice(1, 2)), asked.blocks(1), strict=True))
    )
    assert parts == whole
    union, added = whole
    assert union == pytest.approx((3 / 4 + 1) / 2)
    assert added == pytest.approx({"one": (1 / 4) / 2, "two": (1 / 4 + 1) / 2, "none": 0})


# --- details ---


def test_details_have_a_row_a_query_in_the_columns_of_torcheasyrec() -> None:
    interactions = from_table(table(ROWS))
    asked = queries(interactions, "test", False)
    low = -np.inf
    lists = Lists(
        np.array([[1, 4, 0], [3, -1, -1], [-1] * 3]), np.array([[3, 2, 1], [5, low, low], [low] * 3], np.float32)
    )
    assert details(interactions, asked, lists).to_pylist() == [
        {"id": "ann", "topk_ids": ["b", "é", "a"], "topk_dists": [3, 2, 1], "hitrate": 1.0, "hit_ids": ["b", "a"]},
        {"id": "bob", "topk_ids": ["d"], "topk_dists": [5], "hitrate": 0.0, "hit_ids": []},
        {"id": "eve", "topk_ids": [], "topk_dists": [], "hitrate": 0.0, "hit_ids": []},
    ]


def test_lists_are_read_back_from_details_and_those_of_other_queries_refused(tmp_path: Path) -> None:
    interactions, asked, scores = random_case(23)
    lists = recommend(lambda block: scores[block].copy(), interactions, asked, 28, True)
    assert (lists.items < 0).any()
    pq.write_table(details(interactions, asked, lists), tmp_path / "details.parquet")
    for k in (5, 28):
        for size in (7, 1000):
            found = np.concatenate(list(read_items(tmp_path / "details.parquet", interactions, asked, k, size)))
            np.testing.assert_array_equal(found, lists.items[:, :k])
    with pytest.raises(ValueError, match="to other queries"):
        list(read_items(tmp_path / "details.parquet", interactions, queries(interactions, "train", False), 5))
    others = replace(asked, users=asked.users[::-1])
    with pytest.raises(ValueError, match="to other queries"):
        list(read_items(tmp_path / "details.parquet", interactions, others, 5))


def test_faults_of_lists_are_counted() -> None:
    interactions = from_table(table(ROWS))
    asked = queries(interactions, "test", False)
    scores = np.array([[3, 2, 1], [1, 2, -np.inf], [-np.inf] * 3], np.float32)
    lists = Lists(np.array([[3, 0, 0], [2, 1, -1], [-1] * 3]), scores)
    assert faults(interactions, asked, lists, True) == {"listed_twice": 1, "rising_scores": 1, "seen": 2}
    assert faults(interactions, asked, lists, False) == {"listed_twice": 1, "rising_scores": 1, "seen": 0}
