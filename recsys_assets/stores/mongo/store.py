"""MongoDB: a version is a collection of its own, written once; the live versions of all collections are one document.

The database holds

* `<collection>.<version>`, the rows, with an index on `queryid`;
* the same with `.fresh`, for vectors: rows that changed since (`fresh.py`);
* `_versions`, a document for each version that is wholly written: its schema, number of rows, and where these are;
* `_releases`, whose document `current` names the live version of every collection: see `releases.py`;
* `_owner`, whose only document says which data set all this belongs to;
* `<collection>`, a view of the live version with what is fresher, for services that look rows up under the plain name.

The update of `current` and the change of one view are both atomic. A reader that takes versions from `current`
(`read`) sees one set, and never an earlier one again; a reader of one view sees the old version or the new one, whole.
The views follow `current` one after another, in the order of their names, within a moment. A reader of several views in
that moment can find two releases; the field `bizdate` of every row names its day. A process that is killed in
that moment leaves the later views stale; `shown_versions` reports them, and the next `switch`, `follow` or `drop`
updates them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from recsys_assets.datasets.names import VECTOR
from recsys_assets.fresh.changes import Changes
from recsys_assets.stores.base import StoreBase
from recsys_assets.stores.live_sets import content_of, release_of, versions_of
from recsys_assets.stores.mongo.client import connect, journaled_collection, translate
from recsys_assets.stores.mongo.documents import check_table, find_documents, to_table, write_missing
from recsys_assets.stores.mongo.fresh import fresh_name, put_rows
from recsys_assets.stores.mongo.releases import (
    CURRENT,
    add_release,
    put_release,
    refuse_collections,
    show_only,
    shown_versions,
)
from recsys_assets.stores.store import ReleaseStore, StoreError, bizdate_of

RELEASE_SECONDS = 10.0  # for one look at a release
_WHOLE = {"dropped": {"$exists": False}}  # filters `_versions`: nobody has begun to drop the version


class MongoStore(StoreBase, ReleaseStore):
    """The store in one database of the MongoDB that a URI names; see `ReleaseStore` for its methods.

    Every method raises `StoreUnavailable` when MongoDB is away, refuses the user, or takes longer than the waits in
    `client.TIMEOUTS`, which the URI may set.

    Args:
        uri: as pymongo takes it, with user, password and TLS if they are needed; it is never shown.
        database: the database's name.

    Raises:
        StoreError: the URI cannot be used.
    """

    def __init__(self, uri: str, database: str) -> None:
        self._client, address = connect(uri, database)
        super().__init__(address)
        self._database = self._client[database]
        with self._translate_errors():
            kept = (journaled_collection(self._database, name) for name in ("_versions", "_releases", "_owner"))
            self._versions, self._releases, self._owner = kept

    def close(self) -> None:
        """Close the connections; the store cannot be used any more."""
        self._client.close()

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """See `Store.write`. Rows that an interrupted call left are kept, and only missing ones are written."""
        check_table(collection, table)
        physical, bizdate = f"{collection}.{version}", bizdate_of(version)
        with self._translate_errors():
            if self._versions.find_one({"_id": physical, **_WHOLE}, {"_id": 1}):
                return
            write_missing(self._database[physical], collection, bizdate, table)
            entry: dict[str, Any] = {"collection": collection, "version": version}
            entry |= {"bizdate": bizdate, "physical": physical}
            entry |= {"rows": len(table), "schema": table.schema.serialize().to_pybytes()}
            entry |= {"takes_fresh": VECTOR in table.column_names, "fresh_seq": 0}
            self._versions.replace_one({"_id": physical}, entry, upsert=True)

    def count(self, collection: str, version: str) -> int:
        """See `Store.count`. MongoDB's own counter; a crash can leave it wrong, so a scan counts if they disagree."""
        with self._translate_errors():
            entry = self._entry(collection, version)
            rows = self._database[entry["physical"]]
            counted = rows.estimated_document_count()
            return counted if counted == entry["rows"] else rows.count_documents({})

    def live_version(self, collection: str) -> str | None:
        """See `Store.live_version`."""
        return versions_of(self.release()).get(collection)

    def shown_versions(self) -> dict[str, str]:
        """See `ReleaseStore.shown_versions`."""
        with self._translate_errors():
            return shown_versions(self._database)

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
        with self._translate_errors():
            found = self._owner.find_one({"_id": "owner"})
        return str(found["mark"]) if found else None

    def claim(self, owner: str) -> None:
        """See `Store.claim`."""
        with self._translate_errors():
            self._owner.replace_one({"_id": "owner"}, {"_id": "owner", "mark": owner}, upsert=True)

    def drop(self, collection: str, version: str) -> None:
        """See `Store.drop`. An interrupted switch is completed first: a plain name may still show the version."""
        with self._translate_errors():
            entry = f"collections.{collection}"
            self._releases.update_one({"_id": CURRENT, f"{entry}.version": version}, {"$unset": {entry: ""}})
            self.follow()
            ours = {"collection": collection, "dropped": True}
            self._versions.update_one({"_id": f"{collection}.{version}"}, {"$set": ours}, upsert=True)
            for each in list(self._versions.find(ours, {"_id": 1})):  # also what interrupted calls left
                self._database[each["_id"]].drop()
                self._database[fresh_name(each["_id"])].drop()
                self._versions.delete_one(each | ours)

    def add_release(self, content: Mapping[str, Any]) -> int:
        """See `ReleaseStore.add_release`."""
        with self._translate_errors():
            return add_release(self._releases, content)

    def put_release(self, content: Mapping[str, Any], before: Mapping[str, Any] | None) -> int | None:
        """See `ReleaseStore.put_release`, and for the errors `switch`."""
        versions = versions_of(content)
        with self._translate_errors():
            for name, version in versions.items():
                self._entry(name, version)
            refuse_collections(self._database, versions, self._address.name)
            number = put_release(self._releases, content, before)
        if number is not None:
            self.follow()
        return number

    def follow(self) -> None:
        """See `ReleaseStore.follow`: the views of an interrupted switch are made to show the current release."""
        with self._translate_errors():
            while True:
                current = self.release()
                versions = versions_of(current)
                show_only(self._database, versions, self._fresh_of(versions))
                if self.release() == current:  # otherwise another process has switched meanwhile
                    return

    def release(self, number: int | None = None) -> dict[str, Any] | None:
        """See `ReleaseStore.release`. It gives up after `RELEASE_SECONDS`: services ask again and again."""
        from pymongo import timeout

        with self._translate_errors(), timeout(RELEASE_SECONDS):
            return self._releases.find_one({"_id": CURRENT if number is None else number}, {"_id": 0})

    def releases(self) -> list[dict[str, Any]]:
        """See `ReleaseStore.releases`."""
        with self._translate_errors():
            return list(self._releases.find({"_id": {"$ne": CURRENT}}, {"_id": 0}, sort=[("_id", -1)]))

    def fresh_number(self, collection: str, version: str) -> int:
        """See `FreshStore.fresh_number`."""
        with self._translate_errors():
            return int(self._entry(collection, version).get("fresh_seq", 0))

    def put_fresh(self, collection: str, version: str, rows: Changes) -> None:
        """See `FreshStore.put_fresh`. The number is kept last: what an interrupted call left is put again."""
        with self._translate_errors():
            entry = self._entry(collection, version)
            schema, fresh = _schema_of(entry), self._database[fresh_name(entry["physical"])]
            put_rows(fresh, schema.field(1), entry["bizdate"], rows)
            done = {"$max": {"fresh_seq": rows.number}}
            if not self._versions.update_one({"_id": entry["_id"], **_WHOLE}, done).matched_count:
                fresh.drop()
                raise self._missing_version(collection, version)

    def _fresh_of(self, versions: Mapping[str, str]) -> set[str]:
        """Those of the collections whose versions take fresh rows."""
        names = {f"{collection}.{version}": collection for collection, version in versions.items()}
        found = self._versions.find({"_id": {"$in": list(names)}, "takes_fresh": True}, {"_id": 1})
        return {names[each["_id"]] for each in found}

    def _translate(self, error: Exception, said: str) -> StoreError | None:
        return translate(error, said, self._address)

    def _entries(self) -> list[tuple[str, str]]:
        with self._translate_errors():
            found = self._versions.find(_WHOLE, {"collection": 1, "version": 1})
            return [(each["collection"], each["version"]) for each in found]

    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        """The rows; if some are missing, the version may have been dropped meanwhile, so its entry is read again."""
        with self._translate_errors():
            entry = self._entry(collection, version)
            found = find_documents(self._database[entry["physical"]], keys)
            if len(found) < len(set(keys)):
                self._entry(collection, version)
        return to_table([found[key] for key in keys if key in found], _schema_of(entry))

    def _entry(self, collection: str, version: str) -> dict[str, Any]:
        """The entry of a version in `_versions`."""
        entry = self._versions.find_one({"_id": f"{collection}.{version}", **_WHOLE})
        if entry is None:
            raise self._missing_version(collection, version)
        return entry


def _schema_of(entry: Mapping[str, Any]) -> pa.Schema:
    """The schema of a version, from its entry."""
    return pa.ipc.read_schema(pa.py_buffer(entry["schema"]))
