"""PostgreSQL with pgvector: one table per version, and a view that shows the live one with what is fresher.

In the schema `sample`, for the collection `dssm_item` and the version `2026-01-05.0c1f0ab1ce5b`, there are

* `dssm_item__2026_01_05_0c1f0ab1ce5b`, the rows: `queryid` is the primary key, `vector` a pgvector;
* the same with `__fresh`, rows that changed since: a vector of the same model, `update_time` and `withdrawn`;
* `dssm_item`, a view of the live rows, each in its fresh state, without withdrawn ones. SQL recalls by it:

      SELECT queryid FROM sample.dssm_item ORDER BY vector <#> '[0.1, …]' LIMIT 200

* `_versions` with the Arrow schema of every whole version, `_live` with the live ones, `_owner`.

A version is written in one transaction, and any number of collections go live in one. `<#>` is the negative inner
product. Up to `EXACT` rows it is computed for all of them, which is exact; above, an HNSW index is asked (Malkov and
Yashunin 2016). By default pgvector then finds at most 40 rows, so the user's sessions are set to scan on until LIMIT.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.names import VECTOR
from recsys_assets.fresh.changes import Changes
from recsys_assets.stores.base import Address, StoreBase
from recsys_assets.stores.columns import fix_vectors, parse_schema, schema_text
from recsys_assets.stores.postgres.client import Client
from recsys_assets.stores.postgres.columns import column_type, to_rows
from recsys_assets.stores.store import StoreError, StoreFull, StoreUnavailable
from recsys_assets.uris import safe_uri

if TYPE_CHECKING:
    import psycopg

EXACT = 50_000  # rows up to which a scan of all takes less than 10 ms
INDEX = "USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 64)"
_NO_ROOM = ("53100", "53200")  # SQLSTATE: disk full, out of memory


class PostgresStore(StoreBase):
    """Collections in a schema of a database; see `Store` for its methods.

    Args:
        uri: `postgresql://[USER[:PASSWORD]@]HOST[:5432]/DATABASE`; the extension pgvector must be installed there.
        prefix: the schema, which is made. Nothing connects yet.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        self._server = f"PostgreSQL {safe_uri(uri)}"
        super().__init__(Address(f"{self._server}, {prefix}", uri))
        self._client = Client(uri, prefix)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`: an interrupted call leaves nothing."""
        if version in self.versions(collection):
            return
        fixed = fix_vectors(table) if VECTOR in table.column_names else table
        types = {name: column_type(name, fixed.schema.field(name).type) for name in fixed.column_names}
        with self._transaction() as connection:
            self._create(connection, collection, version, types)
            into = self._client.statement(
                "COPY {table} ({columns}) FROM STDIN", collection, version, columns=fixed.column_names
            )
            with connection.cursor().copy(into) as copy:
                for row in to_rows(fixed):
                    copy.write_row(row)
            if VECTOR in types and len(table) > EXACT:
                connection.execute(self._client.statement("CREATE INDEX ON {table} " + INDEX, collection, version))
            entry = self._client.statement("INSERT INTO {schema}._versions VALUES (%s, %s, %s)", collection, version)
            connection.execute(entry, (collection, version, schema_text(table.schema)))

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`."""
        self._known(collection, version)
        counted = self._client.statement("SELECT count(*) FROM {table}", collection, version)
        with self._reading(collection, version) as connection:
            ((rows,),) = connection.execute(counted).fetchall()
        return int(rows)

    def live_version(self, collection: str) -> str | None:
        """See `Store.live_version`."""
        found = self._ask("SELECT version FROM {schema}._live WHERE collection = %s", values=(collection,))
        return str(found[0][0]) if found else None

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`: all in one transaction."""
        for collection, version in versions.items():
            self._known(collection, version)
        with self._transaction() as connection:
            for collection, version in versions.items():
                self._show(connection, collection, version)
                live = "INSERT INTO {schema}._live VALUES (%s, %s) ON CONFLICT (collection) DO UPDATE SET version = %s"
                connection.execute(self._client.statement(live), (collection, version, version))

    def owner(self) -> str | None:
        """See `Store.owner`."""
        found = self._ask("SELECT mark FROM {schema}._owner")
        return str(found[0][0]) if found else None

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        insert = "INSERT INTO {schema}._owner VALUES (1, %s) ON CONFLICT (place) DO UPDATE SET mark = %s"
        with self._transaction() as connection:
            connection.execute(self._client.statement(insert), (owner, owner))

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`."""
        with self._transaction() as connection:
            live = connection.execute(
                self._client.statement("DELETE FROM {schema}._live WHERE (collection, version) = (%s, %s) RETURNING 1"),
                (collection, version),
            ).fetchall()
            if live:
                connection.execute(self._client.statement("DROP VIEW IF EXISTS {view}", collection))
            connection.execute(self._client.statement("DROP TABLE IF EXISTS {table}, {fresh}", collection, version))
            gone = "DELETE FROM {schema}._versions WHERE (collection, version) = (%s, %s)"
            connection.execute(self._client.statement(gone), (collection, version))

    def fresh_number(self, collection: str, version: str) -> int:
        """See `FreshStore.fresh_number`."""
        text = "SELECT fresh_seq FROM {schema}._versions WHERE (collection, version) = (%s, %s)"
        if not (found := self._ask(text, values=(collection, version))):
            raise self._missing_version(collection, version)
        return int(found[0][0])

    def put_fresh(self, collection: str, version: str, rows: Changes) -> None:
        """See `FreshStore.put_fresh`: of two states of a row, the one of the greater `update_time` stays."""
        insert = """
            INSERT INTO {fresh} AS old VALUES (%s, %s, to_timestamp(%s), %s) ON CONFLICT ({key}) DO UPDATE
            SET vector = excluded.vector, update_time = excluded.update_time, withdrawn = excluded.withdrawn
            WHERE old.update_time <= excluded.update_time
        """
        vectors = map(str, rows.vectors.tolist() if rows.vectors is not None else ())
        values = zip(rows.keys, vectors, rows.updated.tolist(), rows.withdrawn.tolist(), strict=True)
        self._known(collection, version)
        with self._transaction() as connection, connection.cursor() as cursor:
            cursor.executemany(self._client.statement(insert, collection, version), list(values))
            which = "WHERE (collection, version) = (%s, %s)"
            done = "UPDATE {schema}._versions SET fresh_seq = greatest(fresh_seq, %s) " + which
            cursor.execute(self._client.statement(done), (rows.number, collection, version))

    def _create(
        self, connection: "psycopg.Connection[Any]", collection: str, version: str, types: Mapping[str, str]
    ) -> None:
        """Make the tables of a version; those of vectors have a table of fresh rows."""
        from psycopg import sql

        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in types.items()
        )
        statement = self._client.statement(
            "CREATE TABLE {table} ({types}, PRIMARY KEY ({key}))", collection, version, types=columns
        )
        connection.execute(statement)
        if VECTOR in types:
            fresh = "update_time timestamptz NOT NULL, withdrawn boolean NOT NULL"
            kind = sql.SQL(types[VECTOR])
            text = "CREATE TABLE {fresh} ({key} text PRIMARY KEY, vector {types}, " + fresh + ")"
            connection.execute(self._client.statement(text, collection, version, types=kind))

    def _show(self, connection: "psycopg.Connection[Any]", collection: str, version: str) -> None:
        """Let the view of a collection show a version."""
        connection.execute(self._client.statement("DROP VIEW IF EXISTS {view}", collection))
        if VECTOR not in self._arrow_schema(collection, version).names:
            connection.execute(
                self._client.statement("CREATE VIEW {view} AS SELECT * FROM {table}", collection, version)
            )
            return
        # A part with a condition of its own would be read whole and sorted; `hidden` is a filter of the index scan.
        text = """
            CREATE VIEW {view} AS SELECT {key}, vector, update_time FROM (
                SELECT {key}, vector, NULL::timestamptz AS update_time, {key} IN (SELECT {key} FROM {fresh}) AS hidden
                FROM {table} UNION ALL SELECT {key}, vector, update_time, withdrawn FROM {fresh}
            ) AS states WHERE NOT hidden
        """
        connection.execute(self._client.statement(text, collection, version))

    def _entries(self) -> list[tuple[str, str]]:
        return [
            (str(name), str(version))
            for name, version in self._ask("SELECT collection, version FROM {schema}._versions")
        ]

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        schema = self._arrow_schema(collection, version)
        wanted = self._client.statement(
            "SELECT {columns} FROM {table} WHERE {key} = ANY(%s)", collection, version, columns=schema.names
        )
        with self._reading(collection, version) as connection:
            found = {row[0]: row for row in connection.execute(wanted, (list(keys),)).fetchall()}
        rows = [found[key] for key in keys if key in found]
        columns = zip(*rows, strict=True) if rows else ([] for _ in schema.names)
        arrays = [_array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        return pa.table(arrays, schema=schema)

    def _arrow_schema(self, collection: str, version: str) -> pa.Schema:
        text = "SELECT arrow_schema FROM {schema}._versions WHERE (collection, version) = (%s, %s)"
        found = self._ask(text, values=(collection, version))
        if not found:
            raise self._missing_version(collection, version)
        return parse_schema(found[0][0])

    def _known(self, collection: str, version: str) -> None:
        if version not in self.versions(collection):
            raise self._missing_version(collection, version)

    def _ask(self, text: str, collection: str = "", version: str = "", values: Sequence[object] = ()) -> list[Any]:
        with self._transaction() as connection:
            return connection.execute(self._client.statement(text, collection, version), values or None).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator["psycopg.Connection[Any]"]:
        """A block whose statements hold together.

        Raises:
            StoreFull: there is no room.
            StoreUnavailable: the server cannot be reached, or refuses.
            ExtraMissing: psycopg is not installed.
        """
        with self._translate_errors(), self._client.transaction() as connection:
            yield connection

    @contextmanager
    def _reading(self, collection: str, version: str) -> Iterator["psycopg.Connection[Any]"]:
        """A transaction that reads a version.

        Raises:
            VersionMissing: the version was dropped since it was found.
        """
        try:
            with self._transaction() as connection:
                yield connection
        except StoreUnavailable:
            self._known(collection, version)
            raise

    def _translate(self, error: Exception, said: str) -> StoreError | None:
        import psycopg

        if not isinstance(error, psycopg.Error):
            return None
        vars(error).pop("_pgconn", None)  # it holds the password, and a traceback with locals would show it
        if getattr(error, "sqlstate", None) in _NO_ROOM:
            return StoreFull(f"{self._server} has no room: drop versions (keep fewer), or make room: {said}")
        return StoreUnavailable(f"{self._server}: {said}")


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column as it was written; pgvector gives a vector as a text."""
    if values and isinstance(values[0], str) and pa.types.is_list(kind):
        split = pc.split_pattern(pc.utf8_trim(pa.array(values), "[]"), ",")
        return split.cast(kind)
    return pa.array(values, kind)
