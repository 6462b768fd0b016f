"""The second objective: samples of what is touched, and what the funnel does with the model that learns from them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys_assets.assets import assets_of
from recsys_assets.datasets.label import EVERY_EVENT
from recsys_assets.datasets.names import DRAW_LOG_RATE, DRAWN
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import Negatives
from recsys_assets.funnel.funnel import NEEDED as FUNNEL
from recsys_assets.funnel.funnel import Funnel, events_of
from recsys_assets.funnel.inputs import Inputs, read_inputs
from recsys_assets.funnel.known import RANKER, TOUCH
from recsys_assets.funnel.order import ORDER, Order
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.ranking.sample_parts import RANKED_PARTS
from recsys_assets.serving.people import History, Renewal
from recsys_assets_tests.helpers.funnel_world import funnel_world
from recsys_assets_tests.helpers.in_process import failed_checks
from recsys_assets_tests.helpers.worlds import DAY, World

KEYS = ["user_id", "item_id", "timestamp"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with funnel_world(tmp_path_factory) as world:
        world.result = world.run(["factors", "touch_samples"])
        yield world


def part(world: World, asset: str, name: str) -> pa.Table:
    return world.part(asset, name)


def inputs_of(world: World) -> Inputs:
    """All that the funnel reads."""
    return read_inputs(load_profile(), world.lake, DAY, {asset: world.read(asset) for asset in FUNNEL})


def funnel_of(inputs: Inputs) -> Funnel:
    return Funnel(load_profile(), inputs, events_of(inputs["splits"], inputs["users"]), Stopwatch())


@pytest.mark.parametrize("of_part", RANKED_PARTS)
def test_events_have_the_features_of_ranked_rows_and_are_positives(world: World, of_part: str) -> None:
    ranked, touched = part(world, "rank_samples", of_part), part(world, "touch_samples", of_part)
    events = touched.filter(pc.invert(touched[DRAWN]))
    assert set(events["label"].to_pylist()) == {1}
    # An event on an item that was not known before could not have been drawn, and is left out.
    assert 0 <= ranked.num_rows - events.num_rows < 150
    place = {key: row for row, key in enumerate(keys(ranked))}
    same = ranked.take([place[key] for key in keys(events)])
    for name in ranked.column_names:
        if name != "label" and same[name].to_pylist() != events[name].to_pylist():
            # A rate is divided in another place for drawn rows: its last bits may differ.
            assert np.allclose(same[name].to_numpy(), events[name].to_numpy(), atol=1e-6, equal_nan=True), name


def keys(rows: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(rows[key].to_pylist() for key in KEYS), strict=True))


def test_an_item_is_drawn_for_each_event_and_never_one_that_its_user_touches_there_or_before(world: World) -> None:
    splits = world.table("splits").to_pylist()
    touched = {(row["user_id"], row["item_id"]) for row in splits if row["part"] in ("train", "validation", "test")}
    for name in RANKED_PARTS:
        rows = part(world, "touch_samples", name)
        drawn = rows.filter(rows[DRAWN])
        assert set(drawn["label"].to_pylist()) == {0}
        assert 0.9 < drawn.num_rows / (rows.num_rows - drawn.num_rows) <= 1
        assert np.isfinite(drawn[DRAW_LOG_RATE].to_numpy()).all()  # every drawn item was known
        if name == "test":  # all that a user touched is before, or there
            assert not touched & set(zip(drawn["user_id"].to_pylist(), drawn["item_id"].to_pylist(), strict=True))


def test_nothing_is_fitted_on_drawn_rows(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them, users, items and the rows of events have the same factors to the last bit."""
    before = world.table("factors")
    copy = world.copy(tmp_path, monkeypatch)
    without = load_profile().model_copy(update={"negatives": Negatives(rate=0)})
    assert without.touch is None
    monkeypatch.setattr("recsys_assets.resources.load_profile", lambda *_: without)
    copy.run(["factors"])
    after = copy.table("factors")
    assert DRAWN not in after.column_names
    assert before.filter(pc.invert(before[DRAWN])).select(after.column_names).equals(after)
    for file in ("users.parquet", "items.parquet"):
        assert copy.table("factors", file).equals(world.table("factors", file))


def test_its_checks_pass(world: World) -> None:
    assert not {each for each in failed_checks(world.result) if "touch" in each or "factors" in each}


def test_the_order_reads_both_probabilities(world: World) -> None:
    inputs = inputs_of(world)
    assert inputs.ranker
    assert inputs.touch
    assert inputs.ranker.schema.fingerprint != inputs.touch.schema.fingerprint
    model = world.read("funnel_model")
    if (model.folder / ORDER).exists():
        assert {RANKER, TOUCH} <= set(Order(model.path(ORDER)).columns)
    assert f"onnx_touch/{DAY}" in model.manifest.upstream
    known = funnel_of(inputs).known
    users = known.users(world.table("user_features"))
    found = known.describe(users, np.zeros(20, np.int64), np.arange(20), known.moments({}, 1))
    assert len(set(found[TOUCH].tolist())) > 10
    assert found[TOUCH].tolist() != found[RANKER].tolist()


def test_told_events_renew_what_each_model_reads(world: World) -> None:
    """A row of both models after told events holds the newest liked item first, in the words of each schema."""
    funnel = funnel_of(inputs_of(world))
    row, items = funnel.users.take(np.arange(1)), np.array([3, 5])
    told = History(items, np.ones(2, np.int8), np.ones(2))
    renewed = Renewal(funnel.known, funnel.log)(row, told)
    assert renewed.encoded.of_schema.keys() == row.encoded.of_schema.keys()
    places, encode = zip(*funnel.known.sequences("recent_liked", funnel.log.item_ids).values(), strict=True)
    for each, at, code in zip(renewed.encoded.of_schema.values(), places, encode, strict=True):
        assert each.indices[0, at[:2]].tolist() == code[items[::-1]][: len(at)].tolist()


def test_without_it_there_is_still_a_funnel(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = world.copy(tmp_path, monkeypatch)
    with copy.lake.draft("touch_model", DAY) as draft:
        draft.manifest.declined = "no item could be drawn"
    inputs = inputs_of(copy)
    assert (inputs.touch, inputs.without["touch_model"]) == (None, "no item could be drawn")
    assert inputs.ranker
    copy.run(["funnel_model"])
    funnel = funnel_of(inputs_of(copy))
    nowhere = funnel.known.moments({}, 1)
    assert TOUCH not in funnel.known.describe(funnel.users, np.zeros(2, np.int64), np.arange(2), nowhere)


def keys_of(profile: Profile) -> set[str]:
    return {asset.key.to_user_string() for asset in assets_of(profile)}


def test_only_a_log_whose_negatives_are_its_own_rows_has_it() -> None:
    assets = {"touch_samples", "touch_model", "onnx_touch"}
    rated = load_profile("sample")
    every_event = rated.model_copy(update={"label": EVERY_EVENT})
    drawn = rated.model_copy(update={"negatives": Negatives(rate=3)})
    for profile, has in ((rated, True), (every_event, False), (drawn, False), (load_profile("criteo"), False)):
        assert (keys_of(profile) & assets) == (assets if has else set())
        assert bool(profile.touch) == has
    assert "funnel_report" in keys_of(drawn)
