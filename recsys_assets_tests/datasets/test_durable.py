"""After a power cut: data is on the disk before it takes its place, and its place before the old data is removed."""

import datetime as dt
import errno
import os
import shutil
from pathlib import Path

import pytest

from recsys_assets.datasets import folders
from recsys_assets.datasets.disk import sync_all
from recsys_assets.datasets.landing import land, landing_files
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.manifest import MANIFEST

ASSET, DAY, TODAY = "users", "2026-01-05", dt.date(2026, 1, 11)
Step = tuple[str, str]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """All later operations on the disk in order: the operation, and the name of the file or folder."""
    done: list[Step] = []
    fsync, exchange, rename, replace, unlink, rmtree = (
        os.fsync,
        folders.exchange,
        Path.rename,
        Path.replace,
        Path.unlink,
        shutil.rmtree,
    )

    def record_sync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("sync", Path(f"/proc/self/fd/{descriptor}").resolve().name))

    def record_exchange(one: Path, other: Path) -> bool:
        exchanged = exchange(one, other)
        done.append(("exchange" if exchanged else "cannot exchange", other.name))
        return exchanged

    def record_rename(one: Path, other: Path) -> Path:
        renamed = rename(one, other)
        done.append(("rename", other.name))
        return renamed

    def record_replace(one: Path, other: Path) -> Path:
        replaced = replace(one, other)
        done.append(("move in", other.name))
        return replaced

    def record_unlink(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        done.append(("remove", path.name))

    def record_rmtree(path: Path, ignore_errors: bool = False) -> None:
        if Path(path).exists():
            done.append(("remove", "old"))
        rmtree(path, ignore_errors)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(folders, "exchange", record_exchange)
    monkeypatch.setattr(Path, "rename", record_rename)
    monkeypatch.setattr(Path, "replace", record_replace)
    monkeypatch.setattr(Path, "unlink", record_unlink)
    monkeypatch.setattr(shutil, "rmtree", record_rmtree)
    return done


def publish(lake: Lake, text: str) -> str:
    with lake.draft(ASSET, DAY) as draft:
        draft.path("a").write_text(text)
        draft.path("sub").mkdir()
        draft.path("sub/b").write_text(text)
    return draft.folder.name


def test_a_partition_is_on_the_disk_before_it_replaces_the_old_one_which_goes_last(
    tmp_path: Path, steps: list[Step]
) -> None:
    lake = Lake(str(tmp_path), "shop")
    publish(lake, "old")
    steps.clear()
    draft = publish(lake, "new")
    if ("cannot exchange", f"bizdate={DAY}") in steps:
        pytest.skip("this file system has no exchange")
    assert sorted(steps[:3]) == [("sync", "a"), ("sync", "b"), ("sync", MANIFEST)]
    assert sorted(steps[3:5]) == sorted([("sync", draft), ("sync", "sub")])
    assert steps[5:] == [("exchange", f"bizdate={DAY}"), ("sync", ASSET), ("remove", "old")]


def test_without_an_exchange_the_old_one_goes_last_too(
    tmp_path: Path, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "exchange", lambda *_: False)
    lake = Lake(str(tmp_path), "shop")
    publish(lake, "old")
    steps.clear()
    draft = publish(lake, "new")
    assert steps[5:] == [
        ("rename", f"{draft}-old"),
        ("rename", f"bizdate={DAY}"),
        ("rename", draft),
        ("sync", ASSET),
        ("remove", "old"),
    ]


def test_the_folders_of_a_new_lake_are_on_the_disk_before_its_first_partition(
    tmp_path: Path, steps: list[Step]
) -> None:
    publish(Lake(str(tmp_path / "new" / "lake"), "shop"), "first")
    assert {("sync", tmp_path.name), ("sync", "new"), ("sync", "lake"), ("sync", "shop")} <= set(steps[:4])
    assert steps[-2:] == [("rename", f"bizdate={DAY}"), ("sync", ASSET)]


def test_landed_files_are_on_the_disk_before_they_are_moved_in_and_their_folders_after(
    tmp_path: Path, steps: list[Step]
) -> None:
    profile = load_profile("sample").model_copy(update={"landing": tmp_path / "landing"})
    land(profile, today=TODAY, days=2, events=2_000)
    for day in ("2026-01-09", "2026-01-10"):
        landing_files(profile, "interactions", day)[0].write_bytes(b"spoiled")
    stale = tmp_path / "landing" / "interactions" / "bizdate=2026-01-10" / "part-0001.parquet"
    stale.write_bytes(b"of a landing of more parts")
    steps.clear()
    assert land(profile, today=TODAY, days=2).changed == ["2026-01-09", "2026-01-10"]
    days = [step for step in steps if step[1] != "world.json" and ".world.json" not in step[1]]
    of_days = days[days.index(next(step for step in days if "part-0000" in step[1])) :]
    (first, second), after = of_days[:2], of_days[2:]
    assert [what for what, _ in (first, second)] == ["sync", "sync"]  # two files of two days, at the same time
    moved = [step for step in after if step[0] == "move in"]
    assert moved == [("move in", "part-0000.parquet")] * 2
    last = len(after) - 1 - after[::-1].index(("remove", "part-0001.parquet"))
    assert {("sync", "bizdate=2026-01-09"), ("sync", "bizdate=2026-01-10"), ("sync", "interactions")} <= set(
        after[last:]
    )
    assert "sync" not in {what for what, _ in after[: after.index(moved[0])]}


def test_a_file_that_cannot_be_synced_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path), "shop")
    publish(lake, "old")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        publish(lake, "new")
    assert lake.read(ASSET, DAY).path("a").read_text() == "old"
    assert [path.name for path in (tmp_path / "shop" / ASSET).iterdir()] == [f"bizdate={DAY}"]


def test_a_folder_that_cannot_be_synced_is_passed_over_and_a_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    def unsupported(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unsupported)
    sync_all([tmp_path])
    with pytest.raises(OSError, match="Invalid argument"):
        sync_all([tmp_path / "file"])
