"""The lake: one folder a partition, written beside its place and moved in whole.

`{lake}/{profile}/{asset}/bizdate=YYYY-MM-DD/` holds data files and a `manifest.json` that describes them.
A reader sees the old partition or the new one, never a half. On a local file system the new folder is
exchanged with the old one in a single system call; on an object store the manifest is removed first and
written last, and a folder without one is refused.
"""

import contextlib
import datetime as dt
import getpass
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from recsys_assets.datasets.folders import clear_leftovers, file_hash, move_in, new_folder
from recsys_assets.uris import naming, shown

MANIFEST = "manifest.json"


class PartitionMissing(FileNotFoundError):
    """A partition that was asked for is not in the lake; the message says how to make it."""


class LakeUnavailable(RuntimeError):
    """The lake's place cannot be used; the message names it without credentials."""


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
    """A published partition: a local folder to read from, and its manifest."""

    folder: Path
    manifest: Manifest

    def path(self, file: str) -> Path:
        """Path of one of its files.

        Raises:
            PartitionDamaged: the manifest does not list the file.
        """
        if file not in self.manifest.files:
            raise PartitionDamaged(f"{self.manifest.asset} {self.manifest.bizdate} has no file {file}: {self.folder}")
        return self.folder / file

    def verify(self) -> None:
        """Read all files and compare them with the manifest (about 1.5 GB a second).

        Raises:
            PartitionDamaged: a file is missing or has other bytes.
        """
        for file, expected in self.manifest.files.items():
            if file_hash(self.folder / file) != expected:
                raise PartitionDamaged(
                    f"{self.folder / file} is missing or not as its manifest says: "
                    f"run `recsys materialize {self.manifest.asset} --bizdate {self.manifest.bizdate}`"
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
        self._root = root
        with self._named():
            self._fs, base = fsspec.core.url_to_fs(root)
        self._base = f"{base.rstrip('/')}/{profile}"
        self._local = "file" in self._fs.protocol
        if self._local and shown(root) != root:
            raise LakeUnavailable(f"the lake {shown(root)} is neither the path of a folder nor a URL (RECSYS_LAKE)")

    def location(self, asset: str, bizdate: str) -> str:
        """Folder or URL of a partition, whether it is there or not, for people to read."""
        path = self._place(asset, bizdate)
        return path if self._local else shown(self._fs.unstrip_protocol(path))

    def _named(self) -> contextlib.AbstractContextManager[None]:
        """Names the lake, and none of its secrets, when its file system fails in the block."""
        what = f"the lake {shown(self._root)} cannot be used (RECSYS_LAKE)"
        return naming(LakeUnavailable, what, self._root)

    def _place(self, asset: str, bizdate: str) -> str:
        """Path of a partition in the lake's file system."""
        return f"{self._base}/{asset}/bizdate={bizdate}"

    def bizdates(self, asset: str) -> list[str]:
        """Bizdates of the asset's published partitions, in order."""
        folder = f"{self._base}/{asset}"
        with self._named():
            self._fs.invalidate_cache()
            found = self._fs.glob(f"{folder}/bizdate=*/{MANIFEST}") if self._fs.exists(folder) else []
        return sorted(str(path).rsplit("/", 2)[1].removeprefix("bizdate=") for path in found)

    def partitions(self) -> list[tuple[str, str]]:
        """Asset and bizdate of every folder of a partition, in order, also of one that has lost its manifest."""
        with self._named():
            self._fs.invalidate_cache()
            found = self._fs.glob(f"{self._base}/*/bizdate=*") if self._fs.exists(self._base) else []
        parts = (str(path).rstrip("/").rsplit("/", 2)[1:] for path in found)
        return sorted((asset, day.removeprefix("bizdate=")) for asset, day in parts)

    def manifest(self, asset: str, bizdate: str) -> Manifest:
        """What the partition says of itself, without a look at its files.

        Raises:
            PartitionMissing: it was never published.
            PartitionDamaged: its manifest cannot be read.
        """
        place = self.location(asset, bizdate)
        with self._named():
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
                f"{place}/{MANIFEST} cannot be read ({error}): run `recsys materialize {asset} --bizdate {bizdate}`"
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
        """Whether the partition still is what it was when it was read."""
        return self._is_current(partition.manifest)

    def _is_current(self, manifest: Manifest) -> bool:
        with contextlib.suppress(PartitionMissing):
            return self.manifest(manifest.asset, manifest.bizdate).fingerprint == manifest.fingerprint
        return False

    @contextlib.contextmanager
    def draft(self, asset: str, bizdate: str) -> Iterator[Draft]:
        """Write a partition: published when the block ends well, removed without a trace when it raises."""
        folder = self._draft_folder(asset, bizdate)
        draft = Draft(folder, Manifest(asset, self.profile, bizdate))
        try:
            yield draft
            self._publish(draft)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _draft_folder(self, asset: str, bizdate: str) -> Path:
        """A new empty folder on the lake's own file system (for an object store, on this machine)."""
        home = Path(f"{self._base}/{asset}") if self._local else Path(tempfile.gettempdir())
        home.mkdir(parents=True, exist_ok=True)
        clear_leftovers(home, f".{self.profile}.{asset}")
        return new_folder(home, f".{self.profile}.{asset}", f"bizdate={bizdate}")

    def _publish(self, draft: Draft) -> None:
        files = sorted(path for path in draft.folder.rglob("*") if path.is_file())
        draft.manifest.files = {str(path.relative_to(draft.folder)): file_hash(path) for path in files}
        (draft.folder / MANIFEST).write_text(draft.manifest.sealed().to_json(), encoding="utf-8")
        draft.folder.chmod(0o755)  # mkdtemp makes it private
        place = self._place(draft.manifest.asset, draft.manifest.bizdate)
        if self._local:
            move_in(draft.folder, Path(place))
        else:
            with self._named():
                self._upload(draft, place)

    def _upload(self, draft: Draft, place: str) -> None:
        if self._fs.exists(f"{place}/{MANIFEST}"):
            self._fs.rm_file(f"{place}/{MANIFEST}")
        if self._fs.exists(place):
            self._fs.rm(place, recursive=True)
        for file in [*draft.manifest.files, MANIFEST]:
            self._fs.put_file(str(draft.folder / file), f"{place}/{file}")

    def _in_place(self, place: str, manifest: Manifest) -> Partition:
        partition = Partition(Path(place), manifest)
        partition.verify()
        return partition

    def _fetched(self, place: str, manifest: Manifest) -> Partition:
        """A local copy of a remote partition, kept by its fingerprint."""
        folder = Path(tempfile.gettempdir()) / f"recsys_assets-{getpass.getuser()}" / manifest.fingerprint
        partition = Partition(folder, manifest)
        with contextlib.suppress(PartitionDamaged):
            partition.verify()
            return partition
        folder.parent.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for file in manifest.files:
                (coming / file).parent.mkdir(parents=True, exist_ok=True)
                with self._named(), contextlib.suppress(FileNotFoundError):  # `verify` names it
                    self._fs.get_file(f"{place}/{file}", str(coming / file))
            Partition(coming, manifest).verify()
            move_in(coming, folder)
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        return partition


def days(first: dt.date, last: dt.date) -> list[str]:
    """Bizdates from `first` to `last`, both included."""
    return [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
