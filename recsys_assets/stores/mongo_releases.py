"""Release records: which version of every collection belongs together, so that a reader can pin one consistent set.

A release is a document under its number that never changes. The document `current` is a copy of the newest one and is
replaced in one update: a reader that reads it once, and then only the versions that it names, sees one release.
Numbers only grow; a process that is killed between the two leaves a number that was never current.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.collection import Collection

CURRENT = "current"


def add_release(releases: "Collection[dict[str, Any]]", content: Mapping[str, Any]) -> int:
    """Write a release under the next free number, without making it the current one; its number."""
    from pymongo.errors import DuplicateKeyError

    while True:
        newest = releases.find_one({"_id": {"$ne": CURRENT}}, {"_id": 1}, sort=[("_id", -1)])
        number: int = newest["_id"] + 1 if newest else 1
        try:
            releases.insert_one({**content, "_id": number, "number": number})
        except DuplicateKeyError:  # another process was faster
            continue
        return number


def put_release(releases: "Collection[dict[str, Any]]", content: Mapping[str, Any]) -> int:
    """Write a release under the next free number and make it the current one, unless a later one is; its number."""
    number = add_release(releases, content)
    _make_current(releases, {**content, "_id": CURRENT, "number": number})
    return number


def release(releases: "Collection[dict[str, Any]]", number: int | None = None) -> dict[str, Any] | None:
    """A release, with its `number`: by that, or the current one."""
    return releases.find_one({"_id": CURRENT if number is None else number}, {"_id": 0})


def all_releases(releases: "Collection[dict[str, Any]]") -> list[dict[str, Any]]:
    """Every release that was written, newest first, also those that were never current."""
    return list(releases.find({"_id": {"$ne": CURRENT}}, {"_id": 0}, sort=[("_id", -1)]))


def _make_current(releases: "Collection[dict[str, Any]]", document: dict[str, Any]) -> None:
    from pymongo.errors import DuplicateKeyError

    while True:
        try:
            releases.replace_one({"_id": CURRENT, "number": {"$lt": document["number"]}}, document, upsert=True)
            return
        except DuplicateKeyError:  # there is a current one that is not older, or another process just made the first
            if releases.count_documents({"_id": CURRENT, "number": {"$gte": document["number"]}}):
                return
