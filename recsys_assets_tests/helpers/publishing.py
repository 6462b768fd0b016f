"""Publishing of single collections, for tests of stores and for their benchmark."""

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from recsys_assets.stores.publish import Publication, show_set, stage
from recsys_assets.stores.store import Store


def publish(
    store: Store, collection: str, version: str, table: pa.Table, gate: Callable[[], None], keep: int
) -> Publication:
    """Stage a version and show it at once: a set of one collection. For the arguments and errors see `stage`.

    A version of an earlier bizdate than the live one's is kept, but does not go live.
    """
    staged = stage(store, collection, version, table, gate, keep)
    gate()
    show_set(store, {collection: version})
    return replace(staged, live=store.live_version(collection))
