"""Qualities of lists besides their hits: hits that popularity does not explain, diversity and novelty.

* debiased recall and NDCG: a right answer weighs 1 / n, where n is the number of the item's earlier events, and a
  query's weights add up to 1: self-normalised inverse propensities, with popularity as the propensity (Yang et al.
  2018, "Unbiased offline recommender evaluation"). Listing what is popular anyway earns little.
* diversity: 1 minus the mean cosine between two items of a list (intra-list similarity, Ziegler et al. 2005). An
  item's vector is the set of its users, so that it exists in every log: items are alike if the same users touched both.
* novelty: the mean self-information of the listed items in bits, -log2 of the share of users who touched the item
  (Zhou et al. 2010).
"""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array

from recsys_assets.arrays import Doubles, Ints, distinct, offsets, place_in_group
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import hits, truth_hits

# Diversity is measured on at most so many lists and users, always the same ones.
_LISTS, _USERS = 1000, 1 << 16
_SEED = 1


def qualities(items: Ints, queries: Queries, known: Interactions, k: int) -> dict[str, float]:
    """`debiased_recall@k`, `debiased_ndcg@k`, `diversity@k` and `novelty@k` of lists (N, K), cut at k.

    Args:
        items: (N, K) numbers of items, padded with -1.
        queries: what was asked; at least one query.
        known: the events before the queries' part, which say how popular items are and who touched them.
        k: the cutoff.
    """
    listed, weights = items[:, :k], 1 / np.maximum(known.item_counts, 1)
    found: Mapping[str, float] = {
        "debiased_recall": float(_weighted_recall(listed, queries, weights).mean()),
        "debiased_ndcg": float(_weighted_ndcg(listed, queries, weights).mean()),
        "diversity": diversity(listed, known),
        "novelty": novelty(listed, known),
    }
    return {f"{name}@{k}": value for name, value in found.items()}


def _weighted_recall(items: Ints, queries: Queries, weights: Doubles) -> Doubles:
    """(N,) the share of each query's right answers that is listed, by weight."""
    truth, starts = weights[queries.truth], queries.truth_starts[:-1]
    found: Doubles = np.add.reduceat(truth * truth_hits(items, queries), starts) / np.add.reduceat(truth, starts)
    return found


def _weighted_ndcg(items: Ints, queries: Queries, weights: Doubles) -> Doubles:
    """(N,) the NDCG of each query's list with the weights as gains; the ideal list has the heaviest answers first."""
    k = items.shape[1]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = (hits(items, queries) * weights[items] * discounts).sum(axis=1)
    row = np.repeat(np.arange(len(queries)), queries.truth_sizes)
    order = np.lexsort((-weights[queries.truth], row))
    place = place_in_group(row[order])
    kept = place < k
    ideal = np.bincount(row[order][kept], weights[queries.truth][order][kept] * discounts[place[kept]], len(queries))
    found: Doubles = gains / ideal
    return found


def diversity(items: Ints, known: Interactions) -> float:
    """1 minus the mean cosine of two items of a list; lists with fewer than two known items are left out."""
    items = items[_draw(len(items), _LISTS)]
    vectors = _item_vectors(known)
    listed = items >= 0
    listed[listed] = np.diff(vectors.indptr)[items[listed]] > 0
    sizes = listed.sum(axis=1)
    chosen = csr_array((np.ones(sizes.sum()), items[listed], offsets(sizes)), (len(items), vectors.shape[0]))
    sums = chosen @ vectors
    sums.data **= 2  # `power` sorts the entries first, which takes as long as the product
    squares = sums.sum(axis=1)  # products of items with themselves and in pairs
    pairs = sizes * (sizes - 1)
    found = pairs > 0
    return float(np.mean(1 - (squares - sizes)[found] / pairs[found])) if found.any() else 0.0


def _item_vectors(known: Interactions) -> csr_array:
    """(I, U) the users of each item as a vector of length 1, and zeros for an item without any."""
    drawn = np.zeros(len(known.user_ids), bool)
    drawn[_draw(len(drawn), _USERS)] = True
    rows = known.where(drawn[known.users])
    touched = csr_array((np.ones(len(rows)), (rows.items, rows.users)), (len(known.item_ids), len(drawn)))
    sizes = np.diff(touched.indptr)  # repeats of a pair are one entry
    touched.data[:] = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    return touched


def _draw(count: int, most: int) -> Ints:
    """`most` of the numbers below `count`, or all."""
    found: Ints = np.random.default_rng(_SEED).permutation(count)[:most]
    return found


def novelty(items: Ints, known: Interactions) -> float:
    """The mean self-information of the listed items in bits; an item that nobody touched counts as touched by one."""
    pairs = distinct(known.users * len(known.item_ids) + known.items) % len(known.item_ids)
    users = np.bincount(pairs, minlength=len(known.item_ids))
    bits = -np.log2(np.maximum(users, 1) / max(len(distinct(known.users)), 1))
    return float(bits[items[items >= 0]].mean()) if (items >= 0).any() else 0.0
