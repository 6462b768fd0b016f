"""Spark as an engine: a session on a cluster, which runs statements that `dialect.py` has translated.

Only SQL goes to the cluster, and only small answers come back. Files are read and written by Spark's executors, so
they must see the lake's folder at the path at which this machine sees it.
"""

import contextlib
import itertools
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import sqlglot
from sqlglot import exp

from recsys_assets.datasets.duck import connect, scan
from recsys_assets.engines.dialect import Untranslatable, to_spark
from recsys_assets.uris import safe_uri

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_SETTINGS = {
    "spark.sql.ansi.enabled": "true",  # a sum that 64 bits cannot hold is an error, not a wrong number
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "false",
}
_OWN_MASTER = {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false"}
_LOCAL = re.compile(r"local(-cluster)?(\[.*\])?|spark://(127\.0\.0\.1|localhost)[:,].*")
# Signs in names of files that would be patterns: as `duck.scan` writes them, and those that Spark would take for such.
_LITERAL, _MAGIC = re.compile(r"\[([\[*?])\]"), re.compile(r"([\\{}\[\]*?])")
CONNECT_PORT = 15002
_SECONDS = 10.0


class SparkMissing(RuntimeError):
    """Spark or Java is not installed; the message says what to install."""


class EngineUnreachable(RuntimeError):
    """Nothing listens where `RECSYS_ENGINE` says that Spark is."""


class SparkRows:
    """The answer to a statement."""

    def __init__(self, rows: Sequence[tuple[Any, ...]] = ()) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows."""
        return list(self._rows)


class SparkEngine:
    """Runs DuckDB's statements in a session of Spark.

    A temporary table is computed at once and kept by the executors, in memory and then on their disks, until it is
    dropped or the engine is closed. If an executor is lost, so are its rows: the asset fails, and is built again.
    """

    def __init__(self, session: "SparkSession") -> None:
        self._session = session
        self._tables: dict[str, DataFrame] = {}
        self._files: dict[tuple[str, ...], str] = {}
        self._numbers = itertools.count()

    def execute(self, query: str, /) -> SparkRows:
        """Run one or several statements; see `Engine.execute`.

        Raises:
            Untranslatable: Spark has no such thing.
            pyspark.errors.PySparkException: Spark refuses it, or it fails.
        """
        answer = SparkRows()
        for statement in sqlglot.parse(query, read="duckdb"):
            answer = self._run(statement) if statement else answer
        return answer

    def _run(self, statement: exp.Expr) -> SparkRows:
        match statement:
            case exp.Create(this=exp.Table(), expression=exp.Query()):
                self._create(statement)
            case exp.Insert(expression=exp.Query()):
                self._insert(statement)
            case exp.Drop():
                self._drop([table.name for table in statement.args["tables"]])
            case exp.Copy():
                return self._copy(statement)
            case exp.Query():
                return SparkRows([tuple(map(_as_duckdb, row)) for row in self._frame(statement).collect()])
            case _:
                raise Untranslatable(f"{statement.sql('duckdb')}: this kind of statement does not run on Spark")
        return SparkRows()

    def _frame(self, query: exp.Expr) -> "DataFrame":
        return self._session.sql(to_spark(query, self._columns, self._table_of))

    def _columns(self, query: str) -> list[str]:
        return list(self._session.sql(query).columns)

    def _table_of(self, patterns: Sequence[str]) -> str:
        """The name of a view of the rows of Parquet files, which DuckDB's patterns (`duck.scan`) name."""
        files = tuple(_LITERAL.sub(r"\1", pattern) for pattern in patterns)
        if files not in self._files:
            self._files[files] = f"files_{next(self._numbers)}"
            rows = self._session.read.parquet(*(_MAGIC.sub(r"\\\1", file) for file in files))
            rows.createOrReplaceTempView(self._files[files])
        return self._files[files]

    def _create(self, statement: exp.Create) -> None:
        name, rows = statement.this.name, self._frame(statement.expression)
        if statement.args["kind"] == "TABLE":
            self._keep(name, rows)
        else:
            rows.createOrReplaceTempView(name)

    def _insert(self, statement: exp.Insert) -> None:
        """Add the rows of a query to a table, each column with the table's type."""
        name, more = statement.this.name, self._frame(statement.expression)
        there = self._tables[name]
        cast = more.select(*(more[each.name].cast(each.dataType) for each in there.schema if each.name in more.columns))
        self._keep(name, there.unionByName(cast, allowMissingColumns=True))

    def _keep(self, name: str, rows: "DataFrame") -> None:
        """Compute the rows of a table now; what it was made of is then forgotten."""
        self._tables[name] = rows.localCheckpoint()
        self._tables[name].createOrReplaceTempView(name)

    def _drop(self, names: Sequence[str]) -> None:
        for name in names:
            self._session.catalog.dropTempView(name)
            del self._tables[name]

    def _copy(self, statement: exp.Copy) -> SparkRows:
        """Let Spark sort the rows into files next to the target, and DuckDB make one file of them, as it makes all."""
        query, target = statement.this.unnest(), Path(statement.args["files"][0].name)
        if not query.args.get("order"):
            raise Untranslatable(f"{query.sql('duckdb')}: say in which order the rows are to be written")
        self._files = {files: view for files, view in self._files.items() if str(target) not in files}  # it changes
        parts = Path(tempfile.mkdtemp(prefix="parts-", dir=target.parent))
        try:
            self._frame(query).write.mode("overwrite").parquet(str(parts))
            rows = sqlglot.parse_one(f"FROM {scan(sorted(parts.glob('part-*.parquet')))}", read="duckdb")
            statement.set("this", exp.Subquery(this=rows))
            with connect(target.parent) as connection:
                return SparkRows(connection.execute(statement.sql("duckdb")).fetchall())
        finally:
            shutil.rmtree(parts)


def _as_duckdb(value: Any) -> Any:
    """A value as DuckDB would give it: its integers of 128 bits are decimals here."""
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else value


@contextlib.contextmanager
def open_spark(master: str) -> Iterator[SparkEngine]:
    """A session on a cluster, which ends with the block.

    Args:
        master: the address of a server of Spark Connect (`sc://…`), or Spark's own word for a cluster.

    Raises:
        SparkMissing: Spark or Java is not installed.
        EngineUnreachable: nothing listens at the address.
    """
    remote = master.startswith("sc://")
    _refuse_unreachable(master)
    refuse_missing(java=not remote)
    session = _connect(master) if remote else _start(master)
    try:
        for name, value in _SETTINGS.items():
            session.conf.set(name, value)
        yield SparkEngine(session)
    finally:
        session.stop()


def _connect(url: str) -> "SparkSession":
    from pyspark.sql import SparkSession

    return SparkSession.builder.remote(url).create()


def _start(master: str) -> "SparkSession":
    """A session whose driver is a Java process of this one, with the user's own settings (`SPARK_CONF_DIR`)."""
    from pyspark.sql import SparkSession

    if _LOCAL.fullmatch(master):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.master(master).appName("recsys_assets")
    for name, value in _OWN_MASTER.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


def refuse_missing(java: bool = True) -> None:
    """Refuse to start without Spark, and without Java if this machine needs it.

    Raises:
        SparkMissing: one of them is not installed.
    """
    try:
        import pyspark  # noqa: F401
    except ImportError:
        raise SparkMissing("pyspark is not installed: pip install 'recsys-assets[spark]'") from None
    if java and not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        raise SparkMissing("Spark needs Java 17 or 21: install it, or set JAVA_HOME")


def _refuse_unreachable(master: str) -> None:
    """Refuse an address at which nothing listens: Spark itself would try for minutes, and then say something else.

    Raises:
        EngineUnreachable: nothing does.
    """
    if "://" not in master:
        return
    errors = []
    for place in urlsplit(master).netloc.split(","):  # a cluster may have several masters
        host, _, port = place.partition(":")
        try:
            socket.create_connection((host, int(port or CONNECT_PORT)), timeout=_SECONDS).close()
        except OSError as error:
            errors.append(f"{place} ({error.strerror})")
        else:
            return
    raise EngineUnreachable(
        f"RECSYS_ENGINE={safe_uri(master)}: nothing answers at {', '.join(errors)}. Start Spark there, correct the "
        "address, or unset RECSYS_ENGINE, for DuckDB"
    )
