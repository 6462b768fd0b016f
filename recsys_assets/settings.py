"""Settings that come from the environment: places, endpoints, and what differs between two machines.

Put nothing else here. Descriptions of the data belong in the dataset's profile (`datasets/profile.py`), and
hyper-parameters in the assets' config.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from recsys_assets.uris import check_folder, safe_uri

DUCKDB = "duckdb"  # the engine that needs no cluster
_SQLITE = "sqlite:///"
# Variables of stores (`stores/registry.py`). MILVUS_URI and the like cannot be used: the stores' own libraries read
# them with a different meaning.
STORE_VARIABLE = re.compile(r"MONGO_URI|RECSYS_\w+_URI")
ALERTS = ("RECSYS_ALERT_WEBHOOK", "RECSYS_ALERT_FILE", "RECSYS_ALERT_SMTP")
PORTS = {"SERVE_PORT": 8000, "DAGSTER_PORT": 3000, "MLFLOW_PORT": 5000}  # of the servers of `make ui` on this machine


class NoPort(ValueError):
    """A variable for a port holds something else."""


@dataclass(frozen=True)
class Settings:
    """Places of one installation.

    Attributes:
        home: the project's folder (`RECSYS_HOME`); relative places start here.
        data: folder of everything that is written (`RECSYS_DATA`, default `<home>/data`).
        landing: folder in which landing files arrive (`RECSYS_LANDING`, default `<data>/landing`).
        lake: fsspec URL or folder of the artefacts (`RECSYS_LAKE`, default `<data>/lake`).
        tracking_uri: MLflow's database or server (`MLFLOW_TRACKING_URI`, default `<data>/mlflow.db`).
        tracking_ui: address of MLflow's UI in links (`RECSYS_MLFLOW_UI`, default: its port on this machine).
        dagster_ui: address of Dagster's UI in links (`RECSYS_DAGSTER_UI`, default: its port on this machine).
        memory: what one DuckDB query may hold before it spills to disk (`RECSYS_MEMORY`, default 4GB).
        engine: where the SQL of large assets runs (`RECSYS_ENGINE`, default `duckdb`): a master of Spark, such as
            `spark://host:7077` or `local-cluster[2,1,1024]`, or the address of a server of Spark Connect,
            `sc://host:15002`, which may hold a token, so it is not shown.
        profile: name or path of the dataset profile (`RECSYS_PROFILE`, default `sample`).
        stores: URIs of the stores that services read, by variable. A store without a URI is not used, except
            MongoDB: for it, the project then runs its own server. URIs may hold passwords, so they are not shown.
        triton: folder of the model repositories of Triton (`RECSYS_TRITON_REPOSITORY`, default `<data>/triton`).
        alerts: where failures are reported, by variable: `RECSYS_ALERT_WEBHOOK`, `RECSYS_ALERT_FILE` and
            `RECSYS_ALERT_SMTP`. They may hold secrets, so they are not shown.
        scenes: path of the service's scenes and experiments (`RECSYS_SCENES`, default: next to the profile).
    """

    home: Path
    data: Path
    landing: Path
    lake: str = field(repr=False)
    tracking_uri: str = field(repr=False)
    tracking_ui: str
    dagster_ui: str
    memory: str
    engine: str = field(repr=False)
    profile: str
    stores: dict[str, str] = field(repr=False)
    triton: Path
    alerts: dict[str, str] = field(default_factory=dict, repr=False)
    scenes: str = ""

    def requests(self, profile: str) -> Path:
        """The folder of the log of requests of a profile's service: it writes there, and the daily report reads it."""
        return self.data / "serving" / profile / "requests"


def project_home() -> Path:
    """The project's folder: `RECSYS_HOME`, else the checkout that this package is in, else the current folder."""
    if named := os.environ.get("RECSYS_HOME"):
        return Path(named).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "workspace.yaml").exists() else Path.cwd()


def settings() -> Settings:
    """Read the settings from the present environment.

    Raises:
        NotAFolder: the setting of a folder holds an address, which many messages would show.
    """
    home = project_home()
    for name in ("RECSYS_DATA", "RECSYS_LANDING", "RECSYS_TRITON_REPOSITORY"):
        check_folder(name, os.environ.get(name, ""))
    data = home / os.environ.get("RECSYS_DATA", "data")
    return Settings(
        home=home,
        data=data,
        landing=home / os.environ.get("RECSYS_LANDING", str(data / "landing")),
        lake=os.environ.get("RECSYS_LAKE", str(data / "lake")),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", sqlite_uri(data / "mlflow.db")),
        tracking_ui=os.environ.get("RECSYS_MLFLOW_UI") or f"http://127.0.0.1:{port('MLFLOW_PORT')}",
        dagster_ui=os.environ.get("RECSYS_DAGSTER_UI") or f"http://127.0.0.1:{port('DAGSTER_PORT')}",
        memory=os.environ.get("RECSYS_MEMORY", "4GB"),
        engine=os.environ.get("RECSYS_ENGINE") or DUCKDB,
        profile=os.environ.get("RECSYS_PROFILE", "sample"),
        stores=_stores(home),
        triton=home / os.environ.get("RECSYS_TRITON_REPOSITORY", str(data / "triton")),
        alerts=_alerts(home),
        scenes=os.environ.get("RECSYS_SCENES", ""),
    )


def port(variable: str) -> int:
    """The port of a server of `make ui` that the variable gives, or the default one.

    Raises:
        NoPort: it is not a port.
    """
    given = os.environ.get(variable) or str(PORTS[variable])
    if not given.isdecimal() or not 0 < int(given) < 65536:
        raise NoPort(f"{variable}={given} is not a port: give a number from 1 to 65535, or unset it")
    return int(given)


def sqlite_uri(file: Path) -> str:
    """The URI of an SQLite file, whatever its name contains."""
    return _SQLITE + "".join(quote(sign) if sign in "%?#" else sign for sign in str(file))


def sqlite_file(uri: str) -> Path | None:
    """The file that an SQLite URI names, if it is one."""
    file = uri.removeprefix(_SQLITE).partition("?")[0]  # options may follow
    return Path(unquote(file)) if uri.startswith(_SQLITE) else None


def _stores(home: Path) -> dict[str, str]:
    """The stores' URIs by variable; the folder of an embedded store is relative to the project's, like other places."""
    given = {name: uri for name, uri in os.environ.items() if uri and STORE_VARIABLE.fullmatch(name)}
    return {name: str(home / uri) if _is_folder(uri) else uri for name, uri in given.items()}


def _alerts(home: Path) -> dict[str, str]:
    """The places of alerts by variable; that of the file is relative to the project's folder, like other places."""
    given = {name: value for name in ALERTS if (value := os.environ.get(name))}
    return {name: str(home / value) if name == "RECSYS_ALERT_FILE" else value for name, value in given.items()}


def _is_folder(uri: str) -> bool:
    """Whether it looks like a path: it has no scheme, no `HOST:PORT`, and nothing that may be a user and a password."""
    return "://" not in uri and safe_uri(uri) == uri and not re.fullmatch(r"[\w.-]+:\d+(/.*)?", uri)
