"""Redis: one hash per row, as recsys_pipeline keeps its users, and a pointer to the live version.

With the prefix `recsys`, the collection `redis_user` and the version V there are the keys

* `recsys:redis_user:V:<queryid>`: a hash with a field for each column that is not null, as `texts.py` writes it;
* `recsys:redis_user:live`: the text V, of the live version; a single MSET switches it, or several collections together;
* `recsys:owner`: which data set all this belongs to;
* `recsys:versions`: a hash with the Arrow schema of each whole version, its field `redis_user/V`.

A service in any language reads a user's terms, vector and seen items in two steps, and starts again if the version was
dropped between them (every value of the second answer is then null)::

    GET   recsys:redis_user:live                                  -> "2026-01-06.0c1f0ab1ce5b"
    HMGET recsys:redis_user:2026-01-06.0c1f0ab1ce5b:1234 term vector filter -> "16,10", "0.25,-1.5", "2333,17"

The store needs a single server, with or without replicas: versions are counted and dropped by SCAN, which sees one node
of a cluster. Its `maxmemory-policy` must be `noeviction`, the default: any other policy evicts rows that services need.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from recsys_assets.stores import texts
from recsys_assets.stores.pinned import find_in, missing
from recsys_assets.stores.servers import extra
from recsys_assets.stores.store import KEY, StoreError, StoreFull, StoreUnavailable
from recsys_assets.uris import shown, told

if TYPE_CHECKING:
    import redis

_BATCH = 1000  # rows sent, and keys looked at, at a time
_SPECIAL = re.compile(r"([*?\[\]\\^-])")  # in Redis' patterns


class RedisStore:
    """Collections in a Redis.

    Args:
        uri: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` with TLS, or `unix://PATH`; redis-py's options
            may follow, such as `?socket_timeout=60` (seconds; 5 by default). Nothing connects yet.
        prefix: what its keys begin with.

    Raises:
        ExtraMissing: redis-py is not installed.
        StoreError: the URI is not a Redis URI.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        self._uri, self._name, self._prefix = uri, f"Redis {shown(uri)}", prefix
        with extra("redis"):
            import redis
        connection: redis.Redis | None = None
        with suppress(ValueError):  # its message may contain a piece of the password
            connection = redis.Redis.from_url(uri, decode_responses=True)
        if connection is None:
            raise StoreError(f"{self._name} is not a Redis URI: write redis://HOST:PORT/DB, rediss://… or unix://PATH")
        self._connection = connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name}, {self._prefix})"

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`: what an interrupted call left is overwritten."""
        with self._redis() as server:
            if server.hexists(self._registry, f"{collection}/{version}"):
                return
            start, columns = self._key(collection, version, ""), table.column_names
            for batch in table.combine_chunks().to_batches(max_chunksize=_BATCH):
                keys = batch[KEY]
                encoded = [texts.encode(name, batch[name], keys).to_pylist() for name in columns]
                with server.pipeline(transaction=False) as pipeline:
                    for row in zip(*encoded, strict=True):
                        fields = {name: text for name, text in zip(columns, row, strict=True) if text is not None}
                        pipeline.hset(f"{start}{row[0]}", mapping=fields)
                    pipeline.execute()
            schema = base64.b64encode(table.schema.serialize()).decode()
            server.hset(self._registry, f"{collection}/{version}", schema)

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """See `Store.read`."""
        return find_in(self, collection, version, lambda each: self._rows(collection, each, keys))

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`: it scans all keys of the database."""
        return len({key for keys in self._scan(collection, version) for key in keys})

    def collections(self) -> list[str]:
        """See `Store.collections`."""
        return sorted({collection for collection, _ in self._whole()})

    def versions(self, collection: str) -> list[str]:
        """See `Store.versions`."""
        return sorted(version for other, version in self._whole() if other == collection)

    def live(self, collection: str) -> str | None:
        """See `Store.live`."""
        with self._redis() as server:
            version = server.get(self._key(collection, "live"))
        return None if version is None else str(version)

    def go_live(self, collection: str, version: str) -> None:
        """See `Store.go_live`."""
        self.switch({collection: version})

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`: a single MSET."""
        with self._redis() as server:
            for collection, version in versions.items():
                if not server.hexists(self._registry, f"{collection}/{version}"):
                    raise missing(self, collection, version)
            server.mset({self._key(collection, "live"): version for collection, version in versions.items()})

    def owner(self) -> str | None:
        """See `Store.owner`."""
        with self._redis() as server:
            found = server.get(self._key("owner"))
        return None if found is None else str(found)

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        with self._redis() as server:
            server.set(self._key("owner"), owner)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`: the entry goes first, so that nobody takes remaining rows for a whole version.

        Nothing here needs memory, so it works in a full Redis too. The next call removes what a killed call left.
        """
        live = self.live(collection)
        with self._redis() as server:
            if live == version:
                server.delete(self._key(collection, "live"))
            server.hdel(self._registry, f"{collection}/{version}")
            for keys in self._scan(collection, version):
                server.unlink(*keys)

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        """The rows; the version's entry is read after the last row, because `drop` deletes it before the first row."""
        start = self._key(collection, version, "")
        with self._redis() as server, server.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(f"{start}{key}")
            pipeline.hget(self._registry, f"{collection}/{version}")
            *found, schema = pipeline.execute()
        if schema is None:
            raise missing(self, collection, version)
        fields = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))
        rows = [row for row in found if row]
        columns = [pa.array([row.get(field.name) for row in rows], pa.string()) for field in fields]
        return pa.table([texts.decode(*each) for each in zip(columns, fields.types, strict=True)], schema=fields)

    @property
    def _registry(self) -> str:
        return f"{self._prefix}:versions"

    def _key(self, *parts: str) -> str:
        return ":".join([self._prefix, *parts])

    def _whole(self) -> list[tuple[str, str]]:
        """Collection and version of every wholly written version."""
        with self._redis() as server:
            names = [str(name).partition("/") for name in server.hkeys(self._registry)]
        return [(collection, version) for collection, _, version in names]

    def _scan(self, collection: str, version: str) -> Iterator[list[str]]:
        """Keys of a version's rows, in batches that are not empty; Redis may return a key twice."""
        pattern = _SPECIAL.sub(r"\\\1", self._key(collection, version, "")) + "*"
        cursor = -1
        while cursor:
            with self._redis() as server:
                cursor, keys = server.scan(max(cursor, 0), match=pattern, count=_BATCH)
            if keys:
                yield [str(key) for key in keys]

    @contextmanager
    def _redis(self) -> "Iterator[redis.Redis]":
        """The connection; its errors become those of `store.py`."""
        import redis

        try:
            yield self._connection
        except redis.exceptions.OutOfMemoryError:
            raise StoreFull(f"{self} has no memory left: drop versions (keep fewer) or raise its maxmemory") from None
        except redis.RedisError as error:
            raise StoreUnavailable(f"{self}: {told(error, self._uri)}: is it up, and is the URI right?") from None
