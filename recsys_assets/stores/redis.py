"""Redis: one hash per row, as recsys_pipeline keeps its users, and a pointer to the live version.

With the prefix `recsys`, the collection `redis_user` and the version V there are the keys

* `recsys:redis_user:V:<queryid>`: a hash with a field for each column that is not null, from `columns.encode_texts`;
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

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from recsys_assets.stores.base import Address, StoreBase, importing
from recsys_assets.stores.columns import decode_texts, encode_texts, parse_schema, schema_text
from recsys_assets.stores.store import KEY, StoreError, StoreFull, StoreUnavailable
from recsys_assets.uris import safe_uri

if TYPE_CHECKING:
    pass

_ROWS_PER_CALL = 1000  # rows sent, and keys looked at, at a time
_SPECIAL = re.compile(r"([*?\[\]\\^-])")  # in Redis' patterns


class RedisStore(StoreBase):
    """Collections in a Redis; see `Store` for its methods.

    Args:
        uri: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://…` with TLS, or `unix://PATH`; redis-py's options
            may follow, such as `?socket_timeout=60` (seconds; 5 by default). Nothing connects yet.
        prefix: what its keys begin with.

    Raises:
        ExtraMissing: redis-py is not installed.
        StoreError: the URI is not a Redis URI.
    """

    def __init__(self, uri: str, prefix: str) -> None:
        place = f"Redis {safe_uri(uri)}"
        super().__init__(Address(f"{place}, {prefix}", uri))
        self._prefix = prefix
        with importing("redis"):
            import redis
        server: redis.Redis | None = None
        with suppress(ValueError):  # its message may contain a piece of the password
            server = redis.Redis.from_url(uri, decode_responses=True)
        if server is None:
            raise StoreError(f"{place} is not a Redis URI: write redis://HOST:PORT/DB, rediss://… or unix://PATH")
        self._server = server

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`: what an interrupted call left is overwritten."""
        with self._translate_errors():
            if self._server.hexists(self._registry, f"{collection}/{version}"):
                return
            start, columns = self._key(collection, version, ""), table.column_names
            for batch in table.combine_chunks().to_batches(max_chunksize=_ROWS_PER_CALL):
                keys = batch[KEY]
                encoded = [encode_texts(name, batch[name], keys).to_pylist() for name in columns]
                with self._server.pipeline(transaction=False) as pipeline:
                    for row in zip(*encoded, strict=True):
                        fields = {name: text for name, text in zip(columns, row, strict=True) if text is not None}
                        pipeline.hset(f"{start}{row[0]}", mapping=fields)
                    pipeline.execute()
            self._server.hset(self._registry, f"{collection}/{version}", schema_text(table.schema))

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`: it scans all keys of the database."""
        return len({key for keys in self._scan(collection, version) for key in keys})

    def live_version(self, collection: str) -> str | None:
        """See `Store.live_version`."""
        with self._translate_errors():
            version = self._server.get(self._key(collection, "live"))
        return None if version is None else str(version)

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`: a single MSET."""
        with self._translate_errors():
            for collection, version in versions.items():
                if not self._server.hexists(self._registry, f"{collection}/{version}"):
                    raise self._missing_version(collection, version)
            self._server.mset({self._key(collection, "live"): version for collection, version in versions.items()})

    def owner(self) -> str | None:
        """See `Store.owner`."""
        with self._translate_errors():
            found = self._server.get(self._key("owner"))
        return None if found is None else str(found)

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        with self._translate_errors():
            self._server.set(self._key("owner"), owner)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`: the entry goes first, so that nobody takes remaining rows for a whole version.

        Nothing here needs memory, so it works in a full Redis too. The next call removes what a killed call left.
        """
        live = self.live_version(collection)
        with self._translate_errors():
            if live == version:
                self._server.delete(self._key(collection, "live"))
            self._server.hdel(self._registry, f"{collection}/{version}")
            for keys in self._scan(collection, version):
                self._server.unlink(*keys)

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        """The rows; the version's entry is read after the last row, because `drop` deletes it before the first row."""
        start = self._key(collection, version, "")
        with self._translate_errors(), self._server.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(f"{start}{key}")
            pipeline.hget(self._registry, f"{collection}/{version}")
            *found, schema = pipeline.execute()
        if schema is None:
            raise self._missing_version(collection, version)
        fields = parse_schema(schema)
        rows = [row for row in found if row]
        columns = [pa.array([row.get(field.name) for row in rows], pa.string()) for field in fields]
        return pa.table([decode_texts(*each) for each in zip(columns, fields.types, strict=True)], schema=fields)

    @property
    def _registry(self) -> str:
        return f"{self._prefix}:versions"

    def _key(self, *parts: str) -> str:
        return ":".join([self._prefix, *parts])

    def _entries(self) -> list[tuple[str, str]]:
        with self._translate_errors():
            names = [str(name).partition("/") for name in self._server.hkeys(self._registry)]
        return [(collection, version) for collection, _, version in names]

    def _scan(self, collection: str, version: str) -> Iterator[list[str]]:
        """Keys of a version's rows, in batches that are not empty; Redis may return a key twice."""
        pattern = _SPECIAL.sub(r"\\\1", self._key(collection, version, "")) + "*"
        cursor = -1
        while cursor:
            with self._translate_errors():
                cursor, keys = self._server.scan(max(cursor, 0), match=pattern, count=_ROWS_PER_CALL)
            if keys:
                yield [str(key) for key in keys]

    def _translate(self, error: Exception, said: str) -> StoreError | None:
        import redis

        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return StoreFull(f"{self} has no memory left: drop versions (keep fewer) or raise its maxmemory")
        if isinstance(error, redis.RedisError):
            return StoreUnavailable(f"{self}: {said}: is it up, and is the URI right?")
        return None
