"""The ranking line on a small generated world: trained, tracked, exported, reported; each asset run in process."""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.onnx import MODEL, TOLERANCE
from recsys_assets.assets.rank import PREDICTIONS
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import load_profile
from recsys_assets.definitions import build_defs
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.lake import Lake, Partition
from recsys_assets.resources import resources
from recsys_assets.training.onnx_export import raw_inputs

DAY = "2026-03-31"
CONFIG = {"ops": {"rank_widedeep": {"config": {"training": {"epochs": 2, "batch": 512}}}}}


@dataclass
class World:
    """A lake in which every asset of `DAY` was materialized once."""

    lake: Lake
    result: dg.ExecuteInProcessResult
    tracking_uri: str

    def read(self, asset: str) -> Partition:
        return self.lake.read(asset, DAY)

    def metadata(self, asset: str) -> dict[str, dg.MetadataValue[Any]]:
        (event,) = self.result.asset_materializations_for_node(asset)
        return dict(event.metadata)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_PROFILE", "sample")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        profile = load_profile()
        land(profile, last=dt.date.fromisoformat(DAY), users=150, items=120, events=9000, days=12)
        yield World(Lake(str(home / "lake"), "sample"), materialize_all(landed_bizdates(profile)), tracking_uri(home))


def tracking_uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow.db'}"


def run_day(instance: dg.DagsterInstance, *assets: str) -> dg.ExecuteInProcessResult:
    """Materialize assets of `DAY` (none named: all)."""
    job = build_defs(resources()).resolve_implicit_global_asset_job_def()
    selection = [dg.AssetKey(asset) for asset in assets] or None
    config = {"ops": {name: op for name, op in CONFIG["ops"].items() if not assets or name in assets}}
    return job.execute_in_process(
        instance=instance, partition_key=DAY, run_config=config, asset_selection=selection, raise_on_error=False
    )


def materialize_all(days: list[str]) -> dg.ExecuteInProcessResult:
    """Ingest the days in one run, then run the whole graph of the last."""
    job = build_defs(resources()).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        span = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]}
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("interactions")], tags=span)
        return run_day(instance)


def test_every_asset_is_made_and_every_check_passes(world: World) -> None:
    assert world.result.success
    checks = world.result.get_asset_check_evaluations()
    assert {check.check_name for check in checks if not check.passed} == set()
    assert {"auc_floor", "onnx_matches_torch", "features_know_only_the_past", "parts_in_order"} <= {
        check.check_name for check in checks
    }
    assert {check.partition for check in checks} == {DAY}


def test_the_model_describes_itself_and_its_origin(world: World) -> None:
    model = world.read("rank_widedeep")
    assert {"model.json", "model.safetensors", PREDICTIONS} == set(model.manifest.files)
    assert {"test_auc", "test_gauc", "test_logloss", "validation_auc"} <= set(model.manifest.metrics)
    assert model.manifest.upstream == {
        f"{asset}/{DAY}": world.read(asset).manifest.fingerprint for asset in ("rank_samples", "feature_schema")
    }
    assert model.manifest.config["training"] == {"epochs": 2, "batch": 512}


def test_each_training_is_one_mlflow_run_linked_both_ways(world: World) -> None:
    mlflow.set_tracking_uri(world.tracking_uri)
    (run,) = mlflow.search_runs(experiment_names=["sample"], output_format="list")
    assert run.info.run_id == world.read("rank_widedeep").manifest.mlflow_run_id
    assert run.info.status == "FINISHED"
    assert run.data.tags["bizdate"] == DAY
    assert run.data.tags["dagster.run_id"] == world.result.run_id
    assert world.result.run_id in run.data.tags["dagster.run_url"]
    assert run.info.run_id in str(world.metadata("rank_widedeep")["mlflow run"].value)
    client = mlflow.MlflowClient(world.tracking_uri)
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "validation_auc")] == [0, 1]
    assert {"train_logloss", "best_validation_auc", "test_auc", "test_gauc", "test_logloss"} <= set(run.data.metrics)
    assert {file.path for file in client.list_artifacts(run.info.run_id, "model")} >= {
        "model/model.json",
        "model/model.safetensors",
    }
    assert "calibration.png" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_the_onnx_file_alone_scores_raw_rows_as_the_model_did(world: World) -> None:
    schema = FeatureSchema.read(world.read("feature_schema").path("schema.json"))
    rows = pq.read_table(world.read("rank_samples").path("test.parquet"))
    runtime = onnxruntime.InferenceSession(world.read("onnx_widedeep").path(MODEL))
    (scores,) = runtime.run(["score"], raw_inputs(schema, rows))
    expected = pq.read_table(world.read("rank_widedeep").path(PREDICTIONS))["score"].to_numpy()
    assert np.abs(scores - expected).max() <= TOLERANCE
    assert world.read("onnx_widedeep").manifest.metrics["parity_rows"] >= rows.num_rows
    metadata = runtime.get_modelmeta().custom_metadata_map
    assert (metadata["bizdate"], metadata["schema_fingerprint"]) == (DAY, schema.fingerprint)


def test_the_report_sets_the_model_beside_its_baselines(world: World) -> None:
    metrics = world.read("rank_report").manifest.metrics
    assert metrics["widedeep.test_auc"] == world.read("rank_widedeep").manifest.metrics["test_auc"]
    assert metrics["base_rate.test_auc"] == 0.5
    assert metrics["popularity.test_auc"] < metrics["widedeep.test_auc"] < metrics["best_reachable.test_auc"]
    assert "| widedeep |" in world.read("rank_report").path("report.md").read_text(encoding="utf-8")


def test_the_truth_of_the_generator_is_no_feature(world: World) -> None:
    schema = FeatureSchema.read(world.read("feature_schema").path("schema.json"))
    assert "true_probability" not in {feature.name for feature in schema.features}


def test_trained_and_exported_again_all_files_are_the_same(world: World) -> None:
    """On one machine; another number of threads or another processor sums in another order."""
    names = ("rank_widedeep", "onnx_widedeep")
    before = {name: world.read(name).manifest for name in names}
    with dg.DagsterInstance.ephemeral() as instance:
        assert run_day(instance, *names).success
    after = {name: world.read(name).manifest for name in names}
    assert {name: manifest.files for name, manifest in after.items()} == {n: m.files for n, m in before.items()}
    assert {name: manifest.metrics for name, manifest in after.items()} == {n: m.metrics for n, m in before.items()}
    assert after["rank_widedeep"].mlflow_run_id != before["rank_widedeep"].mlflow_run_id


def test_metadata_shows_plots_small_enough_for_the_event_log(world: World) -> None:
    shown = world.metadata("rank_widedeep")
    for plot in ("training", "calibration"):
        text = str(shown[plot].value)
        assert text.startswith("![plot](data:image/png;base64,")
        assert len(text) < 100_000


def test_manifests_are_plain_json(world: World) -> None:
    for asset in ("interactions", "splits", "rank_widedeep", "onnx_widedeep", "rank_report"):
        text = (world.read(asset).folder / "manifest.json").read_text(encoding="utf-8")
        assert json.loads(text)["bizdate"] == DAY
