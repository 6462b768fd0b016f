"""Failures while publishing have a named error, leave nothing half-published, and show no password."""

import contextlib
import logging
import urllib.parse
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.store import KEY, StoreError, StoreFull, StoreUnavailable, Unrepresentable
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.mongo_servers import Daemon, Proxy, daemon
from recsys_assets_tests.helpers.publishing import publish
from recsys_assets_tests.helpers.store_contract import NEW, OLD, no_gate, rows
from recsys_assets_tests.stores.test_gate import DAY, World

BRIEF = "&serverSelectionTimeoutMS=1000&connectTimeoutMS=500&socketTimeoutMS=1000"
PATIENT = "&serverSelectionTimeoutMS=10000&connectTimeoutMS=10000&socketTimeoutMS=30000"  # 32 MB on a busy machine
DOCUMENTS = 2000  # each of 20 float64: 0.6 MB


def table(count: int = DOCUMENTS, numbers: int = 20) -> pa.Table:
    drawn = list(np.random.default_rng(1).random((count, numbers)))
    return pa.table({KEY: [str(row) for row in range(count)], "numbers": pa.array(drawn, pa.list_(pa.float64()))})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("mongo") / "data", "--enable-test-commands") as served:
        yield served


@pytest.fixture
def store(server: Daemon) -> Iterator[MongoStore]:
    """A new store in which `OLD` is live; at the end nothing else is live, and a rerun completes."""
    with MongoStore(server.uri, "d" + uuid.uuid4().hex) as made:
        publish(made, "user", OLD, rows(), no_gate, keep=3)
        yield made
        assert_untouched(made)
        assert publish(made, "user", NEW, table(), no_gate, keep=3).live == NEW


def assert_untouched(store: MongoStore) -> None:
    assert (store.live_version("user"), store.versions("user"), store.collections()) == (OLD, [OLD], ["user"])
    assert store.read("user", ["7"]).equals(rows().take([7]))
    (shown,) = store._database["user"].find({KEY: "7"})
    assert shown["user_id"] == 7


@contextmanager
def proxied(server: Daemon, left: int, stalls: bool) -> Iterator[str]:
    proxy = Proxy(server.port, left, stalls)
    proxy.start()
    try:
        yield proxy.uri
        assert proxy.passed_on >= left  # the proxy has passed bytes on
    finally:
        proxy.close()


@contextmanager
def failing(server: Daemon, command: str, **data: Any) -> Iterator[str]:
    """Make the server reply with an error to every such command of the client with this name."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](server.uri) as client:
        point = {"failCommands": [command], "appName": "failing", **data}
        client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=point)
        try:
            yield server.uri + "&appName=failing"
        finally:
            client.admin.command("configureFailPoint", "failCommand", mode="off")


def nobody(_: Daemon) -> AbstractContextManager[str]:
    free = Daemon(Path())
    return contextlib.nullcontext(free.uri)


TROUBLES = {
    "refused": (nobody, StoreUnavailable, "Connection refused"),
    "accepted, never answered": (lambda server: proxied(server, 0, stalls=True), StoreUnavailable, "timed out"),
    "hung up on": (lambda server: proxied(server, 0, stalls=False), StoreUnavailable, "connection closed"),
    "silent in mid-write": (lambda server: proxied(server, 300_000, stalls=True), StoreUnavailable, "timed out"),
    "cut in mid-write": (lambda server: proxied(server, 300_000, stalls=False), StoreUnavailable, "connection closed"),
    "stopping": (lambda server: failing(server, "insert", errorCode=11600), StoreUnavailable, "not answer"),
    "no room": (lambda server: failing(server, "insert", errorCode=14031), StoreFull, "make room"),
    "no room for the index": (lambda server: failing(server, "createIndexes", errorCode=14031), StoreFull, "make room"),
    "gave up at the switch": (lambda server: failing(server, "update", errorCode=91), StoreUnavailable, "not answer"),
    "not allowed": (lambda server: failing(server, "insert", errorCode=13), StoreUnavailable, "not authorized"),
}


@pytest.mark.parametrize(("trouble", "kind", "said"), TROUBLES.values(), ids=TROUBLES)
def test_a_server_in_trouble_is_a_named_error(
    server: Daemon, store: MongoStore, trouble: Any, kind: type[StoreError], said: str
) -> None:
    with trouble(server) as uri, MongoStore(uri + BRIEF, store._database.name) as troubled:
        with pytest.raises(kind, match=said):
            publish(troubled, "user", NEW, table(), no_gate, keep=3)
        assert_untouched(store)


def test_a_server_that_dies_is_away_and_back_again(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as server, MongoStore(server.uri + BRIEF, "x") as store:
        publish(store, "user", OLD, rows(), no_gate, keep=3)
        store.add_release({})  # a write that waits for the log, and so for the preceding change of the view
        server.kill()
        with pytest.raises(StoreUnavailable, match=server.place):
            publish(store, "user", NEW, table(), no_gate, keep=3)
        server.start()
        assert_untouched(store)
        assert publish(store, "user", NEW, table(), no_gate, keep=3).live == NEW


def test_a_server_on_a_full_disk_is_unavailable_and_keeps_what_it_had(tmp_path: Path) -> None:
    with daemon(tmp_path / "data", largest_file=16 << 20) as server, MongoStore(server.uri + PATIENT, "x") as store:
        publish(store, "user", OLD, rows(), no_gate, keep=3)
        with pytest.raises(StoreUnavailable, match="room on its disk"):
            publish(store, "user", NEW, table(4000, numbers=1000), no_gate, keep=3)
        server.kill()
        server.start()
        assert_untouched(store)
        assert publish(store, "user", NEW, table(4000, numbers=1000), no_gate, keep=3).live == NEW


UNREPRESENTABLE = {
    "16 MB": (pa.array([[1.0], [0.5] * 2_000_000], pa.list_(pa.float64())), "of b has .* bytes"),
    "a number beyond 64 bits with sign": (pa.array([1, 1 << 63], pa.uint64()), "of b"),
    "a time finer than a millisecond": (pa.array([0, 1], pa.timestamp("us")), "of b"),
    "no number in a vector": (pa.array([[1.0], [None]], pa.list_(pa.float32())), "of b"),
    "a decimal": (pa.array([1, 2], pa.decimal128(3)), "decimal"),
}


@pytest.mark.parametrize(("column", "said"), UNREPRESENTABLE.values(), ids=UNREPRESENTABLE)
def test_a_value_that_mongodb_cannot_hold_is_named(store: MongoStore, column: pa.Array, said: str) -> None:
    with pytest.raises(Unrepresentable, match=said):
        publish(store, "user", NEW, pa.table({KEY: ["a", "b"], "value": column}), no_gate, keep=3)


USER, PASSWORD, WRONG = "reader@shop", "s3cret:/@right", "s3cret:/@wrong"
SECRET = PASSWORD[:6]  # both passwords begin with it, also as written in the URI


def with_password(server: Daemon, password: str) -> str:
    user, word = (urllib.parse.quote_plus(each) for each in (USER, password))
    return server.uri.replace("//", f"//{user}:{word}@") + "&authSource=admin"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server that requires a password."""
    from pymongo import MongoClient, WriteConcern

    folder = tmp_path_factory.mktemp("guarded") / "data"
    with daemon(folder) as served:
        with MongoClient[dict[str, Any]](served.uri) as client:
            client.admin.command("createUser", USER, pwd=PASSWORD, roles=["root"])
            client["x"]["y"].with_options(write_concern=WriteConcern(j=True)).insert_one({})  # syncs the user to disk
        served.kill()
        served.start("--auth")
        yield served


def test_runs_do_not_show_the_password(
    guarded: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    world, home = World(tmp_path / "lake"), tmp_path / "dagster"
    with world.lake.draft("items", DAY) as draft:
        pq.write_table(pa.table({"item_id": [1, 2], "title": ["One", "Two"]}), draft.path(ROWS))
    home.mkdir()
    places = {"RECSYS_DATA": tmp_path, "RECSYS_LAKE": tmp_path / "lake", "DAGSTER_HOME": home}
    for name, value in places.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    caplog.set_level(logging.DEBUG)
    said = {}
    with dg.DagsterInstance.get() as instance:
        for password in (WRONG, PASSWORD):
            monkeypatch.setenv("MONGO_URI", with_password(guarded, password))
            said[password] = failures(materialize(["mongo_item"], DAY, instance=instance))
    assert "refused the user or the password" in said[WRONG]["mongo_item"]
    assert said[PASSWORD] == {}
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(home in path.parents and guarded.place.encode() in content for path, content in files.items())
    assert [path for path, content in files.items() if SECRET.encode() in content] == []
    shown = [record.getMessage() for record in caplog.records]
    assert SECRET not in "\n".join((*shown, *capfd.readouterr()))
