"""MongoDB: a version is a collection of its own, written once; what is live is one document.

In the database lie

* `<collection>.<version>`, the rows, with an index on `queryid`;
* `_versions`, a document for each version that is wholly written: its schema, rows and collection;
* `_live`, a copy of such a document for each collection: the version that readers see;
* `<collection>`, a view of the live version, for services that look rows up under the plain name;
* `_releases`, see `mongo_releases.py`.

What is atomic: an update of one document, and the change of a view. So a reader that resolves `_live` (`read`) and a
reader of the view each see the old version or the new one, whole, and never the old one again. The view follows
`_live` within a moment; who is killed in between leaves it behind until the next `go_live`. A reader that asks
both, or several collections, pins versions, or a release, instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pyarrow as pa

from recsys_assets.stores.documents import check, to_table
from recsys_assets.stores.mongo_client import connect, journaled, named
from recsys_assets.stores.mongo_releases import add_release, all_releases, put_release, release
from recsys_assets.stores.mongo_rows import find, write_missing
from recsys_assets.stores.mongo_views import refuse_collection, show
from recsys_assets.stores.store import VersionMissing

WHOLE = {"dropped": {"$exists": False}}  # of an entry in `_versions`: nobody has begun to drop the version


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
        with named(self._place):
            kept = (journaled(self._database, name) for name in ("_versions", "_live", "_releases"))
            self._versions, self._live, self._releases = kept

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
            write_missing(self._database[physical], collection, bizdate, table)
            entry = {"collection": collection, "version": version, "bizdate": bizdate, "physical": physical}
            schema = table.schema.serialize().to_pybytes()
            self._versions.replace_one({"_id": physical}, {**entry, "rows": len(table), "schema": schema}, upsert=True)

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """See `Store.read`."""
        with named(self._place):
            while True:
                entry = self._entry(collection, version)
                found = find(self._database[entry["physical"]], keys)
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
            refuse_collection(self._database, collection, self._place)
            self._live.replace_one({"_id": collection}, {**entry, "_id": collection}, upsert=True)
            shown = None
            while shown != entry["physical"]:  # another process may have gone live meanwhile: the view is to end there
                shown = entry["physical"]
                show(self._database, collection, shown)
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

    def add_release(self, content: Mapping[str, Any]) -> int:
        """Write a release record that is not to be the current one; its number."""
        with named(self._place):
            return add_release(self._releases, content)

    def put_release(self, content: Mapping[str, Any]) -> int:
        """Write a release record and make it the current one; its number. See `mongo_releases.py`."""
        with named(self._place):
            return put_release(self._releases, content)

    def release(self, number: int | None = None) -> dict[str, Any] | None:
        """A release record by its number, or the current one; None where there is none."""
        with named(self._place):
            return release(self._releases, number)

    def releases(self) -> list[dict[str, Any]]:
        """Every release record, newest first, also those that were never the current one."""
        with named(self._place):
            return all_releases(self._releases)

    def _entry(self, collection: str, version: str | None) -> dict[str, Any]:
        """What `_versions` says of a version, or `_live` of the live one."""
        place = self._live if version is None else self._versions
        entry = place.find_one({"_id": collection if version is None else f"{collection}.{version}", **WHOLE})
        if entry is None:
            raise VersionMissing(f"MongoDB at {self._place} has no {version or 'live'} version of {collection}")
        return entry
