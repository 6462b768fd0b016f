"""The lake: a reader sees the whole old or the whole new partition, or gets an error that names the fault."""

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from recsys_assets.datasets import folders
from recsys_assets.datasets.folders import exchange, file_hash
from recsys_assets.lake import Lake
from recsys_assets.lake_place import LakeUnavailable
from recsys_assets.manifest import MANIFEST, Manifest, Partition, PartitionDamaged, PartitionMissing
from recsys_assets_tests.conftest import PROJECT

ASSET, DAY = "users", "2026-01-05"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path), "shop")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "shop" / ASSET


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake on an object store; fetched files go to the test's own folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = f"memory://{uuid.uuid4()}"
    yield Lake(root, "shop")
    if (store := fsspec.filesystem("memory")).exists(root):
        store.rm(root, recursive=True)


def publish(lake: Lake, day: str = DAY, asset: str = ASSET, run_id: str | None = None, **files: str) -> Manifest:
    with lake.draft(asset, day) as draft:
        for name, text in files.items():
            draft.path(f"{name}.txt").write_text(text)
        draft.manifest.mlflow_run_id = run_id
    return draft.manifest


def hidden(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob(".*"))


def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "exchange", lambda *_: False)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_partition_is_read_as_it_was_written(lake: Lake, home: Path) -> None:
    publish(lake, a="one", b="two")
    partition = lake.read(ASSET, DAY)
    assert partition.folder == home / f"bizdate={DAY}"
    assert partition.path("a.txt").read_text() == "one"
    assert partition.manifest.files == {f"{n}.txt": file_hash(partition.path(f"{n}.txt")) for n in ("a", "b")}
    assert partition.folder.stat().st_mode & 0o777 == 0o700  # accessible to its owner only
    with pytest.raises(PartitionDamaged, match=r"users 2026-01-05 has no file c.txt"):
        partition.path("c.txt")


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchange", "no exchange on this file system"])
def test_a_new_partition_takes_the_place_of_the_old_one_whole(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        no_exchange(monkeypatch)
    publish(lake, a="old", gone="old")
    publish(lake, a="new")
    assert sorted(path.name for path in lake.read(ASSET, DAY).folder.iterdir()) == ["a.txt", MANIFEST]
    assert lake.read(ASSET, DAY).path("a.txt").read_text() == "new"
    assert hidden(home) == []


def test_two_folders_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system has no exchange")
    assert (tmp_path / "one" / "file").read_text() == "other"
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "one", tmp_path / "absent")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_a_file_system_that_refuses_the_exchange_is_told_from_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr("ctypes.get_errno", lambda: code)
    assert exchange(tmp_path, tmp_path / "absent") is False


def test_a_draft_whose_block_raises_leaves_the_old_partition_and_no_trace(lake: Lake, home: Path) -> None:
    publish(lake, a="old")

    def half_written() -> None:
        with lake.draft(ASSET, DAY) as draft:
            draft.path("a.txt").write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert lake.read(ASSET, DAY).path("a.txt").read_text() == "old"
    assert [path.name for path in home.iterdir()] == [f"bizdate={DAY}"]


def test_leftovers_of_dead_processes_are_removed_and_those_of_live_ones_are_not(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {}
    for whose, pid, machine in (("dead", dead_pid(), None), ("live", os.getppid(), None), ("away", 0, "elsewhere")):
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda pid=pid: pid)
            if machine:
                patch.setattr(folders, "_MACHINE", machine)
            home.mkdir(parents=True, exist_ok=True)
            left[whose] = folders.new_folder(home, f".shop.{ASSET}", "bizdate=2026-01-04")
            (left[whose] / "part.txt").write_text("half")
    publish(lake, a="one")
    assert {whose for whose, folder in left.items() if folder.exists()} == {"live", "away"}


def test_an_old_partition_that_a_killed_process_had_moved_aside_is_put_back(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(lake, a="old")
    no_exchange(monkeypatch)
    pid = dead_pid()
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: pid)
        new = folders.new_folder(home, f".shop.{ASSET}", f"bizdate={DAY}")
    (home / f"bizdate={DAY}").rename(new.with_name(f"{new.name}-old"))  # killed right after this
    with pytest.raises(PartitionMissing):
        lake.read(ASSET, DAY)
    publish(lake, day="2026-01-06", a="other")
    assert lake.read(ASSET, DAY).path("a.txt").read_text() == "old"
    assert hidden(home) == []


def test_a_missing_partition_is_named_with_the_command_that_makes_it(lake: Lake, remote: Lake) -> None:
    for one in (lake, remote):
        with pytest.raises(
            PartitionMissing, match=r"users has no partition for 2026-01-05 .*\+users --bizdate 2026-01-05"
        ):
            one.read(ASSET, DAY)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "a.txt",
            "onf",
            r"a.txt is missing or not as its manifest says: run `recsys materialize users --bizdate 2026-01-05`",
        ),
        ("a.txt", None, r"a.txt is missing or not as its manifest says"),
        (
            MANIFEST,
            '{"asset": "us',
            r"bizdate=2026-01-05/manifest.json cannot be read .*: run `recsys materialize users ",
        ),
        (MANIFEST, '{"asset": "users", "colour": 1}', r"manifest.json cannot be read .*colour"),
        (MANIFEST, "[]", r"manifest.json cannot be read"),
    ],
    ids=["changed byte", "file gone", "truncated manifest", "manifest of another kind", "manifest without keys"],
)
def test_a_damaged_partition_is_refused(lake: Lake, home: Path, file: str, text: str | None, message: str) -> None:
    publish(lake, a="one")
    path = home / f"bizdate={DAY}" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(PartitionDamaged, match=message):
        lake.read(ASSET, DAY)
    publish(lake, a="one")
    assert lake.read(ASSET, DAY).path("a.txt").read_text() == "one"


def test_a_removed_partition_leaves_its_manifest_in_the_folder_of_removed_ones(lake: Lake, remote: Lake) -> None:
    for each in (lake, remote):
        with each.draft("splits", DAY) as draft:
            draft.path("[a]*.csv").write_text("1", encoding="utf-8")
            draft.manifest.metrics = {"rows": 1.0}
        assert each.size("splits", DAY) > 1
        made = each.manifest("splits", DAY).to_json()
        each.remove("splits", DAY)
        assert each.bizdates("splits") == []
        kept = each._place.fs.cat_file(f"{each._place.base}/.removed/splits/{DAY}.json")
        assert kept.decode() == made
    assert lake.partitions() == []


def test_bizdates_are_in_order_and_only_of_published_partitions(lake: Lake, remote: Lake) -> None:
    for one in (lake, remote):
        assert one.bizdates(ASSET) == []
        for day in ("2026-01-10", "2026-01-09", "2025-12-31"):
            publish(one, day=day, a=day)
        assert one.bizdates(ASSET) == ["2025-12-31", "2026-01-09", "2026-01-10"]
    (Path(lake.location(ASSET, "2026-01-10")) / MANIFEST).unlink()
    assert lake.bizdates(ASSET) == ["2025-12-31", "2026-01-09"]


def test_the_fingerprint_covers_the_content_and_not_the_run(lake: Lake) -> None:
    first = publish(lake, a="one", run_id="r1").fingerprint
    assert publish(lake, a="one", run_id="r2").fingerprint == first
    assert publish(lake, a="two", run_id="r1").fingerprint != first
    for key, value in (("seed", 7), ("code_version", "2"), ("config", {"k": 1}), ("upstream", {"items": "f"})):
        manifest = Manifest(ASSET, "shop", DAY)
        before = manifest.seal().fingerprint
        setattr(manifest, key, value)
        assert manifest.seal().fingerprint != before, key


def test_a_reader_can_tell_that_its_partition_was_replaced(lake: Lake) -> None:
    publish(lake, a="one")
    partition = lake.read(ASSET, DAY)
    publish(lake, a="one")
    assert lake.is_current(partition)
    publish(lake, a="two")
    assert not lake.is_current(partition)


def test_a_version_that_came_back_does_not_hide_the_one_between(lake: Lake) -> None:
    publish(lake, a="one")
    partition = lake.read(ASSET, DAY)
    for text in ("two", "one"):  # a reader of two files may meanwhile get one of each version
        publish(lake, a=text)
    assert lake.manifest(ASSET, DAY) == partition.manifest
    assert not lake.is_current(partition)
    assert lake.is_current(lake.read(ASSET, DAY))


def test_the_same_partition_stays_at_its_place_unless_it_is_damaged(lake: Lake, home: Path) -> None:
    publish(lake, a="one")
    partition, file = lake.read(ASSET, DAY), home / f"bizdate={DAY}" / "a.txt"
    number = file.stat().st_ino
    publish(lake, a="one")
    assert file.stat().st_ino == number
    file.write_text("onf")
    publish(lake, a="one")
    assert file.read_text() == "one"
    publish(lake, a="one", run_id="of another training")
    assert lake.manifest(ASSET, DAY).mlflow_run_id == "of another training"
    assert not lake.is_current(partition)


def test_no_read_next_to_two_writers_mixes_versions() -> None:
    command = [sys.executable, "benchmarks/mixed_reads.py", "--seconds", "3"]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    counts = dict(line.strip().rsplit(maxsplit=1) for line in ended.stdout.splitlines())
    assert (ended.returncode, counts["mixed"], counts["left over"]) == (0, "0", "0"), ended.stderr
    assert int(counts["accepted"].replace(",", "")) > 10


def test_readers_of_a_partition_that_is_overwritten_60_times_never_see_a_half(lake: Lake, home: Path) -> None:
    publish(lake, a="start", b="start")
    if not exchange(home / f"bizdate={DAY}", home / f"bizdate={DAY}"):
        pytest.skip("this file system has no exchange: the place of a partition is empty for an instant")
    done = threading.Event()
    seen: list[list[str | None]] = []
    faults: list[Exception] = []

    def text_of(partition: Partition, file: str) -> str | None:
        with contextlib.suppress(FileNotFoundError):
            return partition.path(file).read_text()
        return None

    def read_on() -> None:
        try:
            while not done.is_set():
                partition = lake.read(ASSET, DAY)
                texts = [text_of(partition, file) for file in ("a.txt", "b.txt")]
                if lake.is_current(partition):
                    seen.append(texts)
        except Exception as error:
            faults.append(error)
            raise

    readers = [threading.Thread(target=read_on) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(60):
        publish(lake, a=str(number), b=str(number))
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert len(seen) > 20
    assert all(one == other is not None for one, other in seen)
    assert len({one for one, _ in seen}) > 5
    assert lake.read(ASSET, DAY).path("a.txt").read_text() == "59"


def test_an_object_store_gets_the_manifest_last(remote: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(remote, a="old", b="old")
    store, put = fsspec.filesystem("memory"), []
    place = remote.location(ASSET, DAY)
    whole = type(store).put_file

    def put_file(self: object, source: str, target: str, **options: object) -> None:
        assert not store.exists(f"{place}/{MANIFEST}")  # the old manifest no longer describes the files
        put.append(target.rsplit("/", 1)[1])
        whole(self, source, target, **options)

    monkeypatch.setattr(type(store), "put_file", put_file)
    publish(remote, a="new")
    assert put == ["a.txt", MANIFEST]
    assert sorted(path.rsplit("/", 1)[1] for path in store.ls(place, detail=False)) == ["a.txt", MANIFEST]
    assert place.startswith("memory://")


def test_an_upload_that_fails_leaves_a_folder_without_manifest_which_is_refused(
    remote: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("memory")
    whole = type(store).put_file

    def put_file(self: object, source: str, target: str, **options: object) -> None:
        if target.endswith("b.txt"):
            raise ConnectionError("the store is gone")
        whole(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "put_file", put_file)
        with pytest.raises(LakeUnavailable, match="the store is gone"):
            publish(remote, a="one", b="two")
    assert store.exists(f"{remote.location(ASSET, DAY)}/a.txt")
    with pytest.raises(PartitionMissing):
        remote.read(ASSET, DAY)
    assert remote.bizdates(ASSET) == []
    publish(remote, a="one")
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "one"


def test_a_fetched_copy_is_verified_and_fetched_once(remote: Lake, tmp_path: Path) -> None:
    publish(remote, a="one", b="two")
    copy = remote.read(ASSET, DAY)
    assert copy.path("b.txt").read_text() == "two"
    fetched = copy.path("a.txt").stat().st_mtime_ns
    assert remote.read(ASSET, DAY).path("a.txt").stat().st_mtime_ns == fetched
    copy.path("a.txt").write_text("spoiled")
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "one"

    store, place = fsspec.filesystem("memory"), remote.location(ASSET, DAY)
    publish(remote, a="three", b="four")
    store.pipe_file(f"{place}/a.txt", b"other bytes")
    with pytest.raises(PartitionDamaged, match=r"a.txt is missing or not as its manifest says"):
        remote.read(ASSET, DAY)
    store.rm_file(f"{place}/a.txt")
    with pytest.raises(PartitionDamaged, match=r"a.txt is missing or not as its manifest says"):
        remote.read(ASSET, DAY)
    assert len(list(tmp_path.glob("recsys_assets-*/*"))) == 1  # the damaged ones were not kept


def test_the_manifest_is_readable_json(lake: Lake) -> None:
    with lake.draft(ASSET, DAY) as draft:
        draft.manifest.metrics = {"rejected_rows": 3.0}
        draft.manifest.rows = 2
    text = (Path(lake.location(ASSET, DAY)) / MANIFEST).read_text()
    assert json.loads(text)["metrics"] == {"rejected_rows": 3.0}
    assert lake.manifest(ASSET, DAY) == draft.manifest
