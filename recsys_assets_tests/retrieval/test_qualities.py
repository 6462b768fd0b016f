"""Qualities of lists besides hits, counted again one list and one item at a time."""

import math
from itertools import combinations

import numpy as np
import pytest

from recsys_assets.arrays import Ints
from recsys_assets.retrieval.interactions import Interactions, Queries, queries
from recsys_assets.retrieval.qualities import qualities
from recsys_assets_tests.helpers import recall_world

K = 5


@pytest.fixture(scope="module")
def events() -> Interactions:
    return recall_world.interactions()


@pytest.fixture(scope="module")
def asked(events: Interactions) -> Queries:
    return queries(events, "test", False)


@pytest.fixture(scope="module")
def items(asked: Queries) -> Ints:
    """Random lists, one of which has a single item."""
    found = np.random.default_rng(2).permuted(np.tile(np.arange(recall_world.ITEMS), (len(asked), 1)), axis=1)[:, :8]
    found[3, 1:] = -1
    return found


def test_right_answers_count_by_how_seldom_they_are(events: Interactions, asked: Queries, items: Ints) -> None:
    known = events.before("test")
    weights = 1 / np.maximum(known.item_counts, 1)
    recalls, ndcgs = [], []
    for query, listed in enumerate(items[:, :K].tolist()):
        truth = asked.truth[asked.truth_starts[query] : asked.truth_starts[query + 1]].tolist()
        recalls.append(sum(weights[item] for item in truth if item in listed) / sum(weights[truth]))
        ideal = sorted(weights[truth], reverse=True)[:K]
        gain = sum(weights[item] / math.log2(place + 2) for place, item in enumerate(listed) if item in truth)
        ndcgs.append(gain / sum(each / math.log2(place + 2) for place, each in enumerate(ideal)))
    found = qualities(items, asked, known, K)
    assert found[f"debiased_recall@{K}"] == pytest.approx(np.mean(recalls))
    assert found[f"debiased_ndcg@{K}"] == pytest.approx(np.mean(ndcgs))


def test_novelty_is_the_information_of_being_touched(events: Interactions, asked: Queries, items: Ints) -> None:
    known = events.before("test")
    users = [len(set(known.users[known.items == item].tolist())) for item in range(recall_world.ITEMS)]
    bits = [-math.log2(users[item] / recall_world.USERS) for item in items[:, :K].ravel() if item >= 0]
    assert qualities(items, asked, known, K)[f"novelty@{K}"] == pytest.approx(np.mean(bits))


def test_diversity_is_how_seldom_the_same_users_touched_two_items(
    events: Interactions, asked: Queries, items: Ints
) -> None:
    known = events.before("test")
    sets = [set(known.users[known.items == item].tolist()) for item in range(recall_world.ITEMS)]
    means = []
    for listed in items[:, :K].tolist():
        pairs = list(combinations([item for item in listed if item >= 0], 2))
        cosines = [len(sets[a] & sets[b]) / math.sqrt(len(sets[a]) * len(sets[b])) for a, b in pairs]
        means += [1 - float(np.mean(cosines))] if pairs else []
    found = qualities(items, asked, known, K)[f"diversity@{K}"]
    assert found == pytest.approx(np.mean(means))


def test_lists_of_one_item_have_no_diversity_and_empty_ones_no_novelty(events: Interactions, asked: Queries) -> None:
    nothing = np.full((len(asked), K), -1)
    found = qualities(nothing, asked, events.before("test"), K)
    assert set(found.values()) == {0.0}
