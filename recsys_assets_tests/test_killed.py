"""SIGKILL at any moment leaves the old or the new partition, readable; the next run succeeds and cleans up.

With `RECSYS_TEST_KILLS=70` each of the three tests kills 70 times.
"""

import contextlib
import datetime as dt
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import fsspec
import psutil
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from recsys_assets.datasets.landing import land, landing_files
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets_tests.helpers.in_process import failures, materialize

# A killed materialization takes 5 s, the others less than one.
KILLS = int(os.environ.get("RECSYS_TEST_KILLS", "20"))
KILLED_RUNS = int(os.environ.get("RECSYS_TEST_KILLS", "8"))
LAST = "2026-01-08"
ASSETS = ["interactions", "splits"]
# A fork server that has already imported everything starts processes within milliseconds.
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["recsys_assets_tests.helpers.in_process", "matplotlib.backends.backend_agg"])


class Elsewhere(LocalFileSystem):  # type: ignore[misc]
    """Files of this machine as an object store that several processes can use: `elsewhere:///folder`."""

    protocol = "elsewhere"

    def __init__(self) -> None:
        super().__init__(auto_mkdir=True)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("elsewhere://")))

    def unstrip_protocol(self, name: str) -> str:
        """The URL for a path."""
        return f"elsewhere://{self._strip_protocol(name)}"


fsspec.register_implementation("elsewhere", Elsewhere, clobber=True)


def publish_over_and_over(tell: Connection, root: str) -> None:
    """Publish a partition of two files with the same number, again and again; report each number."""
    os.setsid()
    lake = Lake(root, "shop")
    for number in count(os.getpid()):
        with lake.draft("users", LAST) as draft:
            for name in ("a.txt", "b.txt"):
                draft.path(name).write_text(f"{number}\n" * 5_000)
        tell.send(number)


def fetch_over_and_over(tell: Connection, root: str, temporary: str) -> None:
    """Fetch a partition of an object store again and again; report each time."""
    os.setsid()
    tempfile.tempdir = temporary
    lake = Lake(root, "shop")
    for number in count():
        shutil.rmtree(lake.read("users", LAST).folder)
        tell.send(number)


def materialize_until(tell: Connection, environment: Mapping[str, str], moment: int, seconds: float) -> None:
    """Materialize; die some seconds after the given file operation on a draft, otherwise report their number.

    A moment counted in operations is the same on slow and fast machines; the seconds reach moments between two of them,
    in which DuckDB writes.
    """
    os.setsid()
    os.environ.update(environment)
    operations, drafts = count(), re.compile(re.escape(environment["RECSYS_LAKE"]) + r".*/\.")

    def kill_at(_event: str, args: tuple[object, ...]) -> None:
        if args and drafts.match(str(args[0])) and next(operations) == moment:
            if seconds:
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill_at)
    materialize(ASSETS, LAST)
    tell.send(next(operations))


def told_by(target: Callable[..., None], *args: object, kill_after: float | None = None) -> list[int]:
    """The reports of a process until it ends, or until it is killed some seconds after its first report."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    told = []
    with contextlib.suppress(EOFError):
        while True:
            told.append(ours.recv())
            if kill_after is not None and len(told) == 1:
                time.sleep(kill_after)
                process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    assert [pid for pid in psutil.pids() if session(pid) == process.pid] == []  # it has left no process behind
    return told


def session(pid: int) -> int:
    """The leader of a process's session; 0 if the process is gone."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


def hidden(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".*"))


def test_killed_writers_leave_whole_partitions(tmp_path: Path) -> None:
    chance, lake, interrupted = random.Random(20260105), Lake(str(tmp_path), "shop"), 0
    for _ in range(KILLS):
        told = told_by(publish_over_and_over, str(tmp_path), kill_after=chance.uniform(0, 0.04))
        partition = lake.read("users", LAST)  # reads all files and compares their hashes
        number, other = (set(partition.path(name).read_text().split()) for name in ("a.txt", "b.txt"))
        assert number == other
        assert number <= {str(told[-1]), str(told[-1] + 1)}  # its last report, or the one it was about to make
        interrupted += len(hidden(tmp_path))
        assert len(hidden(tmp_path)) <= 1  # the remains of the previous one are gone
    assert interrupted  # about half of them on a quiet machine, 2 of 20 on a busy one


def test_killed_readers_of_an_object_store_leave_whole_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    root = f"elsewhere://{tmp_path}/lake"
    chance, lake, interrupted = random.Random(20260107), Lake(root, "shop"), 0
    with lake.draft("users", LAST) as draft:
        for number in range(20):
            draft.path(f"{number}.txt").write_text("x" * 50_000)
    for _ in range(KILLS):
        told_by(fetch_over_and_over, root, str(tmp_path / "tmp"), kill_after=chance.uniform(0, 0.02))
        interrupted += len(hidden(tmp_path / "tmp"))
        copy = lake.read("users", LAST)  # compares all hashes
        assert len(list(copy.folder.iterdir())) == 20
        shutil.rmtree(copy.folder)
        assert len(hidden(tmp_path / "tmp")) <= 1  # if the copy was complete, there was no cleanup
    lake.read("users", LAST)
    assert hidden(tmp_path / "tmp") == []
    assert interrupted


def test_a_killed_materialization_leaves_whole_partitions_and_the_next_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"RECSYS_DATA": "", "RECSYS_LANDING": "landing", "RECSYS_LAKE": "lake"}
    environment = {name: str(tmp_path / place) for name, place in places.items()} | {"RECSYS_PROFILE": "sample"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    profile, lake = load_profile(), Lake(environment["RECSYS_LAKE"], "sample")
    land(profile, first=profile.first_bizdate, last=dt.date.fromisoformat(LAST), days=8, events=1600)
    (landed,) = landing_files(profile, "interactions", LAST)
    events = pq.read_table(landed)
    assert materialize(["interactions"], "2026-01-01", LAST).success

    versions = [events, events.slice(0, events.num_rows - 10)]  # the day's old and new events

    def fingerprints() -> list[str]:
        return [lake.read(asset, LAST).manifest.fingerprint for asset in ASSETS]  # `read` compares all hashes

    expected = []
    for version in versions:
        pq.write_table(version, landed)
        (operations,) = told_by(materialize_until, environment, -1, 0.0)
        expected.append(fingerprints())
    assert all(old != new for old, new in zip(*expected, strict=True))

    chance, interrupted = random.Random(20260106), 0
    for kill in range(KILLED_RUNS):
        pq.write_table(versions[kill % 2], landed)
        seconds = chance.choice([0.0, 0.0, chance.uniform(0, 0.01)])
        told_by(materialize_until, environment, chance.randrange(operations), seconds)
        assert all(found in known for found, *known in zip(fingerprints(), *expected, strict=True))
        interrupted += len(hidden(tmp_path / "lake"))
        assert failures(materialize(ASSETS, LAST)) == {}
        assert fingerprints() == expected[kill % 2]
        assert hidden(tmp_path / "lake") == []
    assert interrupted  # about half of them
