"""Models and choices that a day keeps from the day before: when they are, and what their partitions then hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recsys_assets import sensors
from recsys_assets.assets.refit import ASSETS, find_kept
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import ITEM_FACTORS, USER_FACTORS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.profile_parts import Refit, WarmStart
from recsys_assets.definitions import build_defs
from recsys_assets.features.pair_data import read_factors
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, fitted_factors
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest
from recsys_assets.reports.card import model_card
from recsys_assets.reports.day import Day
from recsys_assets.reports.fits import fits
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, open_world

READ = [
    *(f'+key:"{asset}"' for asset in ("feature_boundaries", "cold_start_samples", "recall_samples")),
    "negative_items",
]
EXPORTS = ["onnx_widedeep", "onnx_lgbm", "onnx_dssm"]
KEPT = ["factors", "rank_widedeep", "rank_lgbm", "recall_dssm", "cold_start_report", "i2i_itemcf", "funnel_model"]
OTHERS = ["recall_term", "rank_champion"]
QUICK: dict[str, dict[str, Any]] = {
    "rank_widedeep": {"training": {"epochs": 2, "batch": 512}},
    "recall_dssm": {"training": {"epochs": 2, "batch": 512}},
    "cold_start_report": {"steps": 20},
}
CHANGES = {"refit": {"days": 3, "share": 0.5}, "bounds": {"min_auc": 0.4}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two days, of which the second one keeps all that it may."""
    home, threads = tmp_path_factory.mktemp("refit"), torch.get_num_threads()
    torch.set_num_threads(1)
    with open_world(home, CHANGES, users=150, items=120, events=7000, days=12) as world:
        for day in (YESTERDAY, DAY):
            world.run(READ, day)
            world.result = world.run([*KEPT, *EXPORTS, *OTHERS], day, config=QUICK)
        yield world
    torch.set_num_threads(threads)


@pytest.mark.parametrize("asset", KEPT)
def test_a_day_keeps_the_fit_of_the_day_before_and_says_so(world: World, asset: str) -> None:
    before, now = (world.read(asset, day).manifest for day in (YESTERDAY, DAY))
    events = world.read("splits", YESTERDAY).manifest.rows
    assert before.fitted == {}
    assert (before.fitted_on, before.age_of_fit) == (YESTERDAY, 0)
    assert now.fitted == {"bizdate": YESTERDAY, "events": events}
    assert (now.fitted_on, now.age_of_fit) == (YESTERDAY, 1)
    assert now.upstream[before.name] == before.fingerprint
    assert before.name not in now.inputs  # a change of the day before makes nothing outdated
    assert (now.config, now.mlflow_run_id) == (before.config, before.mlflow_run_id)
    assert str(world.metadata(asset)["fit"].value).startswith(f"kept from {YESTERDAY}, 1 days before")


@pytest.mark.parametrize(
    ("asset", "own"),
    [
        ("factors", {ROWS, USER_FILE, ITEM_FILE}),
        ("rank_widedeep", {"test_predictions.parquet"}),
        ("rank_lgbm", {"test_predictions.parquet"}),
        ("recall_dssm", set()),
        ("cold_start_report", set()),
        ("i2i_itemcf", {ROWS}),
        ("funnel_model", set()),
        *((asset, set()) for asset in EXPORTS),
    ],
)
def test_a_kept_partition_has_the_files_of_the_fit_and_its_own_judgement(
    world: World, asset: str, own: set[str]
) -> None:
    before, now = (world.read(asset, day).manifest.files for day in (YESTERDAY, DAY))
    assert now.keys() == before.keys()
    assert {file for file in now if now[file] != before[file]} == own


def test_kept_factors_are_those_of_the_items_and_new_users_are_followed_with_them(world: World) -> None:
    before, now = (world.read("factors", day) for day in (YESTERDAY, DAY))
    items, rule = pq.read_table(now.path(ITEM_FILE)), world.profile.features.affinity
    kept = fitted_factors(before.path(ITEM_FILE), items["item_id"].combine_chunks(), rule)
    assert np.array_equal(read_factors(items[ITEM_FACTORS], rule), kept)
    users = [pq.read_table(each.path(USER_FILE))[USER_FACTORS] for each in (before, now)]
    assert not users[0].equals(users[1])


def test_an_item_that_is_newer_than_the_fit_is_at_the_priors_mean(world: World) -> None:
    written, rule = world.read("factors").path(ITEM_FILE), world.profile.features.affinity
    table = pq.read_table(written)
    everything = read_factors(table[ITEM_FACTORS], rule)
    first, new = fitted_factors(written, pa.array([table["item_id"][3].as_py(), 10**9]), rule)
    assert np.array_equal(first, everything[3])
    level = new[..., 1].copy()
    new[..., 1] = 0
    assert not new.any()
    assert np.allclose(level, everything[..., 1].mean(axis=0))


def test_a_kept_ranker_is_judged_on_the_test_rows_of_its_day(world: World) -> None:
    before, now = (world.read("rank_widedeep", day).manifest for day in (YESTERDAY, DAY))
    assert now.metrics["validation_auc"] == before.metrics["validation_auc"]
    assert now.metrics["test_auc"] != before.metrics["test_auc"]
    assert now.rows == world.part("rank_samples", "test").num_rows


def test_the_report_and_the_card_show_the_age(world: World) -> None:
    day = Day(world.lake, world.profile, DAY, {*KEPT, *EXPORTS, *OTHERS, "splits", "feature_schema"}, world.home)
    section = fits(day)
    ages = {each.name: each.value for each in section.figures if each.metric == "age of the fit in days"}
    assert ages == dict.fromkeys([*KEPT, *EXPORTS], 1.0)
    assert "".join(section.html).count(f">{YESTERDAY}</td>") == len(ages)
    card = model_card(day)
    assert (card.tags["card.bizdate"], card.tags["card.fitted_on"]) == (DAY, YESTERDAY)
    assert f"It was fitted on {YESTERDAY}, and has been kept since: on {DAY} it is 1 days old." in card.html


def test_the_sensor_builds_the_older_days_in_order(world: World) -> None:
    asked = [sensors._build_request(world.profile, day, DAY, 0.0).tags for day in ("2026-03-29", YESTERDAY)]
    first, second = (int(tags["dagster/priority"]) for tags in asked)
    assert first > second


def test_a_run_that_says_how_to_begin_or_has_other_settings_fits(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.copy(tmp_path / "own", monkeypatch)
    for more in ({"warm_start": "nothing"}, {"seed": 2}):
        own.run(["rank_widedeep"], config={"rank_widedeep": {**QUICK["rank_widedeep"], **more}})
        assert own.read("rank_widedeep").manifest.fitted == {}


def test_assets_that_keep_a_fit_wait_for_their_earlier_days(world: World) -> None:
    """A day waits for all days that its fit may be of; by default no asset waits for an earlier day."""
    assert world.profile.refit == Refit(days=3, share=0.5)
    graph = build_defs().resolve_asset_graph()
    waiting = {key.to_user_string() for key in graph.toposorted_asset_keys if key in graph.get(key).parent_keys}
    assert waiting == ASSETS & {key.to_user_string() for key in graph.toposorted_asset_keys}
    mapping = graph.get(dg.AssetKey("rank_lgbm")).partition_mappings[dg.AssetKey("rank_lgbm")]
    days = graph.get(dg.AssetKey("rank_lgbm")).partitions_def
    assert days
    subset = days.subset_with_partition_keys([DAY])
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, days, days)
    assert list(found.partitions_subset.get_partition_keys()) == ["2026-03-29", YESTERDAY]


ASKED = {"name": "widedeep", "seed": 1}
FIRST = "2026-03-01"


@contextmanager
def written(lake: Lake, asset: str, day: str, **fields: Any) -> Iterator[Output]:
    """A partition that is being written, with these fields of its manifest."""
    with lake.draft(asset, day) as draft:
        output = Output(draft, "", frozenset(), publish=lambda: None)
        vars(draft.manifest).update(fields)
        yield output


def write_day(lake: Lake, day: str, events: int, samples: dict[str, Any] | None = None, **fields: Any) -> None:
    """The partitions of a day: events, samples, and a model that was fitted on these."""
    with written(lake, "splits", day, rows=events):
        pass
    with written(lake, "rank_samples", day, config=samples or {}) as output:
        output.add_inputs([lake.manifest("splits", day)])
    with written(lake, "rank_widedeep", day, **({"config": ASKED} | fields)) as output:
        output.path("model.json").write_text(day)
        output.add_inputs([lake.manifest("rank_samples", day)])


def asked_on(lake: Lake, day: str, rule: Refit, asked: dict[str, Any] | None = None) -> tuple[Manifest, str]:
    """The manifest of a model that is to be fitted on a day, and what `find_kept` says of it."""
    profile = load_profile("sample").model_copy(update={"refit": rule, "warm_start": WarmStart()})
    with written(lake, "rank_widedeep", day, config={"name": "none"}) as output:
        output.add_inputs([lake.manifest("rank_samples", day)])
        kept = find_kept(output, lake, profile, asked or ASKED)
        assert (kept is None) == (output.manifest.fitted == {})
        return output.manifest, str(output.metadata.get("fit", ""))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with a model of the first day, and with the samples of two more, of which each has a few events more."""
    lake = Lake(str(tmp_path / "lake"), "sample")
    write_day(lake, FIRST, 1000)
    for day, events in (("2026-03-02", 1010), ("2026-03-03", 1030)):
        write_day(lake, day, events)
        lake.remove("rank_widedeep", day)
    return lake


def test_a_fit_is_kept_by_way_of_kept_ones_until_it_is_due(lake: Lake) -> None:
    rule = Refit(days=2, share=0.02)
    one, said = asked_on(lake, "2026-03-02", rule)
    assert one.fitted == {"bizdate": FIRST, "events": 1000}
    assert said == f"kept from {FIRST}, 1 days before, by way of rank_widedeep/{FIRST}"
    two, said = asked_on(lake, "2026-03-03", rule)
    assert (two.fitted, said) == ({}, f"of this day: the fit of {FIRST} is 2 days old")


def test_a_fit_is_kept_through_several_days(lake: Lake) -> None:
    rule = Refit(days=7, share=0.05)
    asked_on(lake, "2026-03-02", rule)
    two, said = asked_on(lake, "2026-03-03", rule)
    assert (two.fitted_on, two.age_of_fit) == (FIRST, 2)
    assert said.endswith("by way of rank_widedeep/2026-03-02")
    assert {f"rank_widedeep/{FIRST}", "rank_widedeep/2026-03-02"} < two.upstream.keys()


def test_more_events_than_the_share_are_learned(lake: Lake) -> None:
    _, said = asked_on(lake, "2026-03-03", Refit(days=7, share=0.02))
    assert said == f"of this day: since the fit of {FIRST} 3.0% more events have come"


def test_no_day_keeps_a_fit_of_a_later_one(lake: Lake) -> None:
    _, said = asked_on(lake, FIRST, Refit(days=7))
    assert said == "of this day: there is no earlier day"


def test_without_a_rule_nothing_is_kept_or_said(lake: Lake) -> None:
    made, said = asked_on(lake, "2026-03-02", Refit())
    assert (made.fitted, said) == ({}, "")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"config": {**ASKED, "seed": 2}}, "has other settings: seed"),
        ({"code_version": "0"}, "made in another way, with rank_widedeep of other code"),
        ({"failed_checks": ["no_nulls"]}, "failed no_nulls"),
        ({"declined": "there is one class only"}, "cannot be used: there is one class only"),
        ({"samples": {"features": "others"}}, "made in another way, with rank_samples of other code, settings or fit"),
    ],
)
def test_a_day_before_that_was_made_otherwise_is_not_kept(lake: Lake, fields: dict[str, Any], reason: str) -> None:
    write_day(lake, FIRST, 1000, **fields)
    made, said = asked_on(lake, "2026-03-02", Refit(days=7, share=0.05))
    assert made.fitted == {}
    assert reason in said


def test_a_damaged_day_before_is_not_kept(lake: Lake) -> None:
    (lake.read("rank_widedeep", FIRST).folder / "model.json").write_text("damaged")
    _, said = asked_on(lake, "2026-03-02", Refit(days=7))
    assert "the day before cannot be used" in said
    assert "model.json is missing or not as its manifest says" in said


def test_an_outdated_day_before_is_not_kept(lake: Lake) -> None:
    """A correction of earlier events is learned at once."""
    with written(lake, "rank_samples", FIRST, config={}, rows=7):
        pass
    _, said = asked_on(lake, "2026-03-02", Refit(days=7))
    assert "is outdated: rank_samples" in said
