"""Readers see the whole old or new version while versions go live and writers or servers are killed."""

import contextlib
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.stores.live_sets import release_of, release_set
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.publish import stage
from recsys_assets.stores.store import KEY, StoreUnavailable
from recsys_assets_tests.helpers.mongo_servers import Daemon, daemon
from recsys_assets_tests.helpers.publishing import publish
from recsys_assets_tests.helpers.store_contract import no_gate

SWAPS, KILLS, KEEP = 10, 10, 3
COLLECTIONS = ("user", "item", "itemcf")
KEYS = [str(number) for number in range(0, 200, 20)]
# A fork server that has already imported everything starts processes within milliseconds.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload([__name__, "pymongo"])


def version_of(number: int) -> str:
    return f"2026-01-{number:02}.{number:012}"


def marked(number: int, rows: int) -> pa.Table:
    """Rows that contain their version; the vectors make the documents longer."""
    columns = {
        KEY: [str(row) for row in range(rows)],
        "number": np.full(rows, number),
        "vector": pa.array(list(np.random.default_rng(number).random((rows, 32), np.float32)), pa.list_(pa.float32())),
    }
    return pa.table(columns)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("mongo") / "data") as served:
        yield served


class Reader(threading.Thread):
    """Reads in a tight loop until stopped; `read` returns the numbers of the rows of one consistent read."""

    def __init__(self, read: Callable[[], list[int]], rows: int) -> None:
        super().__init__()
        self.read, self.rows = read, rows
        self.seen: list[int] = []
        self.wrong: list[str] = []
        self.stopped = threading.Event()

    def run(self) -> None:
        """Record the numbers read and all errors."""
        while not self.stopped.is_set():
            try:
                numbers = self.read()
            except Exception as error:  # recorded; the test checks it
                self.wrong.append(repr(error))
                continue
            last = self.seen[-1] if self.seen else 0
            if len(numbers) != self.rows or len(set(numbers)) != 1 or numbers[0] < last:
                self.wrong.append(f"after {last}: {numbers}")
            self.seen.append(numbers[0] if numbers else last)


def readers_of(uri: str, database: str) -> dict[str, Reader]:
    """A reader of the live version, one of pinned releases, and a client that knows only the plain name."""
    from pymongo import MongoClient

    live, pinning = (MongoStore(uri, database) for _ in range(2))
    plain = MongoClient[dict[str, int]](uri)[database]

    def pinned() -> list[int]:
        release = pinning.release()
        assert release is not None
        tables = [pinning.read(name, KEYS, each["version"]) for name, each in release["collections"].items()]
        return [release["champion"]["of"], *(number for table in tables for number in table["number"].to_pylist())]

    return {
        "live": Reader(lambda: list(live.read("user", KEYS)["number"].to_pylist()), len(KEYS)),
        "pinned": Reader(pinned, 1 + len(COLLECTIONS) * len(KEYS)),
        "plain": Reader(lambda: [each["number"] for each in plain["user"].find({KEY: {"$in": KEYS}})], len(KEYS)),
    }


def publish_all(store: MongoStore, number: int) -> None:
    """Publish a version of every collection, then the release that makes them live."""
    for name in COLLECTIONS:
        stage(store, name, version_of(number), marked(number, 200), no_gate, KEEP)
    named = {name: {"version": version_of(number), "rows": 200} for name in COLLECTIONS}
    release_set(store, release_of(named, {"of": number}))


def test_readers_in_a_tight_loop_see_whole_versions_that_only_get_newer(server: Daemon) -> None:
    with MongoStore(server.uri, "readers") as store:
        publish_all(store, 1)
        readers = readers_of(server.uri, "readers")
        for reader in readers.values():
            reader.start()
        for number in range(2, SWAPS + 2):
            publish_all(store, number)
        for reader in readers.values():
            reader.stopped.set()
            reader.join()
        assert store.versions("user") == [version_of(number) for number in range(SWAPS + 2 - KEEP, SWAPS + 2)]
    for name, reader in readers.items():
        assert reader.wrong == [], name
        # Ten reads per swap, and most of the versions: a reader that saw few of them proves little.
        assert len(reader.seen) >= 10 * SWAPS, name
        assert len(set(reader.seen)) >= SWAPS // 2, name


ROWS, KEPT = 1200, 2  # two blocks of documents


def publish_until(tell: Connection, uri: str, number: int, moment: int, wait: float, victim: int) -> None:
    """Publish a version; at the command with this number, wait and kill a process (0 means this one).

    Reports the names of the commands as they are sent, and finally the result.
    """
    from pymongo import monitoring

    class Killer(monitoring.CommandListener):
        """Kills at once, before the command is sent, or later from a timer, while the command is under way or done."""

        def __init__(self) -> None:
            self.sent = 0

        def started(self, event: monitoring.CommandStartedEvent) -> None:
            """Record the command."""
            tell.send(event.command_name)
            if self.sent == moment:
                kill = threading.Timer(wait, os.kill, (victim or os.getpid(), signal.SIGKILL))
                kill.start() if wait else kill.run()
            self.sent += 1

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            """Do nothing."""

        def failed(self, event: monitoring.CommandFailedEvent) -> None:
            """Do nothing."""

    monitoring.register(Killer())
    with MongoStore(uri + "&serverSelectionTimeoutMS=1000", "killed") as store:
        try:
            publish(store, "user", version_of(number), marked(number, ROWS), no_gate, KEPT)
            tell.send("published")
        except StoreUnavailable:
            tell.send("StoreUnavailable")
        os._exit(0)  # the waiting timer would keep the process alive


def told(uri: str, number: int, moment: int, wait: float = 0.0, victim: int = 0) -> list[str]:
    """The reports of a publishing process until it ends or is killed."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=publish_until, args=(theirs, uri, number, moment, wait, victim))
    process.start()
    theirs.close()
    heard = []
    with contextlib.suppress(EOFError):
        while True:
            heard.append(ours.recv())
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return heard


def look(uri: str) -> tuple[int, int]:
    """The numbers of the live version and of that under the plain name; checks that all versions are complete."""
    from pymongo import MongoClient

    with MongoStore(uri, "killed") as store, MongoClient[dict[str, int]](uri) as client:
        live, versions = store.live_version("user"), store.versions("user")
        assert live in versions
        assert [store.count("user", version) for version in versions] == [ROWS] * len(versions)
        number = int(str(live).partition(".")[2])
        expected = marked(number, ROWS).take(np.arange(0, ROWS, 50))
        assert store.read("user", expected[KEY].to_pylist()).equals(expected)
        (shown,) = client["killed"]["user"].aggregate([{"$group": {"_id": "$number", "rows": {"$sum": 1}}}])
        assert shown["rows"] == ROWS
        return number, shown["_id"]


def physical(uri: str) -> list[str]:
    """The collections that hold the versions."""
    from pymongo import MongoClient

    with MongoClient[dict[str, int]](uri) as client:
        return [name for name in client["killed"].list_collection_names() if name.startswith("user.")]


def test_a_killed_publisher_leaves_the_live_version_whole_and_the_rerun_completes(server: Daemon) -> None:
    for number in range(3):
        *commands, last = told(server.uri, number, moment=-1)
        assert last == "published"
    chance, killed, switched = random.Random(20260105), 0, set()
    for number in range(3, 3 + KILLS):
        # One command in each tenth of the publication: before it is sent, or some time after.
        moment = int((number - 3 + chance.random()) / KILLS * len(commands))
        wait = chance.uniform(0, 0.05) if number % 2 else 0.0
        *_, last = told(server.uri, number, moment, wait)
        assert wait or last != "published"
        killed += last != "published"
        live, shown = look(server.uri)
        assert number - 1 <= shown <= live <= number  # the plain name follows a moment later
        switched.add(live == number)
        assert told(server.uri, number, moment=-1)[-1] == "published"
        assert look(server.uri) == (number, number)
    assert killed >= KILLS * 3 // 4  # near the end, publishing may finish before the kill
    assert switched == {False, True}
    assert told(server.uri, 3 + KILLS, moment=-1)[-1] == "published"
    with MongoStore(server.uri, "killed") as store:
        assert len(store.versions("user")) == KEPT
    assert len(physical(server.uri)) == KEPT  # collections that a killed publisher had begun to drop are gone


def test_a_killed_server_leaves_the_live_version_whole_and_the_rerun_completes(tmp_path: Path) -> None:
    with daemon(tmp_path / "data") as server:
        *commands, last = told(server.uri, 0, moment=-1)
        assert last == "published"
        second_batch = commands.index("insert") + 1
        assert told(server.uri, 1, second_batch, wait=0.01, victim=server.process.pid)[-1] == "StoreUnavailable"
        server.kill()
        server.start()
        assert look(server.uri) == (0, 0)
        assert told(server.uri, 1, moment=-1)[-1] == "published"
        assert look(server.uri) == (1, 1)


def test_the_plain_name_follows_where_the_server_cannot_change_a_view() -> None:
    from secantus import SecantusDBServer, commands

    assert commands._HANDLERS["collMod"].__module__ == "secantus.commands"  # the fix is not installed in this process
    with SecantusDBServer(storage_path=":memory:") as unmended, MongoStore(unmended.uri, "unmended") as store:
        for number in range(3):
            publish(store, "user", version_of(number), marked(number, 10), no_gate, KEPT)
            (shown,) = store._database["user"].find({KEY: "7"})
            assert shown["number"] == number
