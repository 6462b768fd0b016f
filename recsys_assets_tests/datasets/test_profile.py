"""Profiles: how the file is found, and what its short forms mean. Refused profiles are in `test_bad_input.py`."""

import datetime as dt
from pathlib import Path

import pytest
from pydantic import ValidationError

from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import bundled_profiles, load_profile
from recsys_assets.datasets.profile_parts import Column

OWN = """
name: shop
first_bizdate: ${FIRST}
landing: incoming
tables:
  interactions: {user_id: string, item_id: int64, timestamp: {type: timestamp, column: at}, clicked: int64}
  users: {user_id: string}
  items: {item_id: int64}
label: clicked = 1  # ${NOT_ASKED_FOR} in a comment
split: {strategy: leave_last_n}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_HOME", str(tmp_path))
    monkeypatch.setenv("FIRST", "2026-01-01")
    path = tmp_path / "shop.yaml"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", bundled_profiles())
def test_a_bundled_profile_is_named_after_its_file_and_has_a_label_that_can_be_asked(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source
    assert label_rule(profile).columns <= profile.tables["interactions"].keys()


def test_the_profile_is_the_named_one_else_that_of_the_environment(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_PROFILE", "movielens-1m")
    assert load_profile().name == "movielens-1m"
    assert load_profile("sample").name == "sample"
    monkeypatch.setenv("RECSYS_PROFILE", str(own))
    assert load_profile().name == "shop"
    monkeypatch.delenv("RECSYS_PROFILE")
    assert load_profile().name == "sample"


def test_relative_places_start_at_the_home(own: Path) -> None:
    assert load_profile("shop.yaml").landing == own.parent / "incoming"


def test_values_of_the_environment_stand_for_texts(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_profile(str(own)).first_bizdate == dt.date(2026, 1, 1)
    monkeypatch.setenv("FIRST", "2026-02-03")
    assert load_profile(str(own)).first_bizdate == dt.date(2026, 2, 3)


def test_a_columns_short_form_is_its_type(own: Path) -> None:
    columns = load_profile(str(own)).tables["interactions"]
    assert columns["user_id"] == Column(type="string")
    assert columns["timestamp"] == Column(type="timestamp", column="at")


def test_a_profile_does_not_change(own: Path) -> None:
    profile = load_profile(str(own))
    with pytest.raises(ValidationError):
        profile.label = "true"  # type: ignore[misc]
