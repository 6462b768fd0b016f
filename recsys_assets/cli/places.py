"""`recsys doctor` on places: the lake, data, disk, Dagster's history, MLflow, the two UIs and the stores."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from recsys_assets.datasets.disk import DAGSTER_HISTORY
from recsys_assets.settings import Settings, sqlite_file, sqlite_uri
from recsys_assets.uris import name_errors, safe_message, safe_uri

LEAST_DISK_GB, GOOD_DISK_GB = 1.0, 5.0  # the generated sample takes well under 1 GB, MovieLens 1M about 1 GB
State = Literal["ok", "note", "fix"]


@dataclass(frozen=True)
class Finding:
    """The subject of one check, its state, and how to fix it."""

    what: str
    state: State
    found: str
    fix: str = ""


def check_lake(place: Settings) -> Finding:
    """Two folders can be written and exchanged where partitions are written."""
    from recsys_assets.datasets.folders import exchange

    if "://" in place.lake or safe_uri(place.lake) != place.lake:
        return _check_remote_lake(place.lake)
    try:
        Path(place.lake).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor.", dir=place.lake) as folder:
            one, other = Path(folder, "one"), Path(folder, "other")
            one.mkdir()
            other.mkdir()
            atomic = exchange(one, other)
    except OSError as error:
        return _unwritable_folder("lake", place.lake, error, "RECSYS_LAKE")
    if not atomic:
        what = f"{place.lake}: its file system cannot exchange folders, so a partition may be missing for an instant"
        return Finding("lake", "note", what, "use a local Linux file system (ext4, xfs, btrfs, tmpfs)")
    return Finding("lake", "ok", f"{place.lake}, partitions are exchanged in one step")


def _check_remote_lake(url: str) -> Finding:
    import fsspec

    from recsys_assets.lake import Lake
    from recsys_assets.lake_place import LakeUnavailable

    what = f"the lake {safe_uri(url)} cannot be written"
    try:
        Lake(url, "doctor")
        with name_errors(LakeUnavailable, what, url):
            fs, path = fsspec.core.url_to_fs(url)
            fs.pipe_file(f"{path}/.doctor", b"")
            fs.rm_file(f"{path}/.doctor")
    except LakeUnavailable as error:
        return Finding("lake", "fix", str(error), "check RECSYS_LAKE and its credentials")
    return Finding("lake", "ok", f"{safe_uri(url)}, manifests are written last")


def _unwritable_folder(what: str, folder: str | Path, error: OSError, variable: str) -> Finding:
    return Finding(what, "fix", f"{folder} cannot be written: {error}", f"make it writable, or set {variable}")


def check_data(place: Settings) -> Finding:
    """The data folder can be written, and other users of the machine cannot read it."""
    if not place.data.exists():
        return Finding("data", "ok", f"{place.data}, not created yet")
    try:
        with tempfile.TemporaryFile(dir=place.data):
            pass
    except OSError as error:
        return _unwritable_folder("data", place.data, error, "RECSYS_DATA")
    if place.data.stat().st_mode & 0o007:
        what = f"every user of this machine can look into {place.data}"
        return Finding("data", "note", what, f"chmod go-rwx '{place.data}'")
    return Finding("data", "ok", f"{place.data}, readable by its owner only")


def check_history(place: Settings) -> Finding:
    """Dagster's home exists and holds its settings, and its history can be written."""
    home = Path(os.environ.get("DAGSTER_HOME") or place.home)
    if not home.is_absolute() or not (home / "dagster.yaml").is_file():
        what = f"{home} is not the absolute path of a folder with a dagster.yaml"
        return Finding("history", "fix", what, f"DAGSTER_HOME={place.home}")
    folder = home / DAGSTER_HISTORY
    there = folder if folder.exists() else home
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return _unwritable_folder("history", there, error, "DAGSTER_HOME")
    return _check_history_database() or Finding("history", "ok", str(folder))


def _check_history_database() -> Finding | None:
    """Dagster's database answers; None if the history is in files."""
    from recsys_assets.history_database import VARIABLE, HistoryDatabase, ask, history_database

    try:
        if (address := history_database()) is None:
            return None
        ask(address)
    except HistoryDatabase as error:
        return Finding("history", "fix", str(error), f"start it, or correct {VARIABLE}")
    return Finding("history", "ok", f"{safe_uri(address)} answers")


def check_disk(place: Settings) -> Finding:
    """There is room for artefacts."""
    there = next(folder for folder in (place.data, *place.data.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    state: State = "fix" if free < LEAST_DISK_GB else "note" if free < GOOD_DISK_GB else "ok"
    advice = "" if state == "ok" else "free some space, or set RECSYS_DATA to a folder on a larger disk"
    return Finding("disk", state, f"{free:,.1f} GB free at {place.data}", advice)


def check_mlflow(place: Settings) -> Finding:
    """The place that `MLFLOW_TRACKING_URI` names can be used, or else the project's own database."""
    uri = place.tracking_uri
    if uri.startswith(("http://", "https://")):
        return _check_server(uri)
    if uri.startswith("file:") or "://" not in uri:
        how = f"{sqlite_uri(place.data / 'mlflow.db')}, or a server's URL"
        what = f"{safe_uri(uri)}: MLflow no longer keeps runs in plain files"
        return Finding("mlflow", "fix", what, f"MLFLOW_TRACKING_URI={how}")
    file = sqlite_file(uri)
    return _check_file(uri, file) if file else _check_database(uri)


def _check_server(uri: str) -> Finding:
    import requests

    try:
        requests.get(f"{uri}/health", timeout=5).raise_for_status()
    except (requests.RequestException, ValueError) as error:  # an impossible host name raises a ValueError
        said = f"{safe_uri(uri)} does not answer: {safe_message(error, uri)}"
        return Finding("mlflow", "fix", said, "start it, or unset MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", f"{safe_uri(uri)} answers")


def _check_file(uri: str, path: Path) -> Finding:
    """An SQLite database can be read; one that does not exist yet is created by the first run."""
    import sqlite3

    if not path.exists():
        return Finding("mlflow", "ok", f"{safe_uri(uri)}, not created yet")
    try:
        sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True).execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        said = f"{safe_uri(uri)}: {safe_message(error, uri)}"
        return Finding("mlflow", "fix", said, "restore the file, or move it away")
    return Finding("mlflow", "ok", safe_uri(uri))


def _check_database(uri: str) -> Finding:
    import sqlalchemy

    try:
        sqlalchemy.create_engine(uri).connect().close()
    except Exception as error:  # noqa: BLE001  each driver raises errors of its own
        said = f"{safe_uri(uri)} cannot be used: {safe_message(error, uri)}"
        return Finding("mlflow", "fix", said, "start it and install its driver, or correct MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", f"{safe_uri(uri)} answers")


def check_dagster_ui(place: Settings) -> Finding:
    """Dagster's UI answers, or its port is free."""
    return _check_ui("dagster ui", place.dagster_ui, "/server_info", "DAGSTER_PORT")


def check_mlflow_ui(place: Settings) -> Finding:
    """MLflow's UI answers, or its port is free."""
    return _check_ui("mlflow ui", place.tracking_ui, "/health", "MLFLOW_PORT")


def _check_ui(what: str, url: str, probe: str, port_variable: str) -> Finding:
    """The UI answers, or its port is free."""
    import requests
    from requests.exceptions import RequestException

    try:
        answer = requests.get(url + probe, timeout=2)
        if answer.status_code != requests.codes.unauthorized:  # it asks for RECSYS_UI_TOKEN
            answer.raise_for_status()
    except RequestException:
        address = urlsplit(url)
        with socket.socket() as probing:
            taken = probing.connect_ex((address.hostname, address.port or 80)) == 0
        if taken:
            how = f"pick a port: make ui {port_variable}=..."
            return Finding(what, "note", f"a different program answers at {safe_uri(url)}", how)
        return Finding(what, "ok", f"not running ({safe_uri(url)} is free): make ui")
    return Finding(what, "ok", f"running at {safe_uri(url)}")


def check_stores(place: Settings) -> Iterator[Finding]:
    """Every configured store answers; if no MongoDB is named, the project's own server does."""
    from recsys_assets.datasets.profile import ProfileError, load_profile
    from recsys_assets.stores.registry import stores_in_use

    try:
        profile = load_profile(place=place).name
    except ProfileError:
        return  # already reported
    for name in stores_in_use(place):
        yield _check_store(name, profile, place)


def check_feast(place: Settings) -> Iterator[Finding]:
    """Feast's repository can be read, if one is named."""
    from recsys_assets.datasets.profile import ProfileError, load_profile
    from recsys_assets.stores.base import ExtraMissing
    from recsys_assets.stores.feast.place import VARIABLE, FeastFailed
    from recsys_assets.stores.feast.repository import describe

    try:
        if said := describe(load_profile(place=place)):
            yield Finding("feast", "ok", said)
    except ProfileError:
        return  # already reported
    except (FeastFailed, ExtraMissing) as error:
        yield Finding("feast", "fix", str(error), f"correct that, or unset {VARIABLE}")


def _check_store(name: str, profile: str, place: Settings) -> Finding:
    from recsys_assets.stores.registry import STORES, open_store
    from recsys_assets.stores.store import StoreError

    variable = STORES[name].variable
    whose = f"the one of {variable}" if variable in place.stores else "the project's own"
    try:
        with open_store(name, profile, place) as store:
            live = sum(store.live_version(collection) is not None for collection in store.collections())
    except StoreError as error:
        return Finding(name, "fix", str(error), f"start the server, or set {variable}")
    return Finding(name, "ok", f"{whose} answers, with {live} live collections of {profile}")
