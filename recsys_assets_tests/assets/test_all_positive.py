"""A log without a negative and items without terms: what can be built is built, judged, merged and published."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.publish.collections import publication
from recsys_assets.assets.publish.release import RELEASE
from recsys_assets.assets.reports.funnel_report import RECOMMENDATIONS
from recsys_assets.definitions import build_defs
from recsys_assets.models.catalogue import RANKERS, TRAINED_TOWERS
from recsys_assets.resources import Stores
from recsys_assets_tests.helpers.in_process import QUIET, failed_checks, failures
from recsys_assets_tests.helpers.worlds import DAY, World, open_world

QUICK = {"training": {"epochs": 1, "batch": 512}}
NETWORKS = {"sasrec": {"width": 16, "history": 20, "blocks": 1}, "dssm": {"embedding": 8, "hidden": [16]}}
CONFIG: dict[str, Any] = {
    f"recall_{model}": {"config": {**QUICK, "model": NETWORKS.get(model, {})}} for model in TRAINED_TOWERS
}
CHANGES = {
    "name": "purchases",
    "label": "rating > 0",
    "split": {"strategy": "per_user_tail", "online_last_n": 2, "test_ratio": 0.2, "validation_ratio": 0.2},
    "features": {"terms": None, "affinity": {"width": 4, "folds": 2}},
    "bounds": {"min_recall": 0.0},
}
NO_TERMS, ONE_CLASS = "no `features.terms`", "the train part has one class only"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which the daily job has run."""
    with open_world(tmp_path_factory.mktemp("world"), CHANGES, users=80, items=60, events=3000, days=8) as world:
        job = build_defs().resolve_job_def("everything")
        world.result = job.execute_in_process(
            partition_key=DAY, run_config={**QUIET, "ops": CONFIG}, raise_on_error=False
        )
        yield world


def text(world: World, report: str) -> list[str]:
    """The paragraphs of a report."""
    return world.read(report).path("report.md").read_text(encoding="utf-8").split("\n\n")


def test_nothing_fails_and_what_cannot_be_built_says_why(world: World) -> None:
    assert failures(world.result) == {}
    assert world.result.success
    declined = {name: world.lake.manifest(name, DAY).declined for name in world.lake.assets() if name != "interactions"}
    declined = {name: reason for name, reason in declined.items() if reason}
    by_terms = {"recall_term", "hitrate_term", "mongo_term"}
    of_rankers = {f"{stage}_{model}" for model in RANKERS for stage in ("rank", "onnx")}
    of_fm = {"recall_fm", "onnx_fm", "index_fm", "hitrate_fm"}
    of_fm |= {f"{store}emb_fm_{side}" for store in ("", "mongo_") for side in ("user", "item")}
    assert declined.keys() == by_terms | of_rankers | of_fm | {"rank_champion"}
    assert all(NO_TERMS in declined[name] for name in by_terms)
    assert all(ONE_CLASS in declined[name] for name in of_rankers | {"rank_champion"})
    assert all("every train row has label 1" in declined[name] for name in of_fm)
    failed = {check.partition(":")[0] for check in failed_checks(world.result) if check.endswith(":can_be_built")}
    assert failed == declined.keys()


def test_each_report_says_first_and_once_what_is_missing(world: World) -> None:
    title, *missing = text(world, "recall_report")[:3]
    assert title.startswith("# Recall")
    assert missing[0].startswith("**Left out: hitrate_fm.** every train row")
    assert missing[1].startswith("**Left out: hitrate_term.** the profile has no")
    assert text(world, "rank_report")[1].startswith("**Left out: rank_deepfm, rank_")
    assert ONE_CLASS in text(world, "rank_report")[1]
    assert any("rank_champion" in each and ONE_CLASS in each for each in text(world, "funnel_report")[1:5])


def test_the_funnel_is_made_of_what_there_is(world: World) -> None:
    metrics = world.read("funnel_report").manifest.metrics
    assert metrics["final.ndcg@50"] > 0
    assert {"popularity.ndcg@50", "itemcf.ndcg@50", "sasrec.ndcg@50"} <= metrics.keys()
    assert not {"term.ndcg@50", "fm.ndcg@50"} & metrics.keys()
    lists = pq.read_table(world.read("funnel_report").path(RECOMMENDATIONS))["items"].combine_chunks().flatten()
    assert np.isfinite(lists.field("score").to_numpy()).all()
    assert len(lists) > 0


def test_what_there_is_goes_live_as_one_set(world: World) -> None:
    release = world.read("mongo_release")
    published = {
        name.removeprefix("mongo_")
        for name in world.lake.assets()
        if name.startswith("mongo_") and world.lake.manifest(name, DAY).files and name != "mongo_release"
    }
    assert {"user", "item", "item_feature", "itemcf", "swing", "emb_sasrec_user"} <= published
    user = str(world.table("users")["user_id"][0])
    with Stores(profile=str(world.home / "own.yaml")).open("mongo") as store:
        live = {name: store.live_version(name) for name in published}
        (row,) = store.read("user", [user], live["user"] or "").to_pylist()
    assert live == {name: publication(world.read(f"mongo_{name}"))["version"] for name in published}
    assert row["terms"] == []
    assert '"champion": null' in release.path(RELEASE).read_text(encoding="utf-8")
