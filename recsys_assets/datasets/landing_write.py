"""Writes what a source hands over: each file beside its place, then moved in whole."""

import datetime as dt
import filecmp
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from recsys_assets.datasets.feed import Content, Feed, LandingError
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import ColumnType, TableName

_TYPES: dict[ColumnType, pa.DataType] = {
    "int64": pa.int64(),
    "float32": pa.float32(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "timestamp": pa.int64(),  # whole seconds since 1970, UTC
}


def write_feed(profile: Profile, feed: Feed) -> tuple[int, list[str]]:
    """Land all that a source gives, with a progress bar where there is a terminal.

    Returns:
        The number of events, and the bizdates whose files differ from what lay there before.

    Raises:
        LandingError: the profile wants a column that the source does not have.
    """
    for name, text in feed.notes.items():
        place = profile.landing / name
        settle(stage(place, partial(Path.write_text, data=text, encoding="utf-8")), place)
    for table, content in feed.undated.items():
        place = profile.landing / table / f"{table}.parquet"
        settle(_staged(profile, table, content, place), place)
    console = Console(stderr=True)
    rows, changed = 0, []
    for day in track(feed.bizdates, f"landing {profile.name}", console=console, disable=not console.is_terminal):
        count, differs = _write_day(profile, feed, day)
        rows += count
        changed += [day.isoformat()] if differs else []
    return rows, changed


def _write_day(profile: Profile, feed: Feed, day: dt.date) -> tuple[int, bool]:
    """Write all of a day's files, then move them in, events last: who sees them finds their users and items.

    Parts of an earlier landing that this one has no file for are removed.
    """
    staged: list[tuple[TableName, Path, Path]] = []
    parts: Counter[TableName] = Counter()
    rows = 0
    for table, content in feed.day(day):
        suffix = "tsv" if isinstance(content, bytes) else "parquet"
        place = profile.landing / table / f"bizdate={day}" / f"part-{parts[table]:04d}.{suffix}"
        staged.append((table, _staged(profile, table, content, place), place))
        parts[table] += 1
        rows += _rows(content) if table == "interactions" else 0
    staged.sort(key=lambda entry: entry[0] == "interactions")
    changes = [settle(hidden, place) for _, hidden, place in staged]
    places = {place for _, _, place in staged}
    stale = [old for folder in {place.parent for place in places} for old in folder.glob("part-*") if old not in places]
    for old in stale:
        old.unlink()
    return rows, any(changes) or bool(stale)


def _rows(content: Content) -> int:
    """Rows of a table or lines of a text, the last of which may lack its line end."""
    if isinstance(content, bytes):
        return content.count(b"\n") + (not content.endswith(b"\n"))
    return int(content.num_rows)


def _staged(profile: Profile, table: TableName, content: Content, place: Path) -> Path:
    """Stage lines as they are, a table as a Parquet file with the columns, column names and types of the profile."""
    if isinstance(content, bytes):
        return stage(place, partial(Path.write_bytes, data=content))
    columns = profile.columns(table)
    if missing := [name for name in columns if name not in content.column_names]:
        raise LandingError(
            f"the {profile.source} source has no column {', '.join(missing)} for tables.{table} of "
            f"'{profile.name}': it has {', '.join(content.column_names)}"
        )
    landed = pa.table({spec.column or name: content[name].cast(_TYPES[spec.type]) for name, spec in columns.items()})
    return stage(place, lambda path: pq.write_table(landed, path, compression="zstd"))


def stage(place: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside its place, under a hidden name that readers pass over."""
    place.parent.mkdir(parents=True, exist_ok=True)
    hidden = place.with_name(f".{place.name}.tmp")
    write(hidden)
    return hidden


def settle(hidden: Path, place: Path) -> bool:
    """Move a staged file in; a file of the same bytes is left as it is, with its time. True if it changed."""
    if place.exists() and filecmp.cmp(hidden, place, shallow=False):
        hidden.unlink()
        return False
    hidden.replace(place)
    return True
