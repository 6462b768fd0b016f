"""Generates a small recall problem: users walk along chains of items, so that the next item can be learned."""

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Ints
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.retrieval.interactions import Interactions, Queries, from_table
from recsys_assets.training.recall import Source

USERS, ITEMS, LENGTH = 80, 40, 24


def interactions(seed: int = 0) -> Interactions:
    """Walks of users over items: mostly to the next number, otherwise anywhere; every fourth event is a negative."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((USERS, LENGTH)) < 0.8, 1, rng.integers(0, ITEMS, (USERS, LENGTH)))
    items = np.cumsum(steps, axis=1) % ITEMS
    place = np.tile(np.arange(LENGTH), (USERS, 1))
    parts = np.where(place < LENGTH - 6, "train", np.where(place < LENGTH - 3, "validation", "test"))
    return from_table(
        pa.table(
            {
                "user_id": np.repeat(np.arange(1, USERS + 1), LENGTH),
                "item_id": 100 + items.ravel(),
                "label": (place.ravel() % 4 != 2).astype(np.int8),
                "part": parts.ravel(),
            }
        )
    )


def queries_of_rows(events: Interactions, rows: Ints) -> Queries:
    """One query for each of the given rows: its history is all the user's events before it, its item the answer."""
    users = events.users[rows]
    starts = np.searchsorted(events.users, users)
    return Queries(users, starts, rows, events.items[rows], np.arange(len(rows) + 1))


def source(seed: int = 0) -> Source:
    """The interactions and their tables, which have one user and one item more than the events."""
    users = pa.table({"user_id": range(1, USERS + 2), "gender": ["F", "M", None] * 27})
    genres = [["even", "round"] if number % 2 == 0 else [] for number in range(ITEMS + 1)]
    items = pa.table({"item_id": range(100, 100 + ITEMS + 1), "genres": pa.array(genres, pa.list_(pa.string()))})
    return Source(interactions(seed), users, items, filter_seen=False)


def schema() -> FeatureSchema:
    """Features of the tables, and a numeric one that no tower uses; item 105 is not in the vocabulary."""
    known = [item for item in range(100, 100 + ITEMS) if item != 105]
    return FeatureSchema(
        [
            Feature("user_id", "categorical", "user", "int64", "id", list(range(1, USERS + 1))),
            Feature("gender", "categorical", "user", "string", "side", ["F", "M"]),
            Feature("user_count", "numeric", "user", "float32", mean=[0.0], std=[1.0]),
            Feature("item_id", "categorical", "item", "int64", "id", known),
            Feature("genres", "multi_valued", "item", "string", "side", ["even", "round"], length=2),
        ]
    )
