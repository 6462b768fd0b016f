"""Rows that all have the same label: which assets report it, in which words, and what is still built."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.classes import OneClass, one_class, require_both_classes
from recsys_assets.datasets.splits import PARTS
from recsys_assets.declined import NothingToLearn
from recsys_assets.lake import Lake
from recsys_assets.metrics import UndefinedMetric, ranker_metrics
from recsys_assets.models.catalogue import RANKERS, configure
from recsys_assets.ranking.bootstrap import compare
from recsys_assets.ranking.champion import Candidate, NoRankers, NothingToServe, choose
from recsys_assets.ranking.model_gates import candidate
from recsys_assets.training import rankers, recall
from recsys_assets_tests.helpers import recall_world
from recsys_assets_tests.helpers.environment import forget_tracking_uri
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.ranking_rows import quick_settings, ranking_rows, sequence_schema

DAYS = [f"2026-01-0{number}" for number in range(1, 7)]
PROFILE = """
name: one-class
first_bizdate: 2026-01-01
landing: {landing}
tables:
  interactions: {{user_id: int64, item_id: int64, rating: float32, timestamp: timestamp}}
  users: {{user_id: int64, gender: string}}
  items: {{item_id: int64, genres: strings}}
label: rating > 3
features:
  {{categorical: [user_id, item_id, gender], multi_valued: [genres], terms: {{column: genres, window: 5}},
   affinity: {{width: 4, folds: 2}}}}
split: {{strategy: per_user_tail, online_last_n: 1, test_ratio: 0.2, validation_ratio: 0.4}}
bounds: {{max_rejected_rate: 0.5, max_label_rate_change: 1.0, min_auc: 0.0, min_recall: 1.0}}
"""
COMMON = r"all \d+ rows, of 2026-01-05, 2026-01-06, have label 1"
SAID = rf"the test part has one class only: {COMMON}\. A model that learns labels needs .*: land days that have both"


def rows(labels: list[int], *days: str) -> pa.Table:
    times = pa.array([f"{day} 23:59:59" for day in days]).cast(pa.timestamp("us"))
    return pa.table({"label": labels, "timestamp": times})


def test_parts_of_one_class_are_named_with_their_days(tmp_path: Path) -> None:
    many = [f"2026-02-{day:02}" for day in range(1, 11)]
    pq.write_table(rows([1] * 10, *many), tmp_path / "test.parquet")
    parts = {"train": rows([0, 1], *DAYS[:2]), "validation": rows([0, 0], DAYS[1], DAYS[1])}
    with pytest.raises(OneClass) as refused:
        require_both_classes({**parts, "test": tmp_path / "test.parquet"})
    said = str(refused.value)
    assert "\n" not in said
    assert "the validation part has one class only: all 2 rows, of 2026-01-02, have label 0; the test part" in said
    assert "all 10 rows, of 10 days from 2026-02-01 to 2026-02-10, have label 1." in said
    assert one_class(parts["validation"].select(["label"])) == "all 2 rows have label 0"
    assert one_class(parts["train"]) == one_class(parts["train"].slice(0, 0)) == ""


@pytest.mark.parametrize("part", ["train", "validation"])
@pytest.mark.parametrize("model", RANKERS)
def test_no_ranker_trains_on_or_chooses_by_one_class(model: str, part: str) -> None:
    tables = {name: ranking_rows(300, seed)[0] for seed, name in enumerate(("train", "validation"))}
    tables[part] = tables[part].filter(pc.equal(tables[part]["label"], 1))
    epochs: list[int] = []
    with pytest.raises(OneClass, match=f"the {part} part has one class only"):
        rankers.fit(
            model,
            sequence_schema(),
            tables["train"],
            tables["validation"],
            *quick_settings(model, 1),
            seed=1,
            on_epoch=lambda n, _: epochs.append(n),
        )
    assert not epochs


def relabelled(part: str, label: int) -> recall.Source:
    """The small recall problem with one label for all rows of a part."""
    source = recall_world.source()
    events = source.interactions
    labels = np.where(events.parts == PARTS.index(part), np.int8(label), events.labels)
    return replace(source, interactions=replace(events, labels=labels))


@pytest.mark.parametrize(("part", "absent"), [("validation", "validation_auc"), ("test", "test_auc")])
def test_a_recall_method_that_learns_labels_is_built_without_the_auc_that_is_not_defined(
    part: str, absent: str
) -> None:
    source = relabelled(part, 1)
    fitted = recall.fit("fm", recall_world.schema(), source, *configure("fm", {}, {"epochs": 2, "batch": 256}), seed=1)
    found = recall.kept_metrics(fitted, source)
    assert {"validation_auc", "test_auc", "validation_ndcg@20", "validation_recall@20"} - found.keys() == {absent}
    assert np.isfinite(list(found.values())).all()


def test_a_recall_method_that_learns_labels_needs_both_in_the_train_rows() -> None:
    with pytest.raises(NothingToLearn, match="every train row has label 1"):
        recall.fit("fm", recall_world.schema(), relabelled("train", 1), *configure("fm", {}, {"epochs": 1}), seed=1)


@pytest.mark.parametrize("model", ["fm", "dssm"])
def test_without_a_positive_to_choose_by_a_recall_method_says_so_before_it_trains(model: str) -> None:
    epochs: list[int] = []
    with pytest.raises(NothingToLearn, match="validation"):
        recall.fit(
            model,
            recall_world.schema(),
            relabelled("validation", 0),
            *configure(model, {}, {"epochs": 1}),
            seed=1,
            on_epoch=lambda n, _: epochs.append(n),
        )
    assert not epochs


def test_a_metric_that_rows_do_not_define_is_absent_with_its_reason_and_broken_scores_are_refused() -> None:
    labels, scores, users = np.array([1, 0, 1, 0]), np.array([0.9, 0.1, 0.8, 0.3]), np.array([0, 1, 0, 1])
    found, absent = ranker_metrics(labels, scores, users)
    assert found.keys() == {"auc", "logloss", "calibration_error"}
    assert absent == {"gauc": "no group has both classes"}
    found, absent = ranker_metrics(np.ones(4), scores)
    assert found.keys() == {"logloss", "calibration_error"}
    assert absent == {"auc": "every row has the same label"}
    with pytest.raises(UndefinedMetric, match="not numbers"):
        ranker_metrics(labels, np.array([0.9, np.nan, 0.8, 0.3]))


@pytest.mark.filterwarnings("error")
def test_rankers_are_compared_by_what_the_rows_define() -> None:
    """With one test row per user there is an AUC but no GAUC."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200).astype(np.float64)
    compared = compare(labels, {"a": rng.random(200), "b": rng.random(200)}, "a", np.arange(200))
    assert {name: figures.keys() for name, figures in compared.intervals.items()} == dict.fromkeys(
        ("a", "b"), {"test_auc", "test_logloss"}
    )
    assert compared.differences["b"].keys() == {"test_auc", "test_logloss"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Six days of 80 ratings, all of them 5 on the last two days, and a lake for them."""
    home, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(7)
    landing = home / "landing"
    for number, day in enumerate(DAYS):
        ratings = np.full(80, 5.0) if number >= 4 else rng.integers(1, 6, 80).astype(np.float64)
        start = np.datetime64(day, "s").astype(np.int64)
        events = {
            "user_id": np.tile(np.arange(1, 41), 2),
            "item_id": rng.integers(101, 141, 80),
            "rating": ratings,
            "timestamp": start + np.arange(80) * 60,
        }
        (landing / "interactions" / f"bizdate={day}").mkdir(parents=True)
        pq.write_table(pa.table(events), landing / "interactions" / f"bizdate={day}" / "rows.parquet")
    users = {"user_id": range(1, 41), "gender": ["F", "M"] * 20}
    items = {"item_id": range(101, 141), "genres": [["a"], ["b"]] * 20}
    for table, columns in {"users": users, "items": items}.items():
        (landing / table).mkdir()
        pq.write_table(pa.table(columns), landing / table / "rows.parquet")
    (home / "profile.yaml").write_text(PROFILE.format(landing=landing))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_DATA", str(home))
        patch.setenv("RECSYS_PROFILE", str(home / "profile.yaml"))
        forget_tracking_uri(patch)
        assert materialize(["interactions"], DAYS[0], DAYS[-1]).success
        yield Lake(str(home / "lake"), "one-class")


@pytest.fixture(scope="module")
def result(world: Lake) -> dg.ExecuteInProcessResult:  # noqa: ARG001 (the assets are written to it)
    """Ranking and recall assets of the last day, with everything they need."""
    needed = ["+rank_samples", "feature_schema", "recall_samples", "negative_items", "recall_term", "hitrate_term"]
    return materialize([*needed, "rank_lgbm", "rank_widedeep", "tune_lgbm", "recall_fm"], DAYS[-1])


@pytest.mark.fails_check("rank_samples:parts_have_both_classes", "recall_*:recall_floor")
def test_ranking_assets_name_part_and_days_and_the_rest_of_the_day_is_built(
    world: Lake, result: dg.ExecuteInProcessResult
) -> None:
    assert not failures(result)
    assert "failed recall_floor" in world.manifest("recall_fm", DAYS[-1]).below_floor  # the profile's floor is 1
    for asset in ("rank_lgbm", "rank_widedeep", "tune_lgbm"):
        manifest = world.manifest(asset, DAYS[-1])
        assert re.search(SAID, manifest.declined)
        assert (manifest.files, manifest.mlflow_run_id) == ({}, None)
    (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "parts_have_both_classes"]
    assert not check.passed
    assert re.fullmatch(COMMON, str(check.metadata["test"].value))
    (event,) = result.asset_materializations_for_node("recall_fm")
    assert re.fullmatch(f"test_auc: {COMMON}", str(event.metadata["not measured"].value))
    assert "test_auc" not in world.manifest("recall_fm", DAYS[-1]).metrics
    assert world.manifest("hitrate_term", DAYS[-1]).metrics["recall@20"] > 0


def test_the_champion_tells_why_there_is_no_ranker(world: Lake, result: dg.ExecuteInProcessResult) -> None:
    assert result.success
    found = candidate(world, "lgbm", DAYS[-1], "model.onnx", DAYS[-1])
    assert re.match(f"rank_lgbm cannot be built: {SAID}", found.why_not)
    assert re.match(SAID, found.declined)
    with pytest.raises(NoRankers, match=SAID):
        choose([found])
    assert choose([found], Candidate("lgbm", DAYS[0], 0.7))[0].bizdate == DAYS[0]
    failed = Candidate("deepfm", DAYS[-1], why_not="rank_deepfm failed onnx_matches")
    with pytest.raises(NoRankers, match="; rank_deepfm failed onnx_matches"):
        choose([found, failed])
    with pytest.raises(NothingToServe, match="onnx_matches"):
        choose([failed])
