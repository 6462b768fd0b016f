"""Folders that are written beside their place and moved in whole: the ground of the lake."""

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

import psutil

_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100  # linux/fcntl.h
_OLD = "-old"  # ends the name of a folder that is being replaced without an exchange
_MACHINE = platform.node().replace(".", "-")


def new_folder(home: Path, prefix: str, place: str) -> Path:
    """A new empty folder in `home` for what will become `home/place`; its hidden name says whose it is."""
    return Path(tempfile.mkdtemp(prefix=f"{prefix}.{place}.{os.getpid()}@{_MACHINE}.", dir=home))


def clear_leftovers(home: Path, prefix: str) -> None:
    """Remove the folders of `new_folder` that killed processes of this machine left behind.

    A folder that one of them had taken from its place, and not replaced, is put back.
    """
    for left in home.glob(f"{prefix}.*"):
        place, owner, _ = left.name.removeprefix(f"{prefix}.").split(".")
        pid, _, machine = owner.partition("@")
        if machine != _MACHINE or psutil.pid_exists(int(pid)):
            continue
        if left.name.endswith(_OLD) and not (home / place).exists():
            left.rename(home / place)
        else:
            shutil.rmtree(left, ignore_errors=True)  # another process may be at it too


def write_small(place: Path, content: bytes) -> None:
    """Write a small file in one step: a reader sees the old content or the new one, whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=f".{place.name}.", dir=place.parent, delete=False) as hidden:
        hidden.write(content)
    Path(hidden.name).replace(place)


def move_in(new: Path, place: Path) -> None:
    """Put folder `new` at `place` in one step; what was there ends up at `new`, for the caller to remove."""
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


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; empty where there is no file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
