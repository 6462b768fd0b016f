"""The engine as assets see it: it runs statements of DuckDB's dialect. A DuckDB connection is an engine as it is."""

from typing import Any, Protocol


class Rows(Protocol):
    """The answer to a statement."""

    def fetchall(self) -> list[Any]:
        """All rows, as tuples; none for a statement that asks nothing."""


class Engine(Protocol):
    """Runs SQL.

    The statements that every engine knows, all in DuckDB's dialect: queries; `CREATE OR REPLACE TEMP TABLE` or `VIEW …
    AS`; `INSERT INTO … BY NAME`; `DROP TABLE`; and `COPY (…) TO 'file' (FORMAT parquet, …)`. Files are read with
    `duck.scan`, and written with `duck.write_parquet`.
    """

    def execute(self, query: str, /) -> Rows:
        """Run one or several statements, separated by semicolons; returns the answer to the last one."""
