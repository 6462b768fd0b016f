"""The models on a small generated world: trained, tracked, exported and evaluated, with all assets run in process."""

import html
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from recsys_assets.assets.publish.onnx import MODEL, TOLERANCE
from recsys_assets.assets.publish.release import RELEASE
from recsys_assets.assets.rank import IMPORTANCE, PREDICTIONS
from recsys_assets.cli import main
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.definitions import build_defs
from recsys_assets.features.raw import raw_inputs, rows_of
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.funnel.by_vector import AFTER_ALL, BEFORE_TEST
from recsys_assets.models.catalogue import RANKERS, TOWERS, TRAINED_TOWERS, features_for
from recsys_assets.ranking.champion import read_champion
from recsys_assets.reports.day import CARD, PAGE, TABLE
from recsys_assets.retrieval import embeddings, index
from recsys_assets.retrieval.interactions import histories, read
from recsys_assets.retrieval.raw_users import raw_users
from recsys_assets.serving.engine import Engine
from recsys_assets.training import checkpoint, recall
from recsys_assets_tests.helpers.code_versions import (
    COMMAND,
    LEFT_OUT,
    Record,
    Records,
    read_snapshot,
    unraised,
    write_snapshot,
)
from recsys_assets_tests.helpers.in_process import QUIET, failed_checks, failures, materialize
from recsys_assets_tests.helpers.page_blocks import all_commands
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, open_world

QUICK = {"training": {"epochs": 2, "batch": 512}}
NETWORKS = {
    "sasrec": {"width": 16, "history": 20, "blocks": 1},
    "dssm": {"embedding": 8, "hidden": [16]},
    "dropoutnet": {"embedding": 8, "hidden": 16},
}
CONFIG: dict[str, dict[str, Any]] = {
    **{f"rank_{model}": QUICK for model in RANKERS},
    "touch_model": QUICK,
    "rank_lgbm": {"model": {"epochs": 2, "min_rows": 20}},
    **{f"recall_{model}": {**QUICK, "model": NETWORKS.get(model, {})} for model in TRAINED_TOWERS},
    "cold_start_report": {**QUICK, "rates": [0.0, 0.5]},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which the daily job has run."""
    with open_world(tmp_path_factory.mktemp("world"), users=150, items=120, events=9000, days=12) as world:
        job = build_defs().resolve_job_def("everything")
        config = {**QUIET, "ops": {name: {"config": each} for name, each in CONFIG.items()}}
        world.result = job.execute_in_process(partition_key=DAY, run_config=config, raise_on_error=False)
        yield world


def tracking_uri(world: World) -> str:
    return f"sqlite:///{world.home / 'mlflow.db'}"


def test_every_asset_is_made_and_every_blocking_check_passes(world: World) -> None:
    assert world.result.success
    checks = world.result.get_asset_check_evaluations()
    # After two epochs on 150 users a model need not beat popularity; these checks do not block.
    failed = {check.partition(":")[2] for check in failed_checks(world.result)}
    assert failed <= {"better_than_random", "best_beats_popularity", "final_beats_all", "beats_popularity"}
    expected = {"auc_floor", "recall_floor", "onnx_matches_model", "features_know_only_the_past", "lists_are_sound"}
    assert expected <= {check.check_name for check in checks}
    assert {check.partition for check in checks} == {DAY}


def test_the_model_describes_itself_and_its_origin(world: World) -> None:
    model = world.read("rank_widedeep")
    assert {"model.json", "model.safetensors", "chosen.safetensors", PREDICTIONS} == set(model.manifest.files)
    assert {"test_auc", "test_gauc", "test_logloss", "validation_auc"} <= set(model.manifest.metrics)
    assert model.manifest.upstream == {
        f"{asset}/{DAY}": world.read(asset).manifest.fingerprint for asset in ("rank_samples", "feature_schema")
    }
    assert model.manifest.config["training"] == {"epochs": 2, "batch": 512}


def test_each_training_is_one_mlflow_run_linked_both_ways(world: World) -> None:
    mlflow.set_tracking_uri(tracking_uri(world))
    runs = {run.info.run_id: run for run in mlflow.search_runs(experiment_names=["sample"], output_format="list")}
    trained = ["touch_model", *(f"rank_{model}" for model in RANKERS), *(f"recall_{model}" for model in TOWERS)]
    assert runs.keys() == {world.read(asset).manifest.mlflow_run_id for asset in trained}
    run = runs[world.read("rank_widedeep").manifest.mlflow_run_id or ""]
    assert run.info.status == "FINISHED"
    assert run.data.tags["bizdate"] == DAY
    assert run.data.tags["dagster.run_id"] == world.result.run_id
    assert world.result.run_id in run.data.tags["dagster.run_url"]
    assert run.info.run_id in str(world.metadata("rank_widedeep")["mlflow run"].value)
    client = mlflow.MlflowClient(tracking_uri(world))
    assert [entry.step for entry in client.get_metric_history(run.info.run_id, "validation_auc")] == [0, 1]
    assert {"train_logloss", "best_validation_auc", "test_auc", "test_gauc", "test_logloss"} <= set(run.data.metrics)
    assert {file.path for file in client.list_artifacts(run.info.run_id, "model")} >= {
        "model/model.json",
        "model/model.safetensors",
    }
    assert "calibration.png" in {file.path for file in client.list_artifacts(run.info.run_id)}


@pytest.mark.parametrize("model", TOWERS)
def test_the_vectors_of_serving_and_of_evaluation_are_those_of_the_onnx_files(world: World, model: str) -> None:
    towers = recall.two_tower(checkpoint.load(world.read(f"recall_{model}").folder))
    events = read(world.read("splits").path(ROWS))
    tables = {side: world.table(f"{side}s") for side in ("user", "item")}
    kept = world.read(f"emb_{model}_user")
    found: dict[str | None, Any] = {
        part: embeddings.read(kept.path(file)) for file, part in ((ROWS, "online"), (BEFORE_TEST, "test"))
    }
    found[None] = found["online"][0], np.load(kept.path(AFTER_ALL))
    assert np.array_equal(found[None][1], found["online"][1]) == (model == "fm")  # FM reads no histories
    for part, (ids, vectors) in found.items():
        assert ids.to_pylist() == sorted(tables["user"]["user_id"].to_pylist())
        everyone = np.arange(len(events.user_ids))
        raw = raw_users(towers.history, events, tables["user"], everyone, *histories(events, part))
        expected = vectors[np.searchsorted(ids.to_numpy(), events.user_ids)]
        assert np.abs(scored(world, model, "user", raw_inputs(towers.user_schema, raw)) - expected).max() < TOLERANCE
    ids, vectors = embeddings.read(world.read(f"emb_{model}_item").path(ROWS))
    raw = rows_of(tables["item"], "item_id", ids)
    assert np.abs(scored(world, model, "item", raw_inputs(towers.item_schema, raw)) - vectors).max() < TOLERANCE


def scored(world: World, model: str, side: str, feed: dict[str, Any]) -> Any:
    runtime = onnxruntime.InferenceSession(world.read(f"onnx_{model}").path(f"{side}.onnx"))
    return runtime.run(["vector"], feed)[0]


@pytest.mark.parametrize("model", TOWERS)
def test_the_index_finds_what_exact_search_does(world: World, model: str) -> None:
    found = index.read(world.read(f"index_{model}").folder)
    ids, vectors = embeddings.read(world.read(f"emb_{model}_item").path(ROWS))
    assert found.ids.to_pylist() == [str(item) for item in ids.to_pylist()]
    _, users = embeddings.read(world.read(f"emb_{model}_user").path(BEFORE_TEST))
    lists, scores = found.search(users, 20), users @ vectors.T
    assert np.allclose(lists.scores, -np.sort(-scores, axis=1)[:, :20], atol=1e-5)
    exact = np.argsort(-scores, axis=1)[:, :20]
    share = np.mean([len({*ours} & {*theirs}) / 20 for ours, theirs in zip(lists.items, exact, strict=True)])
    assert world.read(f"index_{model}").manifest.metrics["recall_of_exact@20"] == pytest.approx(share, abs=1e-3)


def test_an_index_that_would_order_items_otherwise_than_the_model_is_refused(world: World) -> None:
    before = world.read("index_sasrec").manifest
    result = materialize(["index_sasrec"], DAY, config={"index_sasrec": {"kind": "IVFFlatL2"}})
    assert "Set kind to IVFFlatIP" in failures(result)["index_sasrec"]
    assert world.read("index_sasrec").manifest == before


def test_a_catalogue_over_the_limit_is_indexed_in_shards(world: World) -> None:
    whole, (_, users) = world.read("index_fm"), embeddings.read(world.read("emb_fm_user").path(BEFORE_TEST))
    rows, width = embeddings.shape(world.read("emb_fm_item").path(ROWS))
    limit = {"index_fm": {"most_bytes": rows * width, "kind": "FlatIP"}}  # a quarter of their bytes
    assert materialize(["index_fm"], DAY, config=limit).success
    made = world.read("index_fm")
    assert sorted(made.manifest.files) == [*(f"faiss_index.{number}" for number in range(4)), "id_mapping"]
    found = index.read(made.folder, mapped=True).search(users, 20)
    assert made.manifest.metrics["recall_of_exact@20"] == 1
    assert materialize(["index_fm"], DAY).success
    again = world.read("index_fm")
    assert again.manifest.files == whole.manifest.files
    assert index.overlap(found.items, index.read(again.folder).search(users, 20).items, rows) > 0.9


@pytest.mark.parametrize("model", RANKERS)
def test_the_onnx_file_alone_scores_raw_rows_as_the_model_did(world: World, model: str) -> None:
    schema = features_for(model, FeatureSchema.read(world.read("feature_schema").path("schema.json")))
    rows = world.part("rank_samples", "test")
    runtime = onnxruntime.InferenceSession(world.read(f"onnx_{model}").path(MODEL))
    (scores,) = runtime.run(["score"], raw_inputs(schema, rows))
    expected = world.table(f"rank_{model}", PREDICTIONS)["score"].to_numpy()
    assert np.abs(scores - expected).max() <= TOLERANCE
    assert world.read(f"onnx_{model}").manifest.metrics["parity_rows"] >= rows.num_rows
    metadata = runtime.get_modelmeta().custom_metadata_map
    assert (metadata["bizdate"], metadata["schema_fingerprint"]) == (DAY, schema.fingerprint)


def test_lightgbm_leaves_its_trees_and_what_each_column_gave(world: World) -> None:
    partition = world.read("rank_lgbm")
    assert {"model.txt", "model.json", IMPORTANCE, PREDICTIONS} == set(partition.manifest.files)
    assert {MODEL, "trees.onnx"} == set(world.read("onnx_lgbm").manifest.files)
    importance = pq.read_table(partition.path(IMPORTANCE))
    assert importance.column_names == ["column", "gain", "splits"]
    gains = importance["gain"].to_numpy()
    assert gains[0] > 0
    assert (np.diff(gains) <= 0).all()
    assert str(world.metadata("rank_lgbm")["importance"].value).startswith("![plot](data:image/png;base64,")


def test_the_report_sets_the_model_beside_its_baselines(world: World) -> None:
    metrics = world.read("rank_report").manifest.metrics
    assert metrics["widedeep.test_auc"] == world.read("rank_widedeep").manifest.metrics["test_auc"]
    assert metrics["base_rate.test_auc"] == 0.5
    assert metrics["popularity.test_auc"] < metrics["widedeep.test_auc"] < metrics["best_reachable.test_auc"]
    for model in RANKERS:
        for metric in ("test_auc", "test_gauc", "test_logloss"):
            assert metrics[f"{model}.{metric}_low"] <= metrics[f"{model}.{metric}"] <= metrics[f"{model}.{metric}_high"]


def test_the_report_is_one_file_of_tables_and_the_same_tables_and_plots_as_metadata(world: World) -> None:
    text, shown = world.read("rank_report").path("report.md").read_text(encoding="utf-8"), world.metadata("rank_report")
    tables = {name.removeprefix("table: "): str(value.value) for name, value in shown.items() if "table: " in name}
    assert all(f"## {title}\n\n{table}\n" in text for title, table in tables.items())
    assert {"figures", "95 % intervals", "slices (test AUC)", "importance of columns, lgbm"} < tables.keys()
    assert all(f"| {model} |" in tables["figures"] and f"| {model} |" in tables["95 % intervals"] for model in RANKERS)
    assert "| user with 10 to 99 earlier rows |" in tables["slices (test AUC)"]
    assert "| genres: " in tables["slices (test AUC)"]
    for plot in ("test AUC", "calibration", "AUC by slice", "importance of columns, lgbm"):
        assert str(shown[plot].value).startswith("![plot](data:image/png;base64,")
        assert len(str(shown[plot].value)) < 100_000


def test_the_champion_is_the_best_on_validation_rows_and_its_file_is_the_recorded_one(world: World) -> None:
    found = {model: world.read(f"rank_{model}").manifest.metrics["validation_auc"] for model in RANKERS}
    champion = read_champion(world.read("rank_champion"))
    assert champion.validation_auc == found[champion.model] == max(found.values())
    assert file_hash(Path(world.lake.location("rank_champion", DAY)).parents[1] / champion.path) == champion.sha256


def test_the_daily_report_shows_the_finished_day_and_the_card_describes_the_champion(world: World) -> None:
    report, champion = world.read("daily_report"), read_champion(world.read("rank_champion"))
    page, card = (report.path(file).read_text(encoding="utf-8") for file in (PAGE, CARD))
    assert "missing partitions" not in page
    assert re.findall(r"Not shown[^<]*", page) == [f"Not shown: the service logged no request on {DAY} (UTC)."]
    rows = world.table("daily_report", TABLE).to_pylist()
    assert len({row["section"] for row in rows}) == 8
    (found,) = [row for row in rows if (row["name"], row["metric"]) == (champion.model, "test_auc")]
    assert found["low"] < found["value"] < found["high"]
    assert found["value"] == world.read(f"rank_{champion.model}").manifest.metrics["test_auc"]
    for said in (champion.sha256, champion.reason, "recsys rollback --all --to DAY", "AUC by slice", "user_count"):
        assert html.escape(said) in card
    client = mlflow.MlflowClient(tracking_uri(world))
    version = client.get_model_version_by_alias("sample-rank", "champion")
    assert version.tags["card.sha256"] == version.tags["sha256"] == champion.sha256
    assert version.tags["card.test_auc"] == f"{found['value']:.4f}"
    assert CARD in {file.path for file in client.list_artifacts(version.run_id or "")}


@pytest.fixture
def two_days(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the world with a report of the day before too, whose figures are twice as high."""
    copy = world.copy(tmp_path, monkeypatch)
    rows = copy.table("daily_report", TABLE).to_pylist()
    earlier = [{**row, "bizdate": YESTERDAY, "value": 2 * row["value"]} for row in rows if row["bizdate"] == DAY]
    with copy.lake.draft("daily_report", YESTERDAY) as draft:
        pq.write_table(pa.Table.from_pylist(earlier), draft.path(TABLE))
    return copy


@pytest.mark.usefixtures("two_days")
def test_the_commands_of_the_pages_show_the_day_and_compare_it_with_another() -> None:
    shown = re.compile(r"recsys (show \w+|report|report \S+ \S+[0-9])")
    commands = {command for _, command in all_commands() if shown.fullmatch(command)}
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command.replace("2026-11-18", YESTERDAY).replace("2026-11-19", DAY))
        done = CliRunner().invoke(main, words[1:])
        assert done.exit_code == 0, done.output
        assert DAY in done.output


def test_the_truth_of_the_generator_is_no_feature(world: World) -> None:
    schema = FeatureSchema.read(world.read("feature_schema").path("schema.json"))
    assert "true_probability" not in {feature.name for feature in schema.features}


def test_trained_and_exported_again_all_files_are_the_same(world: World) -> None:
    """This holds on one machine; a different processor or number of threads sums in a different order."""
    models = ("rank_widedeep", "onnx_widedeep", "rank_lgbm", "onnx_lgbm", "recall_sasrec", "onnx_sasrec")
    names = (*models, "emb_sasrec_user", "index_sasrec")
    before = {name: world.read(name).manifest for name in names}
    world.run(names, config={name: CONFIG[name] for name in names if name in CONFIG})
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


def test_other_data_of_an_asset_means_another_code_version(world: World) -> None:
    """The assets whose bytes are the same on every machine; `LEFT_OUT` says why the others are not among them."""
    graph = build_defs().resolve_asset_graph()
    unstable = dg.AssetSelection.assets(*LEFT_OUT).downstream().resolve(graph)
    # A publication names a version, which is made from the fingerprints of the inputs and so from their code versions.
    groups = {"tuning", "publish"}
    keys = {node.key for node in graph.asset_nodes if node.group_name not in groups} - unstable
    now = Records(world.lake, world.profile).of({key.to_user_string() for key in keys}, DAY)
    forgotten = unraised(read_snapshot(), now)
    assert not forgotten, f"the same input gives other data: raise code_version of {', '.join(forgotten)} or undo"
    if os.environ.get("RECSYS_UPDATE_SNAPSHOTS"):
        write_snapshot(now)
    assert now == read_snapshot(), f"code versions, inputs or assets are new: run {COMMAND}"


def test_a_code_version_that_was_not_raised_is_found() -> None:
    before = {"a": Record("1", "inputs", "data"), "b": Record("1", "inputs", "data")}
    changed = {"a": Record("1", "inputs", "other"), "c": Record("1", "inputs", "other")}
    assert unraised(before, changed) == ["a"]
    assert unraised(before, {"a": Record("2", "inputs", "other"), "b": Record("1", "others", "other")}) == []


def test_manifests_are_plain_json(world: World) -> None:
    for asset in ("interactions", "splits", "rank_widedeep", "onnx_widedeep", "rank_report"):
        text = (world.read(asset).folder / "manifest.json").read_text(encoding="utf-8")
        assert json.loads(text) == world.read(asset).manifest.content()


def test_a_model_for_cold_start_gives_every_item_a_vector_and_is_judged_on_warm_and_cold_ones(world: World) -> None:
    ids, _ = embeddings.read(world.read("emb_dropoutnet_item").path(ROWS))
    assert ids.to_pylist() == sorted(world.table("items")["item_id"].to_pylist())
    metrics = world.read("hitrate_dropoutnet").manifest.metrics
    assert metrics["warm_truths"] + metrics["cold_truths"] == metrics["truths"]
    assert metrics["warm_recall@20"] > 0


def test_the_report_on_cold_start_names_the_winner_and_compares_all_methods(world: World) -> None:
    report = world.read("cold_start_report")
    choice = json.loads(report.path("cold_start.json").read_text())
    assert choice["winner"] in choice["settings"] or choice["winner"] == "dropoutnet"
    for method in ("dropoutnet", "ridge", "aligned_ease", "neighbours", "popularity", "random", "ease", "merged"):
        assert {f"draw.{method}.{name}_ndcg@20" for name in ("cold", "warm", "all")} <= report.manifest.metrics.keys()
    assert choice["winner"] in report.path("report.md").read_text()
    assert choice["serves"] in ("dropoutnet", "ridge")
    assert report.path("report.md").read_text().splitlines()[2].startswith(f"serves: {choice['serves']}, because its")
    release = json.loads(world.read("mongo_release").path(RELEASE).read_text())
    assert release["fresh"] == {"model": choice["serves"], "because": choice["because"]}
    named = {each["partition"] for each in release["served"]["partitions"]}
    assert {f"cold_start_report/{DAY}", f"onnx_ridge/{DAY}", f"emb_ridge_item/{DAY}"} <= named
    assert Engine(world.profile, world.lake, DAY).fresh_model == choice["serves"]
