"""Where things live: the settings that come from the environment, and nothing else.

Put a setting here when it names a place or an endpoint. What describes the data belongs to the
dataset's profile (`datasets/profile.py`); hyper-parameters belong to the assets' config.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

_SQLITE = "sqlite:///"
# A store's variable (`stores/registry.py`). MILVUS_URI and the like are read by the stores' own libraries, which take
# them for something else.
STORE_VARIABLE = re.compile(r"MONGO_URI|RECSYS_\w+_URI")


@dataclass(frozen=True)
class Settings:
    """Places of one installation.

    Attributes:
        home: the project's folder (`RECSYS_HOME`); relative places start here.
        data: home of everything that is written (`RECSYS_DATA`, default `<home>/data`).
        landing: where landing files arrive (`RECSYS_LANDING`, default `<data>/landing`).
        lake: fsspec URL or folder of the artefacts (`RECSYS_LAKE`, default `<data>/lake`).
        tracking_uri: MLflow's database or server (`MLFLOW_TRACKING_URI`, default `<data>/mlflow.db`).
        tracking_ui: where people see MLflow (`RECSYS_MLFLOW_UI`), used in links.
        dagster_ui: where people see Dagster (`RECSYS_DAGSTER_UI`), used in links.
        memory: what one DuckDB query may hold before it spills to disk (`RECSYS_MEMORY`, default 4GB).
        profile: name or path of the dataset profile (`RECSYS_PROFILE`, default `sample`).
        stores: URIs of the stores that services read, by variable; one that is not set is not used, but
            MongoDB: without a URI the project serves one of its own. They may hold passwords, so they are not shown.
    """

    home: Path
    data: Path
    landing: Path
    lake: str
    tracking_uri: str
    tracking_ui: str
    dagster_ui: str
    memory: str
    profile: str
    stores: dict[str, str] = field(repr=False)


def project_home() -> Path:
    """The project's folder: `RECSYS_HOME`, else the checkout this package lies in, else the current folder."""
    if named := os.environ.get("RECSYS_HOME"):
        return Path(named).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[1]
    return checkout if (checkout / "workspace.yaml").exists() else Path.cwd()


def settings() -> Settings:
    """Read the settings from the environment as it is now."""
    home = project_home()
    data = home / os.environ.get("RECSYS_DATA", "data")
    return Settings(
        home=home,
        data=data,
        landing=home / os.environ.get("RECSYS_LANDING", str(data / "landing")),
        lake=os.environ.get("RECSYS_LAKE", str(data / "lake")),
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", sqlite_uri(data / "mlflow.db")),
        tracking_ui=os.environ.get("RECSYS_MLFLOW_UI", "http://127.0.0.1:5000"),
        dagster_ui=os.environ.get("RECSYS_DAGSTER_UI", "http://127.0.0.1:3000"),
        memory=os.environ.get("RECSYS_MEMORY", "4GB"),
        profile=os.environ.get("RECSYS_PROFILE", "sample"),
        stores=_stores(home),
    )


def sqlite_uri(file: Path) -> str:
    """The URI of an SQLite file, whatever its name contains."""
    return _SQLITE + "".join(quote(sign) if sign in "%?#" else sign for sign in str(file))


def sqlite_file(uri: str) -> Path | None:
    """The file that an SQLite URI names, if it is one."""
    return Path(unquote(uri.removeprefix(_SQLITE))) if uri.startswith(_SQLITE) else None


def _stores(home: Path) -> dict[str, str]:
    """The stores' URIs by variable; a folder, as an embedded store has, starts at the project's like other places."""
    given = {name: uri for name, uri in os.environ.items() if uri and STORE_VARIABLE.fullmatch(name)}
    return {name: uri if "://" in uri else str(home / uri) for name, uri in given.items()}
