"""Which model serves fresh and cold items, and what is said of it."""

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from recsys_assets.assets.cold_start import report
from recsys_assets.cli.deploy import winner
from recsys_assets.coldstart.choice import CHOICE_FILE, REPORT, newest_serving_model, serving_model
from recsys_assets.coldstart.trial import Outcome
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.settings import settings

DAY, LATER = "2026-01-30", "2026-01-31"
RIDGE = {"serves": "ridge", "because": "it is the best"}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path), "sample")


def publish(lake: Lake, day: str, choice: Mapping[str, Any], declined: str = "") -> None:
    with lake.draft(REPORT, day) as draft:
        if declined:
            draft.manifest.declined = declined
        else:
            draft.path(CHOICE_FILE).write_text(json.dumps(choice), encoding="utf-8")


def profile_with(model: str | None) -> Profile:
    profile = load_profile("sample")
    return profile.model_copy(update={"fresh": profile.fresh.model_copy(update={"model": model})})


def test_no_profile_of_the_package_names_a_model() -> None:
    assert [load_profile(name).fresh.model for name in ("sample", "movielens-1m")] == [None, None]


def test_the_winner_of_the_day_serves_unless_the_profile_names_a_model(lake: Lake) -> None:
    publish(lake, DAY, {**RIDGE, "serves": "dropoutnet"})
    publish(lake, LATER, RIDGE)
    found = serving_model(profile_with(None), lake, LATER)
    assert (found.model, found.because) == ("ridge", "it is the best")
    assert serving_model(profile_with(None), lake, DAY).model == "dropoutnet"
    assert newest_serving_model(profile_with(None), lake).model == "ridge"
    assert serving_model(profile_with("dssm"), lake, LATER).model == "dssm"
    assert newest_serving_model(profile_with("dssm"), lake).model == "dssm"


def test_without_a_comparison_dropoutnet_serves_and_the_reason_is_given(lake: Lake) -> None:
    assert newest_serving_model(profile_with(None), lake).model == "dropoutnet"
    assert "has no partition" in serving_model(profile_with(None), lake, DAY).because
    publish(lake, DAY, {}, declined="no user has a positive with a new item")
    assert "declined: no user" in serving_model(profile_with(None), lake, DAY).because
    publish(lake, LATER, {"winner": "ridge"})
    assert serving_model(profile_with(None), lake, LATER).because.endswith("is of an older version")


def test_the_report_says_why_a_model_serves() -> None:
    cold = {"ridge": 0.3, "aligned_ease": 0.4, "dropoutnet": 0.2}
    judged = {name: {"cold_ndcg@20": value} for name, value in cold.items()}
    outcome = Outcome({}, judged, {}, "aligned_ease", "ease", "ridge")
    best = "its NDCG@20 on cold validation items is the best of the models with towers: 0.3000"
    assert report.why_it_serves(outcome) == f"{best}, compared with 0.2000 with dropoutnet"


def test_a_deployment_without_a_model_takes_the_one_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    publish(Lake.of(settings().lake, load_profile()), DAY, RIDGE)
    assert winner(dt.date.fromisoformat(DAY)) == "ridge"
    assert winner(dt.date.fromisoformat(LATER)) == "dropoutnet"
