"""The files under a landing folder: those that are read, in their order, and those that are not, each with the reason.

Parquet, CSV, TSV and JSON lines are read, text compressed or not, in sub-folders too, in the order of their paths, part
by part. Files and folders that somebody is still writing are skipped: `.x`, `_x`, `x.tmp` and the like. Nothing
else may be there: it would be missed silently. A link is followed within the landing folder only.
"""

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

READ = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson")
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # of text
_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".filepart", ".inprogress", ".download", ".crdownload", "~")
FORMS = "Parquet, CSV, TSV and JSON lines are read, all but the first also as .gz, .bz2 or .zst"


@dataclass(frozen=True)
class Found:
    """The content of a folder: the files to read, in order, and why each of the others is left out."""

    files: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)


def form(name: str) -> tuple[str, str | None] | None:
    """How a file of that name is read: its suffix and its compression, if any; None if it is not read."""
    *_, inner, suffix = ["", "", *Path(name.lower()).suffixes]
    if suffix in READ:
        return suffix, None
    return (inner, CODECS[suffix]) if suffix in CODECS and inner in READ[1:] else None


def look(folder: Path, landing: Path, *, without: str = "") -> Found:
    """List a folder of `landing` and its sub-folders, without the folders in it whose names have that pattern."""
    found, root = Found(), landing.resolve()
    if not folder.is_dir():
        return found
    if why := _why_not_followed(folder, root, ()):
        found.left_out[folder] = why
        return found
    # Each folder with its parents, so that a link back to one of them is noticed.
    waiting: list[tuple[Path, tuple[Path, ...]]] = [(folder, (folder.resolve(),))]
    while waiting:
        place, around = waiting.pop()
        for entry in _entries(place, found):
            path = Path(entry.path)
            if without and place == folder and fnmatchcase(entry.name, without) and entry.is_dir():
                continue
            if why := _why_unread(entry, root, around):
                found.left_out[path] = why
            elif entry.is_dir():
                waiting.append((path, (*around, path.resolve())))
            else:
                found.files.append(path)
    found.files.sort()
    return found


def _entries(folder: Path, found: Found) -> list[os.DirEntry[str]]:
    """The entries of a folder, without hidden and unfinished ones."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not (e.name.startswith((".", "_")) or e.name.lower().endswith(_UNFINISHED))]
    except OSError as error:
        found.left_out[folder] = f"cannot be listed ({error.strerror})"
        return []


def _why_unread(entry: os.DirEntry[str], root: Path, around: tuple[Path, ...]) -> str:
    """Why an entry is not read; empty if it is read, or is a folder to look into."""
    if entry.name.encode(errors="replace").decode() != entry.name:
        return "has a name that is not UTF-8 text"
    if entry.is_symlink() and (why := _why_not_followed(Path(entry.path), root, around)):
        return why
    if entry.is_dir():
        return ""
    if not entry.is_file():
        return "is not a file"
    return "" if form(entry.name) else f"is not of a known form ({FORMS})"


def _why_not_followed(path: Path, root: Path, around: tuple[Path, ...]) -> str:
    """Why a link is not followed; empty if it leads to something else within the landing folder."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: it leads to itself
        return "is a link that leads nowhere"
    if not target.is_relative_to(root):
        return "is a link that leaves the landing folder"
    return "is a link to a folder around it" if target in around else ""
