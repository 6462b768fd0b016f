"""Copies of releases on this machine: the files of the lake that a release names, checked, and kept while it is served.

`<data>/serving/<profile>/releases/<digest>` has the layout of a lake. Files are linked where the lake is on the same
disk, so that a copy takes no room until the lake has other files. A release is served from its copy alone: what happens
to the lake or to the store afterwards does not matter to it. `served.json` names the releases that were served last,
the newest first: a service that starts without its store goes on with that one.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from recsys_assets.datasets.disk import private_folder
from recsys_assets.datasets.folders import clear_leftovers, new_folder, replacing
from recsys_assets.funnel.served import FORM, describe_served, served_partitions
from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.manifest import MANIFEST, Manifest, Partition, PartitionDamaged, PartitionMissing
from recsys_assets.serving.order import SERVED_LAST, Release, served_last

KEPT = 2  # releases: the one that is served, and the one before, for a rollback


class ReleaseRefused(RuntimeError):
    """A release that must not be served; the message says why."""


class Snapshot(Lake):
    """A copy of a release, which is read like a lake; it was checked as a whole when it was opened."""

    def read(self, asset: str, bizdate: str) -> Partition:
        """The partition, without a second check of its files."""
        return Partition(Path(self._place.partition(asset, bizdate)), self.manifest(asset, bizdate))

    def read_sound(self, asset: str, bizdate: str, lineage: Lineage | None = None) -> Partition:  # noqa: ARG002
        """The same: a release names sound partitions only."""
        return self.read(asset, bizdate)


class Pins(Snapshot):
    """The models that rules of scenes pin, in the copy of a release, into which they are taken from the lake.

    Args:
        folder: of the copy.
        profile: its name.
        lake: where models are that the copy does not have yet.
    """

    def __init__(self, folder: Path, profile: str, lake: Lake) -> None:
        super().__init__(str(folder), profile)
        self._folder, self._lake = folder, lake

    def read_sound(self, asset: str, bizdate: str, lineage: Lineage | None = None) -> Partition:
        """The partition of the copy, or that of the lake, as `Lake.read_sound` gives it."""
        with FileLock(self._folder / ".lock"):
            try:
                return self.read(asset, bizdate)
            except PartitionMissing:
                self._take(self._lake.read_sound(asset, bizdate, lineage))
        return self.read(asset, bizdate)

    def _take(self, partition: Partition) -> None:
        place = Path(self._place.partition(partition.manifest.asset, partition.manifest.bizdate))
        draft = new_folder(self._folder, "", "pin")
        try:
            _link_files(partition, draft)
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


class Snapshots:
    """The copies of a profile's releases in a folder, which several services may share."""

    def __init__(self, folder: Path, profile: str) -> None:
        self._folder, self._profile = folder, profile
        private_folder(folder)

    def open(self, release: Release, lake: Lake) -> Snapshot:
        """The checked copy of a release; it is made if it is not there, or not what the release says.

        Raises:
            ReleaseRefused: the lake does not have the files that the release names, or they are of another form.
        """
        place = self._folder / _digest(release)
        with self._lock():
            if not _is_whole(place, self._profile, release):
                self._make(place, lake, release)
        return Snapshot(str(place), self._profile)

    def pins(self, release: Release, lake: Lake) -> Pins:
        """Where the models are that rules of scenes pin for a release that is open."""
        return Pins(self._folder / _digest(release), self._profile, lake)

    def remember(self, release: Release) -> None:
        """Write down that a release is served, and remove the copies of all but the last `KEPT`."""
        with self._lock():
            kept = [release, *(each for each in served_last(self._folder) if each.number != release.number)][:KEPT]
            with replacing(self._folder / SERVED_LAST) as coming:
                coming.write_text(json.dumps([asdict(each) for each in kept]), encoding="utf-8")
            needed = {_digest(each) for each in kept}
            for place in self._folder.iterdir():
                if place.is_dir() and not place.name.startswith(".") and place.name not in needed:
                    shutil.rmtree(place, ignore_errors=True)

    def _make(self, place: Path, lake: Lake, release: Release) -> None:
        clear_leftovers(self._folder, "")
        shutil.rmtree(place, ignore_errors=True)
        draft = new_folder(self._folder, "", place.name)
        try:
            for each in release.partitions:
                _copy(lake, each, draft / self._profile)
            if not _is_whole(draft, self._profile, release):
                raise ReleaseRefused("the lake changed while its files were copied")
            draft.rename(place)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with FileLock(self._folder / ".lock"):
            yield


def named(release: Release, lake: Lake) -> Release:
    """The release with the names of its partitions, which the record of an older version lacks.

    Raises:
        ReleaseRefused: their form is one that this version does not know.
    """
    if release.served is None:
        return replace(release, served=describe_served(served_partitions(lake, release.bizdate)))
    if (form := release.served.get("form")) != FORM:
        raise ReleaseRefused(f"its files have form {form}, and this service reads form {FORM}: install that version")
    return release


def _digest(release: Release) -> str:
    return hashlib.sha256(json.dumps(release.served, sort_keys=True).encode()).hexdigest()[:16]


def _is_whole(place: Path, profile: str, release: Release) -> bool:
    """Whether the copy is there, and its files have the hashes that the release names."""
    copy = Lake(str(place), profile)
    try:
        for each in release.partitions:
            asset, _, bizdate = each["partition"].partition("/")
            _check(copy.read(asset, bizdate).manifest, each)
    except (PartitionMissing, PartitionDamaged, ReleaseRefused):
        return False
    return True


def _check(manifest: Manifest, named: Mapping[str, Any]) -> None:
    """Refuse a partition that is not the one that the release names.

    Raises:
        ReleaseRefused: it is not.
    """
    files = {each["file"]: each["sha256"] for each in named["files"]}
    if (manifest.fingerprint, manifest.files) != (named["fingerprint"], files):
        raise ReleaseRefused(
            f"{manifest.asset} {manifest.bizdate} was made again since: "
            f"`recsys materialize 'mongo_release' --bizdate {manifest.bizdate}` makes a release of it"
        )


def _copy(lake: Lake, named: Mapping[str, Any], home: Path) -> None:
    """Copy a partition, which the lake checks while it is read.

    Raises:
        ReleaseRefused: it is missing, damaged, or not the one that the release names.
    """
    asset, _, bizdate = named["partition"].partition("/")
    try:
        partition = lake.read(asset, bizdate)
    except (PartitionMissing, PartitionDamaged) as error:
        raise ReleaseRefused(str(error)) from error
    _check(partition.manifest, named)
    folder = home / asset / f"bizdate={bizdate}"
    folder.mkdir(parents=True)
    _link_files(partition, folder)


def _link_files(partition: Partition, folder: Path) -> None:
    """Put the files of a partition into a folder."""
    for file in partition.manifest.files:
        _link(partition.path(file), folder / file)
    if (partition.folder / MANIFEST).exists():
        _link(partition.folder / MANIFEST, folder / MANIFEST)
    else:  # it was fetched from an object store, without its manifest and from the folder of its version
        (folder / MANIFEST).write_text(replace(partition.manifest, version="").to_json(), encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    """Put a file under another name without copying its bytes, if the file system can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
