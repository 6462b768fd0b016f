"""Scenes and variants that pin a ranking model: their lists are those of a release of which it is the champion."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recsys_assets.assets.publish.onnx import MODEL
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.funnel import inputs
from recsys_assets.funnel.served import describe_served, served_partitions
from recsys_assets.manifest import PartitionMissing
from recsys_assets.ranking.champion import Champion, read_champion
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.order import Release
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.snapshot import Snapshots
from recsys_assets.training import rankers
from recsys_assets_tests.helpers.ranking_rows import quick_settings
from recsys_assets_tests.helpers.worlds import DAY, World

BEFORE = (dt.date.fromisoformat(DAY) - dt.timedelta(days=1)).isoformat()
AFTER = (dt.date.fromisoformat(DAY) + dt.timedelta(days=1)).isoformat()
SCENES = f"""
scenes:
  home: {{}}
  pinned: {{ranker: lgbm/{BEFORE}}}
  later: {{ranker: lgbm/{AFTER}}}
  missing: {{ranker: din}}
layers:
  model: {{keys: [ranker], variants: {{old: {{share: 0.5, ranker: lgbm/{BEFORE}}}}}}}
"""


@pytest.fixture(scope="module")
def champion(world: World) -> Champion:
    """The record of a model of the day before, as if it had been chosen."""
    schema = FeatureSchema.read(world.read("feature_schema").path("schema.json"))
    train, validation = (world.read("rank_samples").path(f"{part}.parquet") for part in ("train", "validation"))
    ranker = rankers.fit("lgbm", schema, train, validation, *quick_settings("lgbm", 5), seed=7)
    with world.lake.draft("rank_lgbm", BEFORE) as draft:
        ranker.save(draft.folder)
    with world.lake.draft("onnx_lgbm", BEFORE) as draft:
        ranker.export(draft.path(MODEL), {"bizdate": BEFORE})
    onnx = world.lake.read("onnx_lgbm", BEFORE).manifest
    own = read_champion(world.read("rank_champion"))
    path, sha256 = f"onnx_lgbm/bizdate={BEFORE}/{MODEL}", onnx.files[MODEL]
    return replace(own, bizdate=BEFORE, path=path, sha256=sha256, fingerprint=onnx.fingerprint)


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def pinning(engine: Engine, champion: Champion, said: list[str], tmp_path_factory: pytest.TempPathFactory) -> Service:
    assert champion.bizdate == BEFORE
    file = tmp_path_factory.mktemp("scenes") / "tail.scenes.yaml"
    file.write_text(SCENES, encoding="utf-8")
    book = Book(file, engine.profile, said.append)
    book.prepare(engine)
    return Service(Opened(7, engine, book))


def ask(service: Service, user: object, **more: Any) -> dict[str, Any]:
    body = {"user_id": user, "context": {"hour": 20, "weekday": 3}, **more}
    return service.answer(RecommendBody(**body)).content


def test_a_pinned_model_ranks_as_if_it_were_the_champion(
    pinning: Service, engine: Engine, champion: Champion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "read_champion", lambda _: champion)
    other = Engine(engine.profile, engine.pins, DAY)
    alone = Service(Opened(7, other, pinning.opened.book))
    for user in engine.log.user_ids[:20].tolist():
        history = [{"item_id": engine.log.item_ids[[3]].tolist()[0]}]
        pinned = ask(pinning, user, history=history, scene="pinned")
        expected = ask(alone, user, history=history, scene="home", variants={"model": "control"})
        assert pinned["model"] == expected["model"] == f"lgbm/{BEFORE}"
        assert pinned["items"] == expected["items"]
        own = ask(pinning, user, history=history, scene="home", variants={"model": "control"})
        assert own["model"] == f"lgbm/{DAY}"
        assert [each["probability"] for each in own["items"]] != [each["probability"] for each in pinned["items"]]


def test_a_variant_pins_a_model_for_its_share_of_the_users(pinning: Service, engine: Engine) -> None:
    for user in engine.log.user_ids[:20].tolist():
        found = ask(pinning, user, scene="home")
        assert found["model"] == {"old": f"lgbm/{BEFORE}", "control": f"lgbm/{DAY}"}[found["variants"]["model"]]


def test_a_model_that_cannot_rank_leaves_the_champion_and_the_log_says_why(
    pinning: Service, engine: Engine, said: list[str]
) -> None:
    user = engine.log.user_ids[[0]].tolist()[0]
    for scene, why in (("later", "it is of a later day"), ("missing", "onnx_din has no partition")):
        assert ask(pinning, user, scene=scene, variants={"model": "control"})["model"] == f"lgbm/{DAY}"
        assert any(each.startswith(f"scene {scene}: ") and why in each for each in said)


def test_a_pinned_model_is_kept_with_the_copy_of_the_release(
    world: World, engine: Engine, champion: Champion, tmp_path: Path
) -> None:
    """Once it is there, the lake may lose it."""
    copies = Snapshots(tmp_path / "copies", engine.profile.name)
    release = Release(1, DAY, describe_served(served_partitions(world.lake, DAY)))
    copies.open(release, world.lake)
    kept = copies.pins(release, world.lake).read_sound("onnx_lgbm", BEFORE)
    assert kept.manifest.files[MODEL] == champion.sha256
    empty = type(world.lake)(str(tmp_path / "empty"), engine.profile.name)
    again = copies.pins(release, empty)
    assert again.read_sound("onnx_lgbm", BEFORE).path(MODEL).read_bytes() == kept.path(MODEL).read_bytes()
    with pytest.raises(PartitionMissing, match="rank_lgbm"):
        again.read_sound("rank_lgbm", BEFORE)
