"""MongoDB's releases: records of the versions that belong together, and the views by which plain names show them.

A release is a document under its number that never changes. The document `current` is a copy of the one that services
see. It is replaced in one update, and only if it is still the one that the writer read. A reader that reads it once,
and then only the versions that it names, therefore sees one release, and two writers decide one after the other.
Numbers only grow; a process that is killed between the two documents leaves a number that was never current.

A view leads from a collection's plain name to its live version, for services that know nothing but that name.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recsys_assets.stores.mongo.fresh import with_fresh
from recsys_assets.stores.store import StoreError

if TYPE_CHECKING:
    from pymongo import collection
    from pymongo.database import Database

CURRENT = "current"
_EXISTS = 48  # NamespaceExists
Release = dict[str, Any]


def add_release(releases: "collection.Collection[Release]", content: Mapping[str, Any]) -> int:
    """Write a release under the next free number, without making it the current one; return its number."""
    from pymongo.errors import DuplicateKeyError

    while True:
        newest = releases.find_one({"_id": {"$ne": CURRENT}}, {"_id": 1}, sort=[("_id", -1)])
        number: int = newest["_id"] + 1 if newest else 1
        try:
            releases.insert_one({**content, "_id": number, "number": number})
        except DuplicateKeyError:  # another process was faster
            continue
        return number


def put_release(
    releases: "collection.Collection[Release]", content: Mapping[str, Any], before: Mapping[str, Any] | None
) -> int | None:
    """Write a release, current in place of `before`; return its number, or None if `before` is no longer current."""
    number = add_release(releases, content)
    if _replace(releases, {**content, "_id": CURRENT, "number": number}, before):
        return number
    releases.delete_one({"_id": number})
    return None


def shown_versions(database: "Database[dict[str, Any]]") -> dict[str, str]:
    """The version that each plain name shows."""
    views = {each["name"]: str(each.get("options", {}).get("viewOn", "")) for each in database.list_collections()}
    ours = {name: physical.partition(".") for name, physical in views.items()}
    return {name: version for name, (collection, _, version) in ours.items() if version and collection == name}


def show_only(database: "Database[dict[str, Any]]", versions: Mapping[str, str], fresh: Collection[str] = ()) -> None:
    """Make the plain names show these versions, one after another in their order, and drop all others.

    Args:
        database: of the collections.
        versions: by name.
        fresh: the names that show fresh rows too.
    """
    before = shown_versions(database)
    for name, version in sorted(versions.items()):
        if before.get(name) != version:
            physical = f"{name}.{version}"
            _show(database, name, physical, with_fresh(physical) if name in fresh else [])
    for name in sorted(before.keys() - versions.keys()):
        database.drop_collection(name)


def refuse_collections(database: "Database[dict[str, Any]]", names: Mapping[str, str], place: str) -> None:
    """Raise a `StoreError` where a name is that of a collection with rows of its own."""
    theirs = [each["name"] for each in database.list_collections() if each.get("type", "view") != "view"]
    if taken := sorted(names.keys() & set(theirs)):
        raise StoreError(
            f"MongoDB at {place} has a collection {taken[0]}, where a view of the live version belongs: "
            "rename or drop it, then publish again"
        )


def _show(
    database: "Database[dict[str, Any]]", name: str, physical: str, pipeline: Sequence[Mapping[str, Any]]
) -> None:
    """Make `name` a view of the collection `physical`; an existing view changes in one step.

    SecantusDB 0.7.0b3 cannot change a view unless `embedded.fix_views` has fixed that: the view is then dropped and
    made again, and its readers find nothing for a moment.
    """
    from pymongo.errors import OperationFailure

    try:
        database.command("create", name, viewOn=physical, pipeline=pipeline)
    except OperationFailure as error:
        if error.code != _EXISTS:
            raise
        database.command("collMod", name, viewOn=physical, pipeline=pipeline)
        if f"{name}.{shown_versions(database).get(name)}" != physical:
            database.drop_collection(name)
            _show(database, name, physical, pipeline)


def _replace(releases: "collection.Collection[Release]", document: Release, before: Mapping[str, Any] | None) -> bool:
    """Make the document the current one, unless another process was faster."""
    from pymongo.errors import DuplicateKeyError

    if before is not None:
        ours = {"_id": CURRENT, "number": before["number"]}
        return releases.replace_one(ours, document).matched_count == 1
    try:
        releases.insert_one(document)
    except DuplicateKeyError:
        return False
    return True
