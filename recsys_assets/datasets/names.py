"""Names of columns that the platform makes, which profiles may not use, and hints for a name that does not exist."""

import difflib
from collections.abc import Iterable

# Ingest (`ingest.py`), splits (`splits.py`) and samples (`features/history.py`) put these next to a profile's columns.
INGESTED = ("seq", "day", "file", "row", "reason")
SPLIT = ("label", "position", "part", "oracle")
LANDED_PART = "landed_part"  # of ingested events: the part whose file they landed in (`landed_parts.py`)
# In a profile with kinds of events (`event_kinds.py`): a row's kind, what it is worth, and its label for recall.
KIND, WEIGHT, RECALL_LABEL = "kind_name", "kind_weight", "recall_label"
OF_KINDS = (KIND, WEIGHT, RECALL_LABEL)
# In `recall_samples` of a profile with sessions: whether the user is an anonymous session (`sessions.py`).
ANONYMOUS = "anonymous"
# Columns of users and items that are made from the log alone (`log_entities.py`).
FIRST_SEEN, LAST_SEEN, EVENTS = "first_seen", "last_seen", "events"

# Running statistics, from `features/sql/history.sql`.
USER_STATISTICS = (
    "user_count",
    "user_positive_rate",
    "user_bias",
    "user_positive_rate_3",
    "user_positive_rate_10",
    "user_positive_rate_30",
    "user_bias_10",
    "user_bias_30",
    "user_item_rate",
    "user_item_rate_10",
    "user_item_count",
    "user_rating_mean",
    "user_rating_std",
)
ITEM_STATISTICS = (
    "item_count",
    "item_positive_rate",
    "item_bias",
    "item_positive_rate_50",
    "item_bias_100",
    "item_user_rate",
    "item_user_count",
    "item_rating_mean",
    "item_rating_std",
)
RATING_STATISTICS = ("user_rating_mean", "user_rating_std", "item_rating_mean", "item_rating_std")
TERM_STATISTICS = ("recent_term_imp", "recent_term_clk", "user_term_imp", "user_term_clk", "user_term_bias")

# User-item features, and the columns that they are served from (`features/pair_features.py`).
AFFINITY, NEARBY = "user_item_affinity", "user_item_nearby"
LIKED, DISLIKED = "recent_liked", "recent_disliked"
RECENT_ITEMS, RECENT_VALUES, RECENT_LABELS = "recent_items", "recent_values", "recent_labels"
USER_FACTORS, ITEM_FACTORS = "user_factors", "item_factors"
OF_PAIRS = (AFFINITY, NEARBY, LIKED, DISLIKED, RECENT_ITEMS, RECENT_VALUES, RECENT_LABELS, USER_FACTORS, ITEM_FACTORS)

# Rows with drawn negatives (`features/draws.py`): whether a row is one, the item's events before the moment, the log of
# how many times a pair is drawn for each positive of its user, and the log of the share of draws that a user's seen
# items leave.
DRAWN, ITEM_EVENTS, DRAW_LOG_RATE, DRAW_LOG_LEFT = "drawn", "item_events", "draw_log_rate", "draw_log_left"
OF_DRAWS = (DRAWN, ITEM_EVENTS, DRAW_LOG_RATE, DRAW_LOG_LEFT)

# Rows of impressions (`impressions.py`): where an item was shown, and the user's offline events before the moment.
SHOWN_POSITION, USER_EVENTS = "shown_position", "user_events"
# Other columns of those rows, and of the table `history`, next to the features of the moment (`moments.py`).
OF_HISTORY = (
    *(SHOWN_POSITION, USER_EVENTS, "until", "touch"),
    *("base_rate", "user_n", "user_positives", "item_n", "item_positives"),
)

# The code version of the assets with these columns: raise it with every change of how one is computed.
FEATURES_VERSION = "4"

# Fields of published rows (`stores/collections.py`) and of documents (`stores/mongo/documents.py`).
QUERY_ID, TERMS, VECTOR, SEEN_ITEMS = "queryid", "terms", "vector", "seen_items"
ID, BIZDATE = "_id", "bizdate"

# Tensors of the ONNX files next to the features, which are their inputs (`training/onnx_export.py` and its like).
HISTORY = "history"  # the input of a user tower with the items that were touched
TENSORS = ("indices", "numeric", "columns", "score", HISTORY, VECTOR)

# Names that no column may have: in `interactions`, among the inputs of models, in `users` and `items`.
OF_EVENTS = frozenset({*INGESTED, *SPLIT, *OF_KINDS, LANDED_PART})
OF_MODELS = frozenset(TENSORS)
OF_ENTITIES = frozenset(
    {
        *OF_EVENTS,
        *OF_MODELS,
        *USER_STATISTICS,
        *ITEM_STATISTICS,
        *TERM_STATISTICS,
        *OF_PAIRS,
        *OF_DRAWS,
        QUERY_ID,
        TERMS,
        VECTOR,
        SEEN_ITEMS,
        ID,
        BIZDATE,
    }
)


def suggest(name: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6, mark: str = "") -> str:
    """The question whether one of the most similar known names is meant; empty if none is similar."""
    near = [f"{mark}{each}{mark}" for each in difflib.get_close_matches(name, list(known), most, cutoff)]
    return f"did you mean {' or '.join(near)}? " if near else ""
