"""Fresh items and users in the service: told rows are in the next answer, and withdrawn ones in none."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import numpy as np
import onnxruntime
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymongo import MongoClient
from starlette.testclient import TestClient

from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.definitions import build_defs
from recsys_assets.features.raw import raw_columns
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.step import FreshRow, Step
from recsys_assets.fresh_job import fresh_items_sensor
from recsys_assets.resources import Dataset
from recsys_assets.retrieval import embeddings
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.fresh.blend import placed
from recsys_assets.serving.fresh.layer import Layer
from recsys_assets.serving.fresh.opening import open_fresh, open_layer
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.told import open_told
from recsys_assets.settings import settings
from recsys_assets.stores.registry import open_store
from recsys_assets.stores.store import KEY
from recsys_assets_tests.helpers.fresh_world import NEW, fresh_engine, item, listed, tell
from recsys_assets_tests.helpers.mongo_servers import daemon
from recsys_assets_tests.helpers.postgres_server import PASSWORD, postgres
from recsys_assets_tests.helpers.worlds import DAY, World

SCENES = """
filters: [year]
scenes:
  none: {fresh: 0}
  half: {fresh: 0.5, size: 10}
  old: {fresh: 0.5, size: 10, filter: year < 1990}
"""


@pytest.fixture(scope="module")
def engine(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with fresh_engine(world, tmp_path_factory) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    file = tmp_path_factory.mktemp("scenes") / "own.scenes.yaml"
    file.write_text(SCENES, encoding="utf-8")
    layer = open_layer(engine)
    assert layer
    with open_fresh(engine.profile, layer) as fresh, open_told(engine.profile) as told:
        book = Book(file, engine.profile)
        service = Service(Opened(7, engine, book), told, None, fresh)
        yield TestClient(create_app(service))


def fresh_of(rows: list[dict[str, Any]]) -> list[int]:
    return [row["item_id"] for row in rows if row["channels"] == ["fresh"]]


@pytest.fixture
def told(client: TestClient) -> Iterator[list[int]]:
    """Eight new items, which are withdrawn when the test ends."""
    ids = list(range(NEW, NEW + 8))
    tell(client, *(item(each, withdrawn=False) for each in ids))
    yield ids
    tell(client, *(item(each, withdrawn=True) for each in ids))


def test_a_told_item_is_in_the_next_answer_and_a_withdrawn_one_is_not(client: TestClient) -> None:
    before = listed(client)
    assert fresh_of(before) == []
    assert tell(client, item(NEW, withdrawn=False)) == {"rows": 1, "changed": 1}
    now = listed(client, fields=["title", "genres"], explain=True)
    (place,) = [place for place, row in enumerate(now, 1) if row["item_id"] == NEW]
    assert place == 10  # a tenth of the places, from the tenth on
    assert (now[9]["title"], now[9]["genres"]) == (f"New {NEW}", ["Drama", "War"])
    assert now[9]["explain"]["channels"] == {"fresh": {"place": 1, "score": now[9]["score"]}}
    assert [row["item_id"] for row in now if row["item_id"] != NEW] == [row["item_id"] for row in before][:49]
    assert fresh_of(listed(client, judged=True)) == []
    tell(client, {"item_id": NEW, "withdrawn": True})
    assert [row["item_id"] for row in listed(client)] == [row["item_id"] for row in before]


def test_the_share_of_fresh_items_is_that_of_the_scene(client: TestClient, told: list[int]) -> None:
    assert len(fresh_of(listed(client))) == 5
    assert fresh_of(listed(client, scene="none")) == []
    half = listed(client, scene="half", size=10)
    assert [row["channels"] == ["fresh"] for row in half] == [False, True] * 5
    assert set(fresh_of(half)) < set(told)


def test_conditions_hold_for_fresh_items_too(client: TestClient, told: list[int]) -> None:
    assert fresh_of(listed(client, scene="old", size=10)) == []
    assert len(fresh_of(listed(client, scene="half", size=10, restrict="year = 2026"))) == 5
    tell(client, item(told[0], year=1980))
    assert fresh_of(listed(client, scene="old", size=10)) == told[:1]
    only = listed(client, scene="half", size=10, restrict=told[:2], exclude=told[:1])
    assert [row["item_id"] for row in only] == told[1:2]


def test_vectors_are_those_of_the_onnx_file_and_the_nearest_come_first(
    client: TestClient, told: list[int], engine: Engine
) -> None:
    with Database("tail").connect() as connection:
        blobs = dict(connection.execute("SELECT key, vector FROM entities WHERE side = 'items'").fetchall())
    assert engine.fresh_towers
    session = onnxruntime.InferenceSession(engine.fresh_towers.path("item.onnx"))
    from recsys_assets.funnel.tower_file import TowerFile

    tower = TowerFile(engine.fresh_towers.path("item.onnx"))
    table = tower.table([{"item_id": each, "genres": ["Drama", "War"], "year": 2026} for each in told])
    (wanted,) = session.run(["vector"], raw_columns(tower.inputs, table))
    kept = np.stack([np.frombuffer(blobs[str(each)], np.float32) for each in told])
    np.testing.assert_allclose(kept, wanted, atol=1e-6, rtol=0)
    users, vectors = embeddings.read(engine.funnel.inputs["emb_dropoutnet_user"].path(ROWS))
    user = int(users[3].as_py())
    rows = [row for row in listed(client, user, scene="half", size=10) if row["channels"] == ["fresh"]]
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)


def test_an_item_that_the_user_touched_is_not_listed_again(client: TestClient, told: list[int], engine: Engine) -> None:
    user = int(engine.log.user_ids[3])
    assert told[0] in fresh_of(listed(client, user, scene="half", size=16))
    now = dt.datetime.now(dt.UTC).isoformat()
    event = {"user_id": user, "item_id": told[0], "rating": 5, "true_probability": 0.5, "timestamp": now}
    found = client.post("/events", json={"events": [event]})
    assert found.status_code == 200, found.text
    assert told[0] not in fresh_of(listed(client, user, scene="half", size=16))


@pytest.mark.usefixtures("told")
def test_a_told_user_gets_fresh_items_by_their_own_features(client: TestClient) -> None:
    stranger = [row["score"] for row in listed(client, 777_777, scene="half", size=10) if "fresh" in row["channels"]]
    rows = [{"user_id": 777_777, "gender": "F", "age": 25, "occupation": 4}]
    assert client.post("/users", json={"users": rows}).json() == {"rows": 1, "changed": 1}
    known = [row["score"] for row in listed(client, 777_777, scene="half", size=10) if "fresh" in row["channels"]]
    assert len(known) == len(stranger) == 5
    assert known != stranger


def test_a_row_that_cannot_be_kept_is_refused_with_its_place_and_none_is_kept(client: TestClient) -> None:
    answer = client.post("/items", json={"items": [item(NEW + 50), {"item_id": NEW + 51, "colour": "red"}]})
    assert (answer.status_code, answer.json()["detail"]) == (422, "items.1: there is no column colour")
    answer = client.post("/items", json={"sides": {"authors": [{"name": "ann"}]}})
    assert answer.json()["detail"].startswith("sides.authors.0: this data set takes no rows of 'authors'")
    assert client.post("/items", json={}).status_code == 422
    assert NEW + 50 not in fresh_of(listed(client, scene="half", size=50))


def test_a_service_that_takes_no_rows_says_why(engine: Engine) -> None:
    without = TestClient(create_app(Service(Opened(7, engine, Book()))))
    answer = without.post("/items", json={"items": [item(NEW)]})
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "this service takes no rows: the items of this data set do not land",
    )


def test_a_withdrawn_item_of_the_release_leaves_every_answer(client: TestClient) -> None:
    first, *_, last = [row["item_id"] for row in listed(client)]
    tell(client, {"item_id": first, "withdrawn": True})
    try:
        assert first not in {row["item_id"] for row in listed(client)}
        assert first not in {row["item_id"] for row in client.get(f"/similar/{last}?size=100").json()["items"]}
        recalled = client.post("/recall", json={"user_id": 1, "k": 200}).json()["channels"]
        assert first not in {row["item_id"] for rows in recalled.values() for row in rows}
    finally:
        tell(client, {"item_id": first, "withdrawn": False})


@pytest.fixture
def cold(engine: Engine) -> Iterator[Layer]:
    """The layer of a release in which no event names the log's last six items; it has rows of its own."""
    without = copy(engine)
    without.log = replace(engine.log, item_ids=engine.log.item_ids[:-6])
    (opened := open_layer(without) or pytest.fail("no layer")).close()
    yield (layer := Layer(engine.profile, Database("cold"), opened.towers, opened.cold))
    layer.close()


def test_items_that_no_event_names_follow_the_fresh_ones(engine: Engine, cold: Layer, tmp_path: Path) -> None:
    ids, user = engine.log.item_ids[-6:].tolist(), int(engine.log.user_ids[3])
    (file := tmp_path / "own.scenes.yaml").write_text(SCENES, encoding="utf-8")
    with open_fresh(engine.profile, cold) as fresh:
        service = Service(Opened(7, engine, Book(file, engine.profile)), None, None, fresh)
        client = TestClient(create_app(service))
        tell(client, item(NEW + 100, withdrawn=False), item(NEW + 101, withdrawn=False))
        rows = listed(client, user, scene="half", size=16, fields=["title"])
        others = [row for row in rows if row["channels"] == ["cold"]]
        assert others
        assert [row["channels"] for row in rows[1::2]][: 2 + len(others)] == [["fresh"]] * 2 + [["cold"]] * len(others)
        assert {*ids} <= {row["item_id"] for row in rows}
        assert all(row["title"] for row in others)
        for body in ({"scene": "none"}, {"judged": True}):
            assert ["cold"] not in [row["channels"] for row in listed(client, user, **body)]


def test_the_nearest_cold_items_are_those_of_the_table_of_vectors(engine: Engine, cold: Layer) -> None:
    ids = engine.log.item_ids[-6:].tolist()
    every, vectors = embeddings.read(engine.funnel.inputs["emb_dropoutnet_item"].path(ROWS))
    user = np.linspace(-1, 1, vectors.shape[1], dtype=np.float32)
    scores = dict(zip(every.to_pylist(), (vectors @ user).tolist(), strict=True))
    best = [str(number) for number in sorted(ids, key=lambda number: -scores[number])]
    assert cold.nearest_cold(user, 10, set())[0] == best
    assert cold.nearest_cold(user, 2, {best[0]})[0] == best[1:3]
    told = [{"item_id": int(best[0]), "title": "told"}, {"item_id": int(best[1]), "withdrawn": True}]
    with connect_without_lake() as duck:
        step = Step(engine.profile, cold.database, duck, cold.towers)
        step.take([FreshRow("items", json.dumps(row)) for row in told], dt.datetime.now(dt.UTC))
    cold.look()
    assert best[0] in cold.nearest(user, 10, set())[0]
    assert cold.nearest_cold(user, 10, set())[0] == best[2:]
    old = Layer(engine.profile, cold.database, cold.towers, cold.cold, lambda: time.time() + 90_000)
    old.look()
    assert best[0] not in old.nearest(user, 10, set())[0]
    assert old.nearest_cold(user, 10, set())[0] == [best[0], *best[2:]]
    assert old.rows([best[2], best[0]])["title"].to_pylist()[1] == "told"
    old.close()


@pytest.mark.usefixtures("told")
def test_another_process_sees_the_rows_and_makes_vectors_of_its_own_towers(engine: Engine) -> None:
    fresh = open_layer(engine)
    assert fresh
    fresh.look()
    other = Layer(
        engine.profile, fresh.database, {side: type(each)("other", each.encode) for side, each in fresh.towers.items()}
    )
    other.look()
    vector = np.ones(len(fresh._vectors[0]), np.float32)  # type: ignore[index]
    assert fresh.nearest(vector, 8, set()) == other.nearest(vector, 8, set())
    assert len(fresh.nearest(vector, 8, set())[0]) == 8
    later = time.time() + engine.profile.fresh.seconds + 60
    old = Layer(engine.profile, fresh.database, fresh.towers, clock=lambda: later)
    old.look()
    assert old.nearest(vector, 8, set()) == ([], [])
    for each in (fresh, other, old):
        each.close()


def test_files_reach_the_answers_of_a_service(client: TestClient, engine: Engine) -> None:
    folder = engine.profile.landing / "fresh" / "items"
    folder.mkdir(parents=True)
    (folder / "new.tmp").write_text(json.dumps(item(NEW + 60)) + "\n", encoding="utf-8")
    (folder / "new.tmp").rename(folder / "new.jsonl")
    end = time.monotonic() + 20
    while NEW + 60 not in fresh_of(listed(client, scene="half", size=50)):
        assert time.monotonic() < end, "the file was not taken"
        time.sleep(0.05)
    tell(client, {"item_id": NEW + 60, "withdrawn": True})


@pytest.mark.usefixtures("told")
def test_fresh_items_are_exposed_as_new_ones(client: TestClient) -> None:
    def new() -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(
            float(line.split()[-1]) for line in lines if line.startswith('recsys_exposed_items_total{at_most="1"')
        )

    before = new()
    listed(client)
    assert new() >= before + 5


def test_pinned_items_keep_their_places() -> None:
    rows = [{"item_id": each, "channels": ["pinned"] if each == 2 else ["x"]} for each in range(6)]
    fresh = [{"item_id": each, "channels": ["fresh"]} for each in (100, 101)]
    assert [row["item_id"] for row in placed(rows, fresh, 1 / 3, 6)] == [0, 1, 2, 100, 3, 101]
    assert [row["item_id"] for row in placed([], fresh, 0.5, 4)] == [100, 101]


def test_the_job_puts_fresh_rows_where_one_statement_finds_them(
    client: TestClient, told: list[int], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres("") as server:
        uri = server.address(quote(PASSWORD, safe=""))
        monkeypatch.setenv("RECSYS_POSTGRES_URI", uri)
        assert isinstance(fresh_items_sensor(dg.build_sensor_context(), dataset=own_dataset()), dg.RunRequest)
        items = pq.read_table(engine.funnel.inputs["emb_dropoutnet_item"].path(ROWS))
        with open_store("postgres", engine.profile.name) as store:
            keys = items["item_id"].cast("string")
            store.write("dropoutnet_item", f"{DAY}.aaaaaaaaaaaa", pa.table({KEY: keys, "vector": items["vector"]}))
            store.go_live("dropoutnet_item", f"{DAY}.aaaaaaaaaaaa")
        job = build_defs().resolve_job_def("fresh_items")
        assert job.execute_in_process().success
        everything = f'SELECT {KEY} FROM "{engine.profile.name}".dropoutnet_item'
        with psycopg.connect(uri) as connection:
            found = {int(key) for (key,) in connection.execute(everything).fetchall()}
            assert found == {*items["item_id"].to_pylist(), *told}
            tell(client, {"item_id": told[0], "withdrawn": True})
            connection.commit()
            assert job.execute_in_process().success
            left = {int(key) for (key,) in connection.execute(everything).fetchall()}
            assert left == found - {told[0]}


def test_the_job_puts_fresh_rows_next_to_the_live_vectors_in_mongodb(
    client: TestClient, told: list[int], engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = pq.read_table(engine.funnel.inputs["emb_dropoutnet_item"].path(ROWS))
    name, job = "emb_dropoutnet_item", build_defs().resolve_job_def("fresh_items")
    with daemon(tmp_path / "mongo") as server, MongoClient[dict[str, Any]](server.uri) as mongo:
        monkeypatch.setenv("MONGO_URI", server.uri)
        with open_store("mongo", engine.profile.name) as store:
            store.write(name, f"{DAY}.aaaaaaaaaaaa", items.add_column(0, KEY, items["item_id"].cast("string")))
            store.go_live(name, f"{DAY}.aaaaaaaaaaaa")
        view = mongo[engine.profile.name][name]
        assert job.execute_in_process().success
        found = {each["item_id"]: each for each in view.find()}
        assert found.keys() == {*items["item_id"].to_pylist(), *told}
        assert found[told[0]]["row"]["title"] == f"New {told[0]}"
        tell(client, {"item_id": told[0], "withdrawn": True})
        assert job.execute_in_process().success
        assert {each["item_id"] for each in view.find()} == found.keys() - {told[0]}


def own_dataset() -> Dataset:
    return Dataset(profile=settings().profile)
