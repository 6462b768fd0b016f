"""Landing files: the folders in which each day's tables arrive, from any source.

`{landing}/interactions/bizdate=YYYY-MM-DD/` holds the events of a day; the order of its rows is the tie-break for equal
times. `{landing}/users/` and `{landing}/items/` hold tables known from the start, and their `bizdate=` folders hold the
rows that were new or changed on a day. The profile's `files` may give other names to the folders of days. `tables.py`
reads the files; `landing_files.py` decides which ones are read, and in which order.
"""

import contextlib
import datetime as dt
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from recsys_assets.datasets import criteo, movielens
from recsys_assets.datasets.disk import private_folder, sync_all, writing_to
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.folders import file_hash
from recsys_assets.datasets.landing_files import Found, form, look
from recsys_assets.datasets.landing_log import Log, land_log
from recsys_assets.datasets.landing_write import place_of, write_feed
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import TableName

LOCK_TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class LandingReport:
    """The result of one landing: the days it covers (`bizdates`), and those with new or different files (`changed`).

    Of a log, also the rows that were rejected, by reason, and the file that holds them.
    """

    profile: str
    folder: Path
    bizdates: list[str]
    changed: list[str]
    rows: int
    rejected: dict[str, int] = field(default_factory=dict)
    rejected_file: Path | None = None


def land(
    profile: Profile,
    source: str | Path | None = None,
    first: dt.date | None = None,
    last: dt.date | None = None,
    *,
    links: Path | None = None,
    query: str | None = None,
    files: Mapping[TableName, Path | None] | None = None,
    today: dt.date | None = None,
    **world: int | None,
) -> LandingReport:
    """Turn the profile's source into landing files, one folder per day.

    Args:
        profile: names the source and the landing folder, and says under which columns the tables land.
        source: for movielens, the GroupLens zip, its unpacked folder, or a URL (default: GroupLens's); for
            criteo, `train.txt` or its folder; for a profile without a source, a log (see `landing_log.py`).
        first: the first day to land (default: the data's first; for sample, `days` days up to `last`).
        last: the last day to land, itself included (default: the data's last; for sample, yesterday).
        links: for movielens, a `links.csv` (default: one next to the ratings, if any).
        query: for a log in a database, the SELECT that gives its rows.
        files: for a log, a file of all users and one of all items.
        today: the current UTC day, for sample.
        world: for sample, `users`, `items`, `events`, `days` and `seed`; the first landing fixes them for the folder.

    Raises:
        LandingError: there is no source, a day is out of range, the source is damaged, or options do not fit.
        PlaceUnwritable: the landing folder is full, or may not be written.
    """
    _check_range(profile, first, last)
    if profile.store:
        raise LandingError(
            f"'{profile.name}' lands in {profile.landing_place}, and `recsys land` writes to folders of this machine: "
            "land into a folder with another profile, and copy its files there with a program of the store"
        )
    options = {name: value for name, value in world.items() if value is not None}
    entities: dict[TableName, Path] = {table: path for table, path in (files or {}).items() if path}
    if profile.source:
        _refuse(profile, {"query": query} | {f"{table}-file": path for table, path in entities.items()})
    with lock(profile.landing):
        match profile.source:
            case "movielens":
                _refuse(profile, options)
                feed = movielens.feed(profile, source, first, last, links)
            case "sample":
                from recsys_assets.datasets import sample  # loads scipy.special: 0.25 s, which no other command needs

                _refuse(profile, {"source": source, "links": links})
                feed = sample.feed(profile, first, last, today, options)
            case "criteo":
                _refuse(profile, {**options, "links": links})
                feed = criteo.feed(profile, source, first, last)
            case _ if source:
                _refuse(profile, {**options, "links": links, "from": first, "to": last})
                return _land_log(profile, Log(str(source), query, entities))
            case _:
                raise LandingError(
                    f"profile '{profile.name}' has no source, so you bring its files: give --source, or put them "
                    f"under {profile.landing}/interactions/{_day_form(profile)}/, {profile.landing}/users/ and "
                    f"{profile.landing}/items/ as .parquet, .csv or .tsv"
                )
        rows, changed = write_feed(profile, feed)
    return LandingReport(profile.name, profile.landing, [day.isoformat() for day in feed.bizdates], changed, rows)


def _land_log(profile: Profile, log: Log) -> LandingReport:
    done = land_log(profile, log)
    rows = sum(done.days.values())
    where = done.rejected_file if done.rejected else None
    return LandingReport(profile.name, profile.landing, list(done.days), done.changed, rows, done.rejected, where)


def landed_bizdates(profile: Profile, table: TableName = "interactions") -> list[str]:
    """Days on which files of the table have landed, in order; days outside the profile's range are left out.

    With `missing_days: empty`, every day between the first and the last one with files counts as landed. Users and
    items may have been known before the first bizdate, so their earlier days count too. A day whose files
    cannot all be read counts as landed, so that it fails and does not go missing.

    Raises:
        LandingError: a day's folder is not named after a day, or events are not in a day's folder.
    """
    first = profile.first_bizdate if table == "interactions" else dt.date.min
    last = profile.last_bizdate or dt.date.max
    if table == "interactions":
        _refuse_events_of_no_day(profile)
    found = sorted(
        _day_of(profile, table, folder) for folder in _day_folders(profile, table) if _holds(profile, folder)
    )
    days = [day for day in found if first <= day <= last]
    if days and table == "interactions" and profile.files.missing_days == "empty":
        days = [days[0] + dt.timedelta(days=number) for number in range((days[-1] - days[0]).days + 1)]
    return [day.isoformat() for day in days]


def empty_until(profile: Profile) -> str:
    """The day before which a day without events' files had no events: the newest landed one, if the profile says so.

    An empty text, which is before every day, if the profile does not say so.
    """
    if profile.files.missing_days != "empty":
        return ""
    landed = (folder for folder in _day_folders(profile, "interactions") if _holds(profile, folder))
    return next((_day_of(profile, "interactions", folder).isoformat() for folder in landed), "")


def landing_files(profile: Profile, table: TableName, bizdate: str | None = None) -> list[Path]:
    """The table's files of a day, or with None its undated ones, in the order in which they are read."""
    return contents(profile, table, bizdate).files


def contents(profile: Profile, table: TableName, bizdate: str | None = None) -> Found:
    """The table's files of a day, or with None its undated ones, and those among them that are not read."""
    home = _in_step(profile)
    if bizdate:
        found = look(day_folder(profile, table, bizdate), home)
    else:
        found = look(home / table, home, without=profile.files.folder_patterns[0])
    if profile.store:
        profile.store.fetch(KEYS, found.files)
    return found


def _in_step(profile: Profile) -> Path:
    """The landing folder; the copy of one in an object store is brought in step with it."""
    if profile.store:
        profile.store.follow(KEYS)
    return profile.landing


def day_folder(profile: Profile, table: TableName, bizdate: str) -> Path:
    """The folder in which a day's files of a table land."""
    return profile.landing / table / profile.files.folder_of(dt.date.fromisoformat(bizdate))


def day_place(profile: Profile, table: TableName, bizdate: str) -> str:
    """The folder in which a day's files of a table land, for messages: its path, or its address in an object store."""
    return f"{profile.landing_place}/{table}/{profile.files.folder_of(dt.date.fromisoformat(bizdate))}"


def hashes(profile: Profile, bizdate: str | None, tables: Iterable[TableName] | None = None) -> dict[str, str]:
    """SHA-256 of every file of a day, or of the undated ones, by its path in the landing folder.

    A process reads a file again only if its size, times or inode have changed, because `new_data_sensor` looks at
    thousands of days every 30 seconds. That is safe for files that have stopped changing.
    """
    files = [path for table in tables or _landing_tables(profile) for path in landing_files(profile, table, bizdate)]
    return {path.relative_to(profile.landing).as_posix(): _hash(path, _state(path)) for path in files}


def _landing_tables(profile: Profile) -> list[TableName]:
    """The tables whose folders are looked at; impressions only if the profile describes them."""
    return [table for table in KEYS if table != "impressions" or table in profile.tables]


def fingerprint(profile: Profile, bizdate: str) -> str:
    """One hash of the names and contents of all files of a day: copying or touching them does not change it."""
    lines = [f"{name} {content}" for name, content in hashes(profile, bizdate).items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def newest_change(profile: Profile, bizdate: str) -> float:
    """When a file of the day was last written or moved in, in seconds since 1970; 0 when the day has none.

    That is the inode's change time: `mv`, `cp -p` and rsync keep the older time of the content.
    """
    files = [path for table in _landing_tables(profile) for path in landing_files(profile, table, bizdate)]
    return max((path.stat().st_ctime for path in files), default=0.0)


def _state(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev


@functools.lru_cache(maxsize=100_000)
def _hash(path: Path, _: tuple[int, ...]) -> str:
    return file_hash(path)


def _refuse_events_of_no_day(profile: Profile) -> None:
    home, levels = _in_step(profile) / "interactions", profile.files.folder_patterns
    for path in sorted(path for depth in range(len(levels)) for path in home.glob("/".join([*levels[:depth], "*"]))):
        if form(path.name) and path.is_file() and not path.name.startswith((".", "_")):
            raise LandingError(f"{path} is not in a day's folder: move it to {home}/{_day_form(profile)}/")


def _day_folders(profile: Profile, table: TableName) -> list[Path]:
    """The folders of a table that are meant to be of a day, the last ones first."""
    return sorted((_in_step(profile) / table).glob("/".join(profile.files.folder_patterns)), reverse=True)


def _holds(profile: Profile, folder: Path) -> bool:
    """Whether a folder holds anything but files that are still being written."""
    return look(folder, profile.landing) != Found()


def _day_of(profile: Profile, table: TableName, folder: Path) -> dt.date:
    """The day of a folder, which must have exactly the name that the day's files are looked for under."""
    if day := profile.files.day_of(PurePosixPath(folder.relative_to(profile.landing / table))):
        return day
    raise LandingError(f"{folder} is not named after a day: rename it to {_day_form(profile)}")


def _day_form(profile: Profile) -> str:
    """The form of the names of day folders, for people."""
    return profile.files.day_folder.replace("%Y", "YYYY").replace("%m", "MM").replace("%d", "DD")


def _check_range(profile: Profile, first: dt.date | None, last: dt.date | None) -> None:
    if first and last and first > last:
        raise LandingError(f"--from {first} is after --to {last}: exchange them")
    until = profile.last_bizdate or dt.date.max
    for option, day in (("--from", first), ("--to", last)):
        if day and not profile.first_bizdate <= day <= until:
            end = f" to {until}" if profile.last_bizdate else ""
            span = f"{profile.first_bizdate}{end}" if end else f"{profile.first_bizdate} and later ones"
            raise LandingError(f"{option} {day}: the bizdates of '{profile.name}' are {span}: give one of them")


def _refuse(profile: Profile, options: Mapping[str, object]) -> None:
    if given := [name for name, value in options.items() if value is not None]:
        which = f"the {profile.source} source of '{profile.name}'" if profile.source else f"a log of '{profile.name}'"
        raise LandingError(f"{which} takes no {', '.join(given)}: leave out {', '.join(f'--{name}' for name in given)}")


@contextlib.contextmanager
def lock(folder: Path, timeout: float | None = None) -> Iterator[None]:
    """Lock the landing folder: two writers would remove each other's parts of a day.

    Raises:
        LandingError: another process held it for `timeout` seconds, a minute by default.
    """
    try:
        with writing_to(place_of(folder)):
            sync_all(private_folder(folder))
            with FileLock(folder / ".lock", timeout=LOCK_TIMEOUT if timeout is None else timeout):
                yield
    except Timeout:
        raise LandingError(f"another process is landing files into {folder}: try again when it has ended") from None
