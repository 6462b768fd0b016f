"""The lake: one folder a partition, written beside its place and moved in whole.

`{lake}/{profile}/{asset}/bizdate=YYYY-MM-DD/` holds data files and a `manifest.json` that describes them.
A reader sees the old partition or the new one, never a half. On a local file system the new folder is
exchanged with the old one in a single system call; on an object store the manifest is removed first and
written last, and a folder without one is refused.
"""

import contextlib
import ctypes
import datetime as dt
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import psutil

MANIFEST = "manifest.json"
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h


class PartitionMissing(FileNotFoundError):
    """A partition that was asked for is not in the lake; the message says how to make it."""


class PartitionDamaged(RuntimeError):
    """A partition's files are not those its manifest lists."""


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
            PartitionDamaged: the manifest does not list the file, or it is gone.
        """
        path = self.folder / file
        if file not in self.manifest.files or not path.exists():
            raise PartitionDamaged(f"{self.manifest.asset} {self.manifest.bizdate} has no file {file}: {self.folder}")
        return path


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
        path = f"{self._base}/{asset}/bizdate={bizdate}"
        return path if self._local else self._fs.unstrip_protocol(path)

    def exists(self, asset: str, bizdate: str) -> bool:
        """Whether the partition was published."""
        return bool(self._fs.exists(f"{self._base}/{asset}/bizdate={bizdate}/{MANIFEST}"))

    def bizdates(self, asset: str) -> list[str]:
        """Bizdates of the asset's published partitions, in order."""
        folder = f"{self._base}/{asset}"
        self._fs.invalidate_cache()
        found = self._fs.glob(f"{folder}/bizdate=*/{MANIFEST}") if self._fs.exists(folder) else []
        return sorted(str(path).rsplit("/", 2)[1].removeprefix("bizdate=") for path in found)

    def manifest(self, asset: str, bizdate: str) -> Manifest:
        """What the partition says of itself, without fetching its files.

        Raises:
            PartitionMissing: it was never published.
        """
        if not self.exists(asset, bizdate):
            raise PartitionMissing(
                f"{asset} has no partition for {bizdate} ({self.location(asset, bizdate)}): "
                f"run `recsys materialize +{asset} --bizdate {bizdate}`"
            )
        return Manifest(**json.loads(self._fs.cat_file(f"{self._base}/{asset}/bizdate={bizdate}/{MANIFEST}")))

    def read(self, asset: str, bizdate: str) -> Partition:
        """The partition, local to this machine (one on an object store is fetched first).

        Raises:
            PartitionMissing: it was never published.
        """
        manifest = self.manifest(asset, bizdate)
        place = f"{self._base}/{asset}/bizdate={bizdate}"
        return Partition(Path(place) if self._local else self._fetched(place, manifest), manifest)

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
        """A new empty folder on the lake's own file system, cleared of what killed processes left."""
        home = Path(f"{self._base}/{asset}") if self._local else Path(tempfile.gettempdir())
        home.mkdir(parents=True, exist_ok=True)
        prefix = f".{self.profile}.{asset}.{bizdate}."
        for left in home.glob(f"{prefix}*"):
            if not psutil.pid_exists(int(left.name.rsplit(".", 2)[1])):
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}.", dir=home))

    def _publish(self, draft: Draft) -> None:
        files = sorted(path for path in draft.folder.rglob("*") if path.is_file())
        draft.manifest.files = {str(path.relative_to(draft.folder)): file_hash(path) for path in files}
        (draft.folder / MANIFEST).write_text(draft.manifest.sealed().to_json(), encoding="utf-8")
        draft.folder.chmod(0o755)  # mkdtemp makes it private
        place = f"{self._base}/{draft.manifest.asset}/bizdate={draft.manifest.bizdate}"
        if self._local:
            _move_in(draft.folder, Path(place))
        else:
            self._upload(draft, place)

    def _upload(self, draft: Draft, place: str) -> None:
        if self._fs.exists(f"{place}/{MANIFEST}"):
            self._fs.rm_file(f"{place}/{MANIFEST}")
        if self._fs.exists(place):
            self._fs.rm(place, recursive=True)
        for file in [*draft.manifest.files, MANIFEST]:
            self._fs.put_file(str(draft.folder / file), f"{place}/{file}")

    def _fetched(self, place: str, manifest: Manifest) -> Path:
        """A local copy of a remote partition, kept by its fingerprint."""
        folder = Path(tempfile.gettempdir()) / "recsys_assets-cache" / manifest.fingerprint
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        coming = Path(tempfile.mkdtemp(dir=folder.parent))
        for file, expected in manifest.files.items():
            (coming / file).parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(f"{place}/{file}", str(coming / file))
            if file_hash(coming / file) != expected:
                raise PartitionDamaged(f"{place}/{file} is not the file its manifest lists: materialize it again")
        with contextlib.suppress(FileExistsError, OSError):
            coming.rename(folder)
        return folder if folder.exists() else coming


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def days(first: dt.date, last: dt.date) -> list[str]:
    """Bizdates from `first` to `last`, both included."""
    return [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def _move_in(new: Path, place: Path) -> None:
    """Put folder `new` at `place` in one step; what was there ends up at `new`, for the caller to remove."""
    try:
        new.rename(place)  # nothing there yet
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if not exchange(new, place):
        # No exchange on this file system (NFS, or not Linux): for an instant the place is empty.
        old = new.with_name(f"{new.name}.old")
        place.rename(old)
        new.rename(place)
        shutil.rmtree(old)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders atomically (renameat2 of Linux); False where that is not to be had."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))
