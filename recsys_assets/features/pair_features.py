"""The list of all user-item features, the columns that follow from it, and the rows that serving computes with it."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Floats, Ints, list_array
from recsys_assets.datasets.names import DISLIKED, LIKED
from recsys_assets.features import affinity, neighbour_features
from recsys_assets.features.pair_data import (
    Fitted,
    ItemSnapshot,
    Log,
    PairFeature,
    Pairs,
    Past,
    UserSnapshot,
    vectors,
)


def _fit_recent_items(name: str, label: int, log: Log) -> Fitted:
    """The newest items to which the user gave this label, as lists of ids."""
    past = Past(log.users, log.labels == label, log.rule.recent)

    def lists(events: Ints) -> pa.ListArray:
        there = events >= 0
        return list_array(log.item_ids.take(pa.array(log.items[events[there]])), there.sum(axis=1))

    everyone = np.arange(len(log.user_ids))
    return Fitted(lambda rows: lists(past.before(log.row_events[rows])), {name: lists(past.latest(everyone))})


PAIR_FEATURES = (  # in the order of their columns in `user_features`
    affinity.AFFINITY_FEATURE,
    PairFeature(LIKED, partial(_fit_recent_items, LIKED, 1), (LIKED,)),
    PairFeature(DISLIKED, partial(_fit_recent_items, DISLIKED, 0), (DISLIKED,)),
    neighbour_features.NEARBY_FEATURE,
)
# In the order of their columns in samples and schema: those that belong to a user alone come last.
MODEL_INPUTS = tuple(sorted(PAIR_FEATURES, key=lambda feature: feature.serve is None))
USER_COLUMNS = tuple(dict.fromkeys(column for feature in PAIR_FEATURES for column in feature.of_user))
ITEM_COLUMNS = tuple(dict.fromkeys(column for feature in PAIR_FEATURES for column in feature.of_item))
# Columns of the snapshots that are there only to compute features of pairs: no model reads them.
SERVING_COLUMNS = frozenset({*USER_COLUMNS, *ITEM_COLUMNS} - {feature.name for feature in PAIR_FEATURES})


def candidate_rows(
    users: pa.Table, items: ItemSnapshot, user: Ints, item: Ints, moment: Mapping[str, pa.Array] | None = None
) -> pa.Table:
    """The raw features of N pairs, as `rank_samples` would have them for the users' next events.

    Args:
        users: `user_features`.
        items: `item_features`.
        user: (N,) rows of the users, ascending.
        item: (N,) rows of the items.
        moment: features of the moment of their requests, (N,) each; what a request does not say is null, or absent.
    """
    columns: dict[str, pa.ChunkedArray] = {}
    for table, rows in ((users, user), (items.table, item)):
        chosen = table.drop([name for name in table.column_names if name in SERVING_COLUMNS]).take(pa.array(rows))
        columns |= {name: chosen[name] for name in chosen.column_names}
    pairs = Pairs(UserSnapshot.of(users, items), items, user, item)
    computed = {name: vectors(numbers) for name, numbers in pair_numbers(pairs).items()}
    return pa.table({**columns, **computed, **(moment or {})})


def pair_numbers(pairs: Pairs) -> dict[str, Floats]:
    """The features that need both sides, (N, floats) each."""
    return {feature.name: feature.serve(pairs) for feature in MODEL_INPUTS if feature.serve}
