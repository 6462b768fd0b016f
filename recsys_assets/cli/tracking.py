"""`recsys doctor` on MLflow: its database or server can be used."""

from pathlib import Path
from urllib.parse import quote

from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings, sqlite_file, sqlite_uri
from recsys_assets.uris import shown, told


def tracking(place: Settings) -> Finding:
    """The place that `MLFLOW_TRACKING_URI` names can be used, or else the project's own database."""
    uri = place.tracking_uri
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    if uri.startswith("file:") or "://" not in uri:
        how = f"{sqlite_uri(place.data / 'mlflow.db')}, or a server's URL"
        what = f"{shown(uri)}: MLflow no longer keeps runs in plain files"
        return Finding("mlflow", "fix", what, f"MLFLOW_TRACKING_URI={how}")
    file = sqlite_file(uri)
    return _file(uri, file) if file else _database(uri)


def _server(uri: str) -> Finding:
    import requests

    try:
        requests.get(f"{uri}/health", timeout=5).raise_for_status()
    except (requests.RequestException, ValueError) as error:  # an impossible host name raises a ValueError
        said = f"{shown(uri)} does not answer: {told(error, uri)}"
        return Finding("mlflow", "fix", said, "start it, or unset MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", f"{shown(uri)} answers")


def _file(uri: str, path: Path) -> Finding:
    """An SQLite database can be read; one that does not exist yet is created by the first run."""
    import sqlite3

    if not path.exists():
        return Finding("mlflow", "ok", f"{shown(uri)}, not created yet")
    try:
        sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True).execute("PRAGMA schema_version").fetchone()
    except sqlite3.Error as error:
        return Finding("mlflow", "fix", f"{shown(uri)}: {told(error, uri)}", "restore the file, or move it away")
    return Finding("mlflow", "ok", shown(uri))


def _database(uri: str) -> Finding:
    import sqlalchemy

    try:
        sqlalchemy.create_engine(uri).connect().close()
    except Exception as error:  # noqa: BLE001  each driver raises errors of its own
        said = f"{shown(uri)} cannot be used: {told(error, uri)}"
        return Finding("mlflow", "fix", said, "start it and install its driver, or correct MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", f"{shown(uri)} answers")
