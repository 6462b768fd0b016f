"""Fresh rows that arrive as files: `<landing>/fresh/<table>/`, JSON lines or Parquet, in any number, at any time.

A file is taken once it is there under its own name: write it under another one (`.x`, `x.tmp`), then rename it. One
that changes is taken again, which does no harm. A row that says no `update_time` has the time at which its file was
written. Rows that cannot be kept are set aside with their reasons; the other rows of the file are kept.
"""

import datetime as dt
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import slices
from recsys_assets.datasets.disk import writing_to
from recsys_assets.datasets.landing_files import form, look
from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.step import FreshRow, Step

FOLDER = "fresh"  # in the landing folder
ROWS_AT_ONCE = 5_000  # of a file, in one commit
_BATCH = 65_536  # rows of a Parquet file that are in memory


@dataclass(frozen=True)
class FilesTaken:
    """The result of new files: how many there were, their rows, those set aside, and joined rows that changed."""

    files: int = 0
    rows: int = 0
    rejected: int = 0
    changed: int = 0

    def __add__(self, other: "FilesTaken") -> "FilesTaken":
        return FilesTaken(
            self.files + other.files,
            self.rows + other.rows,
            self.rejected + other.rejected,
            self.changed + other.changed,
        )


@dataclass(frozen=True)
class FreshFile:
    """A file of rows.

    Attributes:
        source: the table of its rows.
        name: its path in the landing folder.
        state: tells its content from an earlier one.
        written: when that was, which is the time of the rows that say none.
    """

    source: str
    name: str
    state: str
    written: dt.datetime


@dataclass(frozen=True)
class Unread:
    """Stands in place of a row that cannot be read, with the reason."""

    reason: str


def new_files(profile: Profile, connection: sqlite3.Connection) -> list[FreshFile]:
    """The files that were not taken as they are now, in the order of their paths."""
    home, found = profile.landing / FOLDER, list[FreshFile]()
    if not home.is_dir():
        return found
    taken = dict(connection.execute("SELECT file, state FROM taken").fetchall())
    for folder in sorted(each for each in home.iterdir() if each.is_dir()):
        for path in look(folder, profile.landing).files:
            at, name = path.stat(), path.relative_to(profile.landing).as_posix()
            state = f"{at.st_mtime_ns}:{at.st_size}:{at.st_ino}"
            if taken.get(name) != state:
                found.append(FreshFile(folder.name, name, state, dt.datetime.fromtimestamp(at.st_mtime, dt.UTC)))
    return found


def take_files(
    step: Step, duck: duckdb.DuckDBPyConnection, connection: sqlite3.Connection, now: dt.datetime
) -> FilesTaken:
    """Take the rows of all new files.

    Raises:
        PlaceUnwritable: the folder of fresh rows cannot be written.
    """
    done = FilesTaken()
    for file in new_files(step.profile, connection):
        done += take_file(step, connection, file, _lines(step.profile.landing / file.name, duck), now)
    return done


def take_file(
    step: Step, connection: sqlite3.Connection, file: FreshFile, lines: Iterable[str | Unread], now: dt.datetime
) -> FilesTaken:
    """Take the rows of a file, and write down that it was taken, and which of its rows could not be kept.

    A process that is killed before the end takes them all again: no more than the same rows are then kept.

    Args:
        step: takes the rows.
        connection: to the database of the step.
        file: of the rows.
        lines: the rows as JSON.
        now: the present time.

    Raises:
        PlaceUnwritable: the folder of fresh rows cannot be written.
    """
    read, rejected = list[tuple[int, FreshRow]](), list[tuple[int, str, str]]()
    for place, line in enumerate(lines, 1):
        if isinstance(line, Unread):
            rejected.append((place, line.reason, ""))
        else:
            read.append((place, FreshRow(file.source, line)))
    count, changed = len(read) + len(rejected), 0
    for block in slices(len(read), ROWS_AT_ONCE):
        places, rows = zip(*read[block], strict=True)
        taken = step.take(rows, now, told=min(file.written, now))
        changed += taken.changed
        rejected += [(place, why, row.line) for place, why, row in zip(places, taken.reasons, rows, strict=True) if why]
    _mark(step.database, connection, (file.name, file.state), [(file.name, *each) for each in rejected])
    return FilesTaken(1, count, len(rejected), changed)


def _lines(path: Path, duck: duckdb.DuckDBPyConnection) -> Iterator[str | Unread]:
    """The rows of a file as JSON; if it cannot be read on, the reason comes last."""
    kind, codec = form(path.name) or ("", None)
    try:
        if kind == ".parquet":
            with pq.ParquetFile(path) as opened:
                for batch in opened.iter_batches(_BATCH):
                    yield from _as_json(pa.Table.from_batches([batch]), duck)
        elif kind in (".jsonl", ".ndjson"):
            with pa.input_stream(str(path), compression=codec) as stream:
                text = stream.read().decode(errors="replace").removeprefix("\ufeff")  # as landing files are read
                yield from filter(str.strip, text.split("\n"))
        else:
            yield Unread("rows of fresh items arrive as JSON lines or Parquet")
    except (pa.ArrowException, OSError) as error:
        yield Unread(f"the rest of the file cannot be read: {error}")


def _as_json(table: pa.Table, duck: duckdb.DuckDBPyConnection) -> Sequence[str]:
    duck.register("parquet_rows", table)
    found: list[str] = (
        duck.sql("SELECT to_json(parquet_rows)::VARCHAR AS line FROM parquet_rows").to_arrow_table()["line"].to_pylist()
    )
    duck.unregister("parquet_rows")
    return found


def _mark(
    database: Database, connection: sqlite3.Connection, taken: tuple[str, str], rejected: Sequence[tuple[object, ...]]
) -> None:
    """Write down that a file was taken, and which of its rows were not."""
    with writing_to(database.place), database.writing(connection):
        connection.execute("DELETE FROM rejected WHERE file = ?", taken[:1])
        connection.executemany("INSERT INTO rejected VALUES (?, ?, ?, ?)", rejected)
        connection.execute("INSERT INTO taken VALUES (?, ?) ON CONFLICT DO UPDATE SET state = excluded.state", taken)
