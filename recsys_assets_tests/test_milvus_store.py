"""The Milvus store: the contract, the search, and what goes wrong, on a real Milvus Lite."""

from collections.abc import Iterator

import pytest

from recsys_assets.stores.milvus import MilvusStore
from recsys_assets_tests.store_contract import StoreContract


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusStore]:
    with MilvusStore(str(tmp_path_factory.mktemp("milvus") / "lite.db"), "movielens-1m") as store:
        yield store


@pytest.fixture
def store(opened: MilvusStore) -> MilvusStore:
    for collection in opened.collections():
        for version in opened.versions(collection):
            opened.drop(collection, version)
    return opened


class TestMilvus(StoreContract):
    pass
