"""Safe reading of archives from outside: no member may fill the memory, or have a path that leads out of the archive.

A zip of 4 MB can hold 4 GB of one repeated byte. A member is therefore read in pieces up to a bound, which is far above
any real data set of this project: text and tables compress to a tenth of their size, seldom to a fiftieth.
"""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from recsys_assets.datasets.feed import LandingError

LARGEST_MEMBER = 2**30  # bytes that a member may unpack to
RATIO = 100  # a member may unpack to this many times its packed size, and up to `SMALL` in any case
SMALL = 2**20
PIECE = 2**20


def open_zip(path: Path) -> zipfile.Path:
    """The root of a zip whose members are all inside it.

    Raises:
        LandingError: it is not a zip, or a member is a link or has a path that leads out of it.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, OSError) as error:
        raise LandingError(f"{path} is not a zip that can be read: {error}") from error
    for member in archive.infolist():
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(member.external_attr >> 16):
            archive.close()
            raise LandingError(
                f"{path} has a member that is a link or leads out of it, {member.filename!r}: get the zip again"
            )
    return zipfile.Path(archive)


def read(member: zipfile.Path) -> bytes:
    """The bytes of a member.

    Raises:
        LandingError: it cannot be unpacked, or is larger than `LARGEST_MEMBER` or `RATIO` allow.
    """
    info, name = member.root.getinfo(member.at), str(member)
    if info.file_size > _bound(info.compress_size):
        raise _too_large(name, info.compress_size)
    try:
        with member.open("rb") as stream:
            return read_bounded(stream, info.compress_size, name)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise LandingError(f"{name} cannot be unpacked: {error}. Get the zip again") from error


def read_bounded(stream: IO[bytes], packed: int, name: str) -> bytes:
    """Read a stream of unpacked bytes to its end.

    Args:
        stream: gives unpacked bytes.
        packed: the packed size of the content.
        name: for the message.

    Raises:
        LandingError: more comes out than `LARGEST_MEMBER` or `RATIO` allow; no more than that is ever held in memory.
    """
    content = bytearray()
    while piece := stream.read(PIECE):
        content += piece
        if len(content) > _bound(packed):
            raise _too_large(name, packed)
    return bytes(content)


def _bound(packed: int) -> int:
    return min(LARGEST_MEMBER, max(SMALL, RATIO * packed))


def _too_large(name: str, packed: int) -> LandingError:
    return LandingError(
        f"{name} is packed into {packed:,} bytes and unpacks to more than {_bound(packed):,}, the limit "
        f"({RATIO} times its size, {LARGEST_MEMBER / 2**30:.0f} GiB): unpack it yourself, and land its content"
    )
