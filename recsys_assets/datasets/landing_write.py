"""Writing of landing files: each file is written under a hidden name next to its place, then moved in.

After a power cut, each file is either the old one or the new one. The order: the files of some days are written; each
of them is synced; they are moved in day by day, events last; files that a day no longer has are removed; the folders
are synced. Many files are synced at once: one after the other would take longer than all other steps.
"""

import datetime as dt
import filecmp
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from recsys_assets.datasets.disk import Place, private_folder, sync_all, writing_to
from recsys_assets.datasets.feed import Content, Feed, LandingError
from recsys_assets.datasets.folders import clear_leftovers, stage
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import ColumnType, TableName

FILES_AT_ONCE = 100  # files that are synced together; a day's files are never separated
_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "int64": pa.int64(),
    "float32": pa.float32(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "timestamp": pa.int64(),  # whole seconds since 1970, UTC
    "int32": pa.int32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "path": pa.string(),
    "vector": pa.list_(pa.float32()),
    "text": pa.string(),
}


@dataclass(frozen=True)
class _Staged:
    """A file under its hidden name, and where it belongs."""

    hidden: Path
    place: Path


@dataclass
class _Day:
    """The files of a day, in the order in which they are moved in, and the number of its events."""

    date: dt.date
    files: list[_Staged] = field(default_factory=list)
    events: int = 0

    def stale_parts(self) -> list[Path]:
        """Parts of an earlier landing that this one has no file for."""
        places = {file.place for file in self.files}
        folders = {place.parent for place in places}
        return [old for folder in folders for old in folder.glob("part-*") if old not in places]


def place_of(landing: Path) -> Place:
    """The landing folder, for errors."""
    return Place("the landing folder", landing, "RECSYS_LANDING")


def write_feed(profile: Profile, feed: Feed) -> tuple[int, list[str]]:
    """Land all that a source gives, with a progress bar if there is a terminal.

    Returns:
        The number of events, and the bizdates whose files differ from those before.

    Raises:
        LandingError: the profile wants a column that the source does not have.
        PlaceUnwritable: the landing folder is full, or may not be written.
    """
    console = Console(stderr=True)
    rows, changed, days = 0, list[str](), list[_Day]()
    bizdates = track(feed.bizdates, f"landing {profile.name}", console=console, disable=not console.is_terminal)
    _clear(profile.landing)
    try:
        with writing_to(place_of(profile.landing)):
            _land_undated(profile, feed)
            for date in bizdates:
                days.append(_Day(date))
                _stage_day(profile, feed, days[-1])
                rows += days[-1].events
                if date == feed.bizdates[-1] or sum(len(day.files) for day in days) >= FILES_AT_ONCE:
                    changed += _settle_days(profile.landing, days)
                    days.clear()
    finally:
        for file in (file for day in days for file in day.files):
            file.hidden.unlink(missing_ok=True)
    return rows, changed


def _clear(landing: Path) -> None:
    """Remove files that killed landings left."""
    for folder in {hidden.parent for hidden in landing.rglob(".*")}:
        clear_leftovers(folder, "")


def _land_undated(profile: Profile, feed: Feed) -> None:
    """Land the notes, and the tables that are known from the start."""
    for name, text in feed.notes.items():
        place = profile.landing / name
        _settle(profile.landing, [_Staged(stage(place, partial(_write_bytes, text.encode())), place)])
    for table, content in feed.undated.items():
        place = profile.landing / table / f"{table}.parquet"
        _settle(profile.landing, [_stage_content(profile, table, content, place)])


def _stage_day(profile: Profile, feed: Feed, day: _Day) -> None:
    """Write all of a day's files. Events come last, so that a reader who sees them finds their users and items."""
    parts: Counter[TableName] = Counter()
    events = []
    for table, content in feed.day(day.date):
        suffix = "tsv" if isinstance(content, bytes) else "parquet"
        place = profile.landing / table / f"bizdate={day.date}" / f"part-{parts[table]:04d}.{suffix}"
        day.files.append(_stage_content(profile, table, content, place))
        parts[table] += 1
        if table == "interactions":
            events.append(day.files[-1])
            day.events += _count_rows(content)
    day.files.sort(key=lambda file: file in events)


def _count_rows(content: Content) -> int:
    """Rows of a table or lines of a text, the last of which may lack a line break."""
    if isinstance(content, bytes):
        return content.count(b"\n") + (not content.endswith(b"\n"))
    return int(content.num_rows)


def _stage_content(profile: Profile, table: TableName, content: Content, place: Path) -> _Staged:
    """Stage lines unchanged, or a table as a Parquet file with the columns, column names and types of the profile."""
    private_folder(place.parent)
    if isinstance(content, bytes):
        return _Staged(stage(place, partial(_write_bytes, content)), place)
    columns = profile.tables[table]
    if missing := [name for name in columns if name not in content.column_names]:
        raise LandingError(
            f"the {profile.source} source has no column {', '.join(missing)} for tables.{table} of "
            f"'{profile.name}': it has {', '.join(content.column_names)}"
        )
    landed = {spec.column or name: content[name].cast(_ARROW_TYPES[spec.type]) for name, spec in columns.items()}
    return _Staged(stage(place, partial(_write_parquet, pa.table(landed))), place)


def _write_bytes(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _write_parquet(table: pa.Table, file: BinaryIO) -> None:
    pq.write_table(table, file, compression="zstd")


def _settle_days(landing: Path, days: list[_Day]) -> list[str]:
    """Move the files of some days in; returns the days that changed."""
    stale = {day.date: day.stale_parts() for day in days}
    moved = _settle(
        landing,
        [file for day in days for file in day.files],
        [old for parts in stale.values() for old in parts],
    )
    return [day.date.isoformat() for day in days if stale[day.date] or any(file.place in moved for file in day.files)]


def _settle(landing: Path, files: list[_Staged], stale: Iterable[Path] = ()) -> set[Path]:
    """Move staged files in; a file of the same bytes stays as it is, with its time. Returns the paths that changed."""
    new = [file for file in files if _differs(file)]
    sync_all(file.hidden for file in new)
    for file in files:
        if file in new:
            file.hidden.replace(file.place)
        else:
            file.hidden.unlink()
    for old in stale:
        old.unlink()
    sync_all({folder for file in files for folder in file.place.parents if folder.is_relative_to(landing)})
    return {file.place for file in new}


def _differs(file: _Staged) -> bool:
    there = file.place.is_file() and not file.place.is_symlink()
    return not there or not filecmp.cmp(file.hidden, file.place, shallow=False)
