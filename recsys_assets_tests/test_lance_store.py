"""The LanceDB store: the contract, the hybrid query beside a plain computation, and what goes wrong."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import numpy as np

from recsys_assets.stores.lance import LanceStore
from recsys_assets.stores.store import KEY
from recsys_assets_tests.store_contract import NEW, OLD, StoreContract


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LanceStore]:
    with LanceStore(str(tmp_path), "movielens-1m") as store:
        yield store


class TestLance(StoreContract):
    pass


def items(count: int = 4000, width: int = 16) -> pa.Table:
    """Items with terms and vectors; the last 50 are all alike."""
    rng = np.random.default_rng(7)
    vectors = rng.standard_normal((count, width), np.float32)
    vectors[-50:] = vectors[-1]
    terms = [[f"t'{term}" for term in rng.choice(20, size, replace=False)] for size in rng.integers(0, 4, count)]
    return pa.table(
        {
            KEY: [f"i{number}" for number in range(count)],
            "item_id": range(count),
            "terms": terms,
            "vector": list(vectors),
        }
    )


@pytest.mark.parametrize("terms", [[], ["t'3", "t'11"], ["nobody's"]])
@pytest.mark.parametrize("k", [1, 20, 5000])
def test_hybrid(store, terms, k):
    table = items()
    store.write("item", NEW, table)
    store.go_live("item", NEW)
    vectors = np.array(table["vector"].to_pylist())
    vector = vectors[-1].astype(np.float32)
    seen = [f"i{number}" for number in range(0, 4000, 7)]
    match = np.array([bool(set(terms) & set(each)) for each in table["terms"].to_pylist()])
    scores = 0.9 * (vectors @ vector) + 0.1 * match
    kept = ~np.isin(table[KEY].to_numpy(), seen)
    keys = table[KEY].to_numpy()[kept]
    order = np.lexsort((keys.astype(str), -scores[kept]))[:k]
    found = store.hybrid("item", vector, terms, seen, k)
    assert found[KEY].to_pylist() == keys[order].tolist()
    np.testing.assert_allclose(found["score"], scores[kept][order], rtol=1e-6)
