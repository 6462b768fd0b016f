"""ItemCF and Swing equal loops over all users, on every code path and with every setting."""

from collections import defaultdict
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from recsys_assets.i2i import itemcf as itemcf_module
from recsys_assets.i2i import neighbours, user_pairs
from recsys_assets.i2i import swing as swing_module
from recsys_assets.i2i.baskets import baskets
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.retrieval.interactions import Interactions

USERS, ITEMS = 40, 25
METASPORE_ITEMCF = ItemCF(activity=0.5, window=0, top_n=20)
METASPORE_SWING = Swing(activity=0.5, popularity=0, top_n=20)
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
    """Users with 0 to 20 events, popular and rare items, repetitions, and an item without events."""
    rng = np.random.default_rng(1)
    chances = 1 / np.arange(2, ITEMS + 1)
    lengths = rng.integers(0, 21, USERS)
    return events_of([list(rng.choice(ITEMS - 1, size, p=chances / chances.sum())) for size in lengths])


@pytest.fixture(params=["dense", "sparse", "sparse in small blocks"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code path to the result."""
    for module in (itemcf_module, swing_module):
        monkeypatch.setattr(module, "is_dense_enough", lambda *_: request.param == "dense")
    if request.param == "sparse in small blocks":
        monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 20_000)
        monkeypatch.setattr(user_pairs, "_PAIRS", 10)
        monkeypatch.setattr(itemcf_module, "threads", lambda: 10**6)  # so that each thread gets one event


def newest(interactions: Interactions, most: int) -> list[History]:
    """Each user's newest distinct items, oldest first, found by a loop."""
    found = []
    for user in range(len(interactions.user_ids)):
        history = [int(item) for item in interactions.items[interactions.users == user]]
        last = [item for place, item in enumerate(history) if item not in history[place + 1 :]]
        found.append(last[-most:])
    return found


def looped_itemcf(interactions: Interactions, settings: ItemCF) -> Pairs:
    """The docstring's formula, pair by pair."""
    histories = newest(interactions, settings.max_history)
    weights = [max(len(history), 1) ** -settings.activity for history in histories]
    mass: dict[int, float] = defaultdict(float)
    sums: Pairs = defaultdict(float)
    support: Pairs = defaultdict(float)
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
    """The docstring's formula, by pairs of users."""
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
    """Check that the lists hold the n best of the expected pairs, in order."""
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


@pytest.mark.usefixtures("path")
class TestItemCF:
    """`window=0` has a dense and a sparse path, a window the sparse one."""

    @pytest.mark.parametrize(
        "settings",
        [
            METASPORE_ITEMCF,
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
    def test_the_lists_are_those_of_the_formula(self, events: Interactions, settings: ItemCF) -> None:
        check(itemcf(events, settings), looped_itemcf(events, settings), settings.top_n)

    def test_without_a_direction_the_scores_are_symmetric(self, events: Interactions) -> None:
        scores = neighbours.to_sparse(itemcf(events, ItemCF(backward=1)).lists, ITEMS).toarray()
        np.testing.assert_allclose(scores, scores.T, rtol=2e-6)

    def test_an_item_that_often_follows_is_nearer_than_one_that_often_precedes(self) -> None:
        lists = itemcf(events_of([[0, 1, 2]] * 3), ItemCF(decay=0)).lists
        np.testing.assert_array_equal(lists.items[1, :2], [2, 0])
        np.testing.assert_allclose(lists.scores[1, 1] / lists.scores[1, 0], ItemCF().backward, rtol=1e-6)


@pytest.mark.usefixtures("path")
class TestSwing:
    """Swing's dense path, and its path over pairs of users."""

    @pytest.mark.parametrize(
        "settings",
        [
            METASPORE_SWING,
            Swing(),
            Swing(alpha=0.1, activity=1, popularity=0, top_n=3),
            Swing(alpha=10, popularity=0.5, min_support=4),
            Swing(max_history=4),
        ],
        ids=repr,
    )
    def test_the_lists_are_those_of_the_formula(self, events: Interactions, settings: Swing) -> None:
        check(swing(events, settings), looped_swing(events, settings), settings.top_n)

    def test_the_scores_are_symmetric(self, events: Interactions) -> None:
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
        monkeypatch.setattr(swing_module, "is_dense_enough", lambda *_: False)
        settings = Swing(max_users=8, popularity=0)
        found, exact = swing(events, settings), swing(events, Swing(popularity=0))
        many = baskets(events, settings.max_history).item_sizes > 8
        assert found.cuts["items_sampled"] == many.sum() > 0
        np.testing.assert_array_equal(found.lists.items[~many], exact.lists.items[~many])
        sampled, whole = (
            np.where(lists.items >= 0, lists.scores, 0)[many].sum() for lists in (found.lists, exact.lists)
        )
        assert 0.5 < sampled / whole < 2  # scaled up to all pairs of users


METHODS: dict[str, tuple[Callable[..., Neighbours], ItemCF | Swing]] = {
    "itemcf": (itemcf, ItemCF()),
    "itemcf of whole histories": (itemcf, METASPORE_ITEMCF),
    "swing": (swing, Swing()),
}


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", METHODS)
class TestBoth:
    """Tests that every method must pass on every path."""

    def test_the_neighbours_on_a_checkerboard_are_the_items_of_the_same_colour(self, name: str) -> None:
        find, settings = METHODS[name]
        board = events_of([[item for item in range(ITEMS) if item % 2 == user % 2] for user in range(USERS)])
        for item, others in enumerate(find(board, settings).lists.items):
            assert set(others[others >= 0]) == set(range(item % 2, ITEMS, 2)) - {item}

    def test_ties_are_in_ascending_order_of_the_item(self, name: str) -> None:
        find, settings = METHODS[name]
        found = find(events_of([[7, 3], [7, 9], [7, 3], [7, 9], [7, 1], [7, 1]]), settings)
        np.testing.assert_array_equal(found.lists.items[7, :4], [1, 3, 9, -1])

    def test_a_shorter_list_of_ties_keeps_those_of_the_lowest_numbers(self, name: str) -> None:
        find, settings = METHODS[name]
        events = events_of([[7, 3], [7, 9], [7, 3], [7, 9], [7, 1], [7, 1]])
        found = find(events, settings.model_copy(update={"top_n": 2}))
        np.testing.assert_array_equal(found.lists.items[7], [1, 3])

    def test_a_repetition_counts_once(self, name: str) -> None:
        find, settings = METHODS[name]
        once = find(events_of([[1, 2, 3], [2, 3, 1]] * 2), settings)
        often = find(events_of([[2, 1, 1, 2, 3], [3, 1, 2, 3, 1]] * 2), settings)
        np.testing.assert_array_equal(often.lists.items, once.lists.items)
        np.testing.assert_array_equal(often.lists.scores, once.lists.scores)

    def test_without_an_event_all_lists_are_empty(self, name: str) -> None:
        find, settings = METHODS[name]
        assert (find(events_of([[], []]), settings).lists.items == -1).all()
        assert find(events_of([], 0), settings).lists.items.shape == (0, settings.top_n)

    def test_a_single_user_makes_neighbours_of_what_they_touched_but_no_swing(self, name: str) -> None:
        find, settings = METHODS[name]
        found = find(events_of([[5, 2, 5]]), settings).lists.items
        assert set(found[5]) == ({-1} if find is swing else {2, -1})

    def test_a_history_that_is_cut_is_counted(self, name: str) -> None:
        find, settings = METHODS[name]
        events = events_of([list(range(20)), list(range(12)), [1, 2]])
        assert find(events, settings).cuts | {"items_sampled": 0} == {"users_cut": 0, "rows_cut": 0, "items_sampled": 0}
        cuts = find(events, settings.model_copy(update={"max_history": 10})).cuts
        assert (cuts["users_cut"], cuts["rows_cut"]) == (2, 12)
