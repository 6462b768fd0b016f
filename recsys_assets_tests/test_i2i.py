"""ItemCF and Swing: exact against loops over all users, on every path, with every setting."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.i2i import neighbours, user_pairs
from recsys_assets.i2i import itemcf as itemcf_module
from recsys_assets.i2i import swing as swing_module
from recsys_assets.i2i.baskets import baskets
from recsys_assets.i2i.gram import fits, gram
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.retrieval.interactions import Interactions, from_table, queries
from recsys_assets.retrieval.lists import Lists

USERS, ITEMS = 40, 25
History = list[int]
Pairs = dict[tuple[int, int], float]


def events_of(histories: list[History], items: int = ITEMS) -> Interactions:
    """Interactions of users with these histories, oldest first."""
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    numbers = np.array([item for history in histories for item in history], np.int64)
    ones, zeros = np.ones(len(users), np.int8), np.zeros(len(users), np.int8)
    return Interactions(np.arange(len(histories)), np.arange(items), users, numbers, ones, zeros)


@pytest.fixture(scope="module")
def events() -> Interactions:
    """Users of 0 to 20 events, popular and rare items, repetitions, an item that nobody touched."""
    rng = np.random.default_rng(1)
    chances = 1 / np.arange(2, ITEMS + 1)
    lengths = rng.integers(0, 21, USERS)
    return events_of([list(rng.choice(ITEMS - 1, size, p=chances / chances.sum())) for size in lengths])


@pytest.fixture(params=["dense", "sparse", "sparse in small blocks"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to the result."""
    for module in (itemcf_module, swing_module):
        monkeypatch.setattr(module, "fits", lambda *_: request.param == "dense")
    if request.param == "sparse in small blocks":
        monkeypatch.setattr(neighbours, "_BLOCK", 20_000)
        monkeypatch.setattr(user_pairs, "_PAIRS", 10)
    return str(request.param)


def newest(interactions: Interactions, most: int) -> list[History]:
    """Each user's newest different items, oldest first, by a loop."""
    found = []
    for user in range(len(interactions.user_ids)):
        history = [int(item) for item in interactions.items[interactions.users == user]]
        last = [item for place, item in enumerate(history) if item not in history[place + 1 :]]
        found.append(last[-most:])
    return found


def looped_itemcf(interactions: Interactions, settings: ItemCF) -> Pairs:
    """The formula of the docstring, pair by pair."""
    histories = newest(interactions, settings.max_history)
    weights = [max(len(history), 1) ** -settings.activity for history in histories]
    mass, sums, support = defaultdict(float), defaultdict(float), defaultdict(int)
    for history, weight in zip(histories, weights, strict=True):
        for place, item in enumerate(history):
            mass[item] += weight**2
            for other_place, other in enumerate(history):
                distance = other_place - place
                near = 1.0
                if settings.window and distance:
                    near = abs(distance) ** -settings.decay * (settings.backward if distance < 0 else 1)
                    near *= abs(distance) <= settings.window
                if item != other and near:
                    sums[item, other] += weight**2 * near
                    support[item, other] += 1
    return {
        (item, other): total / (mass[item] * mass[other]) ** settings.popularity
        for (item, other), total in sums.items()
        if support[item, other] >= settings.min_support
    }


def looped_swing(interactions: Interactions, settings: Swing) -> Pairs:
    """The formula of the docstring, pair of users by pair of users."""
    histories = [set(history) for history in newest(interactions, settings.max_history)]
    users = defaultdict(set)
    for user, history in enumerate(histories):
        for item in history:
            users[item].add(user)
    scores = {}
    for item, other in ((i, j) for i in list(users) for j in list(users) if i != j):
        both = users[item] & users[other]
        total = sum(
            (len(histories[u]) * len(histories[v])) ** -settings.activity
            / (settings.alpha + len(histories[u] & histories[v]))
            for u, v in combinations(both, 2)
        )
        if len(both) >= settings.min_support:
            scores[item, other] = total / (len(users[item]) * len(users[other])) ** settings.popularity
    return scores


def check(found: Neighbours, expected: Pairs, n: int) -> None:
    """The lists hold the n best of the expected pairs, in order."""
    lists = found.lists
    assert lists.items.shape == lists.scores.shape == (ITEMS, n)
    assert not any(neighbours.faults(lists).values())
    for item in range(ITEMS):
        wanted = sorted((score for (i, _), score in expected.items() if i == item), reverse=True)[:n]
        listed, scores = lists.items[item, : len(wanted)], lists.scores[item, : len(wanted)]
        np.testing.assert_allclose(scores, wanted, rtol=2e-6)
        np.testing.assert_allclose([expected[item, other] for other in listed], scores, rtol=2e-6)
        assert (lists.items[item, len(wanted) :] == -1).all()
        assert (lists.scores[item, len(wanted) :] == -np.inf).all()


class TestItemCF:
    """`window=0` has a dense and a sparse path, a window the sparse one."""

    @pytest.mark.parametrize(
        "settings",
        [
            itemcf_module.METASPORE,
            ItemCF(),
            ItemCF(window=0, activity=0, popularity=0, top_n=3),
            ItemCF(window=0, activity=1, popularity=0.3, min_support=3),
            ItemCF(window=3, decay=1, backward=1),
            ItemCF(window=2, decay=0, backward=0, min_support=2, top_n=5),
            ItemCF(window=0, max_history=4),
            ItemCF(window=5, max_history=4),
        ],
        ids=repr,
    )
    def test_the_lists_are_those_of_the_formula(self, path: str, events: Interactions, settings: ItemCF) -> None:
        check(itemcf(events, settings), looped_itemcf(events, settings), settings.top_n)

    def test_without_a_direction_the_scores_are_symmetric(self, path: str, events: Interactions) -> None:
        scores = neighbours.to_sparse(itemcf(events, ItemCF(backward=1)).lists, ITEMS).toarray()
        np.testing.assert_allclose(scores, scores.T, rtol=2e-6)

    def test_an_item_that_often_follows_is_nearer_than_one_that_often_precedes(self) -> None:
        lists = itemcf(events_of([[0, 1, 2]] * 3), ItemCF(decay=0)).lists
        np.testing.assert_array_equal(lists.items[1, :2], [2, 0])
        np.testing.assert_allclose(lists.scores[1, 1] / lists.scores[1, 0], ItemCF().backward, rtol=1e-6)


class TestSwing:
    """Swing's dense path, and the one over pairs of users."""

    @pytest.mark.parametrize(
        "settings",
        [
            swing_module.METASPORE,
            Swing(),
            Swing(alpha=0.1, activity=1, popularity=0, top_n=3),
            Swing(alpha=10, popularity=0.5, min_support=4),
            Swing(max_history=4),
        ],
        ids=repr,
    )
    def test_the_lists_are_those_of_the_formula(self, path: str, events: Interactions, settings: Swing) -> None:
        check(swing(events, settings), looped_swing(events, settings), settings.top_n)

    def test_the_scores_are_symmetric(self, path: str, events: Interactions) -> None:
        scores = neighbours.to_sparse(swing(events, Swing()).lists, ITEMS).toarray()
        np.testing.assert_allclose(scores, scores.T, rtol=2e-6)

    def test_many_users_of_an_item_are_multiplied_block_by_block(
        self, events: Interactions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(swing_module, "_ROWS", 4)
        check(swing(events, Swing()), looped_swing(events, Swing()), Swing().top_n)

    def test_an_item_of_more_users_than_the_cap_is_judged_by_a_sample_of_them(
        self, events: Interactions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(swing_module, "fits", lambda *_: False)
        settings = Swing(max_users=8, popularity=0)
        found, exact = swing(events, settings), swing(events, Swing(popularity=0))
        many = baskets(events, settings.max_history).item_sizes > 8
        assert found.cuts["items_sampled"] == many.sum() > 0
        np.testing.assert_array_equal(found.lists.items[~many], exact.lists.items[~many])
        sampled, whole = (
            np.where(lists.items >= 0, lists.scores, 0)[many].sum() for lists in (found.lists, exact.lists)
        )
        assert 0.5 < sampled / whole < 2  # scaled up to all pairs of users


@pytest.mark.parametrize(
    "find",
    [
        lambda events: itemcf(events, ItemCF()),
        lambda events: itemcf(events, itemcf_module.METASPORE),
        lambda events: swing(events, Swing()),
    ],
    ids=["itemcf", "itemcf of whole histories", "swing"],
)
class TestBoth:
    """What holds of every method."""

    def test_of_a_checkerboard_the_neighbours_are_the_items_of_the_same_colour(
        self, path: str, find: Callable[[Interactions], Neighbours]
    ) -> None:
        board = events_of([[item for item in range(ITEMS) if item % 2 == user % 2] for user in range(USERS)])
        for item, others in enumerate(find(board).lists.items):
            listed = others[others >= 0]
            assert set(listed) == {other for other in range(ITEMS) if other % 2 == item % 2 and other != item}

    def test_ties_are_in_ascending_order_of_the_item(
        self, path: str, find: Callable[[Interactions], Neighbours]
    ) -> None:
        found = find(events_of([[7, 3], [7, 9], [7, 3], [7, 9], [7, 1], [7, 1]]))
        np.testing.assert_array_equal(found.lists.items[7, :4], [1, 3, 9, -1])

    def test_without_an_event_all_lists_are_empty(self, path: str, find: Callable[[Interactions], Neighbours]) -> None:
        assert (find(events_of([[], []])).lists.items == -1).all()
        assert len(find(events_of([], 0)).lists.items) == 0

    def test_a_single_user_gives_no_swing_and_what_they_touched_as_neighbours(
        self, path: str, find: Callable[[Interactions], Neighbours]
    ) -> None:
        found = find(events_of([[5, 2, 5]]))
        alone = "items_sampled" in found.cuts
        assert set(found.lists.items[5]) == ({-1} if alone else {2, -1})

    def test_a_cap_that_acts_is_counted(self, path: str, find: Callable[[Interactions], Neighbours]) -> None:
        long = [list(range(20))] * 3 + [[1, 2]]
        assert find(events_of(long)).cuts["users_cut"] == find(events_of(long)).cuts["rows_cut"] == 0
