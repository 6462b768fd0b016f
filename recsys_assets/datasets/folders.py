"""Atomic replacement: files and folders are written under a hidden name next to their place, then moved in.

The hidden names cannot be guessed and are created with O_EXCL, so nobody can plant a link there. They name the process
and machine that they belong to: the next process that writes there removes what a killed process left.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import psutil

from recsys_assets.datasets.disk import sync

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
_OLD = "-old"  # suffix of a folder that is being replaced without an exchange
_MACHINE = re.sub(r"[^\w-]", "-", platform.node())
_HIDDEN = re.compile(rf"\.(?P<place>.+)\.(?P<pid>\d{{1,7}})@(?P<machine>[\w-]*)\.\w{{8}}(?P<old>{_OLD})?")


def new_folder(home: Path, prefix: str, place: str) -> Path:
    """A new empty folder in `home` that will become `home/place`; its hidden name says which process owns it."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}.{place}.{_owner()}.", dir=home))


def stage(place: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file next to its place, under a hidden name that readers skip."""
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.{_owner()}.", dir=place.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


@contextlib.contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Yield a hidden file next to `place`, which is synced and replaces `place` if the block ends without an error."""
    clear_leftovers(place.parent, "")
    hidden = stage(place, lambda _: None)
    try:
        yield hidden
        sync(hidden)
        hidden.replace(place)
        sync(place.parent)
    finally:
        hidden.unlink(missing_ok=True)


def _owner() -> str:
    return f"{os.getpid()}@{_MACHINE}"


def clear_leftovers(home: Path, prefix: str) -> None:
    """Remove what killed processes of this machine left in `home` under the hidden names of this module.

    A folder that one of them had moved away but not replaced is put back. Any other name is left alone.
    """
    for name in os.listdir(home):  # noqa: PTH208 -- paths of thousands of days take long to make
        found = _HIDDEN.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if found is None or found["machine"] != _MACHINE or psutil.pid_exists(int(found["pid"])):
            continue
        left = home / name
        if found["old"] and not (home / found["place"]).exists():
            left.rename(home / found["place"])
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)  # another process may be removing it too
        else:
            left.unlink(missing_ok=True)


def move_in(new: Path, place: Path) -> None:
    """Put folder `new` at `place` in one step; the folder that was there ends up at `new`, for the caller to remove."""
    try:
        new.rename(place)  # nothing there yet
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if not exchange(new, place):
        # No exchange on this file system (NFS, or not Linux): for an instant the place is empty.
        old = new.with_name(new.name + _OLD)
        place.rename(old)
        new.rename(place)
        old.rename(new)


def exchange(one: Path, other: Path) -> bool:
    """Swap two folders atomically (renameat2 of Linux); False if the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def identity(file: Path) -> tuple[int, int, int]:
    """Distinguish a file from all others that ever were at its path, even of the same bytes; zeros if there is none.

    The inode number of a deleted file is used again, but not within the same tick of the clock.
    """
    with contextlib.suppress(FileNotFoundError):
        found = file.stat()
        return found.st_dev, found.st_ino, found.st_mtime_ns
    return 0, 0, 0


def is_inside(folder: Path, name: str) -> bool:
    """Whether a name from outside is the path of a file below the folder, and no link leads out of the folder."""
    plain = PurePosixPath(name)
    if not plain.parts or str(plain) != name or plain.is_absolute() or ".." in plain.parts or "\\" in name:
        return False
    try:
        return Path(os.path.realpath(folder / name)) == Path(os.path.realpath(folder)) / name
    except ValueError:  # NUL, or not text
        return False


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; empty if there is no file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ""
