"""`recsys doctor` on folders, disk and ports: the lake, the data, Dagster's history, the two UIs."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from recsys_assets.cli.finding import Finding, State
from recsys_assets.settings import Settings
from recsys_assets.uris import name_errors, shown

HISTORY = ".dagster"  # as in instance.py, which cannot be imported here without loading Dagster

LEAST_DISK_GB, GOOD_DISK_GB = 1.0, 5.0  # the generated sample takes well under 1 GB, MovieLens 1M about 1 GB


def lake(place: Settings) -> Finding:
    """Two folders can be written and exchanged where partitions are written."""
    from recsys_assets.datasets.folders import exchange

    if "://" in place.lake or shown(place.lake) != place.lake:
        return _remote_lake(place.lake)
    try:
        Path(place.lake).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor.", dir=place.lake) as folder:
            one, other = Path(folder, "one"), Path(folder, "other")
            one.mkdir()
            other.mkdir()
            atomic = exchange(one, other)
    except OSError as error:
        return _closed("lake", place.lake, error, "RECSYS_LAKE")
    if not atomic:
        what = f"{place.lake}: its file system cannot exchange folders, so a partition may be missing for an instant"
        return Finding("lake", "note", what, "use a local Linux file system (ext4, xfs, btrfs, tmpfs)")
    return Finding("lake", "ok", f"{place.lake}, partitions are exchanged in one step")


def _remote_lake(url: str) -> Finding:
    import fsspec

    from recsys_assets.lake import Lake
    from recsys_assets.lake_place import LakeUnavailable

    what = f"the lake {shown(url)} cannot be written"
    try:
        Lake(url, "doctor")
        with name_errors(LakeUnavailable, what, url):
            fs, path = fsspec.core.url_to_fs(url)
            fs.pipe_file(f"{path}/.doctor", b"")
            fs.rm_file(f"{path}/.doctor")
    except LakeUnavailable as error:
        return Finding("lake", "fix", str(error), "check RECSYS_LAKE and its credentials")
    return Finding("lake", "ok", f"{shown(url)}, manifests are written last")


def _closed(what: str, folder: str | Path, error: OSError, variable: str) -> Finding:
    return Finding(what, "fix", f"{folder} cannot be written: {error}", f"make it writable, or set {variable}")


def data(place: Settings) -> Finding:
    """The data folder can be written, and other users of the machine cannot read it."""
    if not place.data.exists():
        return Finding("data", "ok", f"{place.data}, not created yet")
    try:
        with tempfile.TemporaryFile(dir=place.data):
            pass
    except OSError as error:
        return _closed("data", place.data, error, "RECSYS_DATA")
    if place.data.stat().st_mode & 0o007:
        what = f"every user of this machine can look into {place.data}"
        return Finding("data", "note", what, f"chmod go-rwx '{place.data}'")
    return Finding("data", "ok", f"{place.data}, readable by its owner only")


def history(place: Settings) -> Finding:
    """Dagster's home exists and holds its settings, and its history can be written."""
    home = Path(os.environ.get("DAGSTER_HOME") or place.home)
    if not home.is_absolute() or not (home / "dagster.yaml").is_file():
        what = f"{home} is not the absolute path of a folder with a dagster.yaml"
        return Finding("history", "fix", what, f"DAGSTER_HOME={place.home}")
    folder = home / HISTORY
    there = folder if folder.exists() else home
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return _closed("history", there, error, "DAGSTER_HOME")
    return Finding("history", "ok", str(folder))


def disk(place: Settings) -> Finding:
    """There is room for artefacts."""
    there = next(folder for folder in (place.data, *place.data.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    state: State = "fix" if free < LEAST_DISK_GB else "note" if free < GOOD_DISK_GB else "ok"
    advice = "" if state == "ok" else "free some space, or set RECSYS_DATA to a folder on a larger disk"
    return Finding("disk", state, f"{free:,.1f} GB free at {place.data}", advice)


def dagster_ui(place: Settings) -> Finding:
    """Dagster's UI answers, or its port is free."""
    return _ui("dagster ui", place.dagster_ui, "/server_info", "DAGSTER_PORT")


def mlflow_ui(place: Settings) -> Finding:
    """MLflow's UI answers, or its port is free."""
    return _ui("mlflow ui", place.tracking_ui, "/health", "MLFLOW_PORT")


def _ui(what: str, url: str, probe: str, port_variable: str) -> Finding:
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
            return Finding(what, "note", f"a different program answers at {shown(url)}", how)
        return Finding(what, "ok", f"not running ({shown(url)} is free): make ui")
    return Finding(what, "ok", f"running at {shown(url)}")
