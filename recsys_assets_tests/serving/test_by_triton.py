"""A real Triton server: what is published to it, how versions follow each other, and the service that asks it."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recsys_assets.assets.publish import triton as assets
from recsys_assets.assets.publish.onnx import MODEL, TOLERANCE
from recsys_assets.datasets.profile import load_profile
from recsys_assets.features.raw import raw_inputs
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.lake import Lake
from recsys_assets.serving.by_triton import LIMIT, rank_by_triton
from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.people import NOTHING
from recsys_assets.settings import settings
from recsys_assets.stores.publish import roll_back
from recsys_assets.stores.triton.client import TritonClient, TritonRefused
from recsys_assets.stores.triton.config import model_files
from recsys_assets.stores.triton.store import CHAMPION, TritonStore, model_version, version_number
from recsys_assets.training import rankers
from recsys_assets.training.onnx_export import open_session
from recsys_assets_tests.helpers.in_process import failed_checks, failures, materialize
from recsys_assets_tests.helpers.ranking_rows import quick_settings
from recsys_assets_tests.helpers.triton_server import Triton, needs_triton, triton_server
from recsys_assets_tests.helpers.worlds import DAY, World

pytestmark = needs_triton
ASSET, NEXT = "triton_champion", "2026-04-01"


@pytest.fixture(scope="module")
def triton(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:  # noqa: ARG001 (it names the lake)
    with triton_server(tmp_path_factory.mktemp("triton") / "log") as server:
        found = materialize([ASSET], DAY)
        assert (failures(found), failed_checks(found)) == ({}, set())
        yield server


@pytest.fixture
def store(triton: Triton) -> Iterator[TritonStore]:
    with TritonStore(triton.url, load_profile().name) as store:
        yield store


@pytest.fixture(scope="module")
def other(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX file of another model on the same features."""
    rows = world.part("rank_samples", "train")
    file = tmp_path_factory.mktemp("other") / MODEL
    rankers.fit("lgbm", schema_of(world), rows, rows, *quick_settings("lgbm", 3), seed=2).export(file, {})
    return file


def schema_of(world: World) -> FeatureSchema:
    return rankers.load(world.read("rank_lgbm").folder).fitted.schema


def champion_number(world: World) -> int:
    return version_number(model_version(DAY, world.read("onnx_lgbm").path(MODEL)))


def test_the_champion_is_compared_on_raw_features_and_then_live(
    world: World, triton: Triton, store: TritonStore
) -> None:
    made, number = world.read(ASSET).manifest, champion_number(world)
    assert made.rows == sum(
        each.num_rows
        for each in (world.table("rank_samples", f"{part}.parquet") for part in ("train", "validation", "test"))
    )
    assert made.metrics["max_difference_champion"] <= TOLERANCE
    assert triton.versions(CHAMPION) == {number}
    assert triton.versions(f"{CHAMPION}.trial") == set()
    table, file = world.part("rank_samples", "test"), world.read("onnx_lgbm").path(MODEL)
    feed = raw_inputs(schema_of(world), table)
    found = store.client.infer(CHAMPION, number, feed, "score").reshape(-1)
    np.testing.assert_allclose(found, open_session(file).run(["score"], feed)[0], rtol=0, atol=TOLERANCE)


def test_a_model_that_answers_differently_is_refused_and_the_live_one_stays(
    world: World, triton: Triton, other: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = world.copy(tmp_path, monkeypatch)
    monkeypatch.setenv("RECSYS_TRITON_REPOSITORY", str(world.home / "triton"))
    monkeypatch.setattr(assets, "model_files", lambda _: model_files(other))
    monkeypatch.setattr(assets, "model_version", lambda day, _: model_version(day, other))
    found = materialize([ASSET], DAY)
    assert failed_checks(found) == {f"{ASSET}:{assets.MATCHES.name}"}
    assert copy.read(ASSET).manifest.metrics["max_difference_champion"] > 100 * TOLERANCE
    assert triton.versions(CHAMPION) == {champion_number(world)}


def test_a_new_version_goes_live_under_load_without_a_failed_request_and_a_rollback_goes_back(
    world: World, triton: Triton, store: TritonStore, other: Path
) -> None:
    feed = {name: each[:50] for name, each in raw_inputs(schema_of(world), world.part("rank_samples", "test")).items()}
    old, new = champion_number(world), version_number(model_version(NEXT, other))
    files = {old: world.read("onnx_lgbm").path(MODEL), new: other}
    expected = {number: open_session(file).run(["score"], feed)[0] for number, file in files.items()}
    answers, stop = [], threading.Event()

    def ask() -> None:
        client = TritonClient(triton.url, 30)
        while not stop.is_set():
            answers.append(client.infer(CHAMPION, None, feed, "score").reshape(-1))
        client.close()

    def live() -> int:
        last = answers[-1]
        (found,) = [number for number, scores in expected.items() if np.abs(last - scores).max() <= TOLERANCE]
        return found

    load = threading.Thread(target=ask)
    load.start()
    try:
        store.write(CHAMPION, model_version(NEXT, other), model_files(other))
        store.go_live(CHAMPION, model_version(NEXT, other))
        settled = len(answers)
        while len(answers) < settled + 3 and load.is_alive():
            stop.wait(0.01)
        assert (live(), triton.versions(CHAMPION)) == (new, {old, new})
        assert roll_back(store, CHAMPION) == model_version(DAY, files[old])
        settled = len(answers)
        while len(answers) < settled + 3 and load.is_alive():
            stop.wait(0.01)
        assert live() == old
    finally:
        stop.set()
        load.join()
    assert triton.versions(CHAMPION) == {old}
    with pytest.raises(TritonRefused):
        store.client.infer(CHAMPION, new, feed, "score")
    store.drop(CHAMPION, model_version(NEXT, other))


def test_the_service_ranks_through_triton_and_by_its_own_file_while_triton_is_slow_or_gone(
    world: World, triton: Triton, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "2000")
    profile, users = load_profile(), world.table("users")["user_id"].to_pylist()[:20]
    own = Engine(profile, Lake.of(settings().lake, profile), DAY)
    rank_by_triton(own)
    number = champion_number(world)

    def lists() -> list[list[tuple[object, float]]]:
        return [[(row["item_id"], row["score"]) for row in own.recommend(user, NOTHING, Wish())] for user in users]

    expected = [[(row["item_id"], row["score"]) for row in engine.recommend(user, NOTHING, Wish())] for user in users]
    before = triton.scored(CHAMPION, number)
    assert lists() == expected
    assert triton.scored(CHAMPION, number) == before + len(users)
    monkeypatch.setenv(LIMIT, "50")
    rank_by_triton(own)
    triton.process.suspend()
    try:
        assert lists() == expected
    finally:
        triton.process.resume()
    triton.kill()
    rank_by_triton(own)
    assert lists() == expected
