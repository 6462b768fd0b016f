"""The content of the columns of the platform's tables, with their units: shown in Dagster's catalogue.

A profile describes columns of its own with `description`.
"""

import re
from collections.abc import Mapping

from recsys_assets.datasets import names

_BEFORE = "events before the row"
# Names, or patterns of whole names, with what the first group in braces stands for.
WORDS: Mapping[str, str] = {
    # ids and moments
    "user_id": "the user's id",
    "item_id": "the item's id",
    "timestamp": "the moment of the event (UTC)",
    "bizdate": "the business date that the row belongs to",
    "seq": "the row's place in its day's landing files; it breaks ties in time",
    names.FIRST_SEEN: "the moment of the first event (UTC)",
    names.LAST_SEEN: "the moment of the newest event (UTC)",
    names.EVENTS: "the number of events up to the bizdate",
    names.ANONYMOUS: "whether the user is a visit without a user",
    # labels and splits
    "label": "1 for a positive, 0 for a negative",
    "part": "what the row is used for: train, validation, test or online",
    names.LANDED_PART: "the part whose file the row landed in",
    "position": "the place among the user's events, from 0",
    "is_positive": "1 if the selection of the template makes the pair a positive",
    "oracle": "the probability of a positive that a generator drew the label from; empty in real data",
    "true_probability": "the probability of a positive that the generator drew the label from",
    names.KIND: "the kind of event",
    names.WEIGHT: "what an event of this kind is worth",
    names.RECALL_LABEL: "1 if the event is a positive for recall",
    # running statistics of history.sql
    "base_rate": f"the share of positives of all {_BEFORE}",
    r"(user|item)_n": f"the {{0}}'s {_BEFORE}",
    r"(user|item)_positives": f"the {{0}}'s positive {_BEFORE}",
    r"(user|item)_count": f"the natural logarithm of 1 + the {{0}}'s {_BEFORE}",
    r"(user|item)_positive_rate": f"the share of positives of the {{0}}'s {_BEFORE}, shrunk towards that of all events",
    r"(user|item)_positive_rate_(\d+)": f"the share of positives of the {{0}}'s newest {{1}} {_BEFORE}",
    r"user_bias": f"the mean of label - rate of the item over the user's {_BEFORE}, shrunk towards 0",
    r"item_bias": f"the mean of label - rate of the user over the item's {_BEFORE}, shrunk towards 0",
    r"user_bias_(\d+)": f"the mean of label - rate of the item over the user's newest {{0}} {_BEFORE}",
    r"item_bias_(\d+)": f"the mean of label - rate of the user over the item's newest {{0}} {_BEFORE}",
    r"user_item_rate": f"the mean of the items' shares of positives over the user's {_BEFORE}",
    r"user_item_rate_(\d+)": f"the mean of the items' shares of positives over the user's newest {{0}} {_BEFORE}",
    r"item_user_rate": f"the mean of the users' shares of positives over the item's {_BEFORE}",
    r"user_item_count": f"the mean of item_count over the user's {_BEFORE}",
    r"item_user_count": f"the mean of user_count over the item's {_BEFORE}",
    r"(user|item)_rating_mean": f"the mean of the ratings of the {{0}}'s {_BEFORE}",
    r"(user|item)_rating_std": f"the standard deviation of the ratings of the {{0}}'s {_BEFORE}",
    r"recent_term_imp": f"for each term, how many of the user's newest {_BEFORE} have it",
    r"recent_term_clk": f"for each term, how many positives of the user's newest {_BEFORE} have it",
    r"user_term_imp": f"for each term, how many of the user's {_BEFORE} have it",
    r"user_term_clk": f"for each term, how many positives of the user's {_BEFORE} have it",
    r"user_term_bias": f"for each term, the sum of label - rate of the item over the user's {_BEFORE} that have it",
    # pairs of a user and an item
    names.AFFINITY: "the preference that the factor model predicts, for ratings and for labels",
    names.NEARBY: "the user's opinion of the recent items that are nearest to the item, for three sharpnesses: the "
    "share of liked ones, then the mean of value - bias",
    names.LIKED: f"the items of the user's newest positive {_BEFORE}, newest first",
    names.DISLIKED: f"the items of the user's newest negative {_BEFORE}, newest first",
    names.RECENT_ITEMS: "the items of the user's newest events, newest first",
    names.RECENT_VALUES: "the values (ratings) of the user's newest events, newest first",
    names.RECENT_LABELS: "the labels of the user's newest events, newest first",
    names.USER_FACTORS: "the user's factors, for each kind of values and each fold",
    names.ITEM_FACTORS: "the item's factors, for each kind of values and each fold",
    names.DRAWN: "whether the row is a drawn negative",
    names.ITEM_EVENTS: f"the item's {_BEFORE}",
    names.USER_EVENTS: f"the user's {_BEFORE}",
    names.DRAW_LOG_RATE: "the natural logarithm of how often a pair is drawn for each positive of its user",
    names.DRAW_LOG_LEFT: "the natural logarithm of the share of draws that the user's seen items leave",
    names.SHOWN_POSITION: "the place at which the item was shown, from 1",
    # recall
    names.VECTOR: "the vector; the inner product of a user's and an item's is the score",
    "neighbours": "the nearest items with their scores, best first",
    names.TERMS: "the user's best terms with their scores, best first",
    "term": "the term",
    "items": "items with their scores, best first",
    "feature": "the feature",
    "boundaries": "the limits between the feature's bins, ascending",
    # evaluation
    "score": "the model's probability of a positive",
    "id": "the user whose list is judged",
    "topk_ids": "the list's items, best first",
    "topk_dists": "the scores of the list's items",
    "hit_ids": "the items of the list that are right",
    "hitrate": "the share of the right items that the list has",
    "probability": "the ranking model's probability of a positive",
    names.QUERY_ID: "the key that services look rows up by",
}
# Columns that each asset makes itself: one of the same name in a table that it reads holds something else.
RESULTS = frozenset(
    {
        *("score", "probability", "neighbours", "items", names.TERMS, names.VECTOR),
        *("id", "topk_ids", "topk_dists", "hit_ids", "hitrate"),
    }
)
_PATTERNS = [(re.compile(name), words) for name, words in WORDS.items()]


def column_words(name: str) -> str:
    """The content of a column of this name; empty if it is not one of the platform's."""
    for pattern, words in _PATTERNS:
        if found := pattern.fullmatch(name):
            return words.format(*found.groups())
    return ""
