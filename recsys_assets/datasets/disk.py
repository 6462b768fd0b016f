"""The disk: private folders, content that survives a power cut, and errors that name the place that cannot be written.

Whatever this project writes is in folders of mode 0700. They are created with that mode here, and the programs that
people start set a umask of 077 (`keep_private`), because SQLite, WiredTiger, DuckDB and the like accept no mode. A
folder that exists already keeps its mode: to share one, run chmod on it once.
"""

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from recsys_assets.settings import settings

PRIVATE = 0o700
DAGSTER_HISTORY = ".dagster"  # the folder in DAGSTER_HOME
_FAULTS = {  # what is wrong with the place, and what to do
    errno.ENOSPC: ("is full", "make room"),
    errno.EDQUOT: ("is over this user's quota", "make room"),
    errno.EROFS: ("is on a read-only file system", "make it writable"),
    errno.EACCES: ("may not be written by this user", "get the right to write there"),
    errno.EPERM: ("may not be written by this user", "get the right to write there"),
    errno.ELOOP: ("has a link where a file of the project belongs", "remove the link"),
}
_FULL = (errno.ENOSPC, errno.EDQUOT)
# The words of SQLite, and of libraries that do not pass on the system's error number.
_SAID = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
    "'max_temp_directory_size' setting": errno.ENOSPC,  # DuckDB's limit is the free space
    **{os.strerror(code): code for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)},
}
# SQLite reports this if there is no room for its write-ahead log, even on a read, and if a disk is broken.
_IO_ERROR, _NOTHING = "disk I/O error", 2**20
# Some file systems cannot sync a folder, and a folder that may be entered but not listed cannot be opened.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)
_AT_ONCE = 16  # syncs that wait together share one commit of the file system's journal


class PlaceUnwritable(OSError):
    """A place is full, read-only or someone else's; the message names it and says what to do."""


@dataclass(frozen=True)
class Place:
    """A folder that is written to.

    Attributes:
        what: its name in messages.
        folder: its path.
        variable: the setting that moves it.
    """

    what: str
    folder: Path
    variable: str


def keep_private() -> None:
    """Make files that this process and its children write readable by this user only."""
    os.umask(0o077)


def private_folder(folder: Path) -> list[Path]:
    """Make a folder and its missing parents for this user alone; returns the folders that got a new entry."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=PRIVATE, exist_ok=True)  # another process may make it too
    return [each.parent for each in missing]


def own_folder(folder: Path) -> Path:
    """Make a folder for this user alone under a name that others can guess, as in /tmp; refuse one of someone else.

    Raises:
        PlaceUnwritable: it is a link, belongs to someone else, or others can write to it.
    """
    if not folder.is_symlink():
        private_folder(folder)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PlaceUnwritable(
            f"{folder} is not a folder that only this user can write to: remove it, or set TMPDIR to a folder of yours"
        )
    folder.chmod(PRIVATE)
    return folder


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NO_FOLDER_SYNC):
            raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def sync_all(paths: Iterable[Path]) -> None:
    """Sync several files or folders, in any order."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(sync, paths))


def sync_tree(folder: Path) -> None:
    """Sync all files below a folder, then the folders."""
    inside = list(folder.rglob("*"))
    sync_all(path for path in inside if not path.is_dir())
    sync_all([folder, *(path for path in inside if path.is_dir())])


@contextlib.contextmanager
def writing_to(place: Place) -> Iterator[None]:
    """Name the place if the block fails because the place is full or not writable.

    If there is no room, the error names the fullest of all places that are written to: many libraries do not say which.

    Raises:
        PlaceUnwritable: that was the reason. Any other error passes unchanged, as does an error of this package.
    """
    try:
        yield
    except Exception as error:
        code = None if type(error).__module__.startswith("recsys_assets.") else _fault(error, place.folder)
        fullest = min((place, *places()), key=_free_bytes)
        if code is None and _IO_ERROR in str(error) and _free_bytes(fullest) < _NOTHING:
            code = errno.ENOSPC
        if code is None:
            raise
        raise PlaceUnwritable(_message(code, fullest if code == errno.ENOSPC else place, error)) from error


def places() -> list[Place]:
    """The places on this machine that this installation writes to."""
    place = settings()
    lake = [] if "://" in place.lake else [Place("the lake", Path(place.lake), "RECSYS_LAKE")]
    return [
        *lake,
        Place("the landing folder", place.landing, "RECSYS_LANDING"),
        Place("the data folder", place.data, "RECSYS_DATA"),
        history(),
        Place("the temporary folder", Path(tempfile.gettempdir()), "TMPDIR"),
    ]


def history() -> Place:
    """The folder of Dagster's history: its runs and their logs."""
    home = Path(os.environ.get("DAGSTER_HOME") or settings().home)
    return Place("Dagster's history", home / DAGSTER_HISTORY, "DAGSTER_HOME")


def _message(code: int, place: Place, error: Exception) -> str:
    said, (what, advice), usage = str(error).splitlines()[0], _FAULTS[code], _usage(place.folder)
    room = f"{_free_bytes(place) / 1e6:,.1f} MB of {usage.f_blocks * usage.f_frsize / 1e6:,.1f} MB are free"
    if code == errno.ENOSPC and usage.f_favail == 0:
        room = "no further file fits"  # the file system has run out of inodes
    return (
        f"{place.what} {what}: {place.folder} ({room}): {advice}, or set {place.variable} to another place, "
        f"then run the command again [{said}]"
    )


def _fault(error: BaseException | None, folder: Path) -> int | None:
    """The system's error number, if the error or one of its causes is about the folder."""
    if error is None:
        return None
    number = error.errno if isinstance(error, OSError) and error.errno in _FAULTS else None
    code = number or next((code for said, code in _SAID.items() if said in str(error)), None)
    if code in _FULL or (code is not None and _is_about(error, folder)):
        return code
    return _fault(error.__cause__ or (None if error.__suppress_context__ else error.__context__), folder)


def _is_about(error: BaseException, folder: Path) -> bool:
    """Whether an error is about the folder, its content or a parent of it; SQLite's errors name no file."""
    file = getattr(error, "filename", None)
    return (
        "database" in str(error)
        or str(folder) in f"{error} {file}"
        or (file is not None and Path(file) in folder.parents)
    )


def _usage(folder: Path) -> os.statvfs_result:
    """Sizes of the folder's file system; if the folder is not accessible, of its nearest accessible parent."""
    try:
        return os.statvfs(folder)
    except OSError:
        return _usage(folder.absolute().parent)


def _free_bytes(place: Place) -> int:
    usage = _usage(place.folder)
    return usage.f_bavail * usage.f_frsize
