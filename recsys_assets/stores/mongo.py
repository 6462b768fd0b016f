"""MongoDB: a version is a collection of its own, written once; the live versions of all collections are one document.

The database holds

* `<collection>.<version>`, the rows, with an index on `queryid`;
* `_versions`, a document for each version that is wholly written: its schema, rows and collection;
* `_releases`, whose document `current` names the live version of every collection: see `mongo_releases.py`;
* `_owner`, whose only document says which data set all this belongs to;
* `<collection>`, a view of the live version, for services that look rows up under the plain name.

The update of `current` and the change of one view are both atomic. A reader that takes versions from `current`
(`read`) sees one set, and never an earlier one again; a reader of one view sees the old version or the new one, whole.
The views follow `current` one after another, in the order of their names, within a moment. A reader of several views in
that moment can find two releases; the field `bizdate` of every row names its day. A process that is killed in
that moment leaves the later views stale; `shown` reports them, and the next `switch`, `follow` or `drop` updates them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import pyarrow as pa

from recsys_assets.stores.documents import check, to_table
from recsys_assets.stores.mongo_client import connect, journaled, named
from recsys_assets.stores.mongo_releases import (
    CURRENT,
    add_release,
    all_releases,
    content_of,
    put_release,
    release,
    release_of,
    versions_of,
)
from recsys_assets.stores.mongo_rows import find, write_missing
from recsys_assets.stores.mongo_views import refuse_collections, show_only, shown
from recsys_assets.stores.pinned import find_in, missing
from recsys_assets.stores.store import bizdate_of

WHOLE = {"dropped": {"$exists": False}}  # filters `_versions`: nobody has begun to drop the version


class MongoStore:
    """The store in one database of the MongoDB that a URI names; see `Store` for its methods.

    Every method raises `StoreUnavailable` when MongoDB is away, refuses the user, or takes longer than the waits in
    `mongo_client.TIMEOUTS`, which the URI may set.

    Args:
        uri: as pymongo takes it, with user, password and TLS if they are needed; it is never shown.
        database: the database's name.

    Raises:
        StoreError: the URI cannot be used.
    """

    def __init__(self, uri: str, database: str) -> None:
        self._client, self._place = connect(uri, database)
        self._database = self._client[database]
        with named(self._place):
            kept = (journaled(self._database, name) for name in ("_versions", "_releases", "_owner"))
            self._versions, self._releases, self._owner = kept

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
        """See `Store.write`. Rows that an interrupted call left are kept, and only missing ones are written."""
        check(collection, table)
        physical, bizdate = f"{collection}.{version}", bizdate_of(version)
        with named(self._place):
            if self._versions.find_one({"_id": physical, **WHOLE}, {"_id": 1}):
                return
            write_missing(self._database[physical], collection, bizdate, table)
            entry = {"collection": collection, "version": version, "bizdate": bizdate, "physical": physical}
            schema = table.schema.serialize().to_pybytes()
            self._versions.replace_one({"_id": physical}, {**entry, "rows": len(table), "schema": schema}, upsert=True)

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """See `Store.read`."""
        return find_in(self, collection, version, lambda each: self._rows(collection, each, keys))

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`. MongoDB's own counter; a crash can leave it wrong, so a scan counts if they disagree."""
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
        return versions_of(self.release()).get(collection)

    def shown(self) -> dict[str, str]:
        """The version that each collection's plain name shows: the live one, unless a switch was interrupted."""
        with named(self._place):
            return shown(self._database)

    def go_live(self, collection: str, version: str) -> None:
        """See `Store.go_live`, and `switch`."""
        self.switch({collection: version})

    def switch(self, versions: Mapping[str, str]) -> None:
        """See `Store.switch`, and above for what is atomic: the new release is the current one with these versions.

        If a release of exactly these versions was recorded, its champion is taken too.

        Raises:
            VersionMissing: there is no such version.
            StoreError: something other than a view has a collection's plain name.
        """
        while True:
            current = self.release()
            wanted = versions_of(current) | dict(versions)
            content = next((content_of(each) for each in self.releases() if versions_of(each) == wanted), None)
            if content is None:
                rows = {name: {"version": each, "rows": self.count(name, each)} for name, each in wanted.items()}
                content = release_of(rows, (current or {}).get("champion"))
            if current and content_of(current) == content:
                return self.follow()
            if self.put_release(content, current):
                return None

    def owner(self) -> str | None:
        """See `Store.owner`."""
        with named(self._place):
            found = self._owner.find_one({"_id": "owner"})
        return str(found["mark"]) if found else None

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        with named(self._place):
            self._owner.replace_one({"_id": "owner"}, {"_id": "owner", "mark": owner}, upsert=True)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`. An interrupted switch is completed first: a plain name may still show the version."""
        with named(self._place):
            entry = f"collections.{collection}"
            self._releases.update_one({"_id": CURRENT, f"{entry}.version": version}, {"$unset": {entry: ""}})
            self.follow()
            ours = {"collection": collection, "dropped": True}
            self._versions.update_one({"_id": f"{collection}.{version}"}, {"$set": ours}, upsert=True)
            for each in list(self._versions.find(ours, {"_id": 1})):  # and what an interrupted call left
                self._database[each["_id"]].drop()
                self._versions.delete_one(each | ours)

    def add_release(self, content: Mapping[str, Any]) -> int:
        """Write a release record without making it the current one; return its number."""
        with named(self._place):
            return add_release(self._releases, content)

    def put_release(self, content: Mapping[str, Any], before: Mapping[str, Any] | None) -> int | None:
        """Make a release the current one and show its versions; return its number.

        Args:
            content: from `release_of`.
            before: the current release that the decision was based on. If another process has replaced it meanwhile,
                nothing is changed and None is returned.

        Raises:
            VersionMissing, StoreError: see `switch`.
        """
        versions = versions_of(content)
        with named(self._place):
            for name, version in versions.items():
                self._entry(name, version)
            refuse_collections(self._database, versions, self._place)
            number = put_release(self._releases, content, before)
        if number is not None:
            self.follow()
        return number

    def follow(self) -> None:
        """Make the plain names show the current release's versions, if an interrupted switch left them stale."""
        with named(self._place):
            while True:
                current = release(self._releases)
                show_only(self._database, versions_of(current))
                if release(self._releases) == current:  # otherwise another process has switched meanwhile
                    return

    def release(self, number: int | None = None) -> dict[str, Any] | None:
        """A release record by its number, or the current one; None if there is none."""
        with named(self._place):
            return release(self._releases, number)

    def releases(self) -> list[dict[str, Any]]:
        """Every release record, newest first, including those that were never the current one."""
        with named(self._place):
            return all_releases(self._releases)

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        """The rows; if some are missing, the version may have been dropped meanwhile, so its entry is read again."""
        with named(self._place):
            entry = self._entry(collection, version)
            found = find(self._database[entry["physical"]], keys)
            if len(found) < len(set(keys)):
                self._entry(collection, version)
        schema = pa.ipc.read_schema(pa.py_buffer(entry["schema"]))
        return to_table([found[key] for key in keys if key in found], schema)

    def _entry(self, collection: str, version: str) -> dict[str, Any]:
        """The entry of a version in `_versions`."""
        entry = self._versions.find_one({"_id": f"{collection}.{version}", **WHOLE})
        if entry is None:
            raise missing(self, collection, version)
        return entry
