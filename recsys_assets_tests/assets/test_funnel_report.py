"""The funnel on a small generated world with an online part: the report, and the command that shows one user's list."""

import json
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from recsys_assets.arrays import find
from recsys_assets.assets import assets_of
from recsys_assets.assets.funnel import model as funnel_model
from recsys_assets.assets.publish.onnx import MODEL
from recsys_assets.assets.reports.funnel_report import RECOMMENDATIONS
from recsys_assets.cli import main
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import bundled_profiles, load_profile
from recsys_assets.features.pair_data import ItemSnapshot
from recsys_assets.features.pair_features import candidate_rows
from recsys_assets.funnel import learning, recommendations
from recsys_assets.funnel.evaluation import NAMES
from recsys_assets.funnel.funnel import NEEDED, Funnel, events_of, open_channels
from recsys_assets.funnel.inputs import OPTIONAL, Inputs, read_inputs
from recsys_assets.funnel.methods import CHANNELS
from recsys_assets.funnel.model import DESCRIPTION, FunnelLists, Sizes
from recsys_assets.funnel.scoring import NotTheChampion, open_champion
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.lake import Lake
from recsys_assets.ranking.champion import read_champion
from recsys_assets.resources import LakeStore
from recsys_assets.retrieval import embeddings
from recsys_assets.retrieval.interactions import from_table, user_queries
from recsys_assets.settings import settings
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.funnel_world import funnel_world
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.worlds import DAY, World

CHAMPION_FILES = ("onnx_lgbm", "rank_lgbm")
Lists = dict[int, list[dict[str, Any]]]


def rows(world: World, asset: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = world.table(asset).to_pylist()
    return found


def touched(world: World, *parts: str) -> dict[int, set[int]]:
    """Each user's items in some parts."""
    found: dict[int, set[int]] = {row["user_id"]: set() for row in rows(world, "users")}
    for row in rows(world, "splits"):
        if row["part"] in parts:
            found[row["user_id"]].add(row["item_id"])
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with funnel_world(tmp_path_factory) as world, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "250")  # no line of a table wraps
        world.result = world.run(["funnel_report"])
        yield world


@pytest.fixture(scope="module")
def final_lists(world: World) -> Lists:
    """The final lists by user, as they were before any test."""
    return {row["user_id"]: row["items"] for row in world.table("funnel_report", RECOMMENDATIONS).to_pylist()}


def everything(world: World) -> Inputs:
    """All that the funnel reads."""
    lake = LakeStore(profile=settings().profile)
    return read_inputs(load_profile(), lake.lake, DAY, {asset: world.read(asset) for asset in NEEDED})


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def shown(said: str) -> tuple[list[int], list[int]]:
    """The items of the history and of the list in the command's output."""
    history, listed = (
        [int(item) for item in re.findall(r"^ ?\d+ +(\d+) ", table, re.MULTILINE)]
        for table in said.split("recommended to")
    )
    return history, listed


def test_every_user_has_a_sound_list_of_what_channels_found(world: World, final_lists: Lists) -> None:
    checks = {check.check_name: check.passed for check in world.result.get_asset_check_evaluations()}
    assert {"lists_are_sound": True, "unique_keys": True}.items() <= checks.items()
    assert "final_beats_all" in checks
    seen = touched(world, "train", "validation", "test")
    assert final_lists.keys() == seen.keys()
    catalogue = set().union(*seen.values())
    for user, listed in final_lists.items():
        items = [entry["item_id"] for entry in listed]
        assert len(set(items)) == len(items) == min(Sizes().final, len(catalogue - seen[user]))
        assert not set(items) & seen[user]
        scores = [entry["score"] for entry in listed]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < entry["probability"] < 1 for entry in listed)
        assert all(set(entry["channels"]) <= set(CHANNELS) and entry["channels"] for entry in listed)


@pytest.mark.fails_check("funnel_report:lists_are_sound", "funnel_report:unique_keys")
def test_an_item_listed_twice_and_a_user_with_two_lists_close_the_gate(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommend, table = Funnel.lists, recommendations.table

    def recommend_twice(*given: Any) -> FunnelLists:
        found = recommend(*given)
        found.final.lists.items[:, 1] = found.final.lists.items[:, 0]
        return found

    monkeypatch.setattr(Funnel, "lists", recommend_twice)
    monkeypatch.setattr(recommendations, "table", lambda *given: pa.concat_tables([table(*given)] * 2))
    copy = world.copy(tmp_path, monkeypatch)
    assert "2 blocking asset checks failed" in failures(materialize(["funnel_report"], DAY))["funnel_report"]
    assert copy.lake.manifest("funnel_report", DAY).failed_checks == ["lists_are_sound", "unique_keys"]


@pytest.mark.fails_check("funnel_report:final_beats_all")
def test_no_final_list_beats_channels_that_are_as_good(world: World) -> None:
    assert failed_checks(world.result) == {"funnel_report:final_beats_all"}


def test_the_figures_follow_from_the_lists_and_all_online_rows(world: World, final_lists: Lists) -> None:
    metrics, seen = world.read("funnel_report").manifest.metrics, touched(world, "train", "validation", "test")
    right = {user: items - seen[user] for user, items in touched(world, "online").items() if items - seen[user]}
    for k in (10, 20, 50):
        listed = {user: {entry["item_id"] for entry in final_lists[user][:k]} for user in right}
        hits = {user: len(listed[user] & right[user]) for user in right}
        assert metrics[f"final.hitrate@{k}"] == pytest.approx(sum(hits.values()) / sum(map(len, right.values())))
        assert metrics[f"final.recall@{k}"] == pytest.approx(np.mean([hits[u] / len(right[u]) for u in right]))
    found = sum(len({entry["item_id"] for entry in final_lists[user]} & right[user]) for user in right)
    assert metrics["truths_recommended"] == found > 0


def test_every_list_has_its_figures_and_the_final_one_its_lead_over_each(world: World) -> None:
    metrics = world.read("funnel_report").manifest.metrics
    for name in ("final", "candidates", "equal_weights", *CHANNELS):
        assert {f"{name}.{metric}" for metric in NAMES} <= metrics.keys()
        assert metrics[f"{name}.ndcg@50_low"] <= metrics[f"{name}.ndcg@50"] <= metrics[f"{name}.ndcg@50_high"]
        if name != "final":
            lead = metrics["final.ndcg@50"] - metrics[f"{name}.ndcg@50"]
            low, high = (metrics[f"final_minus_{name}.ndcg@50_{end}"] for end in ("low", "high"))
            assert low <= lead <= high
    ends = [value for name, value in metrics.items() if name.startswith("truths_")]
    assert sum(ends) == metrics["truths"] == sum(map(len, touched(world, "online").values()))
    text = world.read("funnel_report").path("report.md").read_text(encoding="utf-8")
    assert "| liked |" in text
    assert "| in no channel |" in text


def test_channels_know_all_offline_rows(world: World) -> None:
    """A model's channel uses the vectors for serving, not those from before the test rows."""
    inputs = everything(world)
    events = events_of(inputs["splits"], inputs["users"])
    user_ids, users = embeddings.read(world.read("emb_fm_user").path(ROWS))
    item_ids, items = embeddings.read(world.read("emb_fm_item").path(ROWS))
    asked = user_queries(events, "online", find(events.user_ids, user_ids.to_numpy()[:3]))
    found = open_channels(inputs, events, "online")["fm"](events, asked, 5, True)
    seen = touched(world, "train", "validation", "test")
    for user, vector, listed in zip(user_ids[:3].to_pylist(), users[:3], found.items, strict=True):
        order = item_ids.to_numpy()[np.argsort(-items @ vector)].tolist()
        assert events.item_ids[listed].tolist() == [item for item in order if item not in seen[user]][:5]


def test_nothing_of_the_online_rows_is_in_the_lists(world: World) -> None:
    profile, inputs = load_profile(), everything(world)
    offline = pq.read_table(world.read("splits").path(ROWS), filters=[("part", "!=", "online")])
    users = np.sort([row["user_id"] for row in rows(world, "users")])
    events = from_table(offline).with_users(users)
    asked, found = Funnel(profile, inputs, events, Stopwatch()).lists_of(np.arange(len(users)))
    table = recommendations.table(events, asked, found.served, found.final)
    assert table.equals(world.table("funnel_report", RECOMMENDATIONS))


def test_the_ranker_is_asked_about_the_moment_of_each_users_first_online_event(
    world: World, final_lists: Lists
) -> None:
    ranker, rule = everything(world).ranker, load_profile().features.affinity
    assert ranker
    users, items = (world.table(f"{side}_features") for side in ("user", "item"))
    first = {row["user_id"]: row["timestamp"] for row in rows(world, "splits")[::-1] if row["part"] == "online"}
    differing = 0
    for user in list(final_lists)[:20]:
        expected = [entry["probability"] for entry in final_lists[user]]
        item = find(items["item_id"].to_numpy(), np.array([entry["item_id"] for entry in final_lists[user]]))
        row = users["user_id"].to_pylist().index(user)
        pairs = (users, ItemSnapshot(items, rule), np.full(len(item), row), item)
        moments = {"hour": first[user].hour, "weekday": first[user].isoweekday()}
        known = ranker.at_once(candidate_rows(*pairs, {n: pa.array([v] * len(item)) for n, v in moments.items()}))
        assert known == pytest.approx(expected, abs=1e-6)
        differing += ranker.at_once(candidate_rows(*pairs)) != pytest.approx(expected, abs=1e-6)
    assert differing


def test_what_a_user_is_shown_is_what_the_report_has_for_them(world: World, final_lists: Lists) -> None:
    for user in (min(final_lists), max(final_lists)):
        said, listed = recsys("recommend", str(user)).stdout, final_lists[user]
        theirs = [row for row in rows(world, "splits") if row["user_id"] == user and row["part"] != "online"]
        newest = [row["item_id"] for row in theirs[::-1][:10]]
        assert shown(said) == (newest, [entry["item_id"] for entry in listed])
        assert ", ".join(listed[0]["channels"]) in said


def test_a_user_who_is_not_there_is_an_error_in_plain_words(final_lists: Lists) -> None:
    done = recsys("recommend", "0815", "--bizdate", DAY)
    assert done.exit_code == 1
    assert f"no user '0815' among the {len(final_lists)} users of {DAY}, such as {min(final_lists)}" in done.output
    assert (
        "recsys materialize +splits --bizdate 2026-03-30" in recsys("recommend", "1", "--bizdate", "2026-03-30").output
    )


def test_made_again_the_report_is_the_same(world: World) -> None:
    before = world.read("funnel_report").manifest
    world.run(["funnel_report"])
    assert world.read("funnel_report").manifest == before
    assert {f"onnx_lgbm/{DAY}", f"rank_lgbm/{DAY}", f"splits/{DAY}", f"emb_fm_user/{DAY}"} < before.upstream.keys()


def test_an_onnx_file_that_was_made_after_the_choice_is_not_served(world: World, tmp_path: Path) -> None:
    lake, champion = Lake(str(tmp_path), "tail"), read_champion(world.read("rank_champion"))
    for asset in ("onnx_lgbm", "rank_lgbm"):
        with lake.draft(asset, DAY) as draft:
            draft.path(MODEL).write_text("another model")
    with pytest.raises(NotTheChampion, match=f"materialize rank_champion {DAY} again"):
        open_champion(lake, champion)


def test_without_an_online_part_there_is_no_funnel_report() -> None:
    has = {
        name: dg.AssetKey("funnel_report") in {asset.key for asset in assets_of(load_profile(name))}
        for name in bundled_profiles()
    }
    assert has == {"movielens-1m": True, "sample": True, "criteo": False}


def test_the_model_says_what_it_serves_and_by_which_figures(world: World) -> None:
    found = json.loads(world.read("funnel_model").path(DESCRIPTION).read_text(encoding="utf-8"))
    evidence, weights = found["evidence"], found["fusion"]["weights"]
    assert {*weights, *evidence["dropped"]} == set(CHANNELS)
    assert evidence["users"] > 50
    assert evidence["ndcg"].keys() == {"equal weights", "learned merge", "trees"}
    assert evidence["costs"].keys() in (set(), set(CHANNELS))
    metrics = world.read("funnel_model").manifest.metrics
    assert metrics["ndcg@50.learned merge"] == evidence["ndcg"]["learned merge"]
    text = world.read("funnel_report").path("report.md").read_text(encoding="utf-8")
    assert "what leaving it out costs" in text


def test_nothing_of_the_test_rows_is_in_what_the_model_learns_from_but_the_right_answers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels and ratings of test rows change what is known after them, and no byte of the model."""
    copy = world.copy(tmp_path, monkeypatch)
    before = copy.read("funnel_model").manifest.files
    table = copy.table("splits")
    late = pc.is_in(table["part"], pa.array(["test", "online"]))
    for name, value in (("label", 1), ("rating", 5.0)):
        column = pc.if_else(late, pa.scalar(value, table[name].type), table[name])
        table = table.set_column(table.column_names.index(name), name, column)
    with copy.lake.draft("splits", DAY) as draft:
        pq.write_table(table, draft.path(ROWS))
    for asset in ("factors", *(asset for asset in OPTIONAL if copy.lake.bizdates(asset)), *CHAMPION_FILES):
        with copy.lake.draft(asset, DAY) as draft:
            shutil.copytree((made := world.read(asset)).folder, draft.folder, dirs_exist_ok=True)
            draft.path("manifest.json").unlink()
            draft.manifest.config = made.manifest.config
    copy.run(["funnel_model"])
    assert copy.read("funnel_model").manifest.files == before


@pytest.mark.fails_check("funnel_model:onnx_matches_trees")
def test_a_file_that_orders_otherwise_than_its_trees_closes_the_gate(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path, monkeypatch)
    monkeypatch.setattr(learning, "choose", lambda _: learning.TREES)
    monkeypatch.setattr(funnel_model, "Order", lambda _: lambda _, count: np.full(count, 9.0, np.float32))
    assert "onnx_matches_trees" in failures(materialize(["funnel_model"], DAY))["funnel_model"]
    assert copy.lake.manifest("funnel_model", DAY).failed_checks == ["onnx_matches_trees"]


def test_without_a_ranker_and_a_channel_there_is_still_a_funnel(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path, monkeypatch)
    for asset in ("rank_champion", "emb_fm_user", "i2i_swing"):
        shutil.rmtree(copy.read(asset).folder)
    copy.run(["funnel_model"])
    copy.run(["funnel_report"])
    found = json.loads(copy.read("funnel_model").path(DESCRIPTION).read_text(encoding="utf-8"))
    assert found["without"].keys() >= {"rank_champion", "emb_fm_user", "i2i_swing"}
    served = {*found["fusion"]["weights"], *found["evidence"]["dropped"]}
    assert served == set(CHANNELS) - {"fm", "swing"}
    first, *_ = copy.table("funnel_report", RECOMMENDATIONS).to_pylist()
    assert first["items"][0]["probability"] is None
    assert shown(recsys("recommend", str(first["user_id"])).stdout)[1] == [each["item_id"] for each in first["items"]]


def test_the_benchmark_of_merges_compares_the_former_merge(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(PROJECT / "benchmarks" / "funnel_merges.py"))
    script["main"](DAY)
    said = capsys.readouterr().out
    assert "former merge" in said
    assert f"final                {world.read('funnel_report').manifest.metrics['final.ndcg@50']:.4f}" in said


def test_the_benchmark_of_curves_has_a_line_per_epoch(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.copy(tmp_path, monkeypatch).run(["negative_items"])
    script = runpy.run_path(str(PROJECT / "benchmarks" / "tower_curves.py"))
    capsys.readouterr()
    script["curve"]("fm", DAY, {"epochs": 2}, 1)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["fm", "1"], ["fm", "2"]]
    assert all(0 <= float(first) <= float(second) for first, second in zip(*(line[2:4] for line in lines), strict=True))
    assert all(0 <= float(line[4]) <= 1 for line in lines)
