"""A client of the MongoDB that a URI names, whose errors are this project's and never show the URI's secrets."""

import re
from typing import TYPE_CHECKING, Any

from recsys_assets.stores.base import Address
from recsys_assets.stores.store import StoreError, StoreFull, StoreUnavailable, Unrepresentable
from recsys_assets.uris import safe_message, safe_uri

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection
    from pymongo.database import Database

TIMEOUTS = {"serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000, "socketTimeoutMS": 60_000}
_MAY_NOT = 13  # Unauthorized
_NOT_LET_IN = "AuthenticationFailed"  # in the error's text, of the first answer and after retries timed out
_NO_SPACE = "No space left on device"  # strerror(ENOSPC), which WiredTiger passes on
_OUT_OF_SPACE = 14031  # OutOfDiskSpace
# InternalError (SecantusDB says no more on a full disk), and: stopping, timed out, not primary.
_AWAY = (1, 6, 7, 50, 89, 91, 175, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436)


def connect(uri: str, database: str) -> "tuple[MongoClient[dict[str, Any]], Address]":
    """A client, which connects when it is first asked, and its address, whose name is `host:port/database`.

    The timeouts are those of `TIMEOUTS` unless the URI sets them.

    Raises:
        StoreError: the URI cannot be used. The message names only the kind of error: pymongo's own quotes the URI.
    """
    from pymongo import MongoClient
    from pymongo.uri_parser import parse_uri

    try:
        parsed = parse_uri(uri)
        waits: dict[str, Any] = {name: wait for name, wait in TIMEOUTS.items() if name not in parsed["options"]}
        client: MongoClient[dict[str, Any]] = MongoClient(uri, **waits)
        client.get_database(database)
    except Exception as error:  # PyMongoError, ValueError, OSError of a certificate's file, ...
        kind = type(error).__name__
    else:
        hosts = ",".join(f"{host}:{port}" for host, port in parsed["nodelist"])
        return client, Address(f"{safe_uri(uri) if safe_message(hosts, uri) != hosts else hosts}/{database}", uri)
    # Raised outside the `except` block, so that pymongo's error is not attached to this one.
    raise StoreError(
        f"the MongoDB URI or the database's name cannot be used ({kind}): a URI is "
        "mongodb://[user:password@]host[:port][/?options], with %-escapes in user and password"
    )


def journaled_collection(database: "Database[dict[str, Any]]", name: str) -> "Collection[dict[str, Any]]":
    """A collection whose writes are answered when they, and all earlier ones, are in the server's log on disk.

    A crash therefore undoes nothing that was reported as whole or live. If all writes waited, SecantusDB would take a
    tenth longer.
    """
    from pymongo import WriteConcern

    return database.get_collection(name, write_concern=WriteConcern(**database.write_concern.document | {"j": True}))


def translate(error: Exception, said: str, address: Address) -> StoreError | None:
    """The project's error for one of pymongo's, which names the address; None if it is not pymongo's."""
    from bson.errors import BSONError
    from pymongo.errors import OperationFailure, PyMongoError

    place = address.name
    if isinstance(error, (BSONError, OverflowError)):
        return Unrepresentable(f"MongoDB at {place} cannot hold what was given: {said}")
    if not isinstance(error, PyMongoError):
        return None
    if _NOT_LET_IN in str(error):
        return StoreUnavailable(f"MongoDB at {place} refused the user or the password: correct MONGO_URI")
    code, answer = _details(error, address.uri)
    if code == _MAY_NOT:
        return StoreUnavailable(f"MongoDB at {place}: not authorized: check the user in MONGO_URI")
    if isinstance(error, OperationFailure):
        return _refusal(place, code, answer)
    reason = safe_message(re.split(r" \(configured|, Timeout:", str(error))[0], address.uri)  # pages of topology follow
    return StoreUnavailable(
        f"MongoDB at {place} does not answer ({type(error).__name__}: {reason}): "
        "check that it is running and that MONGO_URI is right"
    )


def _details(error: Exception, uri: str) -> tuple[int | None, str]:
    """The server's code and message in an error."""
    from pymongo.errors import BulkWriteError

    details = dict(getattr(error, "details", None) or {})
    if isinstance(error, BulkWriteError):
        details = [*details["writeErrors"], *details["writeConcernErrors"]][0]
    return details.get("code"), safe_message(details.get("errmsg", ""), uri)


def _refusal(place: str, code: int | None, said: str) -> StoreError:
    """The error for a command that the server answered with a failure."""
    if code == _OUT_OF_SPACE or _NO_SPACE in said:
        return StoreFull(f"MongoDB at {place} has no room on its disk: make room, then publish again")
    if code in _AWAY:
        return StoreUnavailable(f"MongoDB at {place} gave up: {said} ({code}): see its log and the room on its disk")
    return StoreError(f"MongoDB at {place} refuses: {said} ({code})")
