"""Backup and restore of everything that is neither landing files nor the lake: histories, and the state of services.

SQLite files are copied through SQLite, so that programs may go on writing, and Dagster's history in PostgreSQL by
pg_dump. The lake is copied by whatever copies its disk or bucket; the backup holds the manifests, and a restore says
which partitions the copied lake lacks. Other databases on a server of their own (those of the stores, MLflow's) have
programs for that, and are not part of it.
"""

import contextlib
import datetime as dt
import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from recsys_assets.datasets.disk import history, private_folder, sync_tree
from recsys_assets.datasets.folders import clear_leftovers, file_hash, move_in, new_folder
from recsys_assets.history_database import dump, fill, history_database
from recsys_assets.lake import Lake
from recsys_assets.settings import settings, sqlite_file

LIST, MANIFESTS = "backup.json", "manifests.json"
DUMP = "dagster.dump"  # the history in PostgreSQL, if it is there
_SQLITE = b"SQLite format 3\0"
_ASIDE = ("-wal", "-shm", "-journal", ".lock", ".log")  # ends of names of files that belong to a running program
_COPIES = "copies"  # folders of files of the lake, which a service makes again


class BackupRefused(RuntimeError):
    """A backup or a restore that would overwrite something, or that lacks a file; the message says what to do."""


@dataclass(frozen=True)
class Restored:
    """The result of a restore: how many files were put back, and the partitions that the lake lacks or has changed."""

    files: int
    missing: list[str]


def places() -> dict[str, Path]:
    """The folders and files of a backup, by the name of their folder in it."""
    place = settings()
    tracked = sqlite_file(place.tracking_uri)
    found = {"dagster": history().folder, "serving": place.data / "serving", "mlflow-files": place.data / "mlflow"}
    return {**found, **({"mlflow": tracked} if tracked else {})}


def back_up(lake: Lake, folder: Path) -> int:
    """Write a backup into a new folder; returns the number of its files.

    Raises:
        BackupRefused: the folder exists.
        HistoryDatabase: Dagster's history is in a database of which no dump can be made.
    """
    if folder.exists():
        raise BackupRefused(f"{folder} exists already: name a new folder")
    database = history_database()
    private_folder(folder.absolute().parent)
    clear_leftovers(folder.absolute().parent, ".backup")
    draft = new_folder(folder.absolute().parent, ".backup", folder.name)
    try:
        for name, place in places().items():
            for file, inside in _files(place):
                _copy(file, draft / name / inside)
        if database:
            dump(database, draft / DUMP)
        names = [f"{asset}/{day}" for asset, day in lake.partitions()]
        prints = {name: each.fingerprint for name, each in lake.manifests(names).items()}
        manifests = {"profile": lake.profile, "fingerprints": prints}
        (draft / MANIFESTS).write_text(json.dumps(manifests), encoding="utf-8")
        hashes = {str(file.relative_to(draft)): file_hash(file) for file in sorted(draft.rglob("*")) if file.is_file()}
        content = {"made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "files": hashes}
        (draft / LIST).write_text(json.dumps(content, indent=1), encoding="utf-8")
        sync_tree(draft)
        move_in(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return len(hashes)


def restore(lake: Lake, folder: Path) -> Restored:
    """Put a backup's files back to the places of the settings, which must not hold any yet.

    Raises:
        BackupRefused: the backup is not whole, is of another profile or kind of history, or one of its files is there
            already.
        HistoryDatabase: Dagster's database cannot be filled, or is not empty.
    """
    hashes, profile, fingerprints = _read(folder)
    database = _fitting_database(folder, hashes)
    if profile != lake.profile:
        raise BackupRefused(f"{folder} is a backup of the profile '{profile}': set RECSYS_PROFILE to it")
    targets = {name: target for name in hashes if (target := _target(name))}
    if there := [str(target) for target in targets.values() if target.exists()]:
        more = f" and {len(there) - 1} more files are" if len(there) > 1 else " is"
        raise BackupRefused(f"{there[0]}{more} there already: stop every program, move them away, and restore again")
    if database:
        fill(database, folder / DUMP)
    for name, target in targets.items():
        private_folder(target.parent)
        shutil.copyfile(folder / name, target)
    return Restored(len(targets), lake.changed_partitions(fingerprints))


def _fitting_database(folder: Path, hashes: Mapping[str, str]) -> str | None:
    """The address of the database that gets the backup's history; None if both the backup and the settings have files.

    Raises:
        BackupRefused: one of them has a database, and the other files.
    """
    database = history_database()
    if (DUMP in hashes) != bool(database):
        old, new = ("PostgreSQL", "files") if DUMP in hashes else ("files", "PostgreSQL")
        raise BackupRefused(
            f"{folder} has Dagster's history from {old}, and the dagster.yaml in {history().folder.parent} keeps it in "
            f"{new}: put there the dagster.yaml of the installation that was backed up"
        )
    return database


def _read(folder: Path) -> tuple[Mapping[str, str], str, Mapping[str, str]]:
    """The hashes of a backup's files, which were compared, its profile, and the fingerprints of partitions."""
    try:
        hashes: dict[str, str] = json.loads((folder / LIST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        raise BackupRefused(f"{folder} holds no backup: {folder / LIST} cannot be read ({error})") from None
    if damaged := [name for name, expected in hashes.items() if file_hash(folder / name) != expected]:
        raise BackupRefused(f"{folder / damaged[0]} is missing or changed: restore from another backup")
    manifests = json.loads((folder / MANIFESTS).read_text(encoding="utf-8"))
    return hashes, manifests["profile"], manifests["fingerprints"]


def _target(name: str) -> Path | None:
    """The place of a backup's file; None for its own lists."""
    part, _, inside = name.partition("/")
    place = places().get(part)
    if place is None or not inside:
        return None
    return place if part == "mlflow" else place / inside


def _files(place: Path) -> Iterator[tuple[Path, str]]:
    """The files of a place, each with its path inside of it."""
    if place.is_file():
        yield place, place.name
        return
    for file in sorted(place.rglob("*")):
        inside = file.relative_to(place)
        if file.is_file() and not file.is_symlink() and _COPIES not in inside.parts and not file.name.endswith(_ASIDE):
            yield file, str(inside)


def _copy(file: Path, target: Path) -> None:
    """Copy a file; a database as of one moment, whoever writes to it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as opened:
        is_database = opened.read(len(_SQLITE)) == _SQLITE
    if not is_database:
        shutil.copyfile(file, target)
        return
    with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
