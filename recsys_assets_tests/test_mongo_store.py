import uuid
from collections.abc import Iterator

import pytest

from recsys_assets.stores.embedded import mend
from recsys_assets.stores.mongo import MongoStore
from recsys_assets_tests.store_contract import StoreContract


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    from secantus import SecantusDBServer

    mend()
    with SecantusDBServer(storage_path=":memory:") as server:
        yield server.uri


class TestMongo(StoreContract):
    @pytest.fixture
    def store(self, uri: str) -> Iterator[MongoStore]:
        with MongoStore(uri, "d" + uuid.uuid4().hex) as store:
            yield store
