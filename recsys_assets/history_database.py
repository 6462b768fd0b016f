"""Dagster's history in PostgreSQL, where `dagster.yaml` says so (`deploy/dagster.yaml`): its address, dump and return.

PostgreSQL's own programs make the dump and read it. The password reaches them in the environment, because everybody on
the machine can see arguments.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_assets.datasets.disk import history
from recsys_assets.uris import name_errors, safe_message, safe_uri

VARIABLE = "DAGSTER_PG_URL"  # in deploy/dagster.yaml


class HistoryDatabase(RuntimeError):
    """Dagster's database cannot be asked, dumped or filled; the message says what to do."""


def history_database() -> str | None:
    """The address of Dagster's history in PostgreSQL; None if it is in files.

    Raises:
        HistoryDatabase: it is in another kind of database, or its address is missing.
    """
    file = history().folder.parent / "dagster.yaml"
    if not file.exists():
        return None
    with name_errors(HistoryDatabase, f"{file} cannot be used"):
        from dagster._core.instance.config import dagster_instance_config

        config, _ = dagster_instance_config(str(file.parent))
    kind, details = next(iter((config.get("storage") or {}).items()), ("", {}))
    if kind == "postgres":
        return _address(details, file)
    if kind not in ("", "sqlite") or any(f"{part}_storage" in config for part in ("run", "event_log", "schedule")):
        raise HistoryDatabase(
            f"{file} keeps Dagster's history in a storage that this command does not know: copy it "
            "with the programs of its database, or write the storage as in deploy/dagster.yaml"
        )
    return None


def ask(address: str) -> None:
    """Connect once.

    Raises:
        HistoryDatabase: the database does not answer, or the extra `deploy` is not installed.
    """
    import sqlalchemy

    try:
        sqlalchemy.create_engine(address).connect().close()
    except Exception as error:
        said = f"{safe_uri(address)} cannot be used: {safe_message(error, address)}"
        raise HistoryDatabase(f"Dagster's history at {said}") from None


def dump(address: str, file: Path) -> None:
    """Write all tables of the database as of one moment, whoever writes to them.

    Raises:
        HistoryDatabase: pg_dump is missing or failed.
    """
    _run("pg_dump", address, "--format=custom", "--file", str(file))


def fill(address: str, file: Path) -> None:
    """Put a dump into an empty database, all of it or nothing.

    Raises:
        HistoryDatabase: pg_restore is missing or failed, or the database is not empty.
    """
    _run("pg_restore", address, "--exit-on-error", "--single-transaction", str(file))


def _run(program: str, address: str, *arguments: str) -> None:
    """Run a program of PostgreSQL on the database."""
    from sqlalchemy.engine import URL, make_url

    found = shutil.which(program)
    if found is None:
        raise HistoryDatabase(
            f"{program} is not on the PATH, and Dagster's history is in PostgreSQL: install PostgreSQL's client "
            "programs (Debian: postgresql-client), of the server's version or a newer one, and run the command again"
        )
    url = make_url(address)
    place = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    secret = {"PGPASSWORD": str(url.password)} if url.password else {}
    words = [found, *arguments, "--no-owner", "--no-privileges", "--dbname", str(place)]
    done = subprocess.run(words, env={**os.environ, **secret}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HistoryDatabase(_reason(program, address, done.stderr))


def _reason(program: str, address: str, said: str) -> str:
    if "already exists" in said:
        return f"{safe_uri(address)} has tables already: name an empty database in {VARIABLE}, and restore again"
    return f"{program} cannot use {safe_uri(address)}: {safe_message(said, address)}"


def _address(details: Mapping[str, Any], file: Path) -> str:
    """The address that dagster.yaml describes, with the values of the environment."""
    from dagster._config import process_config, resolve_to_config_type
    from dagster._core.storage.config import pg_config

    with name_errors(HistoryDatabase, f"{file} names PostgreSQL: install the extra `deploy`"):
        from dagster_postgres.utils import pg_url_from_config
    read = process_config(resolve_to_config_type(pg_config()), dict(details))
    if not read.success or not read.value:
        raise HistoryDatabase(f"{file} names PostgreSQL, and its address is missing: set {VARIABLE}")
    return str(pg_url_from_config(read.value))
