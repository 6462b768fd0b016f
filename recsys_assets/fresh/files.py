"""Fresh rows that arrive as files: `<landing>/fresh/<table>/`, JSON lines or Parquet, in any number, at any time.

A file is taken once it is there under its own name: write it under another one (`.x`, `x.tmp`), then rename it. One
that changes is taken again, which does no harm. Rows that cannot be kept are set aside with their reasons; the other
rows of the file are kept.
"""

import datetime as dt
import sqlite3
from collections.abc import Iterator, Sequence
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


def new_files(profile: Profile, connection: sqlite3.Connection) -> list[tuple[str, Path, str]]:
    """The files that were not taken as they are now: table, path and state, in the order of their paths."""
    home, found = profile.landing / FOLDER, list[tuple[str, Path, str]]()
    if not home.is_dir():
        return found
    taken = dict(connection.execute("SELECT file, state FROM taken").fetchall())
    for folder in sorted(each for each in home.iterdir() if each.is_dir()):
        for path in look(folder, profile.landing).files:
            at = path.stat()
            state = f"{at.st_mtime_ns}:{at.st_size}:{at.st_ino}"
            if taken.get(_name(profile, path)) != state:
                found.append((folder.name, path, state))
    return found


def take_files(
    step: Step, duck: duckdb.DuckDBPyConnection, connection: sqlite3.Connection, now: dt.datetime
) -> FilesTaken:
    """Take the rows of all new files.

    Raises:
        PlaceUnwritable: the folder of fresh rows cannot be written.
    """
    done = FilesTaken()
    for source, path, state in new_files(step.profile, connection):
        name = _name(step.profile, path)
        taken, rejected = _take(step, source, _lines(path, duck), now)
        _mark(step.database, connection, (name, state), [(name, *each) for each in rejected])
        done += taken
    return done


def _take(
    step: Step, source: str, lines: Iterator[str | Exception], now: dt.datetime
) -> tuple[FilesTaken, list[tuple[int, str, str]]]:
    """Take the rows of a file; also returns those that cannot be kept: position from 1, reason, and row."""
    texts, rejected = list[str](), list[tuple[int, str, str]]()
    for line in lines:
        if isinstance(line, Exception):
            rejected.append((len(texts) + 1, f"the rest of the file cannot be read: {line}", ""))
        else:
            texts.append(line)
    changed = 0
    for block in slices(len(texts), ROWS_AT_ONCE):
        rows = [FreshRow(source, line) for line in texts[block]]
        taken = step.take(rows, now)
        changed += taken.changed
        places = range(block.start + 1, block.start + 1 + len(rows))
        rejected += [(place, why, row.line) for place, why, row in zip(places, taken.reasons, rows, strict=True) if why]
    return FilesTaken(1, len(texts), len(rejected), changed), rejected


def _lines(path: Path, duck: duckdb.DuckDBPyConnection) -> Iterator[str | Exception]:
    """The rows of a file as JSON; if it cannot be read on, the error comes last."""
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
            yield ValueError("rows of fresh items arrive as JSON lines or Parquet")
    except (pa.ArrowException, OSError) as error:
        yield error


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


def _name(profile: Profile, path: Path) -> str:
    return path.relative_to(profile.landing).as_posix()
