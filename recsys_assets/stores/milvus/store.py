"""Milvus: one Milvus collection per version, searched by inner product, and an alias for the live one.

For the prefix `movielens-1m`, the collection `widedeep_item` and the version `2003-02-28.0c1f0ab1ce5b` there are

* `widedeep_item__movielens_1m__2003_02_28_0c1f0ab1ce5b`: Milvus takes letters, digits and underscores only;
* the same with `__unfinished` at its end while it is being written: one renaming makes it whole;
* `owner__movielens_1m`, without rows, whose property `owner` says which data set all this belongs to;
* the alias `widedeep_item__movielens_1m`, by which services search; one alias is switched in one step, the
  aliases of several collections one after another in the order of their names.

The column `vector` is a FLOAT_VECTOR with a FLAT index, which is exact, and the metric IP, as in training;
`queryid` is the primary key, the other columns are scalars and arrays. The Arrow schema is the collection's property
`arrow_schema`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from filelock import FileLock, Timeout

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.names import VECTOR
from recsys_assets.stores.base import Address, StoreBase, importing
from recsys_assets.stores.columns import fix_vectors, parse_schema, schema_text
from recsys_assets.stores.milvus.fields import collection_schema, flat_index
from recsys_assets.stores.store import KEY, StoreError, StoreFull, StoreUnavailable
from recsys_assets.uris import safe_message, safe_uri

if TYPE_CHECKING:
    from pymilvus import MilvusClient

_ROWS_PER_CALL = 1000  # rows sent, or asked for, at a time: Milvus takes 64 MB and gives 16,384 rows
_SCHEMA_PROPERTY, _UNFINISHED_SUFFIX, _OWNER_NAME = "arrow_schema", "__unfinished", "owner"
_TIMEOUT = 60  # seconds; without a limit pymilvus tries 75 times
_NO_ROOM = (3, 7, 9)  # Milvus' codes: no memory, no disk, a quota used up
_LITE = ".db"


@dataclass(frozen=True)
class Nearest:
    """The rows with the highest inner product with each of N vectors, best first, equal ones in the order of keys.

    Attributes:
        keys: for each vector, the keys of K or fewer rows.
        scores: for each vector, the inner products of these rows.
    """

    keys: list[list[str]]
    scores: list[list[float]]


class MilvusStore(StoreBase):
    """Collections in a Milvus; see `Store` for its methods.

    Args:
        uri: `http[s]://[USER:PASSWORD@]HOST[:19530][/DATABASE]`; or a path that ends in `.db`, the folder of a Milvus
            Lite, which one process at a time can open, from its first call to `close` (`milvus-lite server` serves one
            to several). Nothing connects yet.
        prefix: distinguishes its collections from others; `-` and `_` in it count as the same.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        self._server, self._prefix = f"Milvus {safe_uri(uri)}", re.sub(r"\W", "_", prefix)
        super().__init__(Address(f"{self._server}, {self._prefix}", uri))
        self._client: MilvusClient | None = None
        self._turn = FileLock(f"{uri}.lock") if uri.endswith(_LITE) else None

    def close(self) -> None:
        """Disconnect, and release the folder of a Milvus Lite."""
        if self._client:
            self._client.close()
            self._client = None
            if self._turn:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(self._address.uri)
                self._turn.release()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`: what an interrupted call left is removed first."""
        if version in self.versions(collection):
            return
        fixed, name = fix_vectors(table), self._physical_name(collection, version)
        unfinished = f"{name}{_UNFINISHED_SUFFIX}"
        fields = collection_schema(fixed)
        self._ask("drop_collection", unfinished)
        schema = {_SCHEMA_PROPERTY: schema_text(table.schema)}
        options = {"consistency_level": "Strong", "properties": schema}  # reads and counts see every write at once
        self._ask("create_collection", unfinished, schema=fields, **options)
        for batch in fixed.to_batches(max_chunksize=_ROWS_PER_CALL):
            self._ask("insert", unfinished, batch.to_pylist())
        self._ask("flush", unfinished)
        self._ask("create_index", unfinished, flat_index(), sync=False)  # a flat index needs no waiting
        self._ask("rename_collection", unfinished, name)

    def search(self, collection: str, vectors: Vectors, k: int, version: str | None = None) -> Nearest:
        """The k nearest rows to each of the vectors (N, D), in a version or the live one.

        Raises:
            VersionMissing: there is no such version.
            StoreError: Milvus refuses, for instance vectors of another width.
        """

        def find(each: str) -> Nearest:
            with self._load(collection, each) as name:
                return self._nearest_rows(name, vectors, k)

        return self._find(collection, version, find)

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`."""
        with self._load(collection, version) as name:
            (row,) = self._ask("query", name, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def live_version(self, collection: str) -> str | None:
        """See `Store.live_version`."""
        alias = self._alias(collection)
        if alias not in self._ask("list_aliases")["aliases"]:
            return None
        found = self._parse(self._ask("describe_alias", alias)["collection_name"])
        return found[1] if found else None

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`: one alias after another, once all versions are loaded."""
        for collection, version in versions.items():
            if version not in self.versions(collection):
                raise self._missing_version(collection, version)
            self._ask("load_collection", self._physical_name(collection, version))
        known = self._ask("list_aliases")["aliases"]
        for collection, version in sorted(versions.items()):
            alias = self._alias(collection)
            change = "alter_alias" if alias in known else "create_alias"
            self._ask(change, self._physical_name(collection, version), alias)

    def owner(self) -> str | None:
        """See `Store.owner`."""
        if self._alias(_OWNER_NAME) not in self._ask("list_collections"):
            return None
        return str(self._ask("describe_collection", self._alias(_OWNER_NAME))["properties"][_OWNER_NAME])

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        no_rows = fix_vectors(pa.table({KEY: [""], VECTOR: pa.array([[0.0, 0.0]], pa.list_(pa.float32()))}))
        self._ask("drop_collection", self._alias(_OWNER_NAME))
        options = {"schema": collection_schema(no_rows), "properties": {_OWNER_NAME: owner}}
        self._ask("create_collection", self._alias(_OWNER_NAME), **options)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`."""
        name = self._physical_name(collection, version)
        if self.live_version(collection) == version:
            self._ask("drop_alias", self._alias(collection))
        for each in (name, f"{name}{_UNFINISHED_SUFFIX}"):
            self._ask("drop_collection", each)

    def _entries(self) -> list[tuple[str, str]]:
        return [found for name in self._ask("list_collections") if (found := self._parse(name))]

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        found: dict[str, dict[str, Any]] = {}
        with self._load(collection, version) as name:
            schema = parse_schema(self._ask("describe_collection", name)["properties"][_SCHEMA_PROPERTY])
            for first in range(0, len(keys), _ROWS_PER_CALL):
                # pymilvus' own `get` lets a quote in a key end the text
                some = f"{KEY} in {json.dumps(list(keys[first : first + _ROWS_PER_CALL]), ensure_ascii=False)}"
                found |= {row[KEY]: row for row in self._ask("query", name, some, output_fields=schema.names)}
        return pa.Table.from_pylist([found[key] for key in keys if key in found], schema)

    def _nearest_rows(self, name: str, vectors: Vectors, k: int) -> Nearest:
        options = {"anns_field": VECTOR, "search_params": {"metric_type": "IP"}, "output_fields": [KEY]}
        answers = self._ask("search", name, vectors.tolist(), limit=k, **options)
        pairs = [sorted((-hit["distance"], hit["entity"][KEY]) for hit in hits) for hits in answers]
        return Nearest([[key for _, key in hits] for hits in pairs], [[-score for score, _ in hits] for hits in pairs])

    @contextmanager
    def _load(self, collection: str, version: str) -> Iterator[str]:
        """Milvus' name of a loaded version, in a block that raises `VersionMissing` when it was dropped meanwhile."""
        name = self._physical_name(collection, version)
        try:
            self._ask("load_collection", name)
            yield name
        except StoreUnavailable:
            if version in self.versions(collection):
                raise
            raise self._missing_version(collection, version) from None

    def _alias(self, collection: str) -> str:
        return f"{collection}__{self._prefix}"

    def _physical_name(self, collection: str, version: str) -> str:
        """Milvus' name for a version."""
        return f"{self._alias(collection)}__{re.sub('[-.]', '_', version)}"

    def _parse(self, name: str) -> tuple[str, str] | None:
        """Collection and version of a name that `_physical_name` made; None for any other name."""
        parts = re.fullmatch(rf"(\w+)__{self._prefix}__(\d{{4}})_(\d\d)_(\d\d)_([0-9a-z]+)", name)
        return (parts[1], f"{parts[2]}-{parts[3]}-{parts[4]}.{parts[5]}") if parts else None

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of pymilvus' client, which connects when it is first asked.

        Raises:
            StoreFull: there is no room.
            StoreUnavailable: it cannot be reached, or refuses.
            ExtraMissing: pymilvus, or for a folder milvus-lite, is not installed.
        """
        client = self._connect()
        with self._translate_errors(method):
            return getattr(client, method)(*args, timeout=_TIMEOUT, **kwargs)

    def _translate(self, error: Exception, said: str) -> StoreError | None:
        from pymilvus import MilvusException

        if not isinstance(error, MilvusException):
            return None
        if error.code in _NO_ROOM or "No space left" in error.message:
            said = safe_message(error, self._address.uri)
            return StoreFull(f"{self._server} has no room: drop versions (keep fewer), or make room: {said}")
        return StoreUnavailable(f"{self._server}: {said}")

    def _connect(self) -> "MilvusClient":
        with importing("milvus"):
            from pymilvus import MilvusClient, MilvusException

            if self._turn:
                import milvus_lite  # noqa: F401
        said = ""
        if self._client is None:
            self._wait()
            try:
                self._client = MilvusClient(self._address.uri, timeout=_TIMEOUT)
            except (MilvusException, ValueError) as error:
                said = safe_message(error, self._address.uri)
        if self._client is None:
            if self._turn:
                self._turn.release()
            raise StoreUnavailable(
                f"{self._server} cannot be opened, {said}: is it up, and is the URI right "
                "(http://USER:PASSWORD@HOST:19530)? A Milvus Lite is a path that ends in .db, in a folder that exists"
            )
        return self._client

    def _wait(self) -> None:
        """Wait until no other process has the folder of a Milvus Lite open: one at a time can."""
        if self._turn:
            try:
                self._turn.acquire(timeout=_TIMEOUT)
            except (Timeout, OSError) as error:
                what = f"{self._server}: another process has it open, or there is no such folder"
                raise StoreUnavailable(f"{what}: {safe_message(error, self._address.uri)}") from None
