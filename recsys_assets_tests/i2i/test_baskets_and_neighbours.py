"""Parts of the item-to-item methods: histories, products, the file of neighbours, triggers."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.sparse import csr_array, random_array

from recsys_assets import parallel
from recsys_assets.arrays import Scores
from recsys_assets.i2i import neighbours
from recsys_assets.i2i.baskets import baskets
from recsys_assets.i2i.gram import gram, is_dense_enough
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.retrieval.lists import Lists
from recsys_assets_tests.helpers.recall_world import queries_of_rows
from recsys_assets_tests.i2i.test_itemcf_and_swing import events_of

LISTS = Lists(
    np.array([[2, 1], [3, -1], [-1, -1], [0, 1]]),
    np.array([[0.5, 0.25], [1, -np.inf], [-np.inf, -np.inf], [2, 1]], np.float32),
)
IDS = np.array([10, 11, 12, 13])


def test_histories_keep_their_order_and_of_repetitions_the_newest() -> None:
    found = baskets(events_of([[4, 1, 4, 0, 1], [], [2, 2]]), 10)
    np.testing.assert_array_equal(found.matrix.indptr, [0, 3, 3, 4])
    np.testing.assert_array_equal(found.matrix.indices, [4, 0, 1, 2])
    assert found.cuts == {"users_cut": 0, "rows_cut": 0}


def test_of_a_long_history_the_newest_items_stay() -> None:
    found = baskets(events_of([[0, 1, 2, 3, 1], [5, 6]]), 2)
    np.testing.assert_array_equal(found.matrix.indices, [3, 1, 5, 6])
    assert found.cuts == {"users_cut": 1, "rows_cut": 2}


def test_the_same_by_item_names_the_places_of_its_events() -> None:
    found = baskets(events_of([[2, 0], [0, 2], [2]]), 10)
    columns = found.columns()
    np.testing.assert_array_equal(columns.indices[columns.indptr[2] : columns.indptr[3]], [0, 1, 2])
    assert (found.matrix.indices[columns.data[columns.indptr[2] : columns.indptr[3]]] == 2).all()


@pytest.mark.parametrize("shares", [(0.001, 0.01), (0.3, 0.6), (0.001, 0.6), (0, 0)])
def test_a_product_is_that_of_the_dense_matrix(shares: tuple[float, float]) -> None:
    rng = np.random.default_rng(2)
    filled = rng.random((200, 400)) < rng.permutation(np.linspace(*shares, 400))
    matrix = (filled * rng.random((200, 400))).astype(np.float32)
    np.testing.assert_allclose(gram(csr_array(matrix)), matrix.T @ matrix, rtol=1e-5, atol=1e-6)


def test_a_matrix_is_taken_as_dense_when_it_is_full_enough_and_memory_holds_its_products() -> None:
    matrix = random_array((100, 100), density=0.02, rng=1).tocsr()
    assert is_dense_enough(matrix, 1000, 4000)
    assert not is_dense_enough(matrix, 1000, 3999)
    assert not is_dense_enough(random_array((100, 100), density=0.01, rng=1).tocsr(), 1000, 4000)


def test_blocks_cost_no_more_than_the_limit_unless_one_does_alone() -> None:
    costs = np.array([5, 3, 9, 1, 1, 1, 20, 2])
    found = list(parallel.cost_blocks(costs, 8))
    assert [costs[block].sum() for block in found] == [8, 9, 3, 20, 2]
    np.testing.assert_array_equal(np.concatenate([np.arange(8)[block] for block in found]), np.arange(8))


def test_blocks_are_done_in_order_and_an_error_in_one_is_raised() -> None:
    assert parallel.map_blocks(lambda number: number**2, range(5)) == [0, 1, 4, 9, 16]
    with pytest.raises(ZeroDivisionError):
        parallel.map_blocks(lambda number: 1 / number, range(3))


def test_a_file_holds_the_lists_of_the_items_that_have_one(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    assert neighbours.write(path, IDS, LISTS) == 3
    assert pq.read_table(path).to_pylist()[0] == {
        "item_id": 10,
        "neighbours": [{"item_id": 12, "score": 0.5}, {"item_id": 11, "score": 0.25}],
    }
    found = neighbours.read(path, IDS)
    np.testing.assert_array_equal(found.items, LISTS.items)
    np.testing.assert_array_equal(found.scores, LISTS.scores)


def test_a_file_read_for_other_items_leaves_out_the_rest_and_has_nothing_for_the_new(tmp_path: Path) -> None:
    neighbours.write(tmp_path / "data.parquet", IDS, LISTS)
    found = neighbours.read(tmp_path / "data.parquet", np.array([9, 10, 11, 13]))
    np.testing.assert_array_equal(found.items, [[-1, -1], [2, -1], [3, -1], [1, 2]])
    np.testing.assert_array_equal(found.scores[3], [2, 1])


def test_ids_may_be_texts(tmp_path: Path) -> None:
    ids = np.array(["a", "b", "c", "d"], object)
    neighbours.write(tmp_path / "data.parquet", ids, LISTS)
    np.testing.assert_array_equal(neighbours.read(tmp_path / "data.parquet", ids).items, LISTS.items)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ([[2, 1], [0.2, 0.3]], "lists_are_sorted"),
        ([[2, 1], [0.3, 0.3]], "lists_are_sorted"),
        ([[0, 1], [0.3, 0.2]], "no_own_neighbour"),
        ([[1, 2], [0.3, 0.0]], "scores_are_positive"),
        ([[1, -1], [np.inf, -np.inf]], "scores_are_positive"),
    ],
)
def test_a_list_that_breaks_a_rule_is_found(broken: list[list[float]], rule: str) -> None:
    lists = Lists(np.array([broken[0]], np.int64), np.array([broken[1]], np.float32))
    assert {name for name, count in neighbours.faults(lists).items() if count} == {rule}
    assert not any(neighbours.faults(LISTS).values())


class TestTriggers:
    """Queries at the ends of histories 0, 3, 1 and 2 (no neighbours)."""

    events = events_of([[0, 3, 1], [2], [3, 0]], 4)

    def scores(self, triggers: int = 50, alpha: float = 1.0) -> Scores:
        asked = queries_of_rows(self.events, np.array([2, 3, 5]))  # histories: 0, 3; none; 3
        return trigger_scores(LISTS, self.events, asked, triggers, alpha)(slice(0, 3))

    def test_the_newest_items_count_the_more_the_newer_they_are(self) -> None:
        expected = [[2, 1 + 0.25 / 2, 0.5 / 2, -np.inf], [-np.inf] * 4, [2, 1, -np.inf, -np.inf]]
        np.testing.assert_allclose(self.scores(), expected)

    def test_alpha_says_how_much(self) -> None:
        np.testing.assert_allclose(self.scores(alpha=0)[0], [2, 1.25, 0.5, -np.inf])
        np.testing.assert_allclose(self.scores(alpha=2)[0], [2, 1 + 0.25 / 4, 0.5 / 4, -np.inf])

    def test_only_so_many_count(self) -> None:
        np.testing.assert_allclose(self.scores(triggers=1)[0], [2, 1, -np.inf, -np.inf])

    def test_an_item_that_comes_twice_counts_twice(self) -> None:
        events = events_of([[1, 1, 0]], 4)
        found = trigger_scores(LISTS, events, queries_of_rows(events, np.array([2])))(slice(0, 1))
        np.testing.assert_allclose(found, [[-np.inf, -np.inf, -np.inf, 1.5]])

    def test_a_trigger_asks_for_itself_by_its_best_neighbour(self) -> None:
        events = events_of([[1, 1, 2, 0]], 4)
        asked = queries_of_rows(events, np.array([3]))  # history: 1, 1, 2
        plain, own = (trigger_scores(LISTS, events, asked, recency=0, own=own)(slice(0, 1))[0] for own in (0, 2))
        best, lowest = LISTS.scores[1, 0], LISTS.scores[LISTS.items[:, 0] >= 0, 0].min()
        added = [0, 2 * 2 * best, 2 * lowest, 0]  # item 1 twice; item 2 has no neighbours
        np.testing.assert_allclose(np.maximum(own, 0), np.maximum(plain, 0) + added)


def test_no_item_is_its_own_neighbour_where_the_processor_takes_the_smallest_numbers_for_zero() -> None:
    scores = np.diag(np.ones(4, np.float32))
    scores[0, 1] = 0.5
    assert torch.set_flush_denormal(True)
    try:
        lists = neighbours.best_of_dense(scores, 3)
    finally:
        torch.set_flush_denormal(False)
    assert lists.items.tolist() == [[1, -1, -1], *[[-1, -1, -1]] * 3]
