"""Tuning on a small generated world: its partitions, its MLflow runs, and training with its best settings."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import mlflow
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from recsys_assets.assets.model_asset import BEST_SETTINGS
from recsys_assets.assets.tuning import SUMMARY, TRIALS
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.profile import ProfileError
from recsys_assets.definitions import build_defs
from recsys_assets.tuning.objectives import Ranking
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.worlds import DAY, World, open_world, write_profile

READ = ['+key:"feature_schema"', '+key:"recall_samples"']  # and everything that these need
SPACE = """
model_name: widedeep
num_experiment: 3
result_path: ${MY_S3_BUCKET}/widedeep
dataset: {train: elsewhere/train.parquet}
common_param: {batch: 512, epochs: 2, worker_count: 2}
hyper_param:
  hidden: [[16], [16, 8]]
  adam_learning_rate: {low: 0.001, high: 0.03, log: true}
"""
ITEMCF = "model_name: itemcf\nhyper_param: {popularity: [0.2, 0.8], window: [0, 10], top_n: [50]}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world that has everything that tuning reads, and the profile and spaces for it."""
    home, threads = tmp_path_factory.mktemp("world"), torch.get_num_threads()
    torch.set_num_threads(1)
    with (
        open_world(home, users=150, items=120, events=7000, days=8) as world,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MY_S3_BUCKET", str(home / "tuner"))
        (home / "widedeep.yaml").write_text(SPACE)
        (home / "itemcf.yaml").write_text(ITEMCF)
        # One epoch on the one day that trains in this world reaches a test AUC of 0.548: its floor is lower here.
        write_profile(home / "tuned.yaml", {"tuned": ["widedeep", "itemcf"], "bounds": {"min_auc": 0.5}})
        world.run(READ)
        yield world
    torch.set_num_threads(threads)


def run(asset: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Materialize one asset for the day."""
    return materialize([asset], DAY, config={asset: config})


def settings_of(world: World, asset: str) -> Any:
    return yaml.safe_load(world.read(asset).path(BEST_SETTINGS).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tuned(world: World) -> dict[str, dg.ExecuteInProcessResult]:
    """Tune each model of the profile `tuned.yaml` once."""
    results = {model: run(f"tune_{model}", space=str(world.home / f"{model}.yaml")) for model in ("widedeep", "itemcf")}
    assert {model: failures(result) for model, result in results.items()} == {"widedeep": {}, "itemcf": {}}
    return results


def test_a_profile_that_asks_for_settings_that_are_not_there_is_told_what_to_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_PROFILE", str(world.home / "tuned.yaml"))
    said = failures(run("rank_widedeep"))["rank_widedeep"]
    assert f"run `recsys materialize tune_widedeep --bizdate {DAY}`, or take widedeep out of `tuned`" in said
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(world.home / "typo.yaml", {"tuned": ["itemfc"]}))
    with pytest.raises(ProfileError, match=r"tuned: no asset tunes \['itemfc'\], only \['deepfm'"):
        build_defs()


def test_the_trials_are_published_best_first(world: World, tuned: dict[str, dg.ExecuteInProcessResult]) -> None:
    partition = world.read("tune_widedeep")
    summary = yaml.safe_load(partition.path(SUMMARY).read_text(encoding="utf-8"))
    values = [trial["result"]["auc"] for trial in summary]
    assert values == sorted(values, reverse=True)
    assert {trial["result"]["trial"] for trial in summary} == {0, 1, 2}
    best = settings_of(world, "tune_widedeep")
    assert {**best["model"], **best["training"]} == summary[0]["hyper_param"]
    assert best["training"].keys() == {"batch", "epochs", "learning_rate"}
    assert pq.read_table(partition.path(TRIALS))["value"].to_pylist() == values
    metrics = partition.manifest.metrics
    assert metrics["validation_auc"] == values[0]
    assert (metrics["complete"], metrics["pruned"], metrics["failed"]) == (3, 0, 0)
    (event,) = tuned["widedeep"].asset_materializations_for_node("tune_widedeep")
    assert "| trial | state | auc | hidden | learning_rate |" in str(event.metadata["best trials"].value)
    assert str(event.metadata["settings"].value).startswith("![plot](data:image/png;base64,")
    unused = "dataset: the asset reads its own data; worker_count: training is one process on this machine"
    assert event.metadata["not used"].value == unused
    copied = world.home / "tuner" / "widedeep" / "sample" / "tune_widedeep" / f"bizdate={DAY}"
    assert event.metadata["results"].value == str(copied)
    assert {path.name: file_hash(path) for path in copied.iterdir()} == partition.manifest.files


def test_a_place_for_results_outside_is_refused_before_any_trial(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_S3_BUCKET", "s3://bucket")
    monkeypatch.setattr(Ranking, "judge", lambda *_: pytest.fail("a trial was run"))
    said = failures(run("tune_widedeep", space=str(world.home / "widedeep.yaml"), seed=7))["tune_widedeep"]
    assert "result_path ${MY_S3_BUCKET}/widedeep is not a folder of this machine" in said


def test_each_trial_is_an_mlflow_run_nested_in_that_of_the_asset(
    world: World, tuned: dict[str, dg.ExecuteInProcessResult]
) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{world.home / 'mlflow.db'}")
    manifest = world.read("tune_widedeep").manifest
    parent = client.get_run(manifest.mlflow_run_id or "")
    assert parent.data.metrics["test_auc"] == manifest.metrics["test_auc"]
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    nested = client.search_runs([parent.info.experiment_id], query, order_by=["start_time"])
    assert [run.info.run_name for run in nested] == ["trial 0", "trial 1", "trial 2"]
    assert {run.info.status for run in nested} == {"FINISHED"}
    assert max(run.data.metrics["best_validation_auc"] for run in nested) == manifest.metrics["validation_auc"]
    assert nested[0].data.params.keys() == {"batch", "epochs", "hidden", "learning_rate"}
    assert len(client.get_metric_history(nested[0].info.run_id, "validation_auc")) == 2
    assert tuned["widedeep"].success


def test_a_model_of_the_profile_trains_with_its_best_settings_unless_its_run_says_otherwise(
    world: World, tuned: dict[str, dg.ExecuteInProcessResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuned["widedeep"].success
    monkeypatch.setenv("RECSYS_PROFILE", str(world.home / "tuned.yaml"))
    assert run("rank_widedeep").success
    ranked, best = world.read("rank_widedeep").manifest, world.read("tune_widedeep").manifest
    assert {part: ranked.config[part] for part in ("model", "training")} == settings_of(world, "tune_widedeep")
    assert ranked.upstream[f"tune_widedeep/{DAY}"] == best.fingerprint
    # The same model that the tuning scored on test rows.
    assert (ranked.metrics["validation_auc"], ranked.metrics["test_auc"]) == (
        best.metrics["validation_auc"],
        best.metrics["test_auc"],
    )
    assert run("rank_widedeep", training={"epochs": 1}).success
    own = world.read("rank_widedeep").manifest.config
    assert own["training"] == {**ranked.config["training"], "epochs": 1}


def test_item_to_item_is_tuned_and_trained_in_the_same_way(
    world: World, tuned: dict[str, dg.ExecuteInProcessResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    best = settings_of(world, "tune_itemcf")
    assert best.keys() == {"popularity", "window", "top_n"}
    assert world.read("tune_itemcf").manifest.metrics["complete"] == 4  # there are no more settings
    monkeypatch.setenv("RECSYS_PROFILE", str(world.home / "tuned.yaml"))
    assert run("i2i_itemcf", window=5).success
    config = world.read("i2i_itemcf").manifest.config
    assert config["window"] == 5
    assert (config["popularity"], config["top_n"]) == (best["popularity"], 50)
    assert tuned["itemcf"].success


def test_a_run_that_failed_leaves_its_trials_to_the_next_and_nothing_is_left_in_the_end(
    world: World, tuned: dict[str, dg.ExecuteInProcessResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tuned["widedeep"].success
    before, study = world.read("tune_widedeep").manifest, world.home / "tuning"
    assert not list(study.rglob("*.journal"))

    def interrupted(*_: object) -> float:
        raise ConnectionAbortedError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Ranking, "test", interrupted)
        assert (
            "the power is gone"
            in failures(run("tune_widedeep", space=str(world.home / "widedeep.yaml")))["tune_widedeep"]
        )
    assert len(list(study.rglob("*.journal"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(Ranking, "judge", interrupted)  # no trial may run again
        assert run("tune_widedeep", space=str(world.home / "widedeep.yaml")).success
    after = world.read("tune_widedeep").manifest
    assert (after.files, after.metrics) == (before.files, before.metrics)
    assert not list(study.rglob("*.journal"))


@pytest.mark.fails_check("tune_*:*_floor")
def test_a_best_trial_below_the_floor_of_the_profile_closes_the_gate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(world.home / "strict.yaml", {"bounds": {"min_recall": 1.0}}))
    assert failed_checks(run("tune_itemcf", space=str(world.home / "itemcf.yaml"))) == {"tune_itemcf:recall_floor"}
    assert not world.read("tune_itemcf").manifest.is_usable
