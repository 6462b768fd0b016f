"""The place of a profile's lake: a folder or a location in an object store, and the record of the data set it holds."""

import contextlib
from pathlib import Path

import fsspec

from recsys_assets.datasets.disk import private_folder
from recsys_assets.datasets.folders import replacing
from recsys_assets.datasets.identity import Identity
from recsys_assets.manifest import Manifest
from recsys_assets.uris import name_errors, safe_uri

DATASET = "dataset.json"
# s3fs would keep listings for the life of the process, and answer `exists` and the size of a file from them. Requests
# that fail are sent again by botocore, which makes five attempts (AWS_MAX_ATTEMPTS and AWS_RETRY_MODE set it).
_OPTIONS = {scheme: {"use_listings_cache": False} for scheme in ("s3", "s3a")}


class LakeUnavailable(RuntimeError):
    """The lake's location cannot be used; the message names it without credentials."""


class LakePlace:
    """The folder of a profile under the lake's root, which is a folder or fsspec URL.

    Attributes:
        fs: fsspec's file system.
        base: the path of the profile's folder in it.
        is_local: whether it is a folder of this machine.
    """

    def __init__(self, root: str, profile: str) -> None:
        self._root = root
        with self.name_errors():
            self.fs, base = fsspec.core.url_to_fs(root, **_OPTIONS.get(root.partition("://")[0], {}))
        self.base = f"{base.rstrip('/')}/{profile}"
        self.is_local = "file" in self.fs.protocol
        if self.is_local and safe_uri(root) != root:
            raise LakeUnavailable(f"the lake {safe_uri(root)} is neither the path of a folder nor a URL (RECSYS_LAKE)")

    @property
    def folder(self) -> str:
        """Folder or URL of the profile's partitions."""
        return self.base if self.is_local else str(self.fs.unstrip_protocol(self.base))

    @property
    def local_folder(self) -> Path | None:
        """The folder, if it is on this machine."""
        return Path(self.base) if self.is_local else None

    def partition(self, asset: str, bizdate: str) -> str:
        """Path of a partition in the file system."""
        return f"{self.base}/{asset}/bizdate={bizdate}"

    def files(self, manifest: Manifest) -> str:
        """Path of the folder with a partition's files: its own, or that of its version inside of it."""
        place = self.partition(manifest.asset, manifest.bizdate)
        return f"{place}/{manifest.version}" if manifest.version else place

    def location(self, asset: str, bizdate: str) -> str:
        """Folder or URL of a partition for messages, whether it exists or not."""
        path = self.partition(asset, bizdate)
        return path if self.is_local else safe_uri(self.fs.unstrip_protocol(path))

    def name_errors(self) -> contextlib.AbstractContextManager[None]:
        """Turn failures of the file system in the block into errors that name the lake, without its secrets."""
        what = f"the lake {safe_uri(self._root)} cannot be used (RECSYS_LAKE)"
        return name_errors(LakeUnavailable, what, self._root)

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder of the lake, in order."""
        self.fs.invalidate_cache()
        entries: list[dict[str, object]] = []
        with self.name_errors(), contextlib.suppress(FileNotFoundError):  # `exists` would be one more request
            entries = self.fs.ls(path, detail=True)
        return sorted(str(each["name"]).rsplit("/", 1)[1] for each in entries if each["type"] == "directory")

    def read_dataset(self) -> Identity | None:
        """The data set that the lake holds, if a partition has been written."""
        with self.name_errors(), contextlib.suppress(FileNotFoundError):
            return Identity.read(f"{self.folder}/{DATASET}", self.fs.cat_file(f"{self.base}/{DATASET}"))
        return None

    def record_dataset(self, dataset: Identity) -> None:
        """Record which data set the lake holds."""
        text = dataset.to_json().encode()
        if folder := self.local_folder:
            private_folder(folder)
            with replacing(folder / DATASET) as hidden:
                hidden.write_bytes(text)
        else:
            self.fs.pipe_file(f"{self.base}/{DATASET}", text)
