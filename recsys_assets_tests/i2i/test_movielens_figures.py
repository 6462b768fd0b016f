"""Reproduces MetaSpore's published figures for ItemCF and Swing on MovieLens 1M, and beats them with our settings.

Its protocol: among the last three ratings of each user, those above 2 test; the item just before is the only trigger;
lists have 20 items and keep seen ones. All earlier ratings are learned from, ties in time in the order of the file.
"""

from pathlib import Path

import numpy as np
import pytest

from recsys_assets.i2i import itemcf, swing
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import evaluate, recommend
from recsys_assets_tests.helpers.recall_world import queries_of_rows

TOP = 20
NEXT_ITEM = itemcf.ItemCF(activity=0, popularity=0.1, decay=1.5, backward=0.1, top_n=TOP)


Ratings = tuple[Interactions, Interactions, Queries]


@pytest.fixture(scope="module")
def table(ml1m: Path) -> np.ndarray:
    """(N, 4) user, item, rating and time, in the order of users and time."""
    text = (ml1m / "ratings.dat").read_text(encoding="latin-1").replace("::", " ")
    rows = np.array(text.split(), np.int64).reshape(-1, 4)
    return rows[np.lexsort((rows[:, 3], rows[:, 0]))]


@pytest.fixture(scope="module")
def ratings(table: np.ndarray) -> Ratings:
    return under_the_protocol(table)


def under_the_protocol(table: np.ndarray) -> Ratings:
    """All ratings, those before the test rows, and the queries."""
    user, item, rating, _ = table.T
    user_ids, users = np.unique(user, return_inverse=True)
    item_ids, items = np.unique(item, return_inverse=True)
    ones, zeros = np.ones(len(users), np.int8), np.zeros(len(users), np.int8)
    everything = Interactions(user_ids, item_ids, users, items, ones, zeros)
    test = np.searchsorted(users, users, side="right") - np.arange(len(users)) <= 3
    before = Interactions(user_ids, item_ids, users[~test], items[~test], ones[~test], zeros[~test])
    return everything, before, queries_of_rows(everything, np.flatnonzero(test & (rating > 2)))


def recall(ratings: Ratings, found: Neighbours) -> float:
    """Recall@20 with the newest item as the only trigger."""
    everything, _, asked = ratings
    score = trigger_scores(found.lists, everything, asked, triggers=1)
    return evaluate(recommend(score, everything, asked, TOP, False).items, asked, (TOP,))["recall@20"]


def test_itemcf_reaches_the_published_recall(ratings: Ratings) -> None:
    found = itemcf.itemcf(ratings[1], itemcf.ItemCF(activity=0.5, window=0, top_n=20))
    assert recall(ratings, found) == pytest.approx(0.1877, abs=0.005)


def test_itemcf_with_a_window_is_far_better(ratings: Ratings) -> None:
    found = itemcf.itemcf(ratings[1], NEXT_ITEM)
    assert recall(ratings, found) > 0.27


PUBLISHED_SWING = swing.Swing(activity=0.5, popularity=0, top_n=TOP)


def test_swing_reaches_the_published_recall(ratings: Ratings) -> None:
    assert recall(ratings, swing.swing(ratings[1], PUBLISHED_SWING)) == pytest.approx(0.1267, abs=0.005)


def test_swing_divided_by_popularity_is_far_better(table: np.ndarray) -> None:
    """On a third of the users, who are a ninth of the pairs of users that Swing counts."""
    few = under_the_protocol(table[table[:, 0] % 3 == 0])
    theirs, ours = (recall(few, swing.swing(few[1], each)) for each in (PUBLISHED_SWING, swing.Swing(top_n=TOP)))
    assert ours > 1.3 * theirs
