"""Comparison of a partition with the same one built at once: by the hashes of files, and of columns where they differ.

The rows of an extended asset are in the files of several days, whose rows, one after the other, must be those of the
one file that was built at once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import duckdb

from recsys_assets.datasets.duck import connect_without_lake, only_row, quote_name, scan
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import DRAWN
from recsys_assets.datasets.profile import KEYS
from recsys_assets.manifest import Partition
from recsys_assets.ranking.sample_parts import files_by_part, part_files

_PLACE = "file_row_number"  # a column that DuckDB adds


@dataclass(frozen=True)
class Difference:
    """A file of the lake that is not as it is when it is built again.

    Attributes:
        name: `asset/bizdate/file`.
        how: the columns that differ, or what else is wrong.
    """

    name: str
    how: str


@dataclass(frozen=True)
class Content:
    """The content of consecutive rows: their number, and for each column its type and a hash of all its values."""

    rows: int
    columns: dict[str, tuple[str, str]]


def differences(there: Sequence[Partition], rebuilt: Partition) -> list[Difference]:
    """The files of a partition that differ from the rebuilt one's.

    Args:
        there: the partition of the lake, last, and those that it extends, the oldest first.
        rebuilt: the same, made at once.
    """
    newest, found = there[-1], list[Difference]()
    for file in sorted(newest.manifest.files.keys() | rebuilt.manifest.files.keys()):
        chain = there if file == ROWS else [newest]
        if file not in rebuilt.manifest.files:
            found.append(_difference(newest, file, "a rebuild has no such file"))
        elif gone := [each for each in chain if not (each.folder / file).is_file()]:
            found += [_difference(each, file, "is missing") for each in gone]
        elif len(chain) > 1 or file_hash(newest.folder / file) != rebuilt.manifest.files[file]:
            found += _different_content(chain, rebuilt, file)
    return found


def sample_differences(there: Partition, rebuilt: Partition, columns: Collection[str]) -> list[Difference]:
    """The parts of samples whose events are not those of a rebuild, where days keep the rows that were written first.

    Args:
        there: the partition of the lake.
        rebuilt: the same, with all rows written at once.
        columns: what is compared of an event; the rows of drawn items are not.
    """
    with connect_without_lake(there.folder, rebuilt.folder) as connection:
        parts = {
            part: [_sums(connection, part_files(each, part), columns) for each in (there, rebuilt)]
            for part in files_by_part(rebuilt.manifest)
        }
    return [_difference(there, part, how) for part, contents in parts.items() if (how := _how(*contents))]


def _sums(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], columns: Collection[str]) -> Content:
    """The content of the events of a part, in whatever order they are."""
    types = {name: str(kind) for name, kind, *_ in connection.execute(f"DESCRIBE FROM {scan(files)}").fetchall()}
    compared = {name: kind for name, kind in types.items() if name in columns}
    keys = ", ".join(quote_name(name) for name in KEYS["interactions"])
    sums = "".join(f", sum(hash({keys}, {quote_name(name)})::HUGEINT)" for name in compared)
    events = f" WHERE NOT {DRAWN}" if DRAWN in types else ""
    count, *hashes = only_row(connection, f"SELECT count(*){sums} FROM {scan(files)}{events}")
    return Content(count, _columns(compared, hashes))


def _different_content(chain: Sequence[Partition], rebuilt: Partition, file: str) -> list[Difference]:
    """The same for a file that does not have the same bytes, or whose rows are in the files of several days."""
    if not file.endswith(".parquet"):
        return [_difference(chain[-1], file, "has other bytes")]
    files = [each.folder / file for each in chain]
    with connect_without_lake(rebuilt.folder, *(each.parent for each in files)) as connection:
        try:
            there = _contents_of(connection, files)
        except duckdb.Error as error:
            return [_difference(chain[-1], file, f"cannot be read: {str(error).splitlines()[0]}")]
        starts = list(accumulate((each.rows for each in there[:-1]), initial=0))
        wanted = _contents(connection, rebuilt.folder / file, starts)
    return [
        _difference(partition, file, how)
        for partition, found, expected in zip(chain, there, wanted, strict=True)
        if (how := _how(found, expected))
    ]


def _difference(partition: Partition, file: str, how: str) -> Difference:
    return Difference(f"{partition.manifest.name}/{file}", how)


def _how(found: Content, expected: Content) -> str:
    """How rows differ from those that are expected, in words; empty if they do not."""
    if found.rows != expected.rows:
        return f"{found.rows:,} rows instead of {expected.rows:,}"
    names = {**found.columns, **expected.columns}
    return ", ".join(name for name in names if found.columns.get(name) != expected.columns.get(name))


def _contents_of(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> list[Content]:
    """The content of each file, whose rows are counted through all of them."""
    found, first = list[Content](), 0
    for file in files:
        found += _contents(connection, file, [0], first)
        first += found[-1].rows
    return found


def _contents(
    connection: duckdb.DuckDBPyConnection, file: Path, starts: Sequence[int], first: int = 0
) -> list[Content]:
    """The content of the parts of a file that begin at some rows, whose places are counted from `first`."""
    rows = scan([file])
    types = {name: str(kind) for name, kind, *_ in connection.execute(f"DESCRIBE FROM {rows}").fetchall()}
    sums = "".join(f", sum(hash({_PLACE} + {first}, {quote_name(name)})::HUGEINT)" for name in types)
    cases = " ".join(f"WHEN {_PLACE} >= {start} THEN {part}" for part, start in reversed(list(enumerate(starts))))
    found = connection.execute(
        f"SELECT CASE {cases} END AS part, count(*){sums} FROM (SELECT *, {_PLACE} FROM {rows}) GROUP BY part"
    ).fetchall()
    by_part = {part: Content(count, _columns(types, hashes)) for part, count, *hashes in found}
    return [by_part.get(part, Content(0, _columns(types, [None] * len(types)))) for part in range(len(starts))]


def _columns(types: dict[str, str], hashes: Sequence[int | None]) -> dict[str, tuple[str, str]]:
    return {name: (kind, str(each)) for (name, kind), each in zip(types.items(), hashes, strict=True)}
