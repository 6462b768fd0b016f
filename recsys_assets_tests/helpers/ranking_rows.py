"""Generates rows of a small ranking problem whose true probabilities are known."""

from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.catalogue import configure, entry

GENRES = ["Action", "Comedy", "Drama", "War"]


def ranking_schema(
    crosses: tuple[tuple[str, str], ...] = (("gender", "genres"), ("user_id", "item_id")),
) -> FeatureSchema:
    return FeatureSchema(
        [
            Feature("user_id", "categorical", "user", "int64", "id", list(range(1, 51))),
            Feature("gender", "categorical", "user", "string", "side", ["F", "M"]),
            Feature("item_id", "categorical", "item", "int64", "id", list(range(100, 140))),
            Feature("genres", "multi_valued", "item", "string", "side", GENRES, length=3),
            Feature("tags", "multi_valued", "item", "int64", "side", [7, 8, 9], length=2),
            Feature("activity", "numeric", "user", "float32", mean=[2.0], std=[0.5]),
            Feature("taste", "numeric", "user", "float32", length=4, mean=[0.0] * 4, std=[1.0] * 4, terms_of="genres"),
        ],
        [list(cross) for cross in crosses],
    )


def sequence_schema() -> FeatureSchema:
    """The same schema with a sequence of items, which sequence models read in addition."""
    recent = Feature("recent", "sequence", "user", "int64", length=3, values_of="item_id")
    plain = ranking_schema()
    return FeatureSchema([*plain.features, recent], plain.crosses)


def ranking_rows(rows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """A table of raw columns with labels, and the probability with which each label was drawn."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(1, 51, rows), rng.integers(100, 140, rows)
    one, other = item % 4, (item // 4) % 4
    taste, activity = rng.normal(size=(rows, 4)), rng.normal(2.0, 0.5, rows)
    liked = np.take_along_axis(taste, one[:, None], 1)[:, 0]
    logit = np.sin(user) + np.cos(item) + liked + (activity - 2.0) + np.where((user % 2 == 0) == (one == 3), 0.5, -0.5)
    truth = 1 / (1 + np.exp(-logit))
    table = pa.table(
        {
            "user_id": user,
            "gender": np.where(user % 2 == 0, "F", "M"),
            "item_id": item,
            "genres": [sorted({GENRES[a], GENRES[b]}, key=GENRES.index) for a, b in zip(one, other, strict=True)],
            "tags": [[7 + tag] for tag in item % 3],
            "activity": pa.array(activity, pa.float32()),
            "taste": pa.array(taste.tolist(), pa.list_(pa.float32(), 4)),
            "recent": rng.integers(100, 140, (rows, 3)).tolist(),
            "label": (rng.random(rows) < truth).astype(np.int8),
        }
    )
    return table, truth


def messy_rows() -> pa.Table:
    """Rows as serving may receive them: unknown and missing values, lists that are empty, null or too long."""
    return pa.table(
        {
            "user_id": [1, 999, None, 50, -1],
            "gender": ["F", "X", None, "", "M"],
            "item_id": [100, 139, 7, None, 120],
            "genres": [["War"], [], None, ["Action", "Comedy", "Drama", "War"], ["Western", None, "Drama"]],
            "tags": [[7, 8], None, [], [9, 9, 9], [5]],
            "activity": pa.array([2.0, None, float("nan"), 1e9, -3.0], pa.float32()),
            "taste": pa.array(
                [[1, 2, 3, 4], None, [None, 1, 1, 1], [float("nan")] * 4, [0, 0, 0, 1e6]], pa.list_(pa.float32(), 4)
            ),
            "recent": [[100, 139], [], None, [120, 7, 100, 101], [101]],
        }
    )


def quick_settings(model: str, epochs: int) -> tuple[Any, Any]:
    """Config and training with which any ranker learns something from thousands of rows in a few small epochs."""
    if entry(model).library == "lightgbm":
        return configure(model, {"epochs": epochs, "learning_rate": 0.1, "min_rows": 20}, {})
    return configure(model, {}, {"epochs": epochs, "batch": 256, "learning_rate": 5e-3})
