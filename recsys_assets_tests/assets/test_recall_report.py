"""Term recall and the evaluation of recall on a small generated world: all assets run in process, for two days."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.reports import recall_report
from recsys_assets.assets.reports.hitrate import LENGTH
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel.by_vector import BEFORE_TEST
from recsys_assets.funnel.channels import TERM_ITEMS, USER_TERMS
from recsys_assets.funnel.methods import BASELINES, RECALL_METHODS
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.io_managers import CAN_BE_BUILT, UP_TO_DATE
from recsys_assets.retrieval import embeddings, lists
from recsys_assets.retrieval.details import DETAILS
from recsys_assets.retrieval.interactions import Interactions, Queries, queries, read
from recsys_assets.retrieval.lists import chance_recall, evaluate
from recsys_assets.retrieval.order import Order
from recsys_assets.retrieval.term import Taste, item_terms, recommend
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, open_world

ALL = [f"hitrate_{method}" for method in RECALL_METHODS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world in which the evaluation has been materialized for two days."""
    with open_world(tmp_path_factory.mktemp("world"), users=200, items=400, events=20_000, days=12) as world:
        for day in (YESTERDAY, DAY):
            world.run(["users", "items", "splits", "recall_samples", "recall_term", "i2i_itemcf", "i2i_swing"], day)
            world.write_vectors(day, users=slice(1, None), items=slice(None, None, 2))
            world.result = world.run([*ALL, "recall_report"], day)
        yield world


def ask(world: World) -> tuple[Interactions, Queries]:
    """The events, and what is asked about the test rows."""
    interactions = read(world.read("recall_samples").path(ROWS))
    return interactions, queries(interactions, "test", True)


def checks(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, bool]:
    found = [check for check in result.get_asset_check_evaluations() if check.asset_key == dg.AssetKey(asset)]
    return {check.check_name: check.passed for check in found if check.check_name not in (UP_TO_DATE, CAN_BE_BUILT)}


def test_every_list_is_sound_and_popularity_and_terms_beat_chance(world: World) -> None:
    for asset in ALL:
        assert {"lists_are_sound": True, "unique_keys": True}.items() <= checks(world.result, asset).items()
    assert checks(world.result, "hitrate_popularity")["better_than_random"]
    assert checks(world.result, "hitrate_term")["better_than_random"]
    assert "better_than_random" not in checks(world.result, "hitrate_random")


def test_the_lists_of_all_methods_answer_the_same_queries_about_the_test_rows(world: World) -> None:
    interactions, asked = ask(world)
    for asset in ALL:
        details = world.table(asset, DETAILS)
        assert details.column_names == ["id", "topk_ids", "topk_dists", "hitrate", "hit_ids"]
        assert details["id"].to_pylist() == interactions.user_ids[asked.users].tolist()
        metrics = world.read(asset).manifest.metrics
        assert (metrics["queries"], metrics["truths"]) == (len(asked), len(asked.truth))
        assert world.read(asset).manifest.rows == len(asked)


def test_metrics_follow_from_the_details_alone(world: World) -> None:
    interactions, asked = ask(world)
    known = interactions.before("test")
    catalogue = set(interactions.item_ids[np.unique(known.items)].tolist())
    sizes = asked.truth_sizes.tolist()
    for asset in ("hitrate_popularity", "hitrate_term", "hitrate_fm"):
        details = world.table(asset, DETAILS).to_pylist()
        metrics = world.read(asset).manifest.metrics
        for k in (20, 50, 200):
            hits = [len(set(row["topk_ids"][:k]) & set(row["hit_ids"])) for row in details]
            assert metrics[f"hitrate@{k}"] == pytest.approx(sum(hits) / sum(sizes))
            assert metrics[f"recall@{k}"] == pytest.approx(np.mean([h / n for h, n in zip(hits, sizes, strict=True)]))
            assert metrics[f"precision@{k}"] == pytest.approx(np.mean(hits) / k)
            shown = {item for row in details for item in row["topk_ids"][:k]}
            assert metrics[f"coverage@{k}"] == pytest.approx(len(shown & catalogue) / len(catalogue))
        assert {f"{metric}@{k}" for metric in ("map", "ndcg") for k in (20, 50, 200)} <= metrics.keys()
        assert [row["hitrate"] for row in details] == pytest.approx(
            [len(row["hit_ids"]) / size for row, size in zip(details, sizes, strict=True)]
        )


def test_random_lists_are_as_good_as_chance(world: World) -> None:
    interactions, asked = ask(world)
    catalogue = interactions.before("test").item_counts > 0
    expected = chance_recall(interactions, [asked], catalogue, 50, True)
    hitrates = world.table("hitrate_random", DETAILS).to_pylist()
    hits = [len(set(row["topk_ids"][:50]) & set(row["hit_ids"])) for row in hitrates]
    recalls = np.array(hits) / asked.truth_sizes
    assert abs(recalls.mean() - expected) < 4 * recalls.std() / np.sqrt(len(recalls))


def test_vectors_are_searched_by_inner_product_among_the_items_that_have_one(world: World) -> None:
    interactions, asked = ask(world)
    details = {row["id"]: row for row in pq.read_table(world.read("hitrate_dssm").path(DETAILS)).to_pylist()}
    user_ids, users = embeddings.read(world.read("emb_dssm_user").path(BEFORE_TEST))
    item_ids, items = embeddings.read(world.read("emb_dssm_item").path(ROWS))
    absent = set(interactions.user_ids.tolist()) - set(user_ids.to_pylist())
    assert len(absent) == 1
    assert all(details[user]["topk_ids"] == [] for user in absent & details.keys())
    for query in (1, 20, 50):
        user = interactions.user_ids[asked.users[query]]
        seen = set(interactions.item_ids[interactions.items[asked.starts[query] : asked.ends[query]]].tolist())
        scores = items.astype(float) @ users[user_ids.to_pylist().index(user)].astype(float)
        order = sorted(zip(-scores, item_ids.to_pylist(), strict=True))
        expected = [(-score, item) for score, item in order if item not in seen][:LENGTH]
        assert details[user]["topk_ids"] == [item for _, item in expected]
        assert details[user]["topk_dists"] == pytest.approx([score for score, _ in expected], abs=1e-5)


def test_neighbours_are_recommended_from_the_file_as_from_memory(world: World) -> None:
    interactions, asked = ask(world)
    settings = ItemCF(**world.read("i2i_itemcf").manifest.config)
    found = itemcf(interactions.before("test"), settings).lists
    score = trigger_scores(found, interactions, asked, **settings.asking)
    listed = lists.recommend(score, interactions, asked, LENGTH, True)
    metrics = world.read("hitrate_itemcf").manifest.metrics
    expected = evaluate(listed.items, asked)
    assert {name: metrics[name] for name in expected} == expected


def test_terms_are_recommended_from_the_files_as_from_memory(world: World) -> None:
    interactions, asked = ask(world)
    weights = item_terms(world.table("items"), "genres", interactions.item_ids)
    settings = world.read("recall_term").manifest.config
    taste = Taste(settings["window"], settings["decay"], settings["max_terms"])
    listed = recommend(interactions, asked, "test", weights, taste, LENGTH, True)
    metrics = world.read("hitrate_term").manifest.metrics
    found = evaluate(listed.items, asked)
    assert {name: metrics[name] for name in found} == found
    assert metrics["recall@50"] > world.read("hitrate_random").manifest.metrics["recall@50"]


def test_every_user_has_terms_and_their_lists_are_sorted(world: World) -> None:
    users = world.table("users")["user_id"].to_pylist()
    partition = world.read("recall_term")
    rows = pq.read_table(partition.path(USER_TERMS)).to_pylist()
    assert [row["user_id"] for row in rows] == users
    assert all(0 < len(row["terms"]) <= Taste().max_terms for row in rows)
    for row in pq.read_table(partition.path(TERM_ITEMS)).to_pylist():
        order = [(-entry["score"], entry["item_id"]) for entry in row["items"]]
        assert order == sorted(order)
    shares = [partition.manifest.metrics[f"share_{level}"] for level in ("recent", "history", "everyone")]
    assert sum(shares) == pytest.approx(1)
    assert partition.manifest.metrics["validation_recall@50"] > 0


def test_the_report_sets_all_methods_side_by_side_with_the_figures_of_the_day_before(world: World) -> None:
    report = world.read("recall_report")
    for method in RECALL_METHODS:
        metrics = world.read(f"hitrate_{method}").manifest.metrics
        for metric in recall_report.RECALL_METRICS:
            assert report.manifest.metrics[f"{method}.{metric}"] == metrics[metric]
    text = report.path("report.md").read_text(encoding="utf-8")
    today, yesterday = (world.read("hitrate_term", day).manifest.metrics["recall@20"] for day in (DAY, YESTERDAY))
    assert today != yesterday
    assert f"| term | {today:.4f} ({yesterday:.4f}) |" in text
    first = world.read("recall_report", YESTERDAY).path("report.md").read_text(encoding="utf-8")
    assert f"| term | {yesterday:.4f} |" in first
    recalls = {method: report.manifest.metrics[f"{method}.recall@20"] for method in RECALL_METHODS}
    beaten = max(recalls[name] for name in recalls.keys() - set(BASELINES)) > recalls["popularity"]
    assert checks(world.result, "recall_report") == {"best_beats_popularity": beaten}


def test_what_a_method_adds_is_what_the_union_loses_without_it(world: World) -> None:
    _, asked = ask(world)
    found: dict[str, list[set[int]]] = {}
    for method in RECALL_METHODS:
        rows = world.table(f"hitrate_{method}", DETAILS).to_pylist()
        found[method] = [set(row["topk_ids"][:50]) & set(row["hit_ids"]) for row in rows]
    for baseline in BASELINES:
        del found[baseline]

    def union(methods: set[str]) -> float:
        hits = [len(set().union(*(found[method][n] for method in methods))) for n in range(len(asked))]
        return float(np.mean(np.array(hits) / asked.truth_sizes))

    metrics = world.read("recall_report").manifest.metrics
    assert metrics["union.recall@50"] == pytest.approx(union(set(found)))
    for method in found:
        lost = union(set(found)) - union(set(found) - {method})
        assert metrics[f"{method}.adds@50"] == pytest.approx(lost, abs=1e-12)
    assert not {f"{baseline}.adds@50" for baseline in BASELINES} & metrics.keys()


def test_the_first_lines_name_the_methods_below_popularity_and_by_how_much(world: World) -> None:
    report = world.read("recall_report")
    recalls = {name: report.manifest.metrics[f"{name}.recall@20"] for name in RECALL_METHODS}
    best = max(recalls["popularity"], recalls["popularity_week"])
    below = {name for name in recalls if recalls[name] < best} - {"popularity", *BASELINES}
    assert {"fm", "dssm"} <= below  # their vectors are random
    first = report.path("report.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert re.match(rf"\*\*Below popularity(_week)? \(recall@20 {best:.4f}\): ", first)
    assert set(re.findall(r"(\w+) by 0\.", first)) == below
    assert f"fm by {best - recalls['fm']:.4f}" in first


def test_the_reason_is_named_where_the_data_tell_it(world: World) -> None:
    interactions, _ = ask(world)
    figures = {name: {"recall@20": value} for name, value in {"popularity": 0.3, "fm": 0.1, "random": 0.0}.items()}
    (unordered,) = recall_report.below_popularity(figures, interactions, Order(0.97, dated=True))
    assert "fm by 0.2000" in unordered
    assert "97% of the events have the same time" in unordered
    assert "FM learns what people like among the items that they touch" in unordered
    few = interactions.where(np.arange(len(interactions)) % 20 == 0)
    (small,) = recall_report.below_popularity(figures, few, Order(0.1, dated=False))
    assert "rows to learn from" in small
    assert re.search(r"Half of the touched items have at most \d events", small)
    assert "Half of the touched items" not in unordered
    (bare,) = recall_report.below_popularity(
        {**figures, "dssm": {"recall@20": 0.2}} | {"fm": {"recall@20": 0.4}}, few, Order(0.1, False)
    )
    assert "FM" not in bare
    assert "only" not in small
    (three,) = recall_report.below_popularity(figures, interactions.where(interactions.users < 3), Order(0.1, False))
    assert "only 3 users" in three
    sessions = replace(interactions, anonymous=np.arange(len(interactions.user_ids)) >= 3)
    assert "only 3 users" in recall_report.below_popularity(figures, sessions, Order(0.1, False))[0]
    assert recall_report.below_popularity({"popularity": {"recall@20": 0.0}}, interactions, Order(0.1, False)) == []


def test_the_week_before_counts_for_each_query_and_the_lists_are_full(world: World) -> None:
    interactions, asked = ask(world)
    samples = world.table("recall_samples")
    day = np.array(samples["timestamp"].to_numpy(), "datetime64[D]")
    items, labels = samples["item_id"].to_numpy(), samples["label"].to_numpy()
    before = samples["part"].to_numpy(zero_copy_only=False) != "test"
    details = world.table("hitrate_popularity_week", DETAILS)["topk_ids"].to_pylist()
    for query in (0, len(asked) - 1):
        moment = day[asked.ends[query]]
        recent = before & (day < moment) & (day >= moment - 7) & (labels > 0)
        ids, counts = np.unique(items[recent], return_counts=True)
        seen = set(interactions.item_ids[interactions.items[asked.starts[query] : asked.ends[query]]].tolist())
        left = {int(item): int(count) for item, count in zip(ids, counts, strict=True) if int(item) not in seen}
        best = sorted(left.values(), reverse=True)[:LENGTH]
        assert [left[item] for item in details[query][: len(best)]] == best
        assert len(details[query]) == LENGTH


def test_the_day_before_is_upstream_of_the_report_and_made_again_it_is_the_same(world: World) -> None:
    first = world.read("recall_report").manifest
    assert {f"{asset}/{day}" for asset in ALL for day in (DAY, YESTERDAY)} <= first.upstream.keys()
    before = world.read("recall_report", YESTERDAY).manifest
    assert set(before.upstream) == {f"{asset}/{YESTERDAY}" for asset in ["recall_samples", *ALL]}
    world.run([*ALL, "recall_report"])
    assert world.read("recall_report").manifest.fingerprint == first.fingerprint


def test_plots_are_small_enough_for_the_event_log(world: World) -> None:
    for asset, plot in (("hitrate_term", "curves"), ("recall_report", "recall@50")):
        text = str(world.metadata(asset)[plot].value)
        assert text.startswith("![plot](data:image/png;base64,")
        assert len(text) < 100_000


@pytest.mark.fails_check("hitrate_*:better_than_random")
def test_a_method_worse_than_chance_is_said_to_be_so_and_blocks_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, (interactions, _) = world.copy(tmp_path, monkeypatch), ask(world)
    counts = interactions.item_counts.astype(np.float32)[:, None]
    ones = np.ones((len(interactions.user_ids), 1), np.float32)
    files = {"user": (interactions.user_ids, ones, BEFORE_TEST), "item": (interactions.item_ids, -counts, ROWS)}
    for side, (ids, vectors, file) in files.items():
        with other.lake.draft(f"emb_fm_{side}", DAY) as draft:
            embeddings.write(draft.path(file), f"{side}_id", ids, vectors)
    result = other.run(["hitrate_fm"])
    assert checks(result, "hitrate_fm") == {"lists_are_sound": True, "unique_keys": True, "better_than_random": False}
    assert other.read("hitrate_fm").manifest.failed_checks == []
