"""Release records: which version of every collection belongs together, so that a reader can pin one consistent set.

A release is a document under its number that never changes. The document `current` is a copy of the one that services
see. It is replaced in one update, and only if it is still the one that the writer read. A reader that reads it once,
and then only the versions that it names, therefore sees one release, and two writers decide one after the other.
Numbers only grow; a process that is killed between the two documents leaves a number that was never current.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recsys_assets.stores.store import bizdate_of

if TYPE_CHECKING:
    from pymongo.collection import Collection

CURRENT = "current"
Release = dict[str, Any]


def release_of(collections: Mapping[str, Mapping[str, Any]], champion: Mapping[str, Any] | None) -> Release:
    """The content of a release of these versions: its bizdate is their newest one, and a mixture lists all of them.

    Args:
        collections: version and rows of each collection, by name.
        champion: the ranking model that belongs to them.
    """
    days = sorted({bizdate_of(each["version"]) for each in collections.values()})
    content = {"bizdate": days[-1] if days else None, "collections": dict(collections), "champion": champion}
    return content | ({"mixture": days} if len(days) > 1 else {})


def content_of(release: Mapping[str, Any]) -> Release:
    """A release without its number."""
    return {key: value for key, value in release.items() if key != "number"}


def versions_of(release: Mapping[str, Any] | None) -> dict[str, str]:
    """The version of each collection that a release names."""
    return {name: each["version"] for name, each in (release or {}).get("collections", {}).items()}


def add_release(releases: "Collection[Release]", content: Mapping[str, Any]) -> int:
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
    releases: "Collection[Release]", content: Mapping[str, Any], before: Mapping[str, Any] | None
) -> int | None:
    """Write a release, current in place of `before`; return its number, or None if `before` is no longer current."""
    number = add_release(releases, content)
    if _replace(releases, {**content, "_id": CURRENT, "number": number}, before):
        return number
    releases.delete_one({"_id": number})
    return None


def release(releases: "Collection[Release]", number: int | None = None) -> Release | None:
    """The release of this number, by default the current one; its number is in it as `number`."""
    return releases.find_one({"_id": CURRENT if number is None else number}, {"_id": 0})


def all_releases(releases: "Collection[Release]") -> list[Release]:
    """Every release that was written, newest first, including those that were never current."""
    return list(releases.find({"_id": {"$ne": CURRENT}}, {"_id": 0}, sort=[("_id", -1)]))


def _replace(releases: "Collection[Release]", document: Release, before: Mapping[str, Any] | None) -> bool:
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
