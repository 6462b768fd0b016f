"""Fresh rows in MongoDB: what changed since a version was published, next to its rows, under their keys.

They are in `<collection>.<version>.fresh`, so that the version itself stays as it was published. A document has the key
as `_id` and `queryid`, the same key column and `vector` as the version, the whole joined row as `row` (times as texts),
`update_time`, `withdrawn` and `bizdate`. Of two states of a row the one of the greater `update_time` stays, and of
equal ones the one that is put last; MongoDB keeps milliseconds. The view of a collection of vectors shows the rows of
the live version, each in its fresh state, without withdrawn ones.
"""

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recsys_assets.arrays import slices
from recsys_assets.datasets.names import BIZDATE, ID
from recsys_assets.fresh.changes import Changes
from recsys_assets.stores.mongo.bson_columns import FLOAT32_VECTOR
from recsys_assets.stores.store import KEY

if TYPE_CHECKING:
    from pymongo.collection import Collection

_AT_ONCE = 500  # documents of a call: see `documents._MESSAGE`
_DUPLICATE = 11000  # DuplicateKey
_NEWER = "newer"  # a field of the view's pipeline


def fresh_name(physical: str) -> str:
    """The collection of the fresh rows of a version."""
    return f"{physical}.fresh"


def with_fresh(physical: str) -> list[dict[str, Any]]:
    """The pipeline by which a view of a version shows what is fresher."""
    fresh = fresh_name(physical)
    return [
        {"$lookup": {"from": fresh, "localField": ID, "foreignField": ID, "as": _NEWER}},
        {"$match": {_NEWER: []}},
        {"$unset": _NEWER},
        {"$unionWith": {"coll": fresh, "pipeline": [{"$match": {"withdrawn": False}}, {"$unset": "withdrawn"}]}},
    ]


def put_rows(fresh: "Collection[dict[str, Any]]", key: pa.Field, bizdate: str, rows: Changes) -> None:
    """Put rows; an interrupted call can be made again.

    Args:
        fresh: the collection.
        key: the version's own key column.
        bizdate: of the version.
        rows: with vectors.
    """
    from pymongo import ReplaceOne

    documents = _documents(key, bizdate, rows)
    for block in slices(len(documents), _AT_ONCE):
        # A newer state does not match, and its key then refuses the insertion.
        older = [{ID: each[ID], "update_time": {"$lte": each["update_time"]}} for each in documents[block]]
        pairs = zip(older, documents[block], strict=True)
        _write(fresh, [ReplaceOne(which, each, upsert=True) for which, each in pairs])
    fresh.create_index(KEY)


def _documents(key: pa.Field, bizdate: str, rows: Changes) -> list[dict[str, Any]]:
    from bson import Int64
    from bson.binary import VECTOR_SUBTYPE, Binary

    if rows.vectors is None:
        raise ValueError("fresh rows without vectors cannot be put next to vectors")
    blobs = [Binary(FLOAT32_VECTOR[1:] + each.astype("<f4").tobytes(), VECTOR_SUBTYPE) for each in rows.vectors]
    own = [Int64(each) if pa.types.is_integer(key.type) else each for each in rows.keys]
    times = [dt.datetime.fromtimestamp(each, dt.UTC) for each in rows.updated.tolist()]
    # Integers are 64-bit, as in the other documents.
    lines = [json.loads(each, parse_int=Int64) for each in rows.lines]
    columns = {
        **{ID: rows.keys, KEY: rows.keys, key.name: own, "vector": blobs, "row": lines},
        **{"update_time": times, "withdrawn": rows.withdrawn.tolist(), BIZDATE: [bizdate] * len(rows.keys)},
    }
    return [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]


def _write(fresh: "Collection[dict[str, Any]]", block: list[Any]) -> None:
    """Write documents; one that is not newer than the one that is there is left out."""
    from pymongo.errors import BulkWriteError

    try:
        fresh.bulk_write(block, ordered=False)
    except BulkWriteError as error:
        others = [each for each in error.details["writeErrors"] if each["code"] != _DUPLICATE]
        if others or error.details["writeConcernErrors"]:
            raise
