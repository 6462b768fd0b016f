"""A landing folder in an object store: a copy of it on this machine, which is kept in step object by object.

Landing files are looked at often and read whole, so all that reads them stays as it is with the copy as its folder.
When a folder is looked at, the copy gets an empty file for each new object, which is enough to see what has landed;
the content is downloaded when files are read, and again if their objects have changed. The modification time of a file
in the copy is no time: it is a hash of the version of the object that the file holds, so that both change in one step.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recsys_assets.datasets.disk import Place, private_folder, writing_to
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.folders import is_inside, replacing
from recsys_assets.uris import name_errors

SCHEME = "s3://"
ADDRESS_FORM = f"write {SCHEME}BUCKET/FOLDER; credentials come from the environment, as AWS_ACCESS_KEY_ID and the like"
_ADDRESS = re.compile(rf"{SCHEME}[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9](/(?!\.)[\w.=+ -]+)*/?", re.ASCII)
_FRESH = 5.0  # seconds for which a list of the objects is used: the sensor looks at thousands of days in a row
_AT_ONCE = 16  # downloads
_NO_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST)  # the last two: a part of the path is a file
_ADVICE = (
    "the key comes from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the address of a store that is not Amazon's from "
    "AWS_ENDPOINT_URL"
)


class LandingStore:
    """The objects below an address.

    Attributes:
        address: `s3://BUCKET/FOLDER`, which holds no secret.
        copy: the folder of this machine that is kept in step with it.
    """

    def __init__(self, address: str, copy: Path) -> None:
        self.address, self.copy = address, copy
        self._path = address.removeprefix(SCHEME)
        self._versions: dict[str, int] = {}
        self._listed = -_FRESH

    def follow(self, tables: Iterable[str], *, again: bool = False) -> None:
        """Give the copy the files that the folders of the tables have in the store, new ones still without content.

        A list that is less than 5 seconds old is used again, unless `again` is set.

        Raises:
            LandingError: the store cannot be reached or refuses, or the name of an object cannot be that of a file.
            PlaceUnwritable: the copy cannot be written.
        """
        if again or time.monotonic() - self._listed >= _FRESH:
            names = tuple(f"{table}/" for table in tables)
            with self._named_errors():
                found = _file_system().find(self._path, detail=True)
                self._versions = {
                    name: _version(each)
                    for path, each in found.items()
                    if (name := path.removeprefix(f"{self._path}/")).startswith(names) and _is_file(name)
                }
                self._follow_names(names)
            self._listed = time.monotonic()

    def fetch(self, tables: Iterable[str], files: Iterable[Path]) -> None:
        """Download the files of the copy whose objects are others than those that they hold.

        Raises:
            LandingError: the store cannot be reached or refuses, or a file is no longer there.
            PlaceUnwritable: the copy cannot be written.
        """
        names = [path.relative_to(self.copy).as_posix() for path in files]
        if not self._versions.keys() >= set(names):  # another process has listed them since
            self.follow(tables, again=True)
        due = [name for name in names if _held_version(self.copy / name) != self._versions.get(name)]
        with self._named_errors(), ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._download, due))

    def put(self, name: str, content: bytes) -> None:
        """Write an object, which is there as a whole or not at all.

        Raises:
            LandingError: the store cannot be reached or refuses.
        """
        what = f"{self.address}/{name} cannot be written ({_ADVICE})"
        with name_errors(LandingError, what, os.environ.get("AWS_ENDPOINT_URL", "")):
            _file_system().pipe_file(f"{self._path}/{name}", content)

    def _follow_names(self, tables: tuple[str, ...]) -> None:
        """Make the files that are missing in the copy, and remove those that are no objects any more."""
        held = {
            path.relative_to(self.copy).as_posix()
            for table in tables
            for path in (self.copy / table).rglob("*")
            if path.is_file() and not path.name.startswith(".")  # those are being written
        }
        for name in sorted(held - self._versions.keys()):
            (self.copy / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                os.removedirs((self.copy / name).parent)
        private_folder(self.copy)
        for name in sorted(self._versions.keys() - held):
            self._make_file(name)

    def _make_file(self, name: str) -> None:
        """Make an empty file; another process may do the same."""
        place, fits = self.copy / name, is_inside(self.copy, name)
        try:
            if fits:
                private_folder(place.parent)
                place.touch(mode=0o600)
                fits = place.is_file()  # and not a folder
        except OSError as error:
            fits = False
            if error.errno not in _NO_NAME:
                raise
        if not fits:
            what = f"{self.address}/{name[:200]} cannot be the name of a file here"
            raise LandingError(f"{what}: give the object another name")

    def _download(self, name: str) -> None:
        if name not in self._versions:
            raise LandingError(f"{self.address}/{name} was removed while it was to be read: try again")
        with replacing(self.copy / name) as hidden:
            _file_system().get_file(f"{self._path}/{name}", str(hidden))
            os.utime(hidden, ns=(self._versions[name], self._versions[name]))

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        what = f"the landing folder {self.address} cannot be read ({_ADVICE})"
        place = Place("the copy of the landing folder", self.copy, "RECSYS_DATA")
        with name_errors(LandingError, what, os.environ.get("AWS_ENDPOINT_URL", "")), writing_to(place):
            yield


@functools.cache
def landing_store(address: str, data: Path) -> LandingStore:
    """The store at an address, with its copy in a folder of `data` that has the address as its path.

    Raises:
        ValueError: it is not an address of the form that is understood; the message does not show it.
    """
    if not _ADDRESS.fullmatch(address):
        raise ValueError(ADDRESS_FORM)
    address = address.rstrip("/")
    return LandingStore(address, data / "landing-from-s3" / address.removeprefix(SCHEME))


def _file_system() -> Any:
    try:
        import s3fs
    except ImportError:
        raise LandingError("s3fs is not installed: pip install 'recsys-assets[s3]'") from None
    patience = {"connect_timeout": 10, "retries": {"total_max_attempts": 2}}  # s3fs itself tries five times
    return s3fs.S3FileSystem(use_listings_cache=False, config_kwargs=patience)


def _is_file(name: str) -> bool:
    """Whether an object is a file that may be read: not a folder's mark, and not hidden."""
    return not any(part.startswith(".") for part in name.split("/")) and not name.endswith("/")


def _version(entry: dict[str, Any]) -> int:
    """A hash of what tells the versions of an object apart, as a time in nanoseconds that file systems keep exactly."""
    text = f"{entry.get('ETag')} {entry.get('size')} {entry.get('LastModified')}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) * 1000  # whole microseconds of the 1970s


def _held_version(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
