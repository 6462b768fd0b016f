"""The channel `sql`: on a real PostgreSQL with pgvector, one statement finds the items for the share of a list."""

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from recsys_assets.datasets.fresh_rules import Sql
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.by_vector import ByVector
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.fresh.opening import open_fresh, open_layer
from recsys_assets.serving.fresh.sql import sql_recall
from recsys_assets.serving.people import NOTHING
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.told import open_told
from recsys_assets.stores.registry import StoreNotConfigured
from recsys_assets_tests.helpers.fresh_world import NEW, fresh_engine, item, listed, tell
from recsys_assets_tests.helpers.postgres_server import PASSWORD, Postgres, postgres
from recsys_assets_tests.helpers.worlds import World
from recsys_assets_tests.serving.running import until

SCENES = """
filters: [year]
scenes:
  half: {fresh: 0.5, size: 20}
  none: {fresh: 0}
  old: {fresh: 0.5, size: 20, filter: year < 2020}
"""
FILL = "CREATE EXTENSION vector; CREATE SCHEMA other;"
FAILED = "recall sql: failed"
Open = Callable[[int], AbstractContextManager[TestClient]]


@pytest.fixture(scope="module")
def engine(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with fresh_engine(world, tmp_path_factory) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Postgres]:
    """A server with a table of the release's items, and of one more, which the service knows nothing of."""
    table = pq.read_table(engine.funnel.inputs["emb_dropoutnet_item"].path(ROWS))
    rows = dict(zip(table["item_id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    with postgres(FILL) as server, connected(server) as connection:
        width = len(next(iter(rows.values())))
        connection.execute(f'CREATE TABLE other."own-vectors" (item bigint, v vector({width}))')
        with connection.cursor() as cursor:
            values = [(number, str(vector)) for number, vector in [*rows.items(), (NEW + 7, [0.0] * width)]]
            cursor.executemany('INSERT INTO other."own-vectors" VALUES (%s, %s)', values)
        yield server


def connected(server: Postgres) -> "psycopg.Connection[Any]":
    return psycopg.connect(server.address(quote(PASSWORD, safe="")), autocommit=True)


def with_sql(profile: Profile, milliseconds: int = 20_000) -> Profile:
    rule = Sql(table="other.own-vectors", key="item", vector="v", milliseconds=milliseconds, uri="RECSYS_OTHER_URI")
    return profile.model_copy(update={"fresh": profile.fresh.model_copy(update={"sql": rule})})


@pytest.fixture(scope="module")
def opened(engine: Engine, server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens a service whose statement has so many milliseconds."""
    (file := tmp_path_factory.mktemp("scenes") / "own.scenes.yaml").write_text(SCENES, encoding="utf-8")

    @contextlib.contextmanager
    def service(milliseconds: int) -> Iterator[TestClient]:
        layer, profile = open_layer(engine), with_sql(engine.profile, milliseconds)
        assert layer
        with open_fresh(profile, layer) as fresh, open_told(profile) as told:
            yield TestClient(create_app(Service(Opened(7, engine, Book(file, profile)), told, None, fresh)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECSYS_OTHER_URI", server.address(quote(PASSWORD, safe="")))
        yield service


@pytest.fixture(scope="module")
def client(opened: Open) -> Iterator[TestClient]:
    with opened(20_000) as client:
        yield client


def by_sql(rows: list[dict[str, Any]]) -> list[int]:
    return [row["item_id"] for row in rows if row["channels"] == ["sql"]]


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/recommend", json={"user_id": 1, "scene": "half", **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def recovered(client: TestClient) -> bool:
    answer = ask(client)
    return answer["served_by"] != "degraded" and bool(by_sql(answer["items"]))


def expected(engine: Engine, user: int, rows: list[dict[str, Any]]) -> dict[int, float]:
    """The products of the items that may be listed by SQL, best first: by the table of vectors, without SQL."""
    channel = engine.funnel.channels["dropoutnet"]
    assert isinstance(channel, ByVector)
    assert channel.encode
    person = engine.people(user, NOTHING)
    (vector,) = channel.encode(*engine.ask(user, person, Wish()))
    table = pq.read_table(engine.funnel.inputs["emb_dropoutnet_item"].path(ROWS))
    products = np.array(table["vector"].to_pylist(), np.float32) @ vector
    barred = {row["item_id"] for row in rows if row["channels"] != ["sql"]}
    barred |= set(engine.log.item_ids[person.history.items].tolist())
    found = dict(zip(table["item_id"].to_pylist(), products.tolist(), strict=True)) | {NEW + 7: 0.0}
    return {each: found[each] for each in sorted(found, key=lambda each: -found[each]) if each not in barred}


def test_the_statement_alone_gives_the_items_of_the_share_the_nearest_first(client: TestClient, engine: Engine) -> None:
    user = int(engine.log.user_ids[3])
    rows = listed(client, user, scene="half", size=20, fields=["title"], explain=True)
    assert [row["channels"] == ["sql"] for row in rows] == [False, True] * 10
    # The list of the release alone may name items that the statement finds too; those keep their places.
    without = listed(client, user, scene="none", size=20)
    wanted = expected(engine, user, without)
    assert by_sql(rows) == list(wanted)[:10]
    mine = [row for row in rows if row["channels"] == ["sql"]]
    np.testing.assert_allclose([row["score"] for row in mine], list(wanted.values())[:10], rtol=0, atol=1e-5)
    assert all(row["title"] for row in mine if row["item_id"] != NEW + 7)
    assert [row["explain"]["channels"]["sql"]["place"] for row in mine] == list(range(1, 11))
    assert by_sql(without) == by_sql(listed(client, user, scene="half", judged=True)) == []


def test_its_items_obey_conditions_exclusions_and_withdrawals(client: TestClient, engine: Engine) -> None:
    first, second, *others = by_sql(listed(client, scene="half", size=20))
    found = by_sql(listed(client, scene="half", size=20, exclude=[first]))
    assert first not in found
    assert second in found
    only = listed(client, scene="half", size=20, restrict=[*others, NEW + 7])
    assert set(by_sql(only)) <= {*others, NEW + 7}
    old = listed(client, scene="old", size=20, fields=["year"])
    assert by_sql(old)
    assert all(row["year"] < 2020 for row in old)
    tell(client, {"item_id": first, "withdrawn": True})
    try:
        assert first not in by_sql(listed(client, scene="half", size=20))
    finally:
        tell(client, {"item_id": first, "withdrawn": False})
    user = int(engine.log.user_ids[3])
    (touched, *_) = by_sql(listed(client, user, scene="half", size=20))
    assert touched not in by_sql(listed(client, user, scene="half", size=20, history=[{"item_id": touched}]))


def test_an_item_that_is_in_the_table_alone_is_listed_but_meets_no_condition(client: TestClient) -> None:
    rows = listed(client, scene="half", size=200, fields=["title"])
    assert [row["title"] for row in rows if row["item_id"] == NEW + 7] == [None]
    assert NEW + 7 not in by_sql(listed(client, scene="half", size=200, restrict="year > 0"))


def test_while_the_server_is_away_or_slow_what_is_in_memory_is_listed_and_then_sql_again(
    opened: Open, server: Postgres
) -> None:
    with opened(500) as client:
        tell(client, item(NEW, withdrawn=False))
        until("it asks the server", lambda: recovered(client))
        with connected(server) as other, other.transaction():
            other.execute('LOCK TABLE other."own-vectors"')
            began = time.monotonic()
            slow = ask(client)
            assert time.monotonic() - began < 10
            assert (slow["served_by"], slow["left_out"]) == ("degraded", [FAILED])
            assert ["fresh"] in [row["channels"] for row in slow["items"]]
            assert by_sql(slow["items"]) == []
            assert ask(client)["left_out"] == ["recall sql: failed before"]
        until("it asks the server again", lambda: recovered(client))
        server.stop()
        assert ask(client)["left_out"] == [FAILED]
        server.start()
        until("it connects again", lambda: recovered(client))
        tell(client, item(NEW, withdrawn=True))


def test_faults_are_named(
    opened: Open, server: Postgres, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(server) as connection:
        connection.execute('ALTER TABLE other."own-vectors" RENAME COLUMN item TO number')
        connection.execute("ALTER TABLE other.\"own-vectors\" ADD COLUMN item text DEFAULT 'x 1'")
    try:
        with opened(20_000) as client, caplog.at_level(logging.WARNING):
            assert ask(client)["left_out"] == [FAILED]
        assert "other.own-vectors: item 'x 1' is no id of an item, which is a whole number" in caplog.text
        assert PASSWORD not in caplog.text
    finally:
        with connected(server) as connection:
            connection.execute('ALTER TABLE other."own-vectors" DROP COLUMN item')
            connection.execute('ALTER TABLE other."own-vectors" RENAME COLUMN number TO item')
    monkeypatch.delenv("RECSYS_OTHER_URI")
    with pytest.raises(StoreNotConfigured, match="RECSYS_OTHER_URI is not set: give the URI of the database"):
        sql_recall(with_sql(engine.profile))
    for table in ("a b", 'x"; DROP TABLE y', "a.b.c", ""):
        with pytest.raises(ValidationError):
            Sql(table=table)
    with pytest.raises(ValidationError):
        Sql(table="t", uri="postgresql://recs:word@host/db")


def test_a_service_ends_while_its_statement_waits_for_a_server_that_stands_still(
    opened: Open, server: Postgres
) -> None:
    ours = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%<#>%' AND pid <> pg_backend_pid()"
    with contextlib.ExitStack() as last:
        with opened(500) as client:
            until("it asks the server", lambda: recovered(client))
            with connected(server) as other:
                stopped = [pid for (pid,) in other.execute(ours).fetchall()]
            for pid in stopped:
                last.callback(os.kill, pid, signal.SIGCONT)
                os.kill(pid, signal.SIGSTOP)
            assert ask(client)["left_out"] == [FAILED]
            began = time.monotonic()
        assert time.monotonic() - began < 10
