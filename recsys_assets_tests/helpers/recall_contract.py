"""The contract of recall methods: tests for a class to inherit that says how a method makes its lists.

The data is a checkerboard, as in the tests of the library `implicit`: even users liked the even items and odd users the
odd ones, every user all but one, so that the right answer is known.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from recsys_assets.retrieval.interactions import Interactions, Queries, from_table, queries
from recsys_assets.retrieval.lists import Lists

SIZE = 50  # users and items
NEWCOMER = SIZE  # an additional user, whose only event is a test row


def checkerboard() -> Interactions:
    """User u liked the items of the same colour in an order of their own; the last one, u, is the only test row.

    Before and after these, the user disliked an item of the other colour: u + 1 in a train row, and u + 3 in a
    validation row next to that of a liked item.
    """
    users = np.arange(SIZE)[:, None]
    liked = np.tile(np.arange(2, SIZE, 2), (SIZE, 1))
    liked = np.random.default_rng(0).permuted(liked, axis=1)
    steps = np.column_stack([np.full(SIZE, 1), liked, np.full(SIZE, 3), np.zeros(SIZE, np.int64)])
    width = steps.shape[1]
    labels, parts = np.ones(width, np.int8), np.full(width, "train", object)
    labels[[0, -2]], parts[-3:] = 0, ["validation", "validation", "test"]
    table = pa.table(
        {
            "user_id": np.append(np.repeat(100 + users, width), 100 + NEWCOMER),
            "item_id": np.append((1000 + (users + steps) % SIZE).ravel(), 1000),
            "label": np.append(np.tile(labels, SIZE), 1),
            "part": np.append(np.tile(parts, SIZE), "test"),
        }
    )
    return from_table(table)


class ListContract:
    """Tests that the lists of every method must pass, even of a method that knows nothing about the user."""

    def lists(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        """The method under test: lists of queries about the test part."""
        raise NotImplementedError

    def test_no_list_holds_an_item_of_the_history_when_these_are_left_out(self) -> None:
        board = checkerboard()
        asked = queries(board, "test", True)
        found = self.lists(board, asked, SIZE, True)
        for row in range(SIZE):
            assert not set(found.items[row]) & set(board.items[asked.starts[row] : asked.ends[row]])

    def test_items_of_the_history_may_come_back_when_they_are_not_left_out(self) -> None:
        board = checkerboard()
        asked = queries(board, "test", False)
        found = self.lists(board, asked, SIZE, False)
        for row in range(SIZE):
            assert set(found.items[row]) & set(board.items[asked.starts[row] : asked.ends[row]])

    def test_a_list_longer_than_the_catalogue_ends_in_empty_places_and_repeats_nothing(self) -> None:
        board = checkerboard()
        found = self.lists(board, queries(board, "test", True), SIZE + 10, True)
        assert found.items.shape == found.scores.shape == (SIZE + 1, SIZE + 10)
        assert ((found.items == -1) == (found.scores == -np.inf)).all()
        for row in found.items:
            filled = (row >= 0).sum()
            assert (row[filled:] == -1).all()
            assert len(set(row[:filled])) == filled < SIZE + 10

    def test_lists_are_in_descending_order_and_ties_in_ascending_order_of_the_item(self) -> None:
        board = checkerboard()
        found = self.lists(board, queries(board, "test", True), SIZE, True)
        below, later = found.scores[:, 1:] <= found.scores[:, :-1], found.items[:, 1:] > found.items[:, :-1]
        assert below.all()
        assert (later | (found.scores[:, 1:] != found.scores[:, :-1]) | (found.items[:, 1:] < 0)).all()

    def test_shorter_lists_are_the_beginning_of_longer_ones(self) -> None:
        board = checkerboard()
        asked = queries(board, "test", True)
        longer = self.lists(board, asked, 20, True)
        np.testing.assert_array_equal(self.lists(board, asked, 5, True).items, longer.items[:, :5])

    def test_made_again_the_lists_are_the_same(self) -> None:
        board = checkerboard()
        asked = queries(board, "test", True)
        first, again = (self.lists(board, asked, 10, True) for _ in range(2))
        np.testing.assert_array_equal(again.items, first.items)
        np.testing.assert_array_equal(again.scores, first.scores)

    def test_a_user_without_a_history_gets_a_list_of_items_or_an_empty_one(self) -> None:
        board = checkerboard()
        asked = queries(board, "test", True)
        assert asked.users[NEWCOMER] == NEWCOMER
        assert asked.starts[NEWCOMER] == asked.ends[NEWCOMER]
        items = self.lists(board, asked, 10, True).items[NEWCOMER]
        assert ((items >= -1) & (items < SIZE)).all()

    def test_nothing_is_learned_from_test_rows(self) -> None:
        board = checkerboard()
        asked, test = queries(board, "test", True), board.parts == board.parts.max()
        items, labels = (board.items + 7 * test) % SIZE, np.where(test, 0, board.labels).astype(np.int8)
        first = self.lists(board, asked, 10, True)
        other = self.lists(replace(board, items=items, labels=labels), asked, 10, True)
        np.testing.assert_array_equal(other.items, first.items)
        np.testing.assert_array_equal(other.scores, first.scores)


class RecallContract(ListContract):
    """Tests that a method must pass if it learns what a user likes."""

    def test_the_one_item_that_a_user_misses_on_the_checkerboard_comes_first(self) -> None:
        board = checkerboard()
        found = self.lists(board, queries(board, "test", True), 5, True)
        np.testing.assert_array_equal(found.items[:SIZE, 0], np.arange(SIZE))

    def test_among_all_items_those_of_the_user_s_own_colour_come_first(self) -> None:
        board = checkerboard()
        found = self.lists(board, queries(board, "test", False), SIZE // 2, False)
        assert (found.items[:SIZE] >= 0).all()
        assert (found.items[:SIZE] % 2 == np.arange(SIZE)[:, None] % 2).all()
