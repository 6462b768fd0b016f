"""The lake: one folder for each partition, written under a hidden name next to its place and moved in whole.

`{lake}/{profile}/{asset}/bizdate=YYYY-MM-DD/` holds data files and a `manifest.json` that describes them.
A reader sees the old partition or the new one, never a half. On a local file system the new folder is
exchanged with the old one in a single system call; on an object store the manifest is removed first and
written last, and a folder without one is refused.

A power cut leaves the old partition or the new one too. On a local file system this is the order: all files are
written; each of them, the manifest too, is synced, then the folders that hold them; the folders are exchanged; the
asset's folder is synced; only then is the old partition removed.
"""

import contextlib
import datetime as dt
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from recsys_assets.datasets.disk import Place, own_folder, private_folder, sync, sync_all, sync_tree, written_to
from recsys_assets.datasets.folders import clear_leftovers, file_hash, identity, is_inside, move_in, new_folder

MANIFEST = "manifest.json"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FETCHED = ".fetched"  # begins the names of copies that are being fetched


class PartitionMissing(FileNotFoundError):
    """A partition that was asked for is not in the lake; the message says how to make it."""


class PartitionDamaged(RuntimeError):
    """A partition's files are not those its manifest lists."""


class PartitionReplaced(RuntimeError):
    """A partition was materialized again while it was being read: what was made of it may mix both."""


class GateNotPassed(RuntimeError):
    """A partition failed a blocking check, so nothing may be built on it."""


@dataclass
class Manifest:
    """What a partition says of itself.

    `fingerprint` covers everything that decides the content (files, config, seed, code, upstream
    fingerprints) and nothing that differs between two equal runs (the MLflow run id).
    """

    asset: str
    profile: str
    bizdate: str
    rows: int | None = None
    schema: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    code_version: str = "1"
    upstream: dict[str, str] = field(default_factory=dict)
    failed_checks: list[str] = field(default_factory=list)
    mlflow_run_id: str | None = None
    fingerprint: str = ""

    def sealed(self) -> "Manifest":
        """Set the fingerprint from the other fields."""
        content = {k: v for k, v in asdict(self).items() if k not in ("mlflow_run_id", "fingerprint")}
        self.fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return self

    def made_of(self, other: "Manifest") -> bool:
        """Whether the partition was made of another one as that is now."""
        return self.upstream.get(f"{other.asset}/{other.bizdate}") == other.fingerprint

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        return json.dumps(asdict(self), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Partition:
    """A published partition: a local folder to read from, its manifest, and which of all at its place it is.

    Its fingerprint does not say the last: one of the same content may come back after another one.
    """

    folder: Path
    manifest: Manifest
    identity: tuple[int, int, int] | None = None

    def path(self, file: str) -> Path:
        """Path of one of its files.

        Raises:
            PartitionDamaged: the manifest does not list the file, or it lies outside the folder.
        """
        if file not in self.manifest.files:
            raise PartitionDamaged(f"{self.manifest.asset} {self.manifest.bizdate} has no file {file}: {self.folder}")
        if not is_inside(self.folder, file):
            raise PartitionDamaged(
                f"{self.folder}/{MANIFEST} lists {file!r}, which is not a file inside the partition: "
                f"materialize {self.manifest.asset} {self.manifest.bizdate} again"
            )
        return self.folder / file

    def verify(self) -> None:
        """Read all files and compare them with the manifest (about 1.5 GB a second).

        Raises:
            PartitionDamaged: a file is missing, has other bytes, or lies outside the folder.
        """
        for file, expected in self.manifest.files.items():
            if file_hash(self.path(file)) != expected:
                raise PartitionDamaged(
                    f"{self.folder / file} is missing or not as its manifest says: "
                    f"materialize {self.manifest.asset} {self.manifest.bizdate} again"
                )


@dataclass
class Draft:
    """A partition being written: put files into `folder`, fill in `manifest`."""

    folder: Path
    manifest: Manifest

    def path(self, file: str) -> Path:
        """Where to write one of its files."""
        return self.folder / file


class Lake:
    """Partitions of one profile under a root folder or fsspec URL."""

    def __init__(self, root: str, profile: str) -> None:
        self.profile = profile
        self._fs, base = fsspec.core.url_to_fs(root)
        self._base = f"{base.rstrip('/')}/{profile}"
        self._local = "file" in self._fs.protocol

    def location(self, asset: str, bizdate: str) -> str:
        """Folder or URL of a partition, whether it is there or not."""
        path = self._place(asset, bizdate)
        return path if self._local else self._fs.unstrip_protocol(path)

    def _place(self, asset: str, bizdate: str) -> str:
        """Path of a partition in the lake's file system."""
        return f"{self._base}/{asset}/bizdate={bizdate}"

    def bizdates(self, asset: str) -> list[str]:
        """Bizdates of the asset's published partitions, in order."""
        folder = f"{self._base}/{asset}"
        self._fs.invalidate_cache()
        found = self._fs.glob(f"{folder}/bizdate=*/{MANIFEST}") if self._fs.exists(folder) else []
        return sorted(str(path).rsplit("/", 2)[1].removeprefix("bizdate=") for path in found)

    def manifest(self, asset: str, bizdate: str) -> Manifest:
        """What the partition says of itself, without a look at its files.

        Raises:
            PartitionMissing: it was never published.
            PartitionDamaged: its manifest cannot be read.
        """
        place = self.location(asset, bizdate)
        try:
            text = self._fs.cat_file(f"{self._place(asset, bizdate)}/{MANIFEST}")
        except FileNotFoundError:
            raise PartitionMissing(
                f"{asset} has no partition for {bizdate} ({place}): "
                f"run `recsys materialize +{asset} --bizdate {bizdate}`"
            ) from None
        try:
            return Manifest(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise PartitionDamaged(
                f"{place}/{MANIFEST} cannot be read ({error}): materialize {asset} {bizdate} again"
            ) from error

    def read(self, asset: str, bizdate: str) -> Partition:
        """The partition, whole and local to this machine (one on an object store is fetched first).

        A run that overwrites it later does so under the reader: ask `is_current` when all is read.

        Raises:
            PartitionMissing: it was never published.
            PartitionDamaged: its files are not those its manifest lists.
        """
        place = self._place(asset, bizdate)
        while True:
            manifest = self.manifest(asset, bizdate)
            try:
                return self._in_place(place, manifest) if self._local else self._fetched(place, manifest)
            except PartitionDamaged:
                if self._is_current(manifest):
                    raise  # otherwise it was replaced meanwhile: read the new one

    def is_current(self, partition: Partition) -> bool:
        """Whether the partition still is what it was when it was read, and was all the time between."""
        at_its_place = identity(partition.folder / MANIFEST) if partition.identity else None
        return at_its_place == partition.identity and self._is_current(partition.manifest)

    def _is_current(self, manifest: Manifest) -> bool:
        with contextlib.suppress(PartitionMissing):
            return self.manifest(manifest.asset, manifest.bizdate).fingerprint == manifest.fingerprint
        return False

    @contextlib.contextmanager
    def draft(self, asset: str, bizdate: str) -> Iterator[Draft]:
        """Write a partition: published when the block ends well, removed without a trace when it raises.

        Raises:
            PlaceUnwritable: the disk is full, or may not be written.
        """
        place = self._drafts(asset)
        with written_to(place):
            folder = self._draft_folder(asset, bizdate)
        draft = Draft(folder, Manifest(asset, self.profile, bizdate))
        try:
            with written_to(place):
                yield draft
                self._publish(draft)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _drafts(self, asset: str) -> Place:
        """Where drafts are written: on the lake's own file system, for an object store on this machine."""
        if self._local:
            return Place("the lake", Path(f"{self._base}/{asset}"), "RECSYS_LAKE")
        return Place("the temporary folder", _cache(), "TMPDIR")

    def _draft_folder(self, asset: str, bizdate: str) -> Path:
        """A new empty folder for a partition that is being written."""
        home = self._drafts(asset).folder
        if self._local:
            sync_all(private_folder(home))
        else:
            own_folder(home)
        clear_leftovers(home, f".{self.profile}.{asset}")
        return new_folder(home, f".{self.profile}.{asset}", f"bizdate={bizdate}")

    def _publish(self, draft: Draft) -> None:
        files = sorted(path for path in draft.folder.rglob("*") if path.is_file())
        draft.manifest.files = {str(path.relative_to(draft.folder)): file_hash(path) for path in files}
        (draft.folder / MANIFEST).write_text(draft.manifest.sealed().to_json(), encoding="utf-8")
        place = self._place(draft.manifest.asset, draft.manifest.bizdate)
        if self._local:
            if self._holds(draft.manifest):
                return
            sync_tree(draft.folder)
            move_in(draft.folder, Path(place))
            sync(Path(place).parent)
        else:
            self._upload(draft, place)

    def _holds(self, manifest: Manifest) -> bool:
        """Whether the same partition is there, undamaged: it stays, and who reads it is not disturbed."""
        with contextlib.suppress(PartitionMissing, PartitionDamaged):
            there = self.manifest(manifest.asset, manifest.bizdate)
            return there.to_json() == manifest.to_json() and bool(self.read(manifest.asset, manifest.bizdate))
        return False

    def _upload(self, draft: Draft, place: str) -> None:
        if self._fs.exists(f"{place}/{MANIFEST}"):
            self._fs.rm_file(f"{place}/{MANIFEST}")
        for file in self._fs.find(place):  # `rm` would take `[` and `*` in a name for a pattern
            self._fs.rm_file(file)
        for file in [*draft.manifest.files, MANIFEST]:
            self._fs.put_file(str(draft.folder / file), f"{place}/{file}")

    def _in_place(self, place: str, manifest: Manifest) -> Partition:
        partition = Partition(Path(place), manifest, identity(Path(place) / MANIFEST))
        partition.verify()
        return partition

    def _fetched(self, place: str, manifest: Manifest) -> Partition:
        """A local copy of a remote partition, kept by its fingerprint."""
        if not _FINGERPRINT.fullmatch(manifest.fingerprint):
            raise PartitionDamaged(f"{place}/{MANIFEST} has no fingerprint that could be one: materialize it again")
        home = own_folder(_cache())
        partition = Partition(home / manifest.fingerprint, manifest)
        with contextlib.suppress(PartitionDamaged):
            partition.verify()
            return partition
        temporary = Place("the temporary folder", home, "TMPDIR")
        with written_to(temporary):
            clear_leftovers(home, _FETCHED)
            coming = Partition(new_folder(home, _FETCHED, manifest.fingerprint), manifest)
        try:
            with written_to(temporary):
                self._fetch(place, coming)
                move_in(coming.folder, partition.folder)
        finally:
            shutil.rmtree(coming.folder, ignore_errors=True)
        return partition

    def _fetch(self, place: str, coming: Partition) -> None:
        """Copy a remote partition's files into a folder, and verify them there."""
        for file in coming.manifest.files:
            target = coming.path(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # `verify` names it
                self._fs.get_file(f"{place}/{file}", str(target))
        coming.verify()


def _cache() -> Path:
    """Where copies and drafts of an object store's partitions lie on this machine."""
    return Path(tempfile.gettempdir()) / f"recsys_assets-{os.getuid()}"


def days(first: dt.date, last: dt.date) -> list[str]:
    """Bizdates from `first` to `last`, both included."""
    return [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
