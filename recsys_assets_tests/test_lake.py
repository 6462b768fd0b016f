"""The lake: a reader sees the whole old or the whole new partition, or gets an error that names the fault."""

import contextlib
import dataclasses
import datetime as dt
import errno
import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from recsys_assets import remote as uploads
from recsys_assets.datasets import folders
from recsys_assets.datasets.folders import exchange, file_hash
from recsys_assets.lake import READINGS, Lake
from recsys_assets.lake_place import LakeUnavailable
from recsys_assets.manifest import MANIFEST, Manifest, Partition, PartitionDamaged, PartitionMissing, PartitionReplaced
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


def test_an_object_store_has_the_old_partition_until_the_manifest_is_put(
    remote: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(remote, a="old", b="old")
    store, put = fsspec.filesystem("memory"), []
    whole = type(store).put_file

    def put_file(self: object, source: str, target: str, **options: object) -> None:
        assert remote.read(ASSET, DAY).manifest == old
        shutil.rmtree(remote.read(ASSET, DAY).folder)  # so that its files are fetched the next time
        put.append(target.rsplit("/", 1)[1])
        whole(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "put_file", put_file)
        new = publish(remote, a="new", b="new")
    assert put == ["a.txt", "b.txt", MANIFEST]
    assert remote.read(ASSET, DAY).manifest == new
    assert inside(remote) == {old.version, new.version, MANIFEST}  # a reader may have the old manifest


def inside(remote: Lake) -> set[str]:
    """The names in the folder of the partition."""
    found = fsspec.filesystem("memory").find(remote.location(ASSET, DAY))
    return {path.partition(f"bizdate={DAY}/")[2].partition("/")[0] for path in found}


def days_ago(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let uploads that begin from now on have a time in the past."""
    moment = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    monkeypatch.setattr(uploads, "new_version", lambda: f"{moment:%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}")


def test_a_version_that_was_replaced_goes_a_day_after_its_upload_began(
    remote: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = []
    for days in (3, 1.01, 0.99, 0):
        with monkeypatch.context() as patch:
            days_ago(patch, days)
            versions.append(publish(remote, a=str(days)).version)
    assert inside(remote) == {*versions[2:], MANIFEST}
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "0"


def test_a_published_version_stays_however_old_and_clean_finds_all_others(
    remote: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    days_ago(monkeypatch, 2)
    publish(remote, a="published")
    store, place = fsspec.filesystem("memory"), remote.location(ASSET, DAY)
    killed = uploads.new_version()
    for day in (DAY, "2026-01-06"):  # its first upload was killed on the other day
        store.pipe_file(f"{place.replace(DAY, day)}/{killed}/model/b.txt", b"half")
    publish(remote, asset="items", a="of a later version of the code")
    store.pipe_file(f"{place.replace(ASSET, 'items')}/{MANIFEST}", b'{"asset": "items", "colour": 1}')
    store.pipe_file(f"{place.rsplit('/', 2)[0]}/dataset.json", b"{}")
    gone = remote.unneeded()
    assert [path.rsplit("/", 4)[1:3] for path in gone] == [[f"bizdate={day}", killed] for day in (DAY, "2026-01-06")]
    remote.remove_unneeded(gone)
    remote.remove_unneeded(gone)  # as another process may have done
    assert remote.unneeded() == []
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "published"


def test_a_partition_from_before_there_were_versions_is_read_and_replaced(remote: Lake) -> None:
    made = publish(remote, a="one")
    store, place = fsspec.filesystem("memory"), remote.location(ASSET, DAY)
    store.mv(f"{place}/{made.version}/a.txt", f"{place}/a.txt")
    store.rm(f"{place}/{made.version}", recursive=True)
    store.pipe_file(f"{place}/{MANIFEST}", dataclasses.replace(made, version="").to_json().encode())
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "one"
    assert remote.unneeded() == []
    with remote.open_file(remote.manifest(ASSET, DAY), "a.txt") as opened:
        assert opened.read() == b"one"
    new = publish(remote, a="two")
    assert inside(remote) == {new.version, MANIFEST}
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "two"


def test_a_copy_of_an_object_store_is_a_lake_of_this_machine(remote: Lake, tmp_path: Path) -> None:
    publish(remote, a="one")
    fsspec.filesystem("memory").get(remote.folder, str(tmp_path / "copy" / "shop"), recursive=True)
    copy = Lake(str(tmp_path / "copy"), "shop")
    partition = copy.read(ASSET, DAY)
    assert partition.path("a.txt").read_text() == "one"
    assert copy.is_in_place(partition)
    publish(copy, a="two")
    assert not copy.is_in_place(partition)
    assert copy.read(ASSET, DAY).path("a.txt").read_text() == "two"


@pytest.mark.parametrize("times", [READINGS - 1, READINGS])
def test_a_reader_whose_files_are_gone_reads_the_manifest_again(
    remote: Lake, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    publish(remote, a="0")
    store, left = fsspec.filesystem("memory"), iter(range(times))
    whole = type(store).get_file

    def get_file(self: object, source: str, target: str, **options: object) -> None:
        if (number := next(left, None)) is not None:
            publish(remote, a=str(number + 1))
            store.rm_file(source)
        whole(self, source, target, **options)

    monkeypatch.setattr(type(store), "get_file", get_file)
    if times < READINGS:
        assert remote.read(ASSET, DAY).path("a.txt").read_text() == str(times)
    else:
        with pytest.raises(PartitionReplaced, match=f"was replaced {READINGS} times while it was being read"):
            remote.read(ASSET, DAY)


def test_an_upload_that_fails_leaves_the_old_partition_or_none(remote: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fsspec.filesystem("memory")
    whole = type(store).put_file

    def put_file(self: object, source: str, target: str, **options: object) -> None:
        if target.endswith("b.txt"):
            raise ConnectionError("the store is gone")
        whole(self, source, target, **options)

    def fail() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(type(store), "put_file", put_file)
            with pytest.raises(LakeUnavailable, match="the store is gone"):
                publish(remote, a="half", b="two")

    fail()
    assert len(inside(remote)) == 1
    with pytest.raises(PartitionMissing):
        remote.read(ASSET, DAY)
    assert remote.bizdates(ASSET) == []
    publish(remote, a="one")
    fail()
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "one"
    assert remote.bizdates(ASSET) == [DAY]


def test_a_fetched_copy_is_verified_and_fetched_once(remote: Lake, tmp_path: Path) -> None:
    publish(remote, a="one", b="two")
    copy = remote.read(ASSET, DAY)
    assert copy.path("b.txt").read_text() == "two"
    fetched = copy.path("a.txt").stat().st_mtime_ns
    assert remote.read(ASSET, DAY).path("a.txt").stat().st_mtime_ns == fetched
    copy.path("a.txt").write_text("spoiled")
    assert remote.read(ASSET, DAY).path("a.txt").read_text() == "one"

    store, place = fsspec.filesystem("memory"), remote.location(ASSET, DAY)
    place = f"{place}/{publish(remote, a='three', b='four').version}"
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
