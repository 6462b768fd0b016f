"""`recsys land --source`: one big log becomes files by day, with the rows that belong to no day next to them.

The values stay as they are in the source; ingest reads and judges them. Each table's folder is made completely under a
hidden name, with links to the files of other origin, and then takes the old one's place in one step: ingest sees all of
a landing or nothing. Landing a source of the same name again replaces its rows.
"""

import datetime as dt
import filecmp
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.disk import PlaceUnwritable, private_folder, sync_all, sync_tree, writing_to
from recsys_assets.datasets.duck import connect, only_row, quote_name, scan, write_parquet
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.folders import clear_leftovers, move_in, new_folder, replacing
from recsys_assets.datasets.landing_files import form
from recsys_assets.datasets.landing_write import place_of
from recsys_assets.datasets.log_source import Source, find_source
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.tables import RAW, read_landed, refuse_units
from recsys_assets.datasets.text_files import Landed, LandedFileError, landed_names
from recsys_assets.datasets.values import is_missing, typed_value

PART_ROWS = 1_000_000  # of a landing file: ingest holds one file at a time
_EVENTS: TableName = "interactions"


@dataclass(frozen=True)
class Log:
    """Where the tables come from: the source of the events, its query if it has one, and files of users and items."""

    source: str = field(repr=False)  # an address may hold a password
    query: str | None = None
    entities: dict[TableName, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class LogReport:
    """The rows that landed by day, the days whose files changed, and rejected rows by reason, in `rejected_file`."""

    days: dict[str, int]
    changed: list[str]
    rejected: dict[str, int]
    rejected_file: Path


def land_log(profile: Profile, log: Log) -> LogReport:
    """Land a log, replacing what a source of this name landed before. The landing folder must be locked.

    A row is rejected if it is malformed, if its time is missing or cannot be read, or if its day is not among the
    profile's bizdates, which end today if the profile has no last one. Rows without times land on the first bizdate.

    Raises:
        LandingError: the source cannot be read, no row has a day, or the folder of events cannot be replaced.
        LandedFileError: a file lacks a column, or holds the times in another unit.
    """
    source = find_source(log.source, log.query)
    name, home = _name(source.name), profile.landing / _EVENTS
    rejected = profile.landing / "rejected" / f"{name}.parquet"
    if home.is_symlink() or os.path.ismount(home):
        raise LandingError(f"{home} is a link or a mount, which cannot be replaced in one step: make it a folder")
    for table, path in log.entities.items():  # a fault in them is found before the long work
        if table not in profile.tables:
            raise LandingError(
                f"'{profile.name}' has no table of {table}, so {path} cannot land: add tables.{table} to the profile, "
                f"or leave out --{table}-file"
            )
        read_landed(_entity_file(path), profile.tables[table], profile.files.of(table))
    clear_leftovers(profile.landing, "")
    new = new_folder(profile.landing, "", _EVENTS)
    try:
        with connect(profile.landing) as connection:
            _read(connection, profile, source, new / "rows")
            reasons = _write_rejected(connection, profile, new / "rows", rejected)
            days = _write_days(connection, profile, new, name)
        (new / "rows").unlink()
        changed = _changed_days(profile, home, new, name)
        for table, path in log.entities.items():
            _land_entities(profile.landing / table, path)
        _replace(home, new, name)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return LogReport(days, changed, reasons, rejected)


def _name(source: str) -> str:
    """The beginning of the names of the files that come from a source, or a file, of that name."""
    return f"from-{re.sub(r'[^0-9A-Za-z_-]', '_', source.partition('.')[0])[:100]}"


def _read(connection: duckdb.DuckDBPyConnection, profile: Profile, source: Source, place: Path) -> None:
    """Write all rows of a log to a file, in their order: number, day, reason to reject, the columns' raw values."""
    files, columns = profile.files.of(_EVENTS), profile.tables[_EVENTS]
    writer: pq.ParquetWriter | None = None
    try:
        for batch in _checked(source.batches(columns, files), profile, files, source.shown):
            connection.register("coming", batch)
            rows = connection.sql(_judged(profile, files, batch.schema)).to_arrow_table()
            with writing_to(place_of(profile.landing)):  # a full disk is no fault of the source
                writer = writer or pq.ParquetWriter(place, rows.schema, compression="snappy")
                writer.write_table(rows.cast(writer.schema))
    except PlaceUnwritable:
        raise
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise LandingError(_unreadable(source.shown, error)) from error
    finally:
        if writer:
            writer.close()
    if not writer:
        raise LandingError(f"{source.shown} has no rows: give a file or a query with the rows of the log")


def _judged(profile: Profile, files: Files, schema: pa.Schema) -> str:
    """SQL for a batch's rows with their days, and the reasons of those that cannot land."""
    columns, first, last = profile.tables[_EVENTS], profile.first_bizdate, profile.last_bizdate or files.now().date()
    if "timestamp" not in columns:
        named = ", ".join(map(quote_name, columns))
        return f"SELECT row, DATE '{first}' AS day, line, {named}, fault AS reason FROM coming"
    kind = schema.field("timestamp").type
    value = typed_value("timestamp", columns["timestamp"], kind, files)
    return f"""
        SELECT row, day, line, {", ".join(map(quote_name, columns))}, CASE WHEN fault IS NOT NULL THEN fault
            WHEN {is_missing("timestamp", kind)} THEN 'timestamp is missing'
            WHEN day IS NULL THEN 'timestamp is not of type timestamp'
            WHEN day NOT BETWEEN DATE '{first}' AND DATE '{last}'
            THEN 'the day is not within {first} to {last}' END AS reason
        FROM (SELECT *, {files.day_sql(f"({value})")} AS day FROM coming)
    """


def _checked(batches: Iterator[Landed], profile: Profile, files: Files, source: str) -> Iterator[pa.Table]:
    """The batches as tables with malformed lines as rows, after a check of the first times' unit."""
    columns = profile.tables[_EVENTS]
    for number, landed in enumerate(batches):
        if number == 0:
            refuse_units(source, columns, landed.table, files, days=profile.first_bizdate.year > 1970)
        nothing = pa.nulls(landed.table.num_rows, pa.string())
        table = landed.table.append_column("fault", nothing).append_column("line", nothing)
        if landed.malformed:
            bad = landed.malformed
            lines = {
                "row": [each.row for each in bad],
                "fault": [each.reason for each in bad],
                "line": [each.text for each in bad],
            }
            table = pa.concat_tables([table, pa.table(lines)], promote_options="default").sort_by("row")
        yield table


def _unreadable(file: str, error: Exception) -> str:
    said = str(error).splitlines()[0]
    if "straddling object" in said:
        return (
            f"{file} cannot be read: a row is longer than 16 MB. Is a quotation mark open, or are there none (`quote`)?"
        )
    return f"{file} cannot be read ({said}): does the profile's `files` describe it?"


def _write_rejected(connection: duckdb.DuckDBPyConnection, profile: Profile, rows: Path, place: Path) -> dict[str, int]:
    """Write the rejected rows and their reasons, a malformed line in the first column; returns the counts.

    Raises:
        LandingError: all rows are rejected.
    """
    source = scan([rows])
    counts = connection.execute(
        f"SELECT reason, count(*) FROM {source} WHERE reason IS NOT NULL GROUP BY reason ORDER BY 2 DESC, 1"
    ).fetchall()
    (total,) = only_row(connection, f"SELECT count(*) FROM {source}")
    if total == sum(count for _, count in counts):
        shown = quote_name(
            "timestamp" if "timestamp" in profile.tables[_EVENTS] else next(iter(profile.tables[_EVENTS]))
        )
        first = connection.execute(f"SELECT row, reason, {shown}, line FROM {source} LIMIT 1").fetchall()
        said = "; ".join(f"row {row}: {reason} ({str(line or value)[:200]!r})" for row, reason, value, line in first)
        advice = "correct the rows, or say in the profile (`tables`, `files`, first_bizdate) how they are written"
        raise LandingError(f"no row of {total:,} can be landed: {said or 'there are none'}: {advice}")
    private_folder(place.parent)
    place.unlink(missing_ok=True)
    if counts:
        first_column, *others = map(quote_name, profile.tables[_EVENTS])
        named = ", ".join([f"coalesce(line, CAST({first_column} AS VARCHAR)) AS {first_column}", *others])
        with replacing(place) as hidden:
            query = f"SELECT row, reason, {named} FROM {source} WHERE reason IS NOT NULL ORDER BY row"
            write_parquet(connection, query, hidden)
    return {str(reason): int(count) for reason, count in counts}


def _write_days(connection: duckdb.DuckDBPyConnection, profile: Profile, new: Path, name: str) -> dict[str, int]:
    """Write the files of all days below `new`; returns the rows of each day."""
    columns = profile.tables[_EVENTS]
    named = ", ".join(map(quote_name, columns))
    rows = f"SELECT day, {named} FROM {scan([new / 'rows'])} WHERE reason IS NULL ORDER BY day, row"
    counts: dict[str, int] = {}
    with _Writer(profile.files, new, name) as writer:
        for batch in connection.sql(rows).to_arrow_reader(PART_ROWS):
            days = batch["day"].to_numpy(zero_copy_only=False).astype("datetime64[D]").astype(object)
            content = pa.Table.from_batches([batch.drop_columns(["day"])]).rename_columns(landed_names(columns))
            starts = np.flatnonzero(np.concatenate([[True], days[1:] != days[:-1]]))
            for start, end in zip(starts, [*starts[1:], len(days)], strict=True):
                writer.write(days[start], content.slice(start, end - start))
                counts[str(days[start])] = counts.get(str(days[start]), 0) + int(end - start)
    return counts


class _Writer:
    """Writes tables whose days come in order into a file for each day, or several."""

    def __init__(self, files: Files, home: Path, name: str) -> None:
        self.files, self.home, self.name = files, home, name
        self.day, self.part, self.rows = dt.date.min, 0, 0
        self.file: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file:
            self.file.close()

    def write(self, day: dt.date, table: pa.Table) -> None:
        """Append rows to the day's file."""
        file = self.file
        if file is None or day != self.day or self.rows + table.num_rows > PART_ROWS:
            file = self.file = self._next(day, table.schema)
        file.write_table(table.replace_schema_metadata(RAW))
        self.rows += table.num_rows

    def _next(self, day: dt.date, schema: pa.Schema) -> pq.ParquetWriter:
        """Close the file, and open the first or next one of a day."""
        self.__exit__()
        self.part = self.part + 1 if day == self.day else 0
        self.day, self.rows = day, 0
        folder = self.home / self.files.folder_of(day)
        private_folder(folder)
        place = folder / f"{self.name}-{self.part:04}.parquet"
        return pq.ParquetWriter(place, schema.with_metadata(RAW), compression="zstd")


def _own_files(home: Path, name: str) -> dict[Path, Path]:
    """The files below a folder that came from a source, by their relative paths."""
    found = home.rglob(f"{name}-*.parquet")
    return {path.relative_to(home): path for path in found if re.fullmatch(r"-\d{4,}", path.stem[len(name) :])}


def _changed_days(profile: Profile, home: Path, new: Path, name: str) -> list[str]:
    """The days on which the files of a source are others than before."""
    old, coming = _own_files(home, name), _own_files(new, name)
    same = {path for path in old.keys() & coming.keys() if filecmp.cmp(old[path], coming[path], shallow=False)}
    days = {profile.files.day_of(PurePosixPath(path.parent)) for path in (old.keys() | coming.keys()) - same}
    return sorted(str(day) for day in days if day)


def _entity_file(path: Path) -> Path:
    if not path.is_file() or not form(path.name):
        raise LandingError(f"{path} is not a file of a known form: give a .parquet, .csv, .tsv or .jsonl")
    return path


def _land_entities(home: Path, path: Path) -> None:
    """Copy a file of users or items to the undated ones, in place of an earlier one of its name."""
    private_folder(home)
    place = home / f"{_name(path.name)}{''.join(path.suffixes[-2:] if len(path.suffixes) > 1 else path.suffixes)}"
    with replacing(place) as hidden:
        shutil.copyfile(path, hidden)
    for old in home.glob(f"{_name(path.name)}.*"):
        if old != place:
            old.unlink()


def _replace(home: Path, new: Path, name: str) -> None:
    """Put the new folder of events in the place of the old one, with the files in it that have another origin."""
    own = set(_own_files(home, name))
    _link_others(home, new, own)
    sync_tree(new)
    move_in(new, home)
    sync_all([home.parent])
    _link_others(new, home, own)  # what arrived in the meantime is in the old folder, which is now at `new`


def _link_others(source: Path, target: Path, without: set[Path]) -> None:
    """Link all files of a folder into another one, except some and those that are there."""
    for folder, subfolders, names in os.walk(source):
        links = [each for each in subfolders if (Path(folder) / each).is_symlink()]
        for path in (Path(folder) / each for each in [*links, *names]):
            place = target / path.relative_to(source)
            if path.relative_to(source) in without or place.exists() or place.is_symlink():
                continue
            private_folder(place.parent)
            os.link(path, place, follow_symlinks=False)


__all__ = ["LandedFileError", "Log", "LogReport", "land_log"]
