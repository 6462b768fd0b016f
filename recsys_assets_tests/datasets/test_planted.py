"""Names and links planted by someone else: nothing is written or read outside its folder, and nobody is blocked."""

import dataclasses
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from recsys_assets.datasets.disk import PlaceUnwritable
from recsys_assets.datasets.folders import is_inside, replacing
from recsys_assets.datasets.landing import land, landing_files
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake
from recsys_assets.manifest import MANIFEST, Manifest, PartitionDamaged

ASSET, DAY, TODAY = "users", "2026-01-05", dt.date(2026, 1, 11)
OUTSIDE = ["../x", "a/../../x", "/etc/x", "a\\..\\x", "a\0b", "", ".", "./a", "a//b", "..", "~/x/../../y", "\ud800"]


@pytest.fixture(params=["local", "remote"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """A lake on this machine, and one on an object store, fetched to the test's own folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    if request.param == "local":
        yield Lake(str(tmp_path / "lake"), "shop")
        return
    root = f"memory://{uuid.uuid4()}"
    yield Lake(root, "shop")
    fsspec.filesystem("memory").rm(root, recursive=True)


def plant(lake: Lake, **changes: object) -> None:
    """Publish a partition, then change its manifest and give it the matching fingerprint."""
    with lake.draft(ASSET, DAY) as draft:
        draft.path("a").write_text("one")
    fs, place = fsspec.core.url_to_fs(lake.location(ASSET, DAY))
    manifest = dataclasses.replace(draft.manifest, **changes)  # type: ignore[arg-type]
    if "fingerprint" not in changes:
        manifest = manifest.seal()
    fs.pipe_file(f"{place}/{MANIFEST}", json.dumps(manifest.content()).encode())


def everything_in(folder: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_manifest_that_names_a_file_outside_its_partition_is_damaged(lake: Lake, name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("precious")
    plant(lake, files={name: "0" * 64, "a": "1" * 64})
    before = everything_in(tmp_path)
    with pytest.raises(PartitionDamaged, match=r"lists .* not a file inside the partition: materialize users 2026"):
        lake.read(ASSET, DAY)
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("fingerprint", ["../../x", "/etc/x", "", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_fingerprint_that_is_none_names_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fingerprint: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    remote = Lake(f"memory://{uuid.uuid4()}", "shop")
    plant(remote, fingerprint=fingerprint)
    before = everything_in(tmp_path)
    with pytest.raises(PartitionDamaged):
        remote.read(ASSET, DAY)
    assert everything_in(tmp_path) == before


def test_a_link_in_place_of_a_file_is_damage(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"), "shop")
    with lake.draft(ASSET, DAY) as draft:
        draft.path("model").mkdir()
        for name in ("a", "model/b"):
            draft.path(name).write_text("one")
    folder = Path(lake.location(ASSET, DAY))
    for name in ("a", "model"):  # the same bytes in a different place, so the hash matches
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        with pytest.raises(PartitionDamaged, match=r"lists .* not a file inside the partition"):
            lake.read(ASSET, DAY)
        (folder / name).unlink()
        (tmp_path / name).rename(folder / name)
    lake.read(ASSET, DAY)


def test_a_lake_may_lie_behind_a_link_and_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "v[12] *?{}%20").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "v[12] *?{}%20")
    lake = Lake(str(tmp_path / "link"), "shop")
    with lake.draft(ASSET, DAY) as draft:
        draft.path("part [1].txt").write_text("one")
    assert lake.read(ASSET, DAY).path("part [1].txt").read_text() == "one"
    assert is_inside(tmp_path / "link", "..a/b..")


def test_the_cache_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    remote = Lake(f"memory://{uuid.uuid4()}", "shop")
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"recsys_assets-{os.getuid()}").symlink_to("theirs")
    with pytest.raises(PlaceUnwritable, match="only this user can write to: remove it, or set TMPDIR"):
        plant(remote)
    (tmp_path / f"recsys_assets-{os.getuid()}").unlink()
    plant(remote)
    (tmp_path / f"recsys_assets-{os.getuid()}").chmod(0o777)
    with pytest.raises(PlaceUnwritable, match="only this user can write to"):
        remote.read(ASSET, DAY)
    assert list((tmp_path / "theirs").iterdir()) == []


def test_an_upload_removes_the_files_of_its_own_place_only() -> None:
    root = f"memory://{uuid.uuid4()}"
    other, own = Lake(f"{root}/v1", "shop"), Lake(f"{root}/v[12]", "shop")
    plant(other)
    for _ in range(2):
        plant(own)
    assert other.read(ASSET, DAY).path("a").read_text() == own.read(ASSET, DAY).path("a").read_text() == "one"


def test_hidden_names_of_another_form_are_left_alone_and_block_nobody(tmp_path: Path) -> None:
    lake, home = Lake(str(tmp_path), "shop"), tmp_path / "shop" / ASSET
    machine, dead = platform.node().replace(".", "-"), dead_pid()
    ours = f".shop.users.bizdate={DAY}.{dead}@{machine}.abcd1234"
    foreign = [
        ".shop.users.x",
        ".shop.users.a.b.c",
        ".shop.users.a.b.c.d",
        f".shop.users.{DAY}.nobody@{machine}.abcd1234",
        f".shop.users.{DAY}.99999999999999999999@{machine}.abcd1234",
        f".shop.users.{DAY}.{dead}@{machine}.abcd12345",
        ".shop.users",
        ".DS_Store",
    ]
    home.mkdir(parents=True)
    for name in [*foreign, ours]:
        (home / name).mkdir()
    (tmp_path / "precious").write_text("kept")
    (home / ours.replace("abcd1234", "link5678")).symlink_to(tmp_path / "precious")
    with lake.draft(ASSET, DAY) as draft:
        draft.path("a").write_text("one")
    assert sorted(path.name for path in home.iterdir()) == sorted([*foreign, f"bizdate={DAY}"])
    assert (tmp_path / "precious").read_text() == "kept"


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def sample(tmp_path: Path) -> Profile:
    return load_profile("sample").model_copy(update={"landing": tmp_path / "landing"})


def test_links_planted_in_the_landing_folder_are_not_written_through(sample: Profile, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    day = sample.landing / "users" / "bizdate=2026-01-10"
    day.mkdir(parents=True)
    names = [".part-0000.parquet.tmp", "part-0000.parquet", "part-0001.parquet"]
    for planted in [
        *(day / name for name in names),
        sample.landing / "world.json.tmp",
        sample.landing / ".world.json.tmp",
    ]:
        planted.symlink_to(tmp_path / "precious")
    land(sample, today=TODAY, days=1, events=500)
    assert (tmp_path / "precious").read_text() == "kept"
    assert [path.is_symlink() for path in landing_files(sample, "users", "2026-01-10")] == [False]


def test_a_planted_lock_is_refused_by_name(sample: Profile, tmp_path: Path) -> None:
    sample.landing.mkdir()
    (tmp_path / "precious").write_text("kept")
    (sample.landing / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(
        PlaceUnwritable, match="the landing folder has a link where a file .* belongs: .* remove the link"
    ):
        land(sample, today=TODAY, days=1, events=500)
    assert (tmp_path / "precious").read_text() == "kept"


def test_what_a_killed_landing_left_is_gone_after_the_next_one(sample: Profile) -> None:
    day = sample.landing / "items" / "bizdate=2026-01-02"  # a day that is not landed again
    day.mkdir(parents=True)
    machine = platform.node().replace(".", "-")
    (day / f".part-0000.parquet.{dead_pid()}@{machine}.abcd1234").write_text("half")
    (day / f".part-0000.parquet.{os.getppid()}@{machine}.abcd1234").write_text("of a process that lives")
    land(sample, today=TODAY, days=1, events=500)
    assert [path.read_text() for path in day.iterdir()] == ["of a process that lives"]


def test_a_file_that_is_replaced_is_never_half_and_goes_through_no_link(tmp_path: Path) -> None:
    place = tmp_path / "state"
    (tmp_path / ".state").symlink_to(tmp_path / "precious")
    place.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(place) as coming:
        coming.write_text("ha")
        _ = 1 / 0
    assert place.read_text() == "old"
    with replacing(place) as coming:
        assert coming.stat().st_mode & 0o777 == 0o600
        coming.write_text("new")
    assert place.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".state", "state"]


def test_a_manifest_of_damaged_names_can_be_replaced(lake: Lake) -> None:
    plant(lake, files={"../x": "0" * 64})
    plant(lake)
    assert isinstance(lake.read(ASSET, DAY).manifest, Manifest)
