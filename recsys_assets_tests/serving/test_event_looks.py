"""The looks of events: for rules of every kind, the values that make a positive or a negative."""

from pathlib import Path
from typing import Any

import pytest

from recsys_assets.datasets.profile import Profile
from recsys_assets.serving.event_looks import event_looks

KINDS = {"column": "kind", "weights": {"view": 1, "order": 5}}
TABLES = {"interactions": {"user_id": "string", "item_id": "int64", "timestamp": "timestamp"}}


def looks(columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    tables = {"interactions": TABLES["interactions"] | columns}
    split = {"strategy": "by_day"}
    content = {"name": "a", "first_bizdate": "2026-01-01", "landing": Path("a"), "tables": tables, "split": split}
    return event_looks(Profile.model_validate(content | more))


@pytest.mark.parametrize(
    ("columns", "more", "positive", "negative"),
    [
        ({"rating": {"type": "float32", "min": 1, "max": 5}}, {"label": "rating > 3"}, {"rating": 5}, {"rating": 1}),
        ({"rating": {"type": "int64", "column": "stars"}}, {"label": "rating >= 4"}, {"stars": 5}, {"stars": 3}),
        ({"bought": "bool"}, {"label": "bought"}, {"bought": True}, {"bought": False}),
        ({"what": "string"}, {"label": "what = 'like'"}, {"what": "like"}, None),
        ({"a": "int64", "b": "int64"}, {"label": "a > 1 AND b < 7"}, {"a": 2, "b": 2}, {"a": 2, "b": 8}),
        ({"kind": "string"}, {"events": {**KINDS, "recall": ["order"]}}, {"kind": "order"}, {"kind": "view"}),
        ({}, {}, {}, None),
    ],
)
def test_a_positive_and_a_negative_are_found(columns: Any, more: Any, positive: object, negative: object) -> None:
    found = looks(columns, **more)
    assert (found["positive"], found["negative"]) == (positive, negative)
    assert (found["user"], found["item"]) == ("user_id", "item_id")


def test_columns_have_their_names_in_landing_files() -> None:
    found = looks({"rating": {"type": "int64", "column": "stars"}}, label="rating > 3")
    assert found["columns"] == {
        "user_id": "string",
        "item_id": "int64",
        "timestamp": "timestamp",
        "stars": "int64",
    }
