"""ItemCF: two items are similar if the same users touched both, and more so if one came soon after the other.

    s(i, j) = sum over users u of both: w_u^2 * r_ui * r_uj * near(u, i, j) / (d_i * d_j)^popularity

with w_u = |I_u|^-activity, r_ui the highest weight of u's events with i (1 in a log without kinds of events), and d_i
the sum of (w_u * r_ui)^2 over the users of i. With window 0 `near` is 1, which is
MetaSpore's formula, a weighted cosine. With a window, it is distance^-decay for an item j at most `window` places from
i in the user's history, times `backward` if j came before i, and 0 for items further apart.

Recall@20 on MovieLens 1M's validation rows, with 50 triggers and without seen items, is 0.3145. Variants: MetaSpore's
formula with lists of the same length 0.2593; both directions alike (`backward` 1) 0.2935; all distances alike (`decay`
0) 0.2842; learned from positives only 0.3114; lists of 100 0.3004, of 400 0.3150. Settings for predicting the very next
item from one trigger are in `benchmarks/recall_ml1m.py`.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from recsys_assets.arrays import Doubles, Floats, Ints, offsets
from recsys_assets.i2i.baskets import Baskets, baskets
from recsys_assets.i2i.gram import gram, is_dense_enough
from recsys_assets.i2i.neighbours import Neighbours, best_by_block, best_of_dense, keep
from recsys_assets.i2i.triggers import OWN_STEPS, Triggers
from recsys_assets.parallel import threads
from recsys_assets.retrieval.interactions import Interactions
from recsys_assets.retrieval.lists import Lists

# Gives pairs of matrices (B, K) and (K, I) for B items; their products add up to the sum over users in s(i, j).
Products = Callable[[Ints], Iterator[tuple[csr_array, csr_array]]]


class ItemCF(Triggers):
    """Settings of ItemCF."""

    activity: float = Field(default=0.25, ge=0, description="damps active users: w_u = |I_u|^-activity")
    popularity: float = Field(default=0.5, ge=0, description="damps popular items; 0.5 is a cosine")
    window: int = Field(default=50, ge=0, description="how far apart two items may be in a history; 0: any distance")
    decay: float = Field(default=0.5, ge=0, description="with a window, a pair counts distance^-decay")
    backward: float = Field(default=0.3, ge=0, description="with a window, weight of a neighbour that came before")
    min_support: int = Field(default=1, ge=1, description="common users that two items must have")
    max_history: int = Field(default=3000, ge=2, description="how many of a user's newest items count")
    top_n: int = Field(default=200, ge=1, description="neighbours per item")
    memory: int = Field(default=2 << 30, ge=1 << 20, description="bytes of working memory")


SPACE = {
    "num_experiment": 30,
    "hyper_param": {
        "activity": {"low": 0.0, "high": 1.0},
        "popularity": {"low": 0.0, "high": 1.0},
        "window": {"low": 5, "high": 200, "log": True},
        "decay": {"low": 0.0, "high": 2.0},
        "backward": {"low": 0.0, "high": 1.0},
    },
}


STEPS = {
    "own": OWN_STEPS,
    "window": (0,),
    "recency": (0.5, 0.0),
    "popularity": (0.3, 0.15),
    "backward": (1.0,),
    "activity": (0.5,),
}


def itemcf(interactions: Interactions, settings: ItemCF) -> Neighbours:
    """The most similar items of each item; exact, except for histories that are cut.

    Without a window, a matrix that fits into memory and is more than 1 % full is multiplied as a dense one.
    """
    events = baskets(interactions, settings.max_history)
    weights = np.maximum(events.user_sizes, 1) ** (-2 * settings.activity)
    mass = np.bincount(
        events.matrix.indices, np.repeat(weights, events.user_sizes) * events.worth**2, events.matrix.shape[1]
    )
    scales = np.where(mass > 0, mass, 1) ** -settings.popularity
    users, items = events.matrix.shape
    if settings.window == 0 and is_dense_enough(events.matrix, 3 * items**2 + users * items, settings.memory):
        lists = _dense_lists(events, weights, scales, settings)
    else:
        lists = _sparse_lists(events, weights, scales, settings)
    return Neighbours(lists, events.cuts)


def _dense_lists(events: Baskets, weights: Doubles, scales: Doubles, settings: ItemCF) -> Lists:
    """The best of the whole matrix of scores (I, I), computed at once; `scales` are d^-popularity."""
    scaled = events.matrix.copy()
    scaled.data = (np.repeat(np.sqrt(weights), events.user_sizes) * scales[scaled.indices] * events.worth).astype(
        np.float32
    )
    scores = gram(scaled)
    if settings.min_support > 1:
        scores[gram(events.matrix) < settings.min_support] = 0
    return best_of_dense(scores, settings.top_n)


def _sparse_lists(events: Baskets, weights: Doubles, scales: Doubles, settings: ItemCF) -> Lists:
    """Scores block by block, only of pairs that some user has."""
    products, pairs = (_window_products if settings.window else _history_products)(events, weights, settings)

    def rows(items: Ints) -> csr_array:
        scores = reduce(add, (left @ right for left, right in products(items)))
        row = np.repeat(np.arange(len(items)), np.diff(scores.indptr))
        kept = scores.indices != items[row]
        if settings.min_support > 1:
            support = reduce(add, (_ones(left) @ _ones(right) for left, right in products(items)))
            kept &= support.data >= settings.min_support  # the support has the same pairs in the same order
        scores.data *= (scales[items][row] * scales[scores.indices]).astype(np.float32)
        return keep(scores, kept)

    return best_by_block(rows, 40 * pairs, settings.memory, settings.top_n)


def _ones(matrix: csr_array) -> csr_array:
    """The matrix with 1 for each of its entries."""
    return csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), matrix.shape)


def _history_products(events: Baskets, weights: Doubles, _: ItemCF) -> tuple[Products, Ints]:
    """Pair any two items of a history: the matrices are an item's users, and their histories."""
    histories = events.matrix.copy()
    histories.data = (np.repeat(weights, events.user_sizes) * events.worth).astype(np.float32)
    users = csr_array((events.worth, events.matrix.indices, events.matrix.indptr), events.matrix.shape).T.tocsr()
    pairs = np.minimum(_ones(users) @ events.user_sizes, users.shape[0]).astype(np.int64)
    return lambda items: iter([(users[items], histories)]), pairs


def _window_products(events: Baskets, weights: Doubles, settings: ItemCF) -> tuple[Products, Ints]:
    """Pair items at most `window` places apart: the matrices are an item's events, and the items near them."""
    after, before = settings.window, settings.window if settings.backward else 0
    counts = _counts_by_step(settings)
    light, bounds, listed = weights.astype(np.float32), events.matrix.indptr, events.matrix.indices
    by_item = events.columns().T  # (I, U), where the data are places in `listed`
    most = max(1, settings.memory // (80 * threads() * len(counts)))

    def products(items: Ints) -> Iterator[tuple[csr_array, csr_array]]:
        taken = by_item[items]
        row = np.repeat(np.arange(len(items)), np.diff(taken.indptr))
        for first in range(0, max(1, taken.nnz), most):
            user, place = (each[first : first + most] for each in (taken.indices, taken.data))
            low, high = np.maximum(place - before, bounds[user]), np.minimum(place + after + 1, bounds[user + 1])
            ends = offsets(high - low)
            near = np.arange(ends[-1]) + np.repeat(low - ends[:-1], high - low)
            data = counts[near - np.repeat(place - after, high - low)] * np.repeat(light[user], high - low)
            own = (events.worth[place], (row[first : first + most], np.arange(len(user))))
            items_near = csr_array((data * events.worth[near], listed[near], ends), (len(user), by_item.shape[0]))
            yield csr_array(own, shape=(len(items), len(user))), items_near

    return products, events.item_sizes * len(counts)


def _counts_by_step(settings: ItemCF) -> Floats:
    """(2 * window + 1,) what a neighbour at each distance counts, from the farthest before.

    The item itself counts 1: its entry must not be 0, as scipy leaves zeros out and `support` has the same pairs.
    """
    steps = np.arange(-settings.window, settings.window + 1)
    counts = np.maximum(np.abs(steps), 1) ** -settings.decay * np.where(steps < 0, settings.backward, 1)
    return np.asarray(counts, np.float32)
