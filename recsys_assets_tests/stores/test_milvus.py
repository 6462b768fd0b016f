"""The Milvus store on a real Milvus Lite: the contract, the search, and failures."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pymilvus import DataType, MilvusClient

from recsys_assets.stores.milvus.store import MilvusStore
from recsys_assets.stores.store import KEY, StoreUnavailable, Unrepresentable, VersionMissing
from recsys_assets_tests.helpers.store_contract import NEW, OLD, StoreContract, rows, said

UNFINISHED = "user__movielens_1m__2026_01_06_bbbbbbbbbbbb__unfinished"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("milvus") / "lite.db")


@pytest.fixture(scope="module")
def opened(folder: str) -> Iterator[MilvusStore]:
    with MilvusStore(folder, "movielens-1m") as store:
        yield store


@pytest.fixture
def store(opened: MilvusStore) -> MilvusStore:
    for collection in opened.collections():
        for version in opened.versions(collection):
            opened.drop(collection, version)
    return opened


class TestMilvus(StoreContract):
    pass


def test_the_nearest_rows_are_those_of_the_highest_inner_product(store: MilvusStore, folder: str) -> None:
    table, k = rows(1500), 20
    store.write("user", NEW, table)
    store.go_live("user", NEW)
    vectors = np.random.default_rng(2).standard_normal((5, 8), np.float32)
    products = vectors @ np.array(table["vector"].to_pylist(), np.float32).T
    best = np.argsort(-products, axis=1)[:, :k]
    for version in (None, NEW):
        found = store.search("user", vectors, k, version)
        assert found.keys == [[str(row) for row in wanted] for wanted in best]
        np.testing.assert_allclose(found.scores, np.take_along_axis(products, best, axis=1), rtol=1e-5)
    served = MilvusClient(folder).search("user__movielens_1m", vectors.tolist(), limit=1, output_fields=[KEY])
    assert [hits[0]["entity"][KEY] for hits in served] == [keys[0] for keys in found.keys]
    with pytest.raises(VersionMissing, match="user has no version 2026-01-05.*: it has 2026-01-06"):
        store.search("user", vectors, k, OLD)


def test_equally_near_rows_are_in_the_order_of_their_keys(store: MilvusStore) -> None:
    store.write("item", NEW, pa.table({KEY: ["c", "a", "b"], "vector": [[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]}))
    found = store.search("item", np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), 5, NEW)
    assert found.keys == [["a", "b", "c"], ["b", "a", "c"]]


def test_every_value_comes_back(store: MilvusStore) -> None:
    table = pa.table(
        {
            KEY: ["a'b\\n", "", 'ü"'],
            "vector": pa.array([[1 / 3, -0.0], [1e-30, 3e38], [0.1, 2.0]], pa.large_list(pa.float32())),
            "texts": pa.array([["a,b", ""], [], None], pa.large_list(pa.large_string())),
            "floats": pa.array([[0.1], None, [2.0]], pa.list_(pa.float32())),
            "small": pa.array([1, None, -128], pa.int8()),
            "double": [0.1, 5e-324, None],
            "truth": [None, True, False],
        }
    )  # fmt: skip
    store.write("user", NEW, table)
    assert store.read("user", table[KEY].to_pylist(), NEW).equals(table)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array(["a", "b" * 65_536]), "column odd of row k1: Milvus holds at most 65,535 bytes"),
        (pa.array([["a"], ["b"] * 4097]), "column odd of row k1: Milvus holds at most 4,096 entries"),
        (pa.array([["a"], [None]]), "column odd of row k1: a null in a list"),
        (pa.array([["a"], ["b", "ü" * 40_000]]), "column odd of row k1: .* bytes"),
        (pa.array([1, 2], pa.timestamp("us")), "column odd: Milvus has no type for timestamp"),
    ],
)
def test_what_milvus_does_not_hold_is_refused(store: MilvusStore, column: pa.Array, says: str) -> None:
    with pytest.raises(Unrepresentable, match=says):
        store.write("user", NEW, pa.table({KEY: ["k0", "k1"], "vector": [[1.0], [2.0]], "odd": column}))
    assert store.versions("user") == []


def test_what_a_killed_write_left_is_not_there_and_is_written_anew(store: MilvusStore, folder: str) -> None:
    client = MilvusClient(folder)
    schema = client.create_schema()
    schema.add_field("half", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=3)
    client.create_collection(UNFINISHED, schema=schema)
    assert (store.versions("user"), store.collections()) == ([], [])
    with pytest.raises(VersionMissing):
        store.go_live("user", NEW)
    store.write("user", NEW, rows())
    names = [name for name in client.list_collections() if not name.startswith("owner__")]
    assert (store.count("user", NEW), names) == (50, [UNFINISHED.removesuffix("__unfinished")])


def test_a_folder_that_another_process_has_open_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tmp_path / "lite.db")
    asked = f"MilvusStore({folder!r}, 'sample').live_version('user')"
    command = f"from recsys_assets.stores.milvus.store import MilvusStore; print({asked})"
    with MilvusStore(folder, "sample") as store:
        store.write("user", NEW, rows())
        elsewhere = subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True)
        monkeypatch.setattr("recsys_assets.stores.milvus.store._TIMEOUT", 1)
        with (
            MilvusStore(folder, "sample") as impatient,
            pytest.raises(StoreUnavailable, match="another process has it"),
        ):
            impatient.live_version("user")
        monkeypatch.undo()
        store.go_live("user", NEW)
    assert elsewhere.communicate(timeout=60)[0].strip() == NEW
    with MilvusStore(folder, "sample") as store:
        assert store.read("user", ["7"]).equals(rows().slice(7, 1))


@pytest.mark.parametrize(
    "uri", ["http://u:secret@127.0.0.1:1", "http://u:sec/ret@h", "redis://u:secret@h", "http://u:sec:ret@h:x"]
)
def test_who_is_away_is_named_without_the_password(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    with MilvusStore(uri, "sample") as store, pytest.raises(StoreUnavailable, match="is the URI right") as caught:
        store.versions("user")
    assert "sec" not in f"{store!r} {caplog.text} {said(caught.value)}"
