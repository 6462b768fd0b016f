"""The files under a landing folder: those that are read, in their order, and those that are not, each with the reason.

Read are Parquet, CSV and TSV files, the last two compressed or not, in sub-folders too; their order is that of their
paths, part by part. Passed over are files and folders that somebody is still writing: `.x`, `_x`, `x.tmp` and the like.
Nothing else may lie there: it would be missed in silence. A link is followed within the landing folder only.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

READ = (".parquet", ".csv", ".tsv")
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # of a CSV or TSV
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".inprogress", ".download", ".crdownload", "~")
FORMS = "Parquet, CSV and TSV are read, the last two also as .gz, .bz2 or .zst"


@dataclass(frozen=True)
class Found:
    """What lies in a folder: the files to read, in order, and why each of the others is left out."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def form(name: str) -> tuple[str, str | None] | None:
    """How a file of that name is read: its suffix and its compression, if any; None where it is not."""
    *_, inner, suffix = ["", "", *Path(name.lower()).suffixes]
    if suffix in READ:
        return suffix, None
    return (inner, CODECS[suffix]) if suffix in CODECS and inner in READ[1:] else None


def look(folder: Path, landing: Path, *, undated: bool = False) -> Found:
    """What lies in a folder of `landing` and below it; `undated`: without the `bizdate=` folders in it."""
    found, root = Found(), landing.resolve()
    if not folder.is_dir():
        return found
    if why := _strays(folder, root, ()):
        found.left_out[folder] = why
        return found
    # Each folder with those that lead to it, to see a link that goes round.
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(folder, (folder.resolve(),))]
    while waiting:
        place, around = waiting.pop()
        for entry in _entries(place, found):
            path = Path(entry.path)
            if undated and place == folder and entry.name.startswith("bizdate=") and entry.is_dir():
                continue
            if why := _unreadable(entry, root, around):
                found.left_out[path] = why
            elif entry.is_dir():
                waiting.append((path, (*around, path.resolve())))
            else:
                found.files.append(path)
    found.files.sort()
    return found


def _entries(folder: Path, found: Found) -> list[os.DirEntry[str]]:
    """What a folder holds, without hidden and unfinished things."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not (e.name.startswith((".", "_")) or e.name.lower().endswith(_UNFINISHED))]
    except OSError as error:
        found.left_out[folder] = f"cannot be listed ({error.strerror})"
        return []


def _unreadable(entry: os.DirEntry[str], root: Path, around: tuple[Path, ...]) -> str:
    """Why an entry is not read; empty where it is, or is a folder to look into."""
    if entry.name.encode(errors="replace").decode() != entry.name:
        return "has a name that is not UTF-8 text"
    if entry.is_symlink() and (why := _strays(Path(entry.path), root, around)):
        return why
    if entry.is_dir():
        return ""
    if not entry.is_file():
        return "is not a file"
    return "" if form(entry.name) else f"is not of a known form ({FORMS})"


def _strays(path: Path, root: Path, around: tuple[Path, ...]) -> str:
    """Why a link is not followed; empty where it leads to something else within the landing folder."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: it leads to itself
        return "is a link that leads nowhere"
    if not target.is_relative_to(root):
        return "is a link that leaves the landing folder"
    return "is a link to a folder around it" if target in around else ""
