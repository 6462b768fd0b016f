"""MongoDB: a version is a collection of its own, written once; what is live is one document.

In the database lie

* `<collection>.<version>`, the rows, with an index on `queryid`;
* `_versions`, a document for each version that is wholly written: its schema, rows and collection;
* `_live`, a copy of such a document for each collection: the version that readers see;
* `<collection>`, a view of the live version, for services that look rows up under the plain name;
* `_releases`, see `mongo_releases.py`.

What is atomic: an update of one document, and the change of a view. So a reader that resolves `_live` (`read`) and a
reader of the view each see the old version or the new one, whole, and never the old one again. The view follows
`_live` within a moment; a process killed in between leaves it behind until the next `go_live`. A reader that asks
both, or several collections, pins versions, or a release, instead. (SecantusDB 0.7.0b3 cannot change a view; where it
was not mended by `embedded.mend` the view is made anew, and its readers find nothing for a moment.)
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.stores.documents import check, codec, documents, to_table
from recsys_assets.stores.mongo_client import DUPLICATE, connect, named
from recsys_assets.stores.mongo_releases import put_release, release
from recsys_assets.stores.store import KEY, StoreError, Unrepresentable, VersionMissing

if TYPE_CHECKING:
    from bson.raw_bson import RawBSONDocument
    from pymongo.collection import Collection

EXISTS = 48  # NamespaceExists
WHOLE = {"dropped": {"$exists": False}}  # of an entry in `_versions`: nobody has begun to drop the version
MESSAGE = 400_000  # bytes that are sent at once: with 8 MB SecantusDB takes half as long again, for its collector
ASKED = 50  # keys at once: SecantusDB takes 0.06 ms a document with 50 keys, 0.5 ms with 1,000
T = TypeVar("T")


class MongoStore:
    """The store in one database of the MongoDB that a URI names; see `Store` for its methods.

    Every method raises `StoreUnavailable` when MongoDB is away, refuses the user, or takes longer than the waits in
    `mongo_client.TIMEOUTS`, which the URI may set.

    Args:
        uri: as pymongo takes it, with user, password and TLS where they are needed; shown nowhere.
        database: its name.

    Raises:
        StoreError: the URI cannot be used.
    """

    def __init__(self, uri: str, database: str) -> None:
        self._client, self._place = connect(uri, database)
        self._database = self._client[database]
        self._versions, self._live = self._database["_versions"], self._database["_live"]

    def __repr__(self) -> str:
        return f"MongoStore({self._place})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the store cannot be used any more."""
        self._client.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`. Rows that an interrupted call left are kept, and only the missing ones written."""
        check(collection, table)
        physical, bizdate = f"{collection}.{version}", version.partition(".")[0]
        with named(self._place):
            if self._versions.find_one({"_id": physical, **WHOLE}, {"_id": 1}):
                return
            target = self._database[physical]
            there = pa.array([each["_id"] for each in target.find({}, {"_id": 1})], table[KEY].type)
            missing = table.filter(pc.invert(pc.is_in(table[KEY], value_set=there)))
            try:
                for block in _ahead(documents(collection, bizdate, missing)):
                    _insert(target, block)
            except Unrepresentable:
                target.drop()
                raise
            target.create_index(KEY)  # after the rows: building it takes half as long as keeping it up to date
            entry = {"collection": collection, "version": version, "bizdate": bizdate, "physical": physical}
            schema = table.schema.serialize().to_pybytes()
            self._versions.replace_one({"_id": physical}, {**entry, "rows": len(table), "schema": schema}, upsert=True)

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """See `Store.read`."""
        with named(self._place):
            while True:
                entry = self._entry(collection, version)
                found = {each["_id"]: each for each in self._found(entry["physical"], keys)}
                # Rows that are missing may have been dropped meanwhile, after another version had gone live.
                if len(found) == len(set(keys)) or self._entry(collection, version) == entry:
                    break
        schema = pa.ipc.read_schema(pa.py_buffer(entry["schema"]))
        return to_table([found[key] for key in keys if key in found], schema)

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`. MongoDB's own counter, which a crash of the server can leave wrong, or else a scan."""
        with named(self._place):
            entry = self._entry(collection, version)
            rows = self._database[entry["physical"]]
            counted = rows.estimated_document_count()
            return counted if counted == entry["rows"] else rows.count_documents({})

    def collections(self) -> list[str]:
        """See `Store.collections`."""
        with named(self._place):
            return sorted(self._versions.distinct("collection", WHOLE))

    def versions(self, collection: str) -> list[str]:
        """See `Store.versions`."""
        with named(self._place):
            found = self._versions.find({"collection": collection, **WHOLE}, {"version": 1})
            return sorted(each["version"] for each in found)

    def live(self, collection: str) -> str | None:
        """See `Store.live`."""
        with named(self._place):
            entry = self._live.find_one({"_id": collection}, {"version": 1})
            return str(entry["version"]) if entry else None

    def go_live(self, collection: str, version: str) -> None:
        """See `Store.go_live`, and above what is atomic.

        Raises:
            VersionMissing: there is no such version.
            StoreError: the collection's plain name is taken by something else than a view.
        """
        with named(self._place):
            entry = self._entry(collection, version)
            self._refuse_collection(collection)
            self._live.replace_one({"_id": collection}, {**entry, "_id": collection}, upsert=True)
            shown = None
            while shown != entry["physical"]:  # another process may have gone live meanwhile: the view is to end there
                shown = entry["physical"]
                self._show(collection, shown)
                entry = self._entry(collection, None)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`."""
        with named(self._place):
            self._live.delete_one({"_id": collection, "version": version})
            ours = {"collection": collection, "dropped": True}
            self._versions.update_one({"_id": f"{collection}.{version}"}, {"$set": ours}, upsert=True)
            for each in list(self._versions.find(ours, {"_id": 1})):  # and what an interrupted call left
                self._database[each["_id"]].drop()
                self._versions.delete_one(each | ours)

    def put_release(self, content: Mapping[str, Any]) -> int:
        """Write a release record and make it the current one; its number. See `mongo_releases.py`."""
        with named(self._place):
            return put_release(self._database["_releases"], content)

    def release(self, number: int | None = None) -> dict[str, Any] | None:
        """A release record by its number, or the current one; None where there is none."""
        with named(self._place):
            return release(self._database["_releases"], number)

    def _found(self, physical: str, keys: Sequence[str]) -> "Iterator[dict[str, Any]]":
        """Documents of the keys, in any order."""
        rows = self._database.get_collection(physical, codec())
        for first in range(0, len(keys), ASKED):
            yield from rows.find({"_id": {"$in": keys[first : first + ASKED]}})

    def _entry(self, collection: str, version: str | None) -> dict[str, Any]:
        """What `_versions` says of a version, or `_live` of the live one."""
        place = self._live if version is None else self._versions
        entry = place.find_one({"_id": collection if version is None else f"{collection}.{version}", **WHOLE})
        if entry is None:
            raise VersionMissing(f"MongoDB at {self._place} has no {version or 'live'} version of {collection}")
        return entry

    def _refuse_collection(self, name: str) -> None:
        """Raise an error where the name is that of a collection with rows of its own."""
        if self._kind(name).get("type", "view") != "view":
            raise StoreError(
                f"MongoDB at {self._place} has a collection {name}, where a view of the live version belongs: "
                "rename or drop it, then publish again"
            )

    def _kind(self, name: str) -> dict[str, Any]:
        """What MongoDB says of a collection or view; nothing where there is none."""
        return next(iter(self._database.list_collections(filter={"name": name})), {})

    def _show(self, collection: str, physical: str) -> None:
        """Make the view of the plain name one of this version."""
        from pymongo.errors import OperationFailure

        try:
            self._database.command("create", collection, viewOn=physical, pipeline=[])
        except OperationFailure as error:
            if error.code != EXISTS:
                raise
            self._database.command("collMod", collection, viewOn=physical, pipeline=[])
            if self._kind(collection).get("options", {}).get("viewOn") != physical:
                # Nothing was done: SecantusDB 0.7.0b3 as it comes, see `embedded.mend`. There is no way in one step.
                self._database.drop_collection(collection)
                self._show(collection, physical)


def _insert(target: "Collection[dict[str, Any]]", block: "list[RawBSONDocument]") -> None:
    """Insert documents; one that is there already was put there by another writer of the same version."""
    from pymongo.errors import BulkWriteError

    size = max(1, MESSAGE * len(block) // sum(len(each.raw) for each in block))
    for first in range(0, len(block), size):
        try:
            target.insert_many(block[first : first + size], ordered=False)
        except BulkWriteError as error:
            others = [each for each in error.details["writeErrors"] if each["code"] != DUPLICATE]
            if others or error.details["writeConcernErrors"]:
                raise


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a second thread while the caller is at the one before."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
