"""Term recall: the terms (genres, tags) that a user liked recently, and the best items of each term.

The idea is recsys_pipeline's, where genres with 3 or more clicks among the last 11 rows filter a search, which
leaves 18.6 % of the users without a term. Here every term is scored, on both sides:

    user's score of t = sum over the liked rows of the window of decay ** age * c(item, t), / sqrt(share of t)
    item's score in t = c(item, t) * sqrt(positives of the item)

c(item, t) is 1 / sqrt(n) for each of the n terms of the item, else 0; age is the number of rows since then; the share
of t is the share of events whose item carries t; sqrt(positives) is the geometric mean of quality (positive rate) and
popularity (events). An item's score in a list is the sum, over the user's terms, of the product of the two scores.

Recall@50 on MovieLens 1M's validation rows, without seen items, is 0.274 (popularity: 0.187). Variants: with equal
weights in the window 0.267, without the share 0.263, with c = 1 0.251, with `positive rate * log(events)` for the
items 0.233, with the whole history as the window and equal weights 0.221.
"""

from collections.abc import Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array, diags_array

from recsys_assets.arrays import Doubles, Ids, Ints, Scores, find, spread
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.retrieval import lists
from recsys_assets.retrieval.choice import FEWEST_QUERIES, Chosen, K, Settings, climb, recalls, validation_queries
from recsys_assets.retrieval.entries import Entries
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets.retrieval.order import Order
from recsys_assets.retrieval.row_sums import summed_scores
from recsys_assets.retrieval.scored_lists import strongest

WHOLE_HISTORY = 10_000  # rows: a window that holds any history
LEVELS = ("recent", "history", "everyone")


@dataclass(frozen=True)
class Taste:
    """How a user's terms are found: in the newest `window` rows, each with `decay` times the weight of the next.

    A user has at most `max_terms` terms, the highest scores first (the tie-break is the term).
    """

    window: int = 10
    decay: float = 0.8
    max_terms: int = 8


@dataclass(frozen=True)
class ItemTerms:
    """The terms that items carry.

    Attributes:
        terms: (T,) in ascending order.
        weights: (I, T) 1 / sqrt(n) for the n terms of each item.
    """

    terms: Ids
    weights: csr_array


STEPS: dict[str, tuple[Any, ...]] = {"window": (30, WHOLE_HISTORY), "decay": (0.95, 1.0)}


def choose_taste(
    interactions: Interactions, carried: ItemTerms, start: Taste, fixed: Set[str], order: Order, filter_seen: bool
) -> tuple[Taste, Chosen]:
    """The taste to build with, chosen on validation rows (see `choice.py`), and what was tried.

    Without a real order all rows count alike. The settings named in `fixed` stay.
    """
    if not order.is_real:
        unordered: dict[str, Any] = {"window": WHOLE_HISTORY, "decay": 1.0}
        return replace(start, **{name: value for name, value in unordered.items() if name not in fixed}), Chosen()
    asked = validation_queries(interactions, filter_seen)
    free = {name: values for name, values in STEPS.items() if name not in fixed}
    if len(asked) < FEWEST_QUERIES or not free:
        return start, Chosen()

    def judge(settings: Settings) -> Doubles:
        taste = replace(start, **settings)
        return recalls(recommend(interactions, asked, "validation", carried, taste, K, filter_seen).items, asked)

    chosen = climb(judge, {name: getattr(start, name) for name in free}, free)
    return replace(start, **chosen.settings), chosen


def item_terms(items: pa.Table, column: str, item_ids: Ids) -> ItemTerms:
    """The terms of each of `item_ids`, from a list column.

    Raises:
        CannotBeBuilt: no item has a term.
    """
    found = items[column].combine_chunks()
    term = pc.list_flatten(found)
    item = find(item_ids, items["item_id"].to_numpy())[pc.list_parent_indices(found).to_numpy()]
    kept = (item >= 0) & pc.fill_null(pc.not_equal(term, ""), False).to_numpy(zero_copy_only=False)
    encoded = term.filter(pa.array(kept)).dictionary_encode()
    terms = encoded.dictionary.to_numpy(zero_copy_only=False)
    if not len(terms):
        raise CannotBeBuilt(f"no item with an event has a term in the column {column}")
    order = np.argsort(terms)
    shape, places = (len(item_ids), len(terms)), np.argsort(order)[encoded.indices.to_numpy()]
    holds = csr_array((np.ones(len(places)), (item[kept], places)), shape=shape)
    holds.data[:] = 1.0  # a term named twice is carried once
    count = np.maximum(holds.sum(axis=1), 1)
    return ItemTerms(terms[order], (diags_array(1 / np.sqrt(count)) @ holds).tocsr())


def item_scores(known: Interactions, carried: ItemTerms) -> csr_array:
    """(I, T) each item's score in each of its terms; an item without a positive has none."""
    positives = np.bincount(known.items, known.gains, minlength=len(known.item_ids))
    scores = (diags_array(np.sqrt(positives)) @ carried.weights).tocsr().astype(np.float32)
    scores.eliminate_zeros()
    return scores


@dataclass(frozen=True)
class Liked:
    """How much terms were liked in histories: (M,) the number of the history, the term, and the score."""

    row: Ints
    column: Ints
    score: Doubles

    @classmethod
    def together(cls, *parts: "Liked") -> "Liked":
        """The entries of all parts."""
        columns = zip(*((part.row, part.column, part.score) for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True)
class Tastes:
    """Finds the terms of any history.

    Attributes:
        carried: the terms of the items.
        rule: how a history is read.
        share: (T,) the share of events whose item carries the term.
        everyone: the liked terms of all users together.
    """

    carried: ItemTerms
    rule: Taste
    share: Doubles
    everyone: Liked

    @classmethod
    def learn(cls, known: Interactions, carried: ItemTerms, rule: Taste) -> "Tastes":
        """Shares and the terms of everyone, from the events of `known`."""
        share = np.maximum((carried.weights > 0).T @ known.item_counts, 1) / len(known)
        return cls(carried, rule, share, _liked_terms(known, carried, np.array([0]), np.array([len(known)]), 1.0))

    def scores(self, interactions: Interactions, starts: Ints, ends: Ints) -> tuple[csr_array, npt.NDArray[np.int8]]:
        """Terms of N histories, the events `start:end` of `interactions`, and where they come from.

        Returns:
            (N, T) scores, each row's highest first, and (N,) indices in `LEVELS`: a history without a liked term in its
            window gets the terms of all its rows, with equal weights; one without any liked term, those of everyone.
        """
        rule = self.rule
        found = _liked_terms(interactions, self.carried, np.maximum(starts, ends - rule.window), ends, rule.decay)
        levels = (np.bincount(found.row, minlength=len(starts)) == 0).astype(np.int8)
        if len(missing := np.flatnonzero(levels)):
            older = _liked_terms(interactions, self.carried, starts[missing], ends[missing], 1.0)
            levels[rest := np.setdiff1d(missing, missing[older.row])] = 2
            places = np.tile(self.everyone.column, len(rest)), np.tile(self.everyone.score, len(rest))
            everyone = Liked(np.repeat(rest, len(self.everyone.row)), *places)
            found = Liked.together(found, Liked(missing[older.row], older.column, older.score), everyone)
        scores, shape = found.score * (1 / np.sqrt(self.share))[found.column], (len(starts), len(self.share))
        return strongest(found.row, found.column, scores, shape, rule.max_terms), levels


def match(
    users: csr_array, inverted: csr_array, interactions: Interactions, queries: Queries, k: int, filter_seen: bool
) -> Lists:
    """The best items that share a term with each query: the terms of queries (N, T), the items of terms (T, I)."""

    def score(block: slice) -> Scores | Entries:
        row, place = spread(users.indptr[:-1][block], users.indptr[1:][block])
        count = len(queries.ends[block])
        return summed_scores(inverted, row, users.indices[place], users.data[place], count)

    return lists.recommend(score, interactions, queries, k, filter_seen)


def recommend(
    interactions: Interactions, queries: Queries, part: str, carried: ItemTerms, taste: Taste, k: int, filter_seen: bool
) -> Lists:
    """The lists of queries of a part, learned from the parts before it."""
    known = interactions.before(part)
    users, _ = Tastes.learn(known, carried, taste).scores(interactions, queries.starts, queries.ends)
    return match(users, item_scores(known, carried).T.tocsr(), interactions, queries, k, filter_seen)


def _liked_terms(interactions: Interactions, carried: ItemTerms, starts: Ints, ends: Ints, decay: float) -> Liked:
    """How much each term was liked in N slices of the events; older events weigh less."""
    row, event = spread(starts, ends)
    gains = interactions.labels[event] * interactions.weights[event]
    liked = gains != 0
    row, event, gains = row[liked], event[liked], gains[liked]
    weight = gains * decay ** (ends[row] - 1 - event)
    items, of = np.unique(row * len(interactions.item_ids) + interactions.items[event], return_inverse=True)
    weights = np.zeros(len(items))
    np.add.at(weights, of, weight)
    row, item = np.divmod(items, len(interactions.item_ids))
    begin, end = carried.weights.indptr[item], carried.weights.indptr[item + 1]
    which, place = spread(begin, end)
    terms, of = np.unique(row[which] * carried.weights.shape[1] + carried.weights.indices[place], return_inverse=True)
    scores = np.zeros(len(terms))
    np.add.at(scores, of, weights[which] * carried.weights.data[place])
    return Liked(*np.divmod(terms, carried.weights.shape[1]), scores)
