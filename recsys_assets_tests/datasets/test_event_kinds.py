"""Profiles with kinds of events and drawn negatives: which are refused, and what their defaults are."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import Profile, ProfileError, load_profile

EVENTS = {"column": "kind", "weights": {"view": 1, "cart": 3, "order": 10}}


def loaded(folder: Path, **changes: Any) -> Profile:
    """A profile of a log with kinds; `None` leaves a key out."""
    columns = {"user_id": "int64", "item_id": "int64", "timestamp": "timestamp", "kind": "string", "price": "float32"}
    content = {
        "name": "kinds",
        "first_bizdate": "2026-01-01",
        "landing": "landing",
        "tables": {"interactions": columns, "users": {"user_id": "int64"}, "items": {"item_id": "int64"}},
        "events": EVENTS,
        "split": {"strategy": "by_day"},
        **changes,
    }
    text = yaml.safe_dump({key: value for key, value in content.items() if value is not None})
    (folder / "own.yaml").write_text(text)
    return load_profile(str(folder / "own.yaml"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"events": {**EVENTS, "column": "sort"}}, "'sort' is not a column of tables.interactions"),
        ({"events": {**EVENTS, "column": "price"}}, "'price' is not a column of tables.interactions of type string"),
        ({"events": {**EVENTS, "column": "item_id"}}, "'item_id' is not a column"),
        ({"events": {**EVENTS, "recall": ["cart", "gift"]}}, "events.recall: 'gift' is not among events.weights"),
        ({"events": {**EVENTS, "rank": ["gift"]}}, "events.rank: 'gift' is not among events.weights"),
        ({"events": {**EVENTS, "weights": {}}}, "events.weights"),
        ({"events": {**EVENTS, "weights": {"view": 0}}}, "events.weights"),
        ({"events": {**EVENTS, "rank": ["order"]}, "label": "price > 3"}, "keep one of them"),
        ({"negatives": {"rate": -1}}, "negatives.rate"),
        ({"negatives": {"draw": "impressions"}}, "negatives.draw"),
        ({"label": False}, "label"),
        ({"events": None, "funnel": {"right": "weighted"}}, "funnel.right: weighted needs kinds of events"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ProfileError) as refused:
        loaded(tmp_path, **changes)
    assert said in str(refused.value).replace('"', "'")


@pytest.mark.parametrize(
    ("changes", "rate", "all_drawn"),
    [
        ({}, 0, False),
        ({"negatives": {"rate": 3}}, 3, False),
        ({"events": None}, 4, True),
        ({"events": None, "label": True}, 4, True),
        ({"events": None, "label": "price > 3"}, 0, False),
        ({"events": None, "label": "price > 3", "negatives": {}}, 4, False),
        ({"events": None, "negatives": {"rate": 0}}, 0, False),
        ({"events": {**EVENTS, "rank": ["view", "cart", "order"]}}, 4, True),
        ({"events": {"column": "kind", "weights": {"view": 1}}}, 4, True),
    ],
)
def test_negatives_are_drawn_if_asked_for_or_if_there_are_no_others(
    tmp_path: Path, changes: dict[str, Any], rate: int, all_drawn: bool
) -> None:
    profile = loaded(tmp_path, **changes)
    assert (profile.draws.rate if profile.draws else 0) == rate
    assert profile.draws_all == all_drawn
    assert ("drawn" in profile.negatives_text) == (rate > 0)


def test_labelled_rows_without_users_have_no_kinds_and_no_draws(tmp_path: Path) -> None:
    rows = {"interactions": {"clicked": "int64", "kind": "string"}}
    for key in ("events", "negatives"):
        changes = {"events": None, "label": "clicked = 1", key: EVENTS if key == "events" else {"rate": 2}}
        with pytest.raises(ProfileError, match=f"{key} needs"):
            loaded(tmp_path, tables=rows, **changes)


def test_the_kind_with_the_highest_weight_is_the_positive_unless_the_profile_says_so(tmp_path: Path) -> None:
    assert label_rule(loaded(tmp_path)).sql == "(CAST(\"kind\" AS VARCHAR) IN ('order'))"
    chosen = loaded(tmp_path, events={**EVENTS, "rank": ["cart", "order"]})
    assert label_rule(chosen).sql == "(CAST(\"kind\" AS VARCHAR) IN ('cart', 'order'))"
    assert "price" in label_rule(loaded(tmp_path, label="price > 3")).columns
    assert chosen.events is not None
    assert sorted(chosen.events.recalled) == ["cart", "order", "view"]
    assert chosen.keys("interactions") == ("user_id", "item_id", "timestamp", "kind")
