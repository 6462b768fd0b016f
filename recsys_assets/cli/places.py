"""`recsys doctor` on where things lie and listen: the lake, MLflow, the disk, the two UIs."""

import shutil
import socket
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from recsys_assets.cli.finding import Finding, State
from recsys_assets.settings import Settings

LEAST_DISK_GB, GOOD_DISK_GB = 1.0, 5.0  # the generated sample takes well under 1 GB, MovieLens 1M about that


def lake(place: Settings) -> Finding:
    """Write and exchange two folders where partitions are written."""
    from recsys_assets.datasets.folders import exchange

    if "://" in place.lake:
        return _remote_lake(place.lake)
    try:
        Path(place.lake).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor.", dir=place.lake) as folder:
            one, other = Path(folder, "one"), Path(folder, "other")
            one.mkdir()
            other.mkdir()
            atomic = exchange(one, other)
    except OSError as error:
        return Finding(
            "lake", "mend", f"{place.lake} cannot be written: {error}", "give the right to, or set RECSYS_LAKE"
        )
    if not atomic:
        what = f"{place.lake}: its file system cannot exchange folders: a reader may meet a gap for an instant"
        return Finding("lake", "note", what, "a local Linux file system (ext4, xfs, btrfs, tmpfs) can")
    return Finding("lake", "ok", f"{place.lake}, partitions are exchanged in one step")


def _remote_lake(url: str) -> Finding:
    import fsspec

    try:
        fs, path = fsspec.core.url_to_fs(url)
        fs.pipe_file(f"{path}/.doctor", b"")
        fs.rm_file(f"{path}/.doctor")
    except (OSError, ImportError, ValueError) as error:
        return Finding("lake", "mend", f"{url} cannot be written: {error}", "check RECSYS_LAKE and its credentials")
    return Finding("lake", "ok", f"{url}, manifests are written last")


def tracking(place: Settings) -> Finding:
    """MLflow's database or server can be used."""
    uri = place.tracking_uri
    if uri.startswith(("http://", "https://")):
        return _tracking_server(uri)
    if uri.startswith("file:") or "://" not in uri:
        how = f"sqlite:///{place.data / 'mlflow.db'}, or a server's URL"
        return Finding(
            "mlflow", "mend", f"{uri}: MLflow keeps no runs in plain files any more", f"MLFLOW_TRACKING_URI={how}"
        )
    return Finding("mlflow", "ok", uri)


def _tracking_server(uri: str) -> Finding:
    import requests

    try:
        requests.get(f"{uri}/health", timeout=5).raise_for_status()
    except requests.RequestException as error:
        return Finding("mlflow", "mend", f"{uri} does not answer: {error}", "start it, or unset MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", f"{uri} answers")


def disk(place: Settings) -> Finding:
    """There is room for artefacts."""
    there = next(folder for folder in (place.data, *place.data.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    state: State = "mend" if free < LEAST_DISK_GB else "note" if free < GOOD_DISK_GB else "ok"
    advice = "" if state == "ok" else "free some, or set RECSYS_DATA to a larger disk"
    return Finding("disk", state, f"{free:,.1f} GB free at {place.data}", advice)


def dagster_ui(place: Settings) -> Finding:
    """Dagster's UI answers, or its port is free."""
    return _ui("dagster ui", place.dagster_ui, "/server_info", "DAGSTER_PORT")


def mlflow_ui(place: Settings) -> Finding:
    """MLflow's UI answers, or its port is free."""
    return _ui("mlflow ui", place.tracking_ui, "/health", "MLFLOW_PORT")


def _ui(what: str, url: str, probe: str, port_variable: str) -> Finding:
    """Whether the UI answers, or else its port is free for it."""
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
            return Finding(
                what, "note", f"another program answers at {url}", f"pick a port: make ui {port_variable}=..."
            )
        return Finding(what, "ok", f"not running ({url} is free): make ui")
    return Finding(what, "ok", f"running at {url}")
