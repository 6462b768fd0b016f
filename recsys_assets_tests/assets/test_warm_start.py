"""Two days of a small world whose models continue from the day before, as its profile says."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import pytest
import torch

from recsys_assets import sensors
from recsys_assets.assets.warm_start import ASSETS, HOLDS
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.profile import ProfileError
from recsys_assets.datasets.profile_parts import WarmStart
from recsys_assets.definitions import build_defs
from recsys_assets.reports.day import Day
from recsys_assets.reports.fits import fits
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, open_world, write_profile

READ = ['+key:"feature_schema"', '+key:"recall_samples"', "negative_items"]
MODELS = {"widedeep": "rank_widedeep", "dssm": "recall_dssm"}
QUICK = {asset: {"training": {"epochs": 2, "batch": 512}} for asset in MODELS.values()}
CHANGES = {"warm_start": {"models": list(MODELS), "days": 3, "compare": 1, "margin": 0.5}, "bounds": {"min_auc": 0.4}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home, threads = tmp_path_factory.mktemp("warm"), torch.get_num_threads()
    torch.set_num_threads(1)
    with open_world(home, CHANGES, users=150, items=120, events=7000, days=9) as world:
        for day in (YESTERDAY, DAY):
            world.run(READ, day)
            world.result = world.run(list(MODELS.values()), day, config=QUICK)
        yield world
    torch.set_num_threads(threads)


def failure(asset: str, **config: object) -> str:
    """The error of a run of the asset that must fail."""
    (said,) = failures(materialize([asset], DAY, config={asset: {**QUICK.get(asset, {}), **config}})).values()
    return said


@pytest.mark.parametrize("asset", MODELS.values())
def test_a_day_continues_from_the_day_before_and_says_so(world: World, asset: str) -> None:
    before, now = (world.read(asset, day).manifest for day in (YESTERDAY, DAY))
    assert before.config["warm_start"] == "nothing: no usable checkpoint in the 3 days before"
    assert now.config["warm_start"] == before.name
    assert now.upstream[before.name] == before.fingerprint
    assert json.loads(world.read(asset).path("model.json").read_text())["started_from"] == before.name
    assert world.metadata(asset)["warm start"].value == before.name
    mlflow.set_tracking_uri(f"sqlite:///{world.home / 'mlflow.db'}")
    assert mlflow.get_run(now.mlflow_run_id or "").data.params["warm_start"] == before.name


def test_the_report_says_what_trainings_continued_from(world: World) -> None:
    section = fits(Day(world.lake, world.profile, DAY, {*MODELS.values(), "splits"}, world.home))
    html = "".join(section.html)
    assert all(f">{asset}/{YESTERDAY}</td>" in html for asset in MODELS.values())
    assert not section.figures


@pytest.mark.parametrize("asset", MODELS.values())
def test_a_day_is_compared_with_a_training_from_nothing(world: World, asset: str) -> None:
    metrics = world.read(asset).manifest.metrics
    (cold,) = [name for name in metrics if name.startswith("cold_")]
    (check,) = [
        each
        for each in world.result.get_asset_check_evaluations()
        if each.check_name == HOLDS.name and each.asset_key == dg.AssetKey(asset)
    ]
    found: dict[str, Any] = {name: value.value for name, value in check.metadata.items()}
    assert found == {"warm": metrics[cold.removeprefix("cold_")], "cold": metrics[cold], "floor": metrics[cold] / 2}
    assert check.passed == (found["warm"] >= found["floor"])
    assert not [name for name in world.read(asset, YESTERDAY).manifest.metrics if name.startswith("cold_")]


def test_a_run_can_begin_from_nothing_or_from_a_folder(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training from nothing is the one that the comparison made."""
    own = world.copy(tmp_path / "own", monkeypatch)
    warm = own.read("rank_widedeep").manifest
    own.run(["rank_widedeep"], config={"rank_widedeep": {**QUICK["rank_widedeep"], "warm_start": "nothing"}})
    cold = own.read("rank_widedeep").manifest
    assert cold.config["warm_start"] == "nothing"
    assert cold.metrics["validation_auc"] == warm.metrics["cold_validation_auc"] != warm.metrics["validation_auc"]
    folder = tmp_path / "elsewhere"
    shutil.copytree(own.read("rank_widedeep", YESTERDAY).folder, folder)
    named = {**QUICK["rank_widedeep"], "warm_start": folder.as_uri()}
    own.run(["rank_widedeep"], config={"rank_widedeep": named})
    again = own.read("rank_widedeep").manifest
    chosen = file_hash(folder / "chosen.safetensors")
    assert again.config["warm_start"] == f"{folder.as_uri()} (chosen.safetensors {chosen})"
    assert again.metrics["validation_auc"] == warm.metrics["validation_auc"]


def test_a_checkpoint_that_cannot_be_used_is_refused(world: World, tmp_path: Path) -> None:
    known = world.read("rank_widedeep", YESTERDAY).folder
    assert "it has no model.json and no chosen.safetensors" in failure("rank_widedeep", warm_start=str(tmp_path))
    assert "***@" in failure("rank_widedeep", warm_start="nowhere://me:secret@host/folder")
    assert "lgbm: warm_start = 'newest': only a training in steps" in failure("rank_lgbm", warm_start="newest")
    assert "is a widedeep: dssm cannot continue" in failure("recall_dssm", warm_start=str(known))
    assert "names neither a feature nor a weight" in failure("rank_widedeep", warm_names={"a": "b"})
    shutil.copytree(known, tmp_path / "later")
    manifest = json.loads((tmp_path / "later" / "manifest.json").read_text())
    shutil.copytree(world.read("rank_widedeep", DAY).folder, tmp_path / "damaged")
    (tmp_path / "damaged" / "model.json").write_bytes((known / "model.json").read_bytes())
    assert "model.json is not as manifest.json says" in failure("rank_widedeep", warm_start=str(tmp_path / "damaged"))
    assert manifest["bizdate"] == YESTERDAY
    (said,) = failures(
        materialize(
            ["rank_widedeep"],
            YESTERDAY,
            config={"rank_widedeep": {"warm_start": str(world.read("rank_widedeep", DAY).folder)}},
        )
    ).values()
    assert f"is of {DAY}, and a model of {YESTERDAY} must not know later days" in said


@pytest.mark.usefixtures("world")
def test_a_backfill_runs_the_days_of_these_models_in_order() -> None:
    """A day waits for all days that it may continue from; no other asset waits for an earlier day."""
    graph = build_defs().resolve_asset_graph()
    waiting = {key.to_user_string() for key in graph.toposorted_asset_keys if key in graph.get(key).parent_keys}
    assert waiting == set(MODELS.values())
    mapping = graph.get(dg.AssetKey("rank_widedeep")).partition_mappings[dg.AssetKey("rank_widedeep")]
    days = build_defs().resolve_asset_graph().get(dg.AssetKey("rank_widedeep")).partitions_def
    assert days
    subset = days.subset_with_partition_keys([DAY])
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, days, days)
    assert list(found.partitions_subset.get_partition_keys()) == ["2026-03-28", "2026-03-29", YESTERDAY]


def test_the_sensor_builds_the_older_days_in_order(world: World) -> None:
    """The newest day goes first, as everywhere; the runs of the older days wait in one queue."""
    for profile, order in ((world.profile, -1), (world.profile.model_copy(update={"warm_start": WarmStart()}), 1)):
        days = ["2026-03-29", YESTERDAY]
        asked = [sensors._build_request(profile, day, DAY, 0.0).tags for day in days]
        one, other = (int(tags["dagster/priority"]) for tags in asked)
        assert (other - one) * order > 0
        assert {tags["recsys/turn"] for tags in asked} == {"later"}


def test_a_profile_with_a_model_that_cannot_continue_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = write_profile(tmp_path / "own.yaml", {"warm_start": {"models": ["lgbm"]}})
    monkeypatch.setenv("RECSYS_PROFILE", profile)
    with pytest.raises(ProfileError, match=r"warm_start.models: \['lgbm'\] cannot continue"):
        build_defs()
    assert "lgbm" not in ASSETS
