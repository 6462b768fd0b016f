"""Measures recall by SQL alone: the best of many vectors in PostgreSQL with pgvector, written by the store.

    python benchmarks/sql_recall.py [--rows 1000000] [--dimensions 64] [--queries 200]

The vectors are drawn around centres, as those of items are in groups of taste; queries are near to some of them. A
server is started for the measurement, and the store writes a version and makes its index as it does when it publishes.
Then one statement after another asks for the best 200 rows. The script prints how long the writing took, how many rows
the shortest answer had, the latency, and the share of the exact lists that was found, with the candidates that the
store sets, and with fewer and more.
"""

import argparse
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Ints, Vectors
from recsys_assets.datasets.names import VECTOR
from recsys_assets.retrieval.lists import top_k
from recsys_assets.stores.postgres.client import SESSION
from recsys_assets.stores.postgres.store import PostgresStore
from recsys_assets.stores.store import KEY
from recsys_assets_tests.helpers.postgres_server import PASSWORD, postgres

if TYPE_CHECKING:
    import psycopg

LISTED = 200
CENTRES = 1000
MEMORY = "1GB"  # in which the server makes the index
SPREAD = 0.7  # of a vector around its centre, whose coordinates have a deviation of 1
CANDIDATES = (100, 200, int(SESSION["hnsw.ef_search"]), 1000)
NAME, VERSION = "items", "2026-01-05.0c1f0ab1ce5b"


def drawn(rows: int, dimensions: int, seed: int, centres: Vectors) -> Vectors:
    """(N, D) vectors around the centres."""
    rng = np.random.default_rng(seed)
    near = rng.standard_normal((rows, dimensions), np.float32)
    found: Vectors = centres[rng.integers(len(centres), size=rows)] + np.float32(SPREAD) * near
    return found


def best(vectors: Vectors, queries: Vectors) -> Iterator[Ints]:
    """The rows with the highest inner products with each query, by comparing all."""
    for query in queries:
        yield top_k((vectors @ query)[None], LISTED).items[0]


def ask(connection: "psycopg.Connection[Any]", query: Vectors) -> tuple[list[str], float]:
    """The keys that the statement of docs/fresh.md gives, and the milliseconds that it takes."""
    begun, text = time.perf_counter(), str(query.tolist())
    statement = f"SELECT {KEY} FROM shop.{NAME} ORDER BY vector <#> %s LIMIT {LISTED}"  # noqa: S608  no input in it
    found = [key for (key,) in connection.execute(statement.encode(), (text,)).fetchall()]
    return found, 1000 * (time.perf_counter() - begun)


def main() -> None:
    """Write the vectors, ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--queries", type=int, default=200)
    given = parser.parse_args()
    centres = np.random.default_rng(0).standard_normal((CENTRES, given.dimensions), np.float32)
    vectors, queries = (
        drawn(count, given.dimensions, seed, centres) for seed, count in ((1, given.rows), (2, given.queries))
    )
    exact = list(best(vectors, queries))
    with postgres(f"CREATE EXTENSION vector; ALTER ROLE reader SET maintenance_work_mem = '{MEMORY}'") as server:
        address = server.address(quote(PASSWORD, safe=""))
        store, begun = PostgresStore(address, "shop"), time.perf_counter()
        flat = pa.array(vectors.ravel())
        table = pa.table(
            {
                KEY: [str(row) for row in range(given.rows)],
                VECTOR: pa.FixedSizeListArray.from_arrays(flat, given.dimensions),
            }
        )
        store.write(NAME, VERSION, table)
        store.switch({NAME: VERSION})
        print(f"written and indexed in {time.perf_counter() - begun:.0f} s", flush=True)
        measure(address, queries, exact)


def measure(address: str, queries: Vectors, exact: list[Ints]) -> None:
    """Print what the queries get with each number of candidates."""
    import psycopg

    print("| candidates | fewest rows | found of the exact lists | p50, ms | p99, ms |\n|---|---|---|---|---|")
    with psycopg.connect(address, autocommit=True) as connection:
        for candidates in CANDIDATES:
            connection.execute(f"SET hnsw.ef_search = {candidates}".encode())
            answers = [ask(connection, query) for query in queries]
            shares = [np.isin(rows, np.array(keys, int)).mean() for rows, (keys, _) in zip(exact, answers, strict=True)]
            p50, p99 = np.percentile([milliseconds for _, milliseconds in answers], (50, 99))
            fewest = min(len(keys) for keys, _ in answers)
            print(f"| {candidates} | {fewest} | {np.mean(shares):.4f} | {p50:.1f} | {p99:.1f} |", flush=True)


if __name__ == "__main__":
    main()
