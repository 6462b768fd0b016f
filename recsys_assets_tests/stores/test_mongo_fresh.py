"""Fresh rows next to the live vectors of a real MongoDB server: the newest wins, and withdrawn ones leave the view."""

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bson import Int64
from bson.binary import Binary
from pymongo import MongoClient
from pymongo.database import Database

from recsys_assets.arrays import Vectors
from recsys_assets.fresh.changes import Changes
from recsys_assets.stores.fresh import FreshStore
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.registry import STORES
from recsys_assets.stores.store import VersionMissing
from recsys_assets_tests.helpers.mongo_servers import daemon
from recsys_assets_tests.helpers.store_contract import NEW, OLD, rows

NAME, MOMENT = "emb_dssm_item", dt.datetime(2026, 1, 7, 12, tzinfo=dt.UTC)
ONES = np.ones(8, np.float32)


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
    """A store whose live version has ten vectors."""
    with MongoStore(uri, database.name) as store:
        store.write(NAME, NEW, vectors())
        store.go_live(NAME, NEW)
        yield store


def vectors() -> Any:
    return rows(10).select(["queryid", "user_id", "vector"]).rename_columns(["queryid", "item_id", "vector"])


def fresh(keys: list[int], number: int, vector: Vectors = ONES, second: float = 0.0, gone: bool = False) -> Changes:
    count, times = len(keys), np.full(len(keys), MOMENT.timestamp() + second)
    lines = [json.dumps({"item_id": key, "genres": ["Drama"], "second": second}) for key in keys]
    withdrawn = np.full(count, gone)
    return Changes(list(map(str, keys)), lines, times, times, withdrawn, np.tile(vector, (count, 1)), number)


def keys_of(database: Database[dict[str, Any]]) -> set[str]:
    return {each["queryid"] for each in database[NAME].find()}


def test_the_view_shows_fresh_rows_with_their_vectors_and_the_version_stays_as_it_was(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    assert isinstance(store, FreshStore)
    assert STORES["mongo"].collection_of("emb_dssm_item", "dssm") == NAME
    store.put_fresh(NAME, NEW, fresh([3, 900], 2))
    assert keys_of(database) == {*map(str, range(10)), "900"}
    assert database[NAME].count_documents({"queryid": "3"}) == 1
    (found,) = database[NAME].find({"queryid": "900"})
    assert Binary(found.pop("vector"), 9).as_vector().data == [1.0] * 8
    row = {"item_id": 900, "genres": ["Drama"], "second": 0.0}
    assert found == {"_id": "900", "queryid": "900", "item_id": 900, "row": row} | {
        "update_time": MOMENT,
        "bizdate": "2026-01-06",
    }
    assert isinstance(found["item_id"], Int64)
    assert isinstance(found["row"]["item_id"], Int64)
    assert store.read(NAME, ["3"]).equals(vectors().take([3]))
    assert (store.count(NAME, NEW), store.fresh_number(NAME, NEW)) == (10, 2)


def test_the_newest_state_wins_whatever_order_and_a_withdrawn_row_leaves_until_it_comes_back(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    store.put_fresh(NAME, NEW, fresh([900, 901], 2, second=5))
    store.put_fresh(NAME, NEW, fresh([900, 902], 3, second=1))  # late, as of a process that was overtaken
    seconds = {each["queryid"]: each["row"]["second"] for each in database[NAME].find({"row": {"$exists": True}})}
    assert seconds == {"900": 5.0, "901": 5.0, "902": 1.0}
    store.put_fresh(NAME, NEW, fresh([900, 4], 4, second=6, gone=True))
    assert keys_of(database) == {*map(str, range(10)), "901", "902"} - {"4"}
    store.put_fresh(NAME, NEW, fresh([900], 3, second=5))
    assert "900" not in keys_of(database)
    store.put_fresh(NAME, NEW, fresh([900, 4], 5, second=7))
    assert {"900", "4"} <= keys_of(database)
    assert store.fresh_number(NAME, NEW) == 5


def test_fresh_rows_belong_to_their_version_and_are_dropped_with_it(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    store.write(NAME, OLD, vectors())
    store.put_fresh(NAME, NEW, fresh([900], 2))
    store.go_live(NAME, OLD)
    assert keys_of(database) == {*map(str, range(10))}
    store.go_live(NAME, NEW)
    assert "900" in keys_of(database)
    store.go_live(NAME, OLD)
    store.drop(NAME, NEW)
    assert [name for name in database.list_collection_names() if NEW in name] == []
    with pytest.raises(VersionMissing, match=f"{NAME} has no version {NEW}"):
        store.put_fresh(NAME, NEW, fresh([900], 2))


def test_views_of_collections_without_vectors_stay_plain(store: MongoStore, database: Database[dict[str, Any]]) -> None:
    store.write("item", NEW, rows(3).select(["queryid", "user_id", "terms"]))
    store.go_live("item", NEW)
    pipelines = {
        each["name"]: each["options"].get("pipeline", [])
        for each in database.list_collections()
        if each["type"] == "view"
    }
    assert pipelines["item"] == []
    assert [next(iter(each)) for each in pipelines[NAME]] == ["$lookup", "$match", "$unset", "$unionWith"]
