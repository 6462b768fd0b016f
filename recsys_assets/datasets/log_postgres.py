"""A log as the answer to a SELECT of a PostgreSQL server, read through a cursor that the server keeps.

The transaction is read-only, and a password is never shown: it may be in PGPASSWORD, where the driver looks itself, or
in the address.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from recsys_assets.datasets.duck import quote_name
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.log_queries import nested
from recsys_assets.datasets.profile_parts import Column, ColumnType
from recsys_assets.datasets.tables import plain_table
from recsys_assets.datasets.text_files import Landed, landed_names, number_rows, refuse_columns
from recsys_assets.uris import is_malformed, safe_uri, without_secrets

if TYPE_CHECKING:
    import psycopg

POSTGRES = ("postgresql://", "postgres://")
_ROWS = 100_000  # that are fetched at once
_SECONDS = 10  # to connect; and without an answer, until the server is asked whether it is still there
_TEXTS: tuple[ColumnType, ...] = ("string", "text", "path", "strings")
_WHOLE: tuple[ColumnType, ...] = ("int64", "int32")
_PLAIN = {"bool": pa.bool_(), **dict.fromkeys(("int2", "int4", "int8"), pa.int64())}
_NUMBERS = ("float4", "float8", "numeric")
_TIMES = {"date": pa.timestamp("us"), "timestamp": pa.timestamp("us"), "timestamptz": pa.timestamp("us", "UTC")}


@dataclass(frozen=True)
class _Answer:
    """A column of an answer: the name of its type in PostgreSQL, and whether that is an array."""

    kind: str
    is_array: bool


def database_of(address: str) -> str:
    """The name of the database in an address; without one, `postgresql`."""
    return unquote(safe_uri(address).partition("://")[2].partition("/")[2].partition("?")[0]) or "postgresql"


def postgres_batches(address: str, query: str, columns: dict[str, Column], files: Files) -> Iterator[Landed]:
    """The rows of a SELECT, in the types of the columns, of which at most 100,000 are in memory.

    Numerics are exact where integers are declared. Times before the year 1 or after 9999, infinite ones too, are
    missing: the platform has no such times.

    Raises:
        LandingError: the server cannot be reached, cannot answer the query, or went away.
        LandedFileError: the answer lacks a column, or cannot hold the declared types.
    """
    names, done, shown = landed_names(columns), 0, safe_uri(address)
    with _connected(address) as connection, _named_errors(address), connection.cursor("log", binary=True) as cursor:
        found = _answer(connection, query)
        refuse_columns(shown, names, [name for name, _ in found])
        kinds = dict(found)
        typed = {name: _typed(name, kinds[name], spec.type) for name, spec in zip(names, columns.values(), strict=True)}
        cursor.execute(_sql(f"SELECT {', '.join(sql for sql, _ in typed.values())} FROM {nested(query)} AS log"))
        for part in iter(partial(cursor.fetchmany, _ROWS), []):
            values = zip(typed.items(), zip(*part, strict=True), strict=True)
            table = pa.table({name: pa.array(column, kind) for (name, (_, kind)), column in values})
            yield number_rows(plain_table(shown, table, columns, files), [], done)
            done += len(part)


@contextlib.contextmanager
def _connected(address: str) -> "Iterator[psycopg.Connection[tuple[Any, ...]]]":
    """A connection in a transaction that can only read, with all times in UTC.

    Raises:
        LandingError: the driver is not installed, or the server cannot be reached.
    """
    try:
        import psycopg
    except ImportError:
        raise LandingError("psycopg is not installed: pip install 'recsys-assets[postgres]'") from None
    if is_malformed(address):
        raise LandingError(
            f"--source {safe_uri(address)}: write {POSTGRES[0]}USER@HOST/DATABASE, and @ : / as %40 etc."
        )
    try:
        connection = psycopg.connect(address, connect_timeout=_SECONDS, keepalives_idle=_SECONDS)
    except psycopg.Error as error:
        advice = "check the address, and that PGPASSWORD holds the password"
        raise LandingError(f"{safe_uri(address)} cannot be reached ({_said(error, address)}): {advice}") from None
    with contextlib.closing(connection):
        connection.read_only = True
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


@contextlib.contextmanager
def _named_errors(address: str) -> Iterator[None]:
    import psycopg

    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        said = _said(error, address)
        raise LandingError(f"the connection to {safe_uri(address)} was lost ({said}): run the command again") from None
    except psycopg.Error as error:
        raise LandingError(f"--query cannot be answered by {safe_uri(address)}: {_said(error, address)}") from None


def _said(error: "psycopg.Error", address: str) -> str:
    """The words of the server or driver on one line, without those that hold a password of the address."""
    return without_secrets(" ".join((error.diag.message_primary or str(error)).split())[:300], address)


def _answer(connection: "psycopg.Connection[tuple[Any, ...]]", query: str) -> list[tuple[str, _Answer]]:
    """The columns of a query's answer; `prepare` makes the server refuse a text of several statements."""
    found = connection.execute(_sql(f"SELECT * FROM {nested(query)} AS log LIMIT 0"), prepare=True).description or []
    wanted = [[each.type_code for each in found]]
    types = connection.execute("SELECT oid, typname, typcategory = 'A' FROM pg_type WHERE oid = ANY(%s)", wanted)
    kinds = {oid: _Answer(name, is_array) for oid, name, is_array in types.fetchall()}
    return [(each.name, kinds[each.type_code]) for each in found]


def _typed(name: str, answer: _Answer, declared: ColumnType) -> tuple[str, pa.DataType]:
    """SQL for a column of the answer, and the type of its values in Arrow."""
    value = quote_name(name)
    if answer.is_array:
        kind, inner = ("float8", pa.float64()) if declared == "vector" else ("text", pa.string())
        return f"{value}::{kind}[]", pa.list_(inner)
    if declared in _TEXTS or answer.kind not in {*_PLAIN, *_NUMBERS, *_TIMES}:
        return f"{value}::text", pa.string()
    if answer.kind in _PLAIN:
        return value, _PLAIN[answer.kind]
    if answer.kind == "numeric" and declared in _WHOLE:  # NaN is the largest number here
        return f"CASE WHEN abs({value}) < 1e38 THEN round({value}, 18) END", pa.decimal256(76, 18)
    if answer.kind in _NUMBERS:
        return f"{value}::float8", pa.float64()
    # As microseconds: Python's objects for times would take half of all the time.
    known, number = f"{value} >= '0001-01-01' AND {value} < '10000-01-01'", f"extract(epoch FROM {value}) * 1000000"
    return f"CASE WHEN {known} THEN ({number})::int8 END", _TIMES[answer.kind]


def _sql(text: str) -> Any:
    """A statement that was not written here: the driver's own type accepts literal texts only."""
    return text.encode()
