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

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import pyarrow as pa

from recsys_assets.arrays import Vectors
from recsys_assets.stores.milvus_client import Milvus
from recsys_assets.stores.milvus_fields import collection_schema, flat_index
from recsys_assets.stores.pinned import find_in, missing
from recsys_assets.stores.store import KEY, StoreUnavailable
from recsys_assets.stores.vectors import VECTOR, with_fixed_vectors

_BATCH = 1000  # rows sent, or asked for, at a time: Milvus takes 64 MB and gives 16,384 rows
_SCHEMA, _UNFINISHED, _OWNER = "arrow_schema", "__unfinished", "owner"
T = TypeVar("T")


@dataclass(frozen=True)
class Nearest:
    """The rows with the highest inner product with each of N vectors, best first, equal ones in the order of keys.

    Attributes:
        keys: for each vector, the keys of K or fewer rows.
        scores: for each vector, the inner products of these rows.
    """

    keys: list[list[str]]
    scores: list[list[float]]


class MilvusStore:
    """Collections in a Milvus; see `Store` for its methods.

    Args:
        uri: `http[s]://[USER:PASSWORD@]HOST[:19530][/DATABASE]`; or a path that ends in `.db`, the folder of a Milvus
            Lite, which one process at a time can open, from its first call to `close` (`milvus-lite server` serves one
            to several). Nothing connects yet.
        prefix: distinguishes its collections from others; `-` and `_` in it count as the same.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        self._milvus, self._prefix = Milvus(uri), re.sub(r"\W", "_", prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._milvus}, {self._prefix})"

    def close(self) -> None:
        """Disconnect, and release the folder of a Milvus Lite."""
        self._milvus.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`: what an interrupted call left is removed first."""
        if version in self.versions(collection):
            return
        fixed, name = with_fixed_vectors(table), self._physical(collection, version)
        unfinished = f"{name}{_UNFINISHED}"
        fields = collection_schema(fixed)
        self._milvus.ask("drop_collection", unfinished)
        schema = {_SCHEMA: base64.b64encode(table.schema.serialize()).decode()}
        options = {"consistency_level": "Strong", "properties": schema}  # reads and counts see every write at once
        self._milvus.ask("create_collection", unfinished, schema=fields, **options)
        for batch in fixed.to_batches(max_chunksize=_BATCH):
            self._milvus.ask("insert", unfinished, batch.to_pylist())
        self._milvus.ask("flush", unfinished)
        self._milvus.ask("create_index", unfinished, flat_index(), sync=False)  # a flat index needs no waiting
        self._milvus.ask("rename_collection", unfinished, name)

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """See `Store.read`."""
        return self._find(collection, version, lambda name: self._rows(name, keys))

    def search(self, collection: str, vectors: Vectors, k: int, version: str | None = None) -> Nearest:
        """The k nearest rows to each of the vectors (N, D), in a version or the live one.

        Raises:
            VersionMissing: there is no such version.
            StoreError: Milvus refuses, for instance vectors of another width.
        """
        return self._find(collection, version, lambda name: self._nearest(name, vectors, k))

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`."""
        return self._find(collection, version, self._counted)

    def collections(self) -> list[str]:
        """See `Store.collections`."""
        return sorted({collection for collection, _ in self._whole()})

    def versions(self, collection: str) -> list[str]:
        """See `Store.versions`."""
        return sorted(version for other, version in self._whole() if other == collection)

    def live(self, collection: str) -> str | None:
        """See `Store.live`."""
        alias = self._alias(collection)
        if alias not in self._milvus.ask("list_aliases")["aliases"]:
            return None
        found = self._parsed(self._milvus.ask("describe_alias", alias)["collection_name"])
        return found[1] if found else None

    def go_live(self, collection: str, version: str) -> None:
        """See `Store.go_live`."""
        self.switch({collection: version})

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`: one alias after another, once all versions are loaded."""
        for collection, version in versions.items():
            if version not in self.versions(collection):
                raise missing(self, collection, version)
            self._milvus.ask("load_collection", self._physical(collection, version))
        known = self._milvus.ask("list_aliases")["aliases"]
        for collection, version in sorted(versions.items()):
            alias = self._alias(collection)
            change = "alter_alias" if alias in known else "create_alias"
            self._milvus.ask(change, self._physical(collection, version), alias)

    def owner(self) -> str | None:
        """See `Store.owner`."""
        if self._alias(_OWNER) not in self._milvus.ask("list_collections"):
            return None
        return str(self._milvus.ask("describe_collection", self._alias(_OWNER))["properties"][_OWNER])

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        no_rows = with_fixed_vectors(pa.table({KEY: [""], VECTOR: pa.array([[0.0, 0.0]], pa.list_(pa.float32()))}))
        self._milvus.ask("drop_collection", self._alias(_OWNER))
        options = {"schema": collection_schema(no_rows), "properties": {_OWNER: owner}}
        self._milvus.ask("create_collection", self._alias(_OWNER), **options)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`."""
        name = self._physical(collection, version)
        if self.live(collection) == version:
            self._milvus.ask("drop_alias", self._alias(collection))
        for each in (name, f"{name}{_UNFINISHED}"):
            self._milvus.ask("drop_collection", each)

    def _rows(self, name: str, keys: Sequence[str]) -> pa.Table:
        """The rows of the keys in the Milvus collection `name`."""
        properties = self._milvus.ask("describe_collection", name)["properties"]
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(properties[_SCHEMA])))
        found: dict[str, dict[str, Any]] = {}
        for first in range(0, len(keys), _BATCH):
            # pymilvus' own `get` lets a quote in a key end the text
            some = f"{KEY} in {json.dumps(list(keys[first : first + _BATCH]), ensure_ascii=False)}"
            found |= {row[KEY]: row for row in self._milvus.ask("query", name, some, output_fields=schema.names)}
        return pa.Table.from_pylist([found[key] for key in keys if key in found], schema)

    def _nearest(self, name: str, vectors: Vectors, k: int) -> Nearest:
        options = {"anns_field": VECTOR, "search_params": {"metric_type": "IP"}, "output_fields": [KEY]}
        answers = self._milvus.ask("search", name, vectors.tolist(), limit=k, **options)
        pairs = [sorted((-hit["distance"], hit["entity"][KEY]) for hit in hits) for hits in answers]
        return Nearest([[key for _, key in hits] for hits in pairs], [[-score for score, _ in hits] for hits in pairs])

    def _counted(self, name: str) -> int:
        (row,) = self._milvus.ask("query", name, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def _find(self, collection: str, version: str | None, find: Callable[[str], T]) -> T:
        """The result of `find` for the loaded Milvus collection of a version, or of the live one."""

        def find_version(wanted: str) -> T:
            name = self._physical(collection, wanted)
            try:
                self._milvus.ask("load_collection", name)
                return find(name)
            except StoreUnavailable:
                if wanted in self.versions(collection):
                    raise
                raise missing(self, collection, wanted) from None

        return find_in(self, collection, version, find_version)

    def _alias(self, collection: str) -> str:
        return f"{collection}__{self._prefix}"

    def _physical(self, collection: str, version: str) -> str:
        """Milvus' name for a version."""
        return f"{self._alias(collection)}__{re.sub('[-.]', '_', version)}"

    def _parsed(self, name: str) -> tuple[str, str] | None:
        """Collection and version of a name that `_physical` made; None for any other name."""
        parts = re.fullmatch(rf"(\w+)__{self._prefix}__(\d{{4}})_(\d\d)_(\d\d)_([0-9a-z]+)", name)
        return (parts[1], f"{parts[2]}-{parts[3]}-{parts[4]}.{parts[5]}") if parts else None

    def _whole(self) -> list[tuple[str, str]]:
        """Collection and version of every wholly written version."""
        return [found for name in self._milvus.ask("list_collections") if (found := self._parsed(name))]
