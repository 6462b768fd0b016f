"""The landing folder without a user: tables of all days, fresh rows, and rows that `recsys land` rejected."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools
from recsys_assets.datasets.disk import writing_to
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.folders import replacing
from recsys_assets.datasets.landed_user import (
    USER,
    UserFile,
    are_of,
    count_rows,
    names_user,
    parquet_without,
    without_user,
)
from recsys_assets.datasets.landing import lock
from recsys_assets.datasets.landing_files import Found, look
from recsys_assets.datasets.landing_write import place_of
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.fresh.files import FOLDER as FRESH

_REJECTED = "rejected"  # the folder of rows that `recsys land` could not give a day
NO_ROW = "the line "  # begins the reasons to reject a line that is not a row


@dataclass(frozen=True)
class InLanding:
    """The rows of a user in the landing folder.

    Attributes:
        rows: the number of rows by file; files without any are left out.
        lines: how many of them are lines that are not rows, and of which the id is a word.
        unread: files that nobody reads, and that were not searched.
    """

    rows: dict[Path, int] = field(default_factory=dict)
    lines: int = 0
    unread: list[Path] = field(default_factory=list)


def find(profile: Profile, user: int | str) -> InLanding:
    """Find the rows of a user, and check that each file can be written without them.

    Raises:
        LandedFileError: a file cannot be read.
        CannotRewrite: a file cannot be written again with its other rows as they are.
        LandingError: the object store of the landing folder cannot be read.
    """
    rows, total = dict[Path, int](), 0
    with connect_without_lake() as connection:
        for file in _files(profile):
            count, lines = count_rows(connection, file, user)
            if count + lines:
                without_user(connection, file, user)
                rows[file.path], total = count + lines, total + lines
        for path in _rejected_files(profile):
            theirs, named = _rejected_of(connection, profile, path, user)
            if count := int((theirs | named).sum()):
                rows[path], total = count, total + int((named & ~theirs).sum())
    return InLanding(rows, total, [path for looked in _looks(profile) for path in looked.left_out])


def remove(profile: Profile, user: int | str, found: InLanding) -> None:
    """Write the files that were found again without the user, each in one step; times of files stay.

    A file of fresh rows that has changed is taken again, and then the time of the file is that of its rows.

    Raises:
        LandingError: another process has locked the landing folder, or its store cannot be written.
        PlaceUnwritable: the landing folder cannot be written.
    """
    files = {file.path: file for file in _files(profile)}
    with writing_to(place_of(profile.landing)), lock(profile.landing), connect_without_lake() as connection:
        for path in found.rows:
            if path in files:
                _replace(profile, path, without_user(connection, files[path], user))
            else:
                theirs, named = _rejected_of(connection, profile, path, user)
                _replace(profile, path, parquet_without(path, theirs | named))


def _replace(profile: Profile, path: Path, content: bytes) -> None:
    """Replace a file, in the object store of the landing folder if it has one."""
    if profile.store and path.relative_to(profile.landing).parts[0] in KEYS:
        profile.store.put(path.relative_to(profile.landing).as_posix(), content)
        profile.store.follow(KEYS, again=True)
        return
    before = path.stat()
    with replacing(path) as hidden:
        hidden.write_bytes(content)
        shutil.copymode(path, hidden)
        os.utime(hidden, ns=(before.st_atime_ns, before.st_mtime_ns))


def _looks(profile: Profile) -> list[Found]:
    """The files of all tables that have users, of all days, and of fresh rows of users."""
    if profile.store:
        profile.store.follow(KEYS)
    looked = [look(profile.landing / table, profile.landing) for table in _tables(profile)]
    if profile.store:
        profile.store.fetch(KEYS, [path for each in looked for path in each.files])
    return [*looked, look(profile.landing / FRESH / "users", profile.landing)]


def _tables(profile: Profile) -> list[str]:
    """The tables that have a column of users."""
    return [str(table) for table, columns in profile.tables.items() if USER in columns]


def _files(profile: Profile) -> Iterator[UserFile]:
    """The files that may hold rows of users; one that several paths lead to is given once, and never as a link."""
    *tables, fresh = _looks(profile)
    seen, home = set[Path](), profile.landing.resolve()
    for table, looked in zip(_tables(profile), tables, strict=True):
        columns = profile.tables[table]  # type: ignore[index]
        form = profile.files.of(table)  # type: ignore[arg-type]
        for path in looked.files:
            own = path.resolve()
            if own not in seen:
                seen.add(own)
                yield UserFile(profile.landing / own.relative_to(home), columns, form)
    if "users" in profile.tables:
        spec = profile.tables["users"][USER]
        taken = (path for path in fresh.files if path.name.lower().rpartition(".")[2] not in ("csv", "tsv"))
        yield from (UserFile(path, {USER: spec}, Files()) for path in taken)


def _rejected_files(profile: Profile) -> list[Path]:
    return sorted((profile.landing / _REJECTED).glob("*.parquet"))


def _rejected_of(
    connection: duckdb.DuckDBPyConnection, profile: Profile, path: Path, user: int | str
) -> tuple[Bools, Bools]:
    """(N,) which rejected rows are the user's, and which are lines that name the user: the first column has them."""
    table, columns = pq.read_table(path), profile.tables["interactions"]
    first, reasons = (table[name].to_pylist() for name in (next(iter(columns)), "reason"))
    named = [why.startswith(NO_ROW) and names_user(str(text), user) for text, why in zip(first, reasons, strict=True)]
    spec = Column(type=columns[USER].type)
    theirs = are_of(connection, table[USER], spec, profile.files.of("interactions"), user)
    return theirs, np.array(named, bool)
