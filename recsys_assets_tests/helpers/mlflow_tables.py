"""Fills new MLflow databases of this process with the tables of the first one: the migrations take 3 s each time."""

import sqlite3
from collections.abc import Callable

from mlflow.store.db import utils
from sqlalchemy import Engine


class Tables:
    """Takes the place of the function that makes MLflow's tables in an empty database."""

    def __init__(self, make: Callable[[Engine], None]) -> None:
        """Keep the function; it is called for the first database."""
        self._make = make
        self._first: sqlite3.Connection | None = None

    def __call__(self, engine: Engine) -> None:
        """Make the tables, in the same way or as a copy; databases of the tests are all SQLite's."""
        if self._first is None:
            self._make(engine)
        with engine.connect() as connection:
            own = connection.connection.driver_connection
            assert isinstance(own, sqlite3.Connection)
            if self._first is None:
                self._first = sqlite3.connect(":memory:", check_same_thread=False)
                own.backup(self._first)
            else:
                self._first.backup(own)


def install() -> None:
    """Let this process make MLflow's tables once; doing it again changes nothing."""
    if not isinstance(utils._initialize_tables, Tables):
        utils._initialize_tables = Tables(utils._initialize_tables)
