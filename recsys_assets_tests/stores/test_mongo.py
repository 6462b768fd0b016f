"""The MongoDB store on a real server: the contract, types, values it cannot hold, interruptions, releases."""

import datetime as dt
import math
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from bson import Binary, Int64
from pymongo import MongoClient
from pymongo.database import Database

from recsys_assets.stores.live_sets import release_of, release_set
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.store import KEY, StoreError, Unrepresentable
from recsys_assets_tests.helpers.mongo_servers import daemon
from recsys_assets_tests.helpers.publishing import publish
from recsys_assets_tests.helpers.store_contract import NEW, OLD, StoreContract, no_gate, rows

DAY = dt.datetime(2000, 12, 31, 22, 12, 40, 1000, dt.UTC)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with daemon(tmp_path_factory.mktemp("mongo") / "data") as server:
        yield server.uri


@pytest.fixture
def database(uri: str) -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        yield client[f"test_{uuid.uuid4().hex}"]


@pytest.fixture
def store(uri: str, database: Database[dict[str, Any]]) -> Iterator[MongoStore]:
    with MongoStore(uri, database.name) as store:
        yield store


class TestMongoStore(StoreContract):
    """The contract, with the columns that every store supports."""


def typed() -> pa.Table:
    """Ordinary and odd values of every type that the store accepts."""
    neighbours = pa.list_(pa.struct([("item_id", pa.int64()), ("score", pa.float32())]))
    floats = [[0.1, math.nan, -0.0], [], None]
    columns = {
        KEY: ["1", "ü|,'\"$.\U0001f600", "nul \0"],
        "count": pa.array([2**63 - 1, -1, None], pa.int64()),
        "small": pa.array([255, None, 0], pa.uint8()),
        "share": pa.array([0.1, math.nan, None], pa.float32()),
        "wide": pa.array([0.1, -math.inf, None]),
        "title": pa.array(["\u212b naïve", "", None], pa.large_string()),
        "rich": pa.array([True, False, None]),
        "seen": pa.array([DAY, dt.datetime(1, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("us")),
        "there": pa.array([DAY, dt.datetime(9999, 12, 31, tzinfo=dt.UTC), None], pa.timestamp("ms", "Europe/Berlin")),
        "genres": pa.array([["Drama", None, ""], [], None], pa.list_(pa.string())),
        "items": pa.array([[2**40, None, 3], [], None], pa.list_(pa.int64())),
        "neighbours": pa.array([[{"item_id": 7, "score": 0.1}, {"item_id": None, "score": 2}], [], None], neighbours),
        "one": pa.array([{"a": 1, "b": ["x"]}, {"a": None, "b": None}, None]),
        "vector": pa.array(floats, pa.list_(pa.float32())),
        "large": pa.array(floats, pa.large_list(pa.float32())),
        "fixed": pa.array([[1, 2], None, [math.inf, 0.3]], pa.list_(pa.float32(), 2)),
        "vectors": pa.array([[[1.5], None, []], [], None], pa.list_(pa.list_(pa.float32()))),
        "doubles": pa.array([[0.1, None], [], None], pa.list_(pa.float64())),
    }
    return pa.table(columns)


def test_every_type_comes_back_as_it_was(store: MongoStore) -> None:
    # Two chunks, cut from a longer table, with more rows than one batch: offsets are where encoders fail.
    table = pa.concat_tables([typed().slice(1), typed()]).slice(2)
    many = rows(2500)
    for name, each in (("typed", table), ("many", many), ("none", many.slice(0, 0))):
        publish(store, name, NEW, each, no_gate, keep=2)
        read = store.read(name, each[KEY].to_pylist())
        assert read.schema == each.schema
        assert repr(read.to_pylist()) == repr(each.to_pylist())  # NaN and -0.0 too


def test_what_a_service_finds_under_the_plain_name(store: MongoStore, database: Database[dict[str, Any]]) -> None:
    found: Any = None
    for version in (OLD, NEW):
        store.write("user", version, typed())
        store.go_live("user", version)
        found = database["user"].find_one({"queryid": "1"})
        assert (found["_id"], found["bizdate"]) == ("1", version[:10])
        assert database[f"user.{version}"].index_information()["queryid_1"]["key"] == [("queryid", 1)]
    assert isinstance(found["count"], Int64)
    assert isinstance(found["items"][2], Int64)
    assert found["share"] == np.float32(0.1)
    assert found["seen"] == found["there"] == DAY
    assert found["neighbours"] == [{"item_id": 7, "score": np.float32(0.1)}, {"item_id": None, "score": 2.0}]
    assert isinstance(found["vector"], Binary)
    assert found["vector"].as_vector().data[:1] == [np.float32(0.1)]


def test_the_plain_name_of_a_collection_of_others_is_left_alone(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    database["user"].insert_one({"theirs": True})
    store.write("user", NEW, rows())
    with pytest.raises(StoreError, match="has a collection user, .* rename or drop it"):
        store.go_live("user", NEW)
    assert store.live_version("user") is None
    assert database["user"].count_documents({"theirs": True}) == 1


def text(value: bytes) -> pa.Array:
    """Arbitrary bytes, typed as text."""
    return pa.Array.from_buffers(pa.string(), 2, pa.array([b"well", value], pa.binary()).buffers())


UNFIT = {
    "beyond int64": (pa.array([1, 2**63], pa.uint64()), "odd of 8: .*9223372036854775808"),
    "microseconds": (pa.array([DAY, DAY.replace(microsecond=1)], pa.timestamp("us")), "odd of 8: .*lose data"),
    "year 10000": (pa.array([0, 253_402_300_800], pa.timestamp("s")), "odd of 8: .*1 to 9999"),
    "not UTF-8": (text(b"\xff"), "odd of 8: .*UTF8"),
    "a surrogate": (text(b"\xed\xa0\x80"), "odd of 8: .*UTF8"),
    "a hole in a vector": (pa.array([[1], [None]], pa.list_(pa.float32())), "odd of 8: .*null"),
    "17 MB": (pa.array([[], [0] * 1_100_000]), "document of 8 has 17,"),
    "decimals": (pa.array([None, None], pa.decimal128(5, 2)), "column odd: its type is decimal128"),
    "deep names": (pa.array([{"a.b": 1}, None]), "column odd: a field's name"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_cannot_be_held_is_named_and_nothing_is_left(
    case: str, store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    values, said = UNFIT[case]
    publish(store, "user", OLD, rows(), no_gate, keep=2)
    before = sorted(database.list_collection_names())
    with pytest.raises(Unrepresentable, match=f"^user: .*{said}"):
        publish(store, "user", NEW, pa.table({KEY: ["7", "8"], "odd": values}), no_gate, keep=2)
    assert sorted(database.list_collection_names()) == before
    assert (store.live_version("user"), store.versions("user")) == (OLD, [OLD])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({KEY: ["7", "8", "7"]}), "'values': '7', 'counts': 2"),
        (pa.table({KEY: ["7", None]}), "'values': None"),
        (pa.table({KEY: ["7"], "bizdate": ["2026-01-05"]}), "one field bizdate"),
        (pa.table([["7"], [1], [2]], names=[KEY, "a", "a"]), "one field a"),
        (pa.table({KEY: ["7"], "$set": [1]}), "column \\$set"),
    ],
)
def test_keys_and_names_that_do_not_tell_apart_are_refused(table: pa.Table, said: str, store: MongoStore) -> None:
    with pytest.raises(Unrepresentable, match=said):
        store.write("user", NEW, table)


def test_an_interrupted_write_is_completed_with_what_is_missing(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    table, physical = rows(), database[f"user.{NEW}"]
    store.write("user", NEW, table)
    database["_versions"].delete_one({"_id": physical.name})
    physical.delete_many({"_id": {"$in": [str(number) for number in range(20)]}})
    physical.update_many({}, {"$set": {"written": "before"}})
    physical.drop_index("queryid_1")
    assert store.versions("user") == []
    publish(store, "user", NEW, table, no_gate, keep=2)
    assert store.read("user", table[KEY].to_pylist()).equals(table)
    assert (physical.count_documents({}), physical.count_documents({"written": "before"})) == (50, 30)
    assert "queryid_1" in physical.index_information()


def test_writers_of_the_same_version_at_once_complete_each_other(uri: str, store: MongoStore) -> None:
    table = rows(3000)

    def write(_: int) -> None:
        with MongoStore(uri, store._database.name) as own:
            publish(own, "user", NEW, table, no_gate, keep=2)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(write, range(3)))
    assert (store.live_version("user"), store.count("user", NEW)) == (NEW, 3000)
    assert store.read("user", table[KEY].to_pylist()).equals(table)


def test_the_live_version_is_gone_when_it_is_dropped(store: MongoStore) -> None:
    publish(store, "user", NEW, rows(), no_gate, keep=2)
    store.drop("user", NEW)
    assert (store.live_version("user"), store.versions("user")) == (None, [])


def test_releases_have_growing_numbers_and_never_change(uri: str, store: MongoStore) -> None:
    """Two writers with sets of one bizdate each: every decision uses what the other writer has made current."""
    assert store.release() is None
    store.write("user", NEW, rows())
    named = {"user": {"version": NEW, "rows": 50}}

    def content(writer: int, nth: int) -> dict[str, Any]:
        return release_of(named, {"by": [writer, nth]})

    def put(writer: int) -> list[int]:
        with MongoStore(uri, store._database.name) as own:
            return [release_set(own, content(writer, nth))[0] for nth in range(10)]

    seen = []
    with ThreadPoolExecutor(2) as threads:
        putting = [threads.submit(put, writer) for writer in range(2)]
        while not all(each.done() for each in putting):
            seen.append((store.release() or {"number": 0})["number"])
        numbers = [each.result() for each in putting]
    assert len(set(numbers[0] + numbers[1])) == 20
    assert seen == sorted(seen)
    for writer, given in enumerate(numbers):
        assert given == sorted(given)
        expected = [{**content(writer, nth), "number": number} for nth, number in enumerate(given)]
        assert [store.release(number) for number in given] == expected
    assert store.release() == store.release(max(numbers[0] + numbers[1]))


def test_a_release_that_no_document_can_hold_is_refused(store: MongoStore) -> None:
    for champion in ({"odd": object()}, {"odd": 2**64}):
        with pytest.raises(Unrepresentable, match=f"{store._database.name} cannot hold"):
            store.put_release(release_of({}, champion), None)
    assert store.release() is None


def test_of_two_that_decide_on_the_same_release_one_is_told_to_look_again(store: MongoStore) -> None:
    for version in (OLD, NEW):
        store.write("user", version, rows())
    first, second = (release_of({"user": {"version": version, "rows": 50}}, None) for version in (NEW, OLD))
    assert store.put_release(first, None) == 1
    assert store.put_release(second, None) is None
    assert (store.live_version("user"), store.shown_versions(), len(store.releases())) == (NEW, {"user": NEW}, 1)


def test_a_name_that_a_release_does_not_hold_shows_nothing(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    for name in ("user", "item"):
        publish(store, name, OLD, rows(), no_gate, keep=3)
    publish(store, "item", NEW, rows(), no_gate, keep=3)
    assert store.put_release(release_of({"item": {"version": NEW, "rows": 50}}, None), store.release())
    assert (store.shown_versions(), database["user"].count_documents({})) == ({"item": NEW}, 0)
