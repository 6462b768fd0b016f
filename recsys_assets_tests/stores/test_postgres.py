"""The PostgreSQL store on a real server with pgvector: the contract, SQL's own search, and fresh rows."""

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from recsys_assets.arrays import Vectors
from recsys_assets.fresh.changes import Changes
from recsys_assets.stores.fresh import FreshStore
from recsys_assets.stores.postgres import store as module
from recsys_assets.stores.postgres.store import PostgresStore
from recsys_assets.stores.store import KEY, StoreUnavailable, Unrepresentable, VersionMissing
from recsys_assets_tests.helpers.page_blocks import only_block
from recsys_assets_tests.helpers.postgres_server import PASSWORD, postgres
from recsys_assets_tests.helpers.store_contract import NEW, OLD, StoreContract, rows, said

# The statement of the page, on the tests' own collection.
NEAREST = only_block("fresh.md", "<#>").replace("sample.ridge_item", '"movielens-1m".item')


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    with postgres("") as server:
        yield server.address(PASSWORD.replace("/", "%2F").replace("@", "%40"))


@pytest.fixture(scope="module")
def opened(uri: str) -> Iterator[PostgresStore]:
    with PostgresStore(uri, "movielens-1m") as store:
        yield store


@pytest.fixture
def store(opened: PostgresStore) -> PostgresStore:
    for collection in opened.collections():
        for version in opened.versions(collection):
            opened.drop(collection, version)
    return opened


class TestPostgres(StoreContract):
    pass


def nearest(uri: str, vector: Vectors, before: str = "") -> list[str]:
    """The keys that one SQL statement finds, or its plan, sent by somebody who knows nothing of the store."""
    with psycopg.connect(uri) as connection:
        connection.execute(f"SET enable_seqscan = {'off' if before else 'on'}".encode())  # few rows are sorted faster
        statement = before + NEAREST.replace("[0.12, …]", str(vector.tolist()))
        return [key for (key,) in connection.execute(statement.encode()).fetchall()]


def fresh(keys: list[str], vectors: Vectors, number: int, **changes: Any) -> Changes:
    count, times = len(keys), np.full(len(keys), dt.datetime(2026, 1, 7, tzinfo=dt.UTC).timestamp())
    content = {"created": times, "updated": times, "withdrawn": np.zeros(count, bool), "vectors": vectors}
    return Changes(keys=keys, lines=["{}"] * count, number=number, **{**content, **changes})


def test_a_reader_whose_version_is_dropped_before_its_rows_are_read_gets_the_next_one(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = store._arrow_schema
    store.write("item", OLD, rows(20))
    store.go_live("item", OLD)

    def then_dropped(collection: str, version: str) -> pa.Schema:
        schema = known(collection, version)
        if version == OLD:
            store.write("item", NEW, rows(20).slice(10))
            store.go_live("item", NEW)
            store.drop("item", OLD)
        return schema

    monkeypatch.setattr(store, "_arrow_schema", then_dropped)
    assert store.read("item", ["15"]).num_rows == 1
    assert store.live_version("item") == NEW
    with pytest.raises(VersionMissing, match=OLD):
        store.count("item", OLD)


@pytest.mark.parametrize("exact", [True, False])
def test_one_statement_finds_the_200_best_rows(
    store: PostgresStore, uri: str, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    monkeypatch.setattr(module, "EXACT", 10_000 if exact else 100)
    table = rows(2000)
    store.write("item", NEW, table)
    store.go_live("item", NEW)
    vector = np.random.default_rng(2).standard_normal(8, np.float32)
    scores = np.array(table["vector"].to_pylist(), np.float32) @ vector
    wanted = [str(row) for row in np.argsort(-scores)[:200]]
    found = nearest(uri, vector)
    assert len(found) == 200
    assert found == wanted if exact else len(set(found) & set(wanted)) > 190


def test_the_view_of_many_rows_is_read_in_the_order_of_the_index(
    store: PostgresStore, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXACT", 100)
    store.write("item", NEW, rows(2000))
    store.go_live("item", NEW)
    for _ in ("only published rows", "fresh ones, too"):
        plan = nearest(uri, np.ones(8, np.float32), before="EXPLAIN ")
        assert any("Index Scan using item__" in line for line in plan), plan
        store.put_fresh("item", NEW, fresh(["new"], np.ones((1, 8), np.float32), 1))


@pytest.mark.parametrize("exact", [True, False])
def test_fresh_rows_are_found_in_place_of_older_ones_and_withdrawn_ones_are_not(
    store: PostgresStore, uri: str, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    assert isinstance(store, FreshStore)
    monkeypatch.setattr(module, "EXACT", 10_000 if exact else 100)
    store.write("item", NEW, rows(1000))
    store.go_live("item", NEW)
    vector, far = np.ones(8, np.float32), np.full((2, 8), 99, np.float32)
    before = nearest(uri, vector)
    store.put_fresh("item", NEW, fresh(["new", before[5]], far, 3))
    gone = fresh([before[0]], far[:1], 4, withdrawn=np.array([True]))
    store.put_fresh("item", NEW, gone)
    found = nearest(uri, vector)
    assert set(found[:2]) == {"new", before[5]}
    assert (len(found), before[0] in found, store.fresh_number("item", NEW)) == (200, False, 4)
    late = fresh(["new"], -far[:1], 5, updated=np.zeros(1))
    store.put_fresh("item", NEW, late)
    assert set(nearest(uri, vector)[:2]) == {"new", before[5]}
    assert store.read("item", ["7"]).equals(rows(1000).take([7]))  # the version itself stays as it was published


def test_a_view_shows_the_new_version_without_the_fresh_rows_of_the_old_one(store: PostgresStore, uri: str) -> None:
    for version in (OLD, NEW):
        store.write("item", version, rows(10))
    store.go_live("item", OLD)
    store.put_fresh("item", OLD, fresh(["new"], np.ones((1, 8), np.float32), 1))
    assert len(nearest(uri, np.ones(8, np.float32))) == 11
    store.go_live("item", NEW)
    assert (len(nearest(uri, np.ones(8, np.float32))), store.fresh_number("item", NEW)) == (10, 0)
    store.drop("item", OLD)
    with pytest.raises(VersionMissing, match="item has no version 2026-01-05"):
        store.put_fresh("item", OLD, fresh(["new"], np.ones((1, 8), np.float32), 1))


def test_faults_are_told_without_the_password(store: PostgresStore, uri: str) -> None:
    with pytest.raises(Unrepresentable, match="sign NUL"):
        store.write("user", NEW, pa.table({KEY: ["a\0"], "vector": pa.array([[1.0]], pa.list_(pa.float32()))}))
    assert store.versions("user") == []
    with pytest.raises(StoreUnavailable) as refused, PostgresStore(uri.replace("s3same", "pa55"), "sample") as other:
        other.owner()
    assert "pa55" not in said(refused.value)
    with pytest.raises(StoreUnavailable), closing(PostgresStore("postgresql://127.0.0.1:9/x", "sample")) as away:
        away.owner()
