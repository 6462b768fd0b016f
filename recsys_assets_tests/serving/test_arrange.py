"""The arrangement of candidates holds its rules on random pools, whatever these are."""

import math
from typing import Any

import numpy as np
import pytest

from recsys_assets.serving.scenes.arrange import Pool, Window, arrange


def random_pool(rng: np.random.Generator) -> tuple[Pool, int]:
    """A pool of up to 60 candidates of up to 6 values, with up to four pinned ones, and the size of the list."""
    count, size = int(rng.integers(1, 60)), int(rng.integers(1, 40))
    has = rng.random((count, int(rng.integers(0, 6)))) < 0.3
    places = rng.choice(size, min(4, size, count), replace=False)
    pinned = dict(zip(places.tolist(), rng.choice(count, len(places), replace=False).tolist(), strict=True))
    free = rng.random(count) < 0.9
    free[list(pinned.values())] = False
    alike = rng.random((count, count)) if rng.random() < 0.5 else None
    rule = Window(has, int(rng.integers(1, 3)), int(rng.integers(2, 12)))
    new, share = rng.random(count) < 0.3, float(rng.random())
    relevance = np.sort(rng.random(count))[::-1]
    return Pool(relevance, free, pinned, [rule], alike, float(rng.random()), new, share), size


def test_every_rule_holds_on_random_pools() -> None:
    for seed in range(200):
        check(*random_pool(np.random.default_rng(seed)))


def check(pool: Pool, size: int) -> None:
    """Arrange the pool, and look at every rule."""
    listed = arrange(pool, size)
    assert len(listed) == len(set(listed)) <= size
    pins = set(pool.pinned.values())
    assert all(pool.free[each] for each in set(listed) - pins)
    for place, each in pool.pinned.items():
        assert listed[place : place + 1] in ([each], [])
    (rule,) = pool.windows
    for first in range(len(listed)):
        window = listed[first : first + rule.places]
        held, of_pins = rule.has[window].sum(axis=0), rule.has[[each for each in window if each in pins]].sum(axis=0)
        assert (held <= np.maximum(rule.count, of_pins)).all()
    assert pool.new is not None
    counts = np.cumsum(pool.new[listed])
    for place, each in enumerate(listed):
        if not pool.new[each] and each not in pins and counts[place] < math.floor(pool.share * (place + 1)):
            left = [other for other in np.flatnonzero(pool.free & pool.new).tolist() if other not in listed[:place]]
            assert all(breaks(pool, listed, place, other) for other in left)  # no new one would have fitted
    if len(listed) < size:
        assert all(
            breaks(pool, listed, len(listed), each) for each in np.flatnonzero(pool.free).tolist() if each not in listed
        )


def breaks(pool: Pool, listed: list[int], place: int, other: int) -> bool:
    """Whether a candidate at a place would be one too many in some window, those of later pinned ones included."""
    (rule,) = pool.windows
    taken = dict(enumerate(listed[:place])) | {at: each for at, each in pool.pinned.items() if at > place}
    taken[place] = other
    for first in range(place - rule.places + 1, place + 1):
        there = [taken[at] for at in range(first, first + rule.places) if at in taken]
        if ((rule.has[there].sum(axis=0) > rule.count) & rule.has[other]).any():
            return True
    return False


def pool(**given: Any) -> Pool:
    """Five free candidates with the relevance 1, 0.75, 0.5, 0.25 and 0."""
    return Pool(np.linspace(1, 0, 5), np.ones(5, bool), **given)


def test_without_rules_candidates_keep_their_order() -> None:
    assert arrange(pool(), 3) == [0, 1, 2]
    assert arrange(pool(), 9) == [0, 1, 2, 3, 4]
    assert arrange(Pool(np.zeros(0), np.zeros(0, bool)), 3) == []


def test_marginal_relevance_puts_the_unlike_before_the_next_best() -> None:
    twins = np.eye(5)
    twins[:3, :3] = 1  # the first three are the same
    # With lambda 0.5, place 2: candidate 1 has 0.375 - 0.5, candidate 3 has 0.125; then 4 has 0 and 1 still -0.125.
    assert arrange(pool(similarity=twins, weight=0.5), 5) == [0, 3, 4, 1, 2]
    assert arrange(pool(similarity=twins, weight=1.0), 5) == [0, 1, 2, 3, 4]


def test_at_most_counts_pinned_ones_ahead() -> None:
    has = np.array([[1], [1], [0], [0], [0]], bool)
    free = np.array([False, True, True, True, True])
    one_of_two = Window(has, count=1, places=2)
    assert arrange(Pool(np.linspace(1, 0, 5), free, {1: 0}, [one_of_two]), 4) == [2, 0, 3, 1]


@pytest.mark.parametrize(("share", "expected"), [(0.0, [0, 1, 2, 3]), (0.25, [0, 1, 2, 4]), (0.5, [0, 4, 1, 2])])
def test_new_items_have_their_share_of_every_beginning_as_far_as_there_are_any(
    share: float, expected: list[int]
) -> None:
    assert arrange(pool(new=np.arange(5) == 4, share=share), 4) == expected
