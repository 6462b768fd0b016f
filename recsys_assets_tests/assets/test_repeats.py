"""A shop log in which people come back to items: every method and report has them, and is the better for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.arrays import is_among
from recsys_assets.assets.reports.funnel_report import RECOMMENDATIONS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.funnel.methods import RECALL_METHODS
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS, TRAINED_TOWERS
from recsys_assets.retrieval.details import DETAILS, read_items
from recsys_assets.retrieval.interactions import Interactions, queries, read
from recsys_assets.retrieval.lists import evaluate, history
from recsys_assets.stores import collections
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.shop_log import generate, land_shop
from recsys_assets_tests.helpers.worlds import own_environment

PROFILE: dict[str, Any] = {
    "name": "again",
    "first_bizdate": "2026-01-01",
    "tables": {
        "interactions": {"user_id": "int64", "item_id": "int64", "timestamp": "timestamp", "kind": "string"},
        "users": {"user_id": "int64", "region": "int64"},
        "items": {"item_id": "int64", "category": "strings"},
    },
    "events": {"column": "kind", "weights": {"view": 1, "cart": 3, "order": 10}, "recall": ["cart", "order"]},
    "features": {
        "categorical": ["user_id", "item_id", "region"],
        "multi_valued": ["category"],
        "terms": {"column": "category"},
        "affinity": {"width": 4, "folds": 2},
    },
    "split": {"strategy": "leave_last_n", "test_last_n": 6, "online_last_n": 6},
    "recall": {"filter_seen": False},
    "publishing": {"vectors": "simplex"},
    "bounds": {"max_label_rate_change": 1.0},
}
TABLES = [
    "users",
    "items",
    "splits",
    "factors",
    "event_features",
    "rank_samples",
    "recall_samples",
    "feature_schema",
    "negative_items",
]
TABLES += ["cold_start_samples", "feature_boundaries"]
METHODS = ["recall_term", "i2i_itemcf", "i2i_swing", *(f"recall_{model}" for model in TOWERS)]
VECTORS = [f"emb_{model}_{side}" for model in TOWERS for side in ("user", "item")]
REPORTS = [*(f"hitrate_{name}" for name in RECALL_METHODS), "user_features", "item_features", "recall_report"]
NETWORKS: dict[str, Any] = {"sasrec": {"width": 16, "history": 20, "blocks": 1}, "dssm": {"hidden": [16]}}
QUICK = {"epochs": 3, "batch": 256, "learning_rate": 0.01}
CONFIG = {f"recall_{model}": {"training": QUICK, "model": NETWORKS.get(model, {})} for model in TRAINED_TOWERS}
K = 20


class Again:
    """A lake with all recall methods and the funnel of the last day."""

    def __init__(self, home: Path) -> None:
        content = {**PROFILE, "landing": str(home / "landing")}
        (home / "profile.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        shop = generate(users=120, items=150, visits=3500, days=6, focus=1.0, seed=3)
        days = land_shop(shop, home / "landing")
        assert failures(materialize(["interactions"], days[0], days[-1])) == {}
        assets = [*TABLES, *METHODS, *VECTORS, *REPORTS, "funnel_model", "funnel_report"]
        assert failures(materialize(assets, days[-1], config=CONFIG)) == {}
        self.lake, self.day = Lake(str(home / "lake"), "again"), days[-1]

    def read(self, asset: str) -> Partition:
        return self.lake.read(asset, self.day)

    @property
    def events(self) -> Interactions:
        return read(self.read("recall_samples").path(ROWS))

    @property
    def profile(self) -> Profile:
        return load_profile()


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Again]:
    home = tmp_path_factory.mktemp("again")
    with own_environment(home):
        yield Again(home)


@pytest.mark.parametrize("name", [name for name in RECALL_METHODS if name != "random"])
def test_a_method_lists_items_again_and_is_the_better_for_it(again: Again, name: str) -> None:
    events, method = again.events, RECALL_METHODS[name]
    asked = queries(events, "test", filter_seen=False)
    (found,) = read_items(again.read(f"hitrate_{name}").path(DETAILS), events, asked, K)
    row, item = history(events, asked, slice(0, len(asked)))
    width = len(events.item_ids)
    known, listed = row * width + item, np.arange(len(asked))[:, None] * width + found
    assert is_among(listed, known).sum() > len(asked), "more than one a list"
    partitions = [again.read(asset) for asset in method.reads]
    others = method.lists(events, asked, K, True, *partitions).items
    recall, filtered = (evaluate(items, asked, [K])[f"recall@{K}"] for items in (found, others))
    assert recall > filtered + 0.1
    assert again.read("recall_report").manifest.metrics[f"{name}.recall@{K}"] == pytest.approx(recall)


def test_an_item_asks_for_itself_where_that_is_better(again: Again) -> None:
    recall = again.read("recall_report").manifest.metrics
    for name in ("itemcf", "swing"):
        assert again.read(f"i2i_{name}").manifest.config["own"] > 0
        assert recall[f"{name}.recall@{K}"] > recall[f"popularity.recall@{K}"]


def test_the_funnel_recommends_items_again(again: Again) -> None:
    metrics = again.read("funnel_report").manifest.metrics
    assert metrics["truths_seen_before"] == 0
    assert metrics["truths_recommended"] > 0.8 * metrics["truths"]
    assert metrics["final.ndcg@50"] > metrics["popularity.ndcg@50"]
    final = pq.read_table(again.read("funnel_report").path(RECOMMENDATIONS))
    offline = pq.read_table(again.read("splits").path(ROWS), filters=[("part", "!=", "online")])
    items = final["items"].combine_chunks()
    users = final["user_id"].to_numpy()[pc.list_parent_indices(items).to_numpy()]
    pairs = (each * 10_000 for each in (users, offline["user_id"].to_numpy()))
    listed, seen = (
        pair + item
        for pair, item in zip(
            pairs, (items.flatten().field("item_id").to_numpy(), offline["item_id"].to_numpy()), strict=True
        )
    )
    assert is_among(listed, seen).sum() > 5 * final.num_rows


def test_what_is_published_counts_repeats_and_leaves_nothing_out(again: Again) -> None:
    inputs = {name: again.read(name) for name in ("emb_simplex_user", "users", "recall_term", "recall_samples")}
    state = collections.recall_state(again.profile, inputs)
    assert pc.list_value_length(state["filter"]).to_pylist() == [0] * state.num_rows
    both = inputs | {"user_features": again.read("user_features")}
    seen = collections.users(again.profile, both)["seen_items"]
    offline = pq.read_table(again.read("splits").path(ROWS), filters=[("part", "!=", "online")])
    assert pc.sum(pc.list_value_length(seen)).as_py() == offline.num_rows
    counts = dict(zip(*np.unique(offline["item_id"].to_numpy(), return_counts=True), strict=True))
    snapshot = pq.read_table(again.read("item_features").path(ROWS), columns=["item_id", "item_count"])
    expected = np.log1p([counts.get(item, 0) for item in snapshot["item_id"].to_pylist()])
    np.testing.assert_allclose(snapshot["item_count"].to_numpy(), expected, rtol=1e-6)
