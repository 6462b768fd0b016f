"""The LanceDB store: the contract, the hybrid query compared with a plain computation, and failures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Doubles, Floats
from recsys_assets.stores.lance.store import LanceStore
from recsys_assets.stores.store import KEY, StoreUnavailable, Unrepresentable, VersionMissing
from recsys_assets_tests.helpers.store_contract import NEW, OLD, StoreContract, rows

ITEMS, WIDTH = 4000, 16


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LanceStore]:
    with LanceStore(str(tmp_path), "movielens-1m") as store:
        yield store


class TestLance(StoreContract):
    pass


def items() -> pa.Table:
    """Items with terms and vectors; the last 50 vectors are equal."""
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((ITEMS, WIDTH), np.float32)
    vectors[-50:] = vectors[-1]
    terms = [[f"t'{term}" for term in rng.choice(20, size)] for size in rng.integers(0, 4, ITEMS)]
    keys = [f"i{number}" for number in range(ITEMS)]
    return pa.table({KEY: keys, "item_id": range(ITEMS), "terms": terms, "vector": list(vectors)})


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanceStore]:
    with LanceStore(str(tmp_path_factory.mktemp("lance")), "sample") as store:
        store.write("item", NEW, items())
        store.go_live("item", NEW)
        yield store


def plainly(
    vector: Floats, terms: list[str], seen: list[str], k: int, weights: tuple[float, float]
) -> tuple[list[str], Doubles]:
    """Keys and scores of the k best items, given the scores of all."""
    table = items()
    match = np.array([not set(terms).isdisjoint(each) for each in table["terms"].to_pylist()])
    products = (np.array(table["vector"].to_pylist()) * vector.astype(np.float64)).sum(axis=1)
    scores = np.where(np.isin(table[KEY].to_numpy(), seen), -np.inf, weights[0] * products + weights[1] * match)
    best = np.lexsort((table[KEY].to_numpy().astype(str), -scores))[: min(k, ITEMS - len(seen))]
    return table[KEY].take(best).to_pylist(), scores[best]


@pytest.mark.parametrize("terms", [[], ["t'3", "t'11"], ["of no item"]])
@pytest.mark.parametrize("k", [1, 20, ITEMS])
def test_the_hybrid_query_gives_what_a_plain_computation_gives(index: LanceStore, terms: list[str], k: int) -> None:
    seen = [f"i{number}" for number in range(0, ITEMS, 7)]
    likes_the_same_ones = np.array(items()["vector"][-1].as_py(), np.float32)
    for weights in ((0.9, 0.1), (0.01, 0.99), (1.0, 0.0)):
        for vector in (likes_the_same_ones, -likes_the_same_ones):
            keys, scores = plainly(vector, terms, seen, k, weights)
            found = index.hybrid_search("item", vector, terms, seen, k, weights)
            assert found[KEY].to_pylist() == keys
            np.testing.assert_allclose(found["score"], scores, rtol=1e-12)


def test_who_has_seen_all_gets_nothing_and_weights_by_which_the_best_are_not_near_are_refused(
    index: LanceStore,
) -> None:
    vector, everything = np.ones(WIDTH, np.float32), items()[KEY].to_pylist()
    assert len(index.hybrid_search("item", vector, ["t'1"], everything, 20)) == 0
    for weights in ((0.9, -0.1), (0.0, 1.0)):
        with pytest.raises(ValueError, match="above 0"):
            index.hybrid_search("item", vector, ["t'1"], [], 20, weights)
    with pytest.raises(VersionMissing, match=f"item has no version {OLD} in .*: it has {NEW}"):
        index.hybrid_search("item", vector, [], [], 20, version=OLD)


def test_types_come_back_and_texts_are_no_sql(store: LanceStore) -> None:
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.large_list(pa.float32()))
    table = pa.table(
        {KEY: ["o'r", "') OR true --"], "vector": vectors, "when": pa.array([1, None], pa.timestamp("us"))}
    )
    store.write("item", NEW, table)
    assert store.read("item", ["') OR true --"], NEW).equals(table.slice(1))


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([[1.0], [1.0, 2.0]]), "column vector of row k1: 2 numbers, the first row has 1"),
        (pa.array([[1.0], None]), "row k1: 0 numbers"),
        (pa.array([[1.0, 0.0], [1.0, float("nan")]]), "row k1: not all finite"),
    ],
)
def test_vectors_that_cannot_be_searched_are_refused(store: LanceStore, column: pa.Array, says: str) -> None:
    with pytest.raises(Unrepresentable, match=says):
        store.write("item", NEW, pa.table({KEY: ["k0", "k1"], "vector": column}))
    assert store.versions("item") == []


def test_what_a_killed_write_left_is_not_there_and_is_written_anew(store: LanceStore, tmp_path: Path) -> None:
    import lancedb  # it takes five seconds, which the other workers need not spend

    lance = lancedb.connect(tmp_path / "movielens-1m")
    lance.create_table(f"user.{NEW}", pa.table({"half": [1]}))
    (tmp_path / "movielens-1m" / f"user.{OLD}.lance" / "data").mkdir(parents=True)
    assert (store.versions("user"), store.collections()) == ([], [])
    for version in (OLD, NEW):
        with pytest.raises(VersionMissing):
            store.go_live("user", version)
        store.write("user", version, rows())
        assert store.count("user", version) == 50
        store.drop("user", version)
    assert lance.list_tables().tables == ["versions"]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with LanceStore(str(tmp_path / "file"), "sample") as store, pytest.raises(StoreUnavailable, match="file/sample"):
        store.versions("user")
