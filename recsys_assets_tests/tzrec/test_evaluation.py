"""Hit rate without lists: only requests that can have a hit are searched, and every hit is still found."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.tzrec.evaluation import Evaluation, Requests, searched_vectors
from recsys_assets.tzrec.exact_search import Flat, Metric

K = 20


def evaluation(metric: Metric, interests: int, seed: int = 1) -> tuple[Evaluation, Flat]:
    """200 requests, each with two right items of 5000; the first is in the direction of one interest."""
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((5000, 8), dtype=np.float32)
    truth = rng.integers(0, 5010, (200, 2))  # some do not exist
    vectors = rng.standard_normal((200, interests, 8), dtype=np.float32)
    vectors[:, -1] = items[np.minimum(truth[:, 0], 4999)] + 0.8 * rng.standard_normal((200, 8), dtype=np.float32)
    vectors[::7, 0] = 0
    names = pa.array([[f"i{item}" for item in row] for row in truth])
    count = rng.integers(1, interests + 1, 200)
    requests = Requests(pa.array(range(200)), names, vectors, searched_vectors(vectors, count, metric))
    return Evaluation(requests, pa.array([f"i{item}" for item in range(5000)])), Flat(items, metric)


def hits(asked: Evaluation, flat: Flat, across: bool) -> list[int]:
    return [int(place) for found in asked.search(flat, K, 64, across) for place in np.flatnonzero(found.hits)]


@pytest.mark.parametrize("metric", ["IP", "L2"])
@pytest.mark.parametrize("interests", [1, 3])
@pytest.mark.parametrize("across", [False, True])
def test_the_hits_are_the_same(metric: Metric, interests: int, across: bool) -> None:
    asked, flat = evaluation(metric, interests)
    fewer = asked.within_reach(flat, K)
    expected = hits(asked, flat, across)
    assert len(expected) > 5
    assert hits(fewer, flat, across) == expected
    assert fewer.requests.used.sum() < 0.8 * asked.requests.used.sum()


def test_an_id_with_several_vectors_is_searched_for_by_all() -> None:
    asked, flat = evaluation("IP", 1)
    twice = Evaluation(asked.requests, pa.array([f"i{item % 4000}" for item in range(5000)]))
    assert twice.within_reach(flat, K) is twice


def test_requests_without_right_items_are_not_searched_for() -> None:
    asked, flat = evaluation("IP", 1)
    none = replace(asked.requests, truth=pa.array([[]] * 200, pa.list_(pa.string())))
    assert not Evaluation(none, asked.item_ids).within_reach(flat, K).requests.used.any()
