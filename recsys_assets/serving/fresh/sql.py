"""Recall by one statement of SQL: the items of a table whose vectors have the highest inner products with the user's.

`fresh.sql` in the profile names the table. The statement and the wait for it have a time limit. If the server is away,
slow, or refuses, the caller lists what is in memory, and asks again after a second, then two, up to a minute. There is
one connection in each process, which a thread reads from: while it waits for a late answer, the next requests fail at
once.
"""

import os
import socket
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.fresh_rules import Sql
from recsys_assets.datasets.profile import Profile
from recsys_assets.settings import settings
from recsys_assets.stores.base import importing
from recsys_assets.stores.postgres.client import SESSION
from recsys_assets.stores.registry import StoreNotConfigured
from recsys_assets.uris import name_errors

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

STEP = "recall sql"
_STATEMENT = "SELECT {key}, -({vector} <#> %(user)s) FROM {table} ORDER BY {vector} <#> %(user)s LIMIT {count}"
_SECONDS = 2  # to connect; the least that the driver takes


class SqlFailed(RuntimeError):
    """The statement cannot be answered; the message names the table, and has no secret."""


class SqlRecall:
    """Asks one table, over one connection, which is opened when it is first needed and closed with the block.

    Args:
        rule: names the table, and says how much is asked for in which time.
        uri: of the database.
        whole: whether ids of items are whole numbers.
    """

    def __init__(self, rule: Sql, uri: str, whole: bool) -> None:
        self._rule, self._uri, self._whole = rule, uri, whole
        self._thread = ThreadPoolExecutor(1, "sql")
        self._asked: Future[list[Any]] | None = None
        self._connection: psycopg.Connection[Any] | None = None

    def __call__(self, vector: Vectors) -> dict[str, float]:
        """Inner products with a vector (D,) by the key of the item, the highest first, and of equals the lesser key.

        Rows without a key or a vector are left out; of several with one key, the best one counts.

        Raises:
            SqlFailed: there is no answer within the limit, the server refuses, or a key is no id.
        """
        limit = f"within {self._rule.milliseconds} ms"
        if self._asked and not self._asked.done():
            raise SqlFailed(f"{self._rule.table}: the statement before was not answered {limit}, and still is not")
        self._asked = self._thread.submit(self._ask, str(vector.tolist()))
        with name_errors(SqlFailed, self._rule.table, self._uri):
            try:
                rows = self._asked.result(self._rule.milliseconds / 1000)
            except TimeoutError:
                raise SqlFailed(f"{self._rule.table}: no answer {limit}") from None
        return self._products(rows)

    def __enter__(self) -> "SqlRecall":
        return self

    def __exit__(self, *_: object) -> None:
        """End the connection, also if its thread still waits for an answer."""
        if self._connection and not self._connection.closed and self._asked and not self._asked.done():
            with suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as same:
                same.shutdown(socket.SHUT_RDWR)  # for which the thread's read ends
        self._thread.shutdown()
        if self._connection:
            self._connection.close()

    def _products(self, rows: Sequence[tuple[Any, float | None]]) -> dict[str, float]:
        there = [(self._key(value), product) for value, product in rows if value is not None and product is not None]
        found = dict[str, float]()
        for key, product in sorted(there, key=lambda row: (-row[1], row[0])):
            found.setdefault(key, product)
        return found

    def _key(self, value: object) -> str:
        """The key of an item as it is elsewhere."""
        try:
            return str(int(str(value))) if self._whole else str(value)
        except ValueError:
            what = f"{self._rule.key} {value!r} is no id of an item, which is a whole number"
            raise SqlFailed(f"{self._rule.table}: {what}") from None

    def _ask(self, vector: str) -> list[Any]:
        connection = self._connect()
        return connection.execute(self._statement(), {"user": vector}).fetchall()

    def _statement(self) -> "sql.Composed":
        from psycopg import sql

        rule = self._rule
        named = {name: sql.Identifier(getattr(rule, name)) for name in ("key", "vector")}
        return sql.SQL(_STATEMENT).format(table=sql.Identifier(*rule.table.split(".")), count=rule.count, **named)

    def _connect(self) -> "psycopg.Connection[Any]":
        """The connection, which can only read; one that broke is made again."""
        import psycopg

        if self._connection is None or self._connection.closed:
            made = psycopg.connect(self._uri, connect_timeout=_SECONDS, keepalives_idle=_SECONDS, autocommit=True)
            limits = {"statement_timeout": str(self._rule.milliseconds), "default_transaction_read_only": "on"}
            for name, value in (SESSION | limits).items():
                made.execute("SELECT set_config(%s, %s, false)", (name, value))
            self._connection = made
        return self._connection


def sql_recall(profile: Profile) -> SqlRecall | None:
    """Prepare to ask the table of the profile, in the database of the environment; None: the profile names no table.

    Raises:
        StoreNotConfigured: the environment names no database.
        ExtraMissing: psycopg is not installed.
    """
    if (rule := profile.fresh.sql) is None:
        return None
    if not (uri := settings().stores.get(rule.uri)):
        raise StoreNotConfigured(f"{rule.uri} is not set: give the URI of the database with {rule.table}")
    with importing("postgres"):
        import psycopg  # noqa: F401
    return SqlRecall(rule, uri, whole=profile.columns_of("items")["item_id"].type == "int64")
