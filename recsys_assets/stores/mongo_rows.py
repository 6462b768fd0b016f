"""Rows of one version in its MongoDB collection: written where they are missing, and found by their keys."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.stores.documents import codec, documents
from recsys_assets.stores.store import KEY, Unrepresentable

if TYPE_CHECKING:
    from bson.raw_bson import RawBSONDocument
    from pymongo.collection import Collection

DUPLICATE = 11000  # DuplicateKey
MESSAGE = 400_000  # bytes sent at once: with 8 MB SecantusDB takes 1.5 times as long, for its garbage collector
ASKED = 50  # keys per query: SecantusDB takes 0.06 ms per document with 50 keys, 0.5 ms with 1,000
T = TypeVar("T")


def write_missing(rows: "Collection[dict[str, Any]]", collection: str, bizdate: str, table: pa.Table) -> None:
    """Write those rows of a table that are not there yet, with an index on `KEY`.

    The index need not be unique, which would take 1.5 times as long: `_id`, the same text, is unique.

    Raises:
        Unrepresentable: a row cannot be held. Then no rows are left.
    """
    there = pa.array([each["_id"] for each in rows.find({}, {"_id": 1})], table[KEY].type)
    missing = table.filter(pc.invert(pc.is_in(table[KEY], value_set=there)))
    try:
        for block in _ahead(documents(collection, bizdate, missing)):
            _insert(rows, block)
    except Unrepresentable:
        rows.drop()
        raise
    rows.create_index(KEY)  # after the rows: building it takes half as long as keeping it up to date


def find(rows: "Collection[dict[str, Any]]", keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The documents of those keys that are there, by key."""
    rows = rows.with_options(codec())
    parts = (keys[first : first + ASKED] for first in range(0, len(keys), ASKED))
    return {each["_id"]: each for part in parts for each in rows.find({"_id": {"$in": part}})}


def _insert(rows: "Collection[dict[str, Any]]", block: "list[RawBSONDocument]") -> None:
    """Insert documents; one that is there already was put there by another writer of the same version."""
    from pymongo.errors import BulkWriteError

    size = max(1, MESSAGE * len(block) // sum(len(each.raw) for each in block))
    for first in range(0, len(block), size):
        try:
            rows.insert_many(block[first : first + size], ordered=False)
        except BulkWriteError as error:
            others = [each for each in error.details["writeErrors"] if each["code"] != DUPLICATE]
            if others or error.details["writeConcernErrors"]:
                raise


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a second thread while the caller works on the one before."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
