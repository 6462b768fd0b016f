"""Random days are published, released, rolled back and killed: services see one bizdate, or a reported mixture."""

import contextlib
import os
import random
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
import pytest

from recsys_assets.stores.live_sets import release_of, release_set, remarks, versions_of
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.publish import NothingToRollBackTo, roll_back, roll_back_all, stage
from recsys_assets.stores.store import KEY, VersionMissing, bizdate_of
from recsys_assets_tests.helpers.mongo_servers import Daemon, daemon
from recsys_assets_tests.helpers.store_contract import no_gate
from recsys_assets_tests.stores.test_publish_atomic import context

COLLECTIONS = ("emb", "item", "user")
DAYS = [f"2026-01-0{number}" for number in range(1, 7)]
STEPS = 60
KEEP = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("mongo") / "data") as served:
        yield served


def write(store: MongoStore, day: str, made: int, collections: Sequence[str] = COLLECTIONS) -> dict[str, Any]:
    """Stage a day's collections with one of several contents; returns what a release of them would name."""
    table = pa.table({KEY: ["a", "b"], "day": [day, day], "made": [made, made]})
    version = f"{day}.{made:012}"
    done = {name: stage(store, name, version, table, no_gate, KEEP) for name in collections}
    return {name: {"version": each.version, "rows": each.rows} for name, each in done.items()}


def release_until(tell: Connection, uri: str, day: str, made: int, moment: int) -> None:
    """Publish and release a day; kill this process at the command with this number after the last row is written."""
    from pymongo import monitoring

    class Killer(monitoring.CommandListener):
        """Counts commands once it is switched on, and kills before the chosen command is sent."""

        left = -1

        def started(self, _: monitoring.CommandStartedEvent) -> None:
            """Count the command."""
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def succeeded(self, _: monitoring.CommandSucceededEvent) -> None:
            """Do nothing."""

        def failed(self, _: monitoring.CommandFailedEvent) -> None:
            """Do nothing."""

    killer = Killer()
    monitoring.register(killer)
    with MongoStore(uri, "sets") as store:
        named = write(store, day, made)
        killer.left = moment
        release_set(store, release_of(named, None))
    tell.send("released")


def released_until_killed(uri: str, day: str, made: int, moment: int) -> bool:
    """Whether a process that releases a day was killed before it had released it."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=release_until, args=(theirs, uri, day, made, moment))
    process.start()
    theirs.close()
    told = ""
    with contextlib.suppress(EOFError):
        told = ours.recv()
    process.join()
    return told != "released"


class Services:
    """The versions that services see, and those that they may see."""

    def __init__(self, store: MongoStore) -> None:
        self.store = store
        self.newest = ""
        self.went_back = self.one_by_one = self.interrupted = False
        self.seen = {"interrupted": 0, "mixture": 0, "kept": 0, "went back": 0}

    def look(self) -> None:
        """Check that the live set and plain names are complete and of one bizdate, or that a mixture is reported."""
        live, shown = versions_of(self.store.release()), self.store.shown_versions()
        days = sorted({bizdate_of(version) for version in live.values()})
        said = " ".join(remarks("mongo", self.store))
        assert set(live) in (set(), set(COLLECTIONS))
        assert len(days) <= 1 or self.one_by_one
        assert (self.store.release() or {}).get("mixture", days) == days
        assert ("mixture of bizdates" in said) is (len(days) > 1)
        assert shown == live or self.interrupted
        assert ("switch was interrupted" in said) is (shown != live)
        for name, version in {**live, **shown}.items():
            assert self.store.count(name, version) == 2
        for name in shown:
            rows = list(self.store._database[name].find({}, {"bizdate": 1}))
            assert {row["bizdate"] for row in rows} == {bizdate_of(shown[name])}
        newest = max(days, default="")
        assert newest >= self.newest or self.went_back
        self.newest, self.went_back = newest, False
        self.seen["mixture"] += len(days) > 1
        self.seen["interrupted"] += shown != live


def test_whatever_happens_services_see_one_bizdate_or_it_is_named(server: Daemon) -> None:
    chance = random.Random(20261126)
    with MongoStore(server.uri, "sets") as store:
        services = Services(store)
        for step in range(STEPS):
            day, made = chance.choice(DAYS[: 2 + step // 10]), chance.randrange(2)
            with contextlib.suppress(NothingToRollBackTo, VersionMissing):
                match chance.choice(["stage", "release", "release", "killed", "one back", "all back", "to"]):
                    case "stage":
                        write(store, day, made, chance.sample(COLLECTIONS, chance.randint(1, 3)))
                    case "release":
                        _, is_live = release_set(store, release_of(write(store, day, made), None))
                        services.seen["kept"] += not is_live
                        services.one_by_one &= not is_live
                        services.interrupted = False
                    case "killed":
                        services.interrupted |= released_until_killed(server.uri, day, made, chance.randint(1, 20))
                    case "one back":
                        roll_back(store, chance.choice(COLLECTIONS))
                        services.went_back = services.one_by_one = True
                        services.interrupted = False
                    case back:
                        roll_back_all([store], day if back == "to" else None)
                        services.went_back, services.one_by_one, services.interrupted = True, False, False
                        services.seen["went back"] += 1
            services.look()
    assert all(services.seen.values()), services.seen
