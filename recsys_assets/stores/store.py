"""The protocol of every store: it holds several versions of each collection, and says which of them is live.

A collection is a table whose first column, `KEY`, is text and identifies a row. A version is a whole collection of one
bizdate; readers see the live one, or pin any that is still kept. `publish.py` and `live_sets.py` decide, for all stores
alike, which versions go live, and what must hold before they do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import pyarrow as pa

from recsys_assets.datasets import names

KEY = names.QUERY_ID  # the name under which MetaSpore's service looks rows up


class StoreError(RuntimeError):
    """Something is wrong with a store; the message names the store, without credentials, and says what to do."""


class StoreUnavailable(StoreError):
    """The store does not answer, refuses, or gave up in the middle of an answer."""


class StoreFull(StoreError):
    """The store has no room for what was to be written."""


class Unrepresentable(StoreError):
    """The store cannot hold a row: too large, or an unknown type or value. The message names the column and the key."""


class VersionMissing(StoreError):
    """The version is not there, or none is live."""


def bizdate_of(version: str) -> str:
    """The bizdate in a version's name."""
    return version.partition(".")[0]


class Store(Protocol):
    """A destination. A version's name is `<bizdate>.<digest>` (`publish.version_name`), so that names sort by bizdate.

    It is opened when it is created or first asked, and closed at the end of a `with` block. Every method raises
    `StoreUnavailable` when the store does not answer.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """Close the connections; a store that is asked again may or may not open them again."""

    def write(self, collection: str, version: str, table: pa.Table) -> None:
        """Write a version, which nobody reads yet.

        If it is there already, nothing happens; what an interrupted call left is completed, or written again.

        Args:
            collection: its name, of letters, digits and underscores.
            version: its name.
            table: (N rows) with the column `KEY` first, distinct.

        Raises:
            Unrepresentable: the store cannot hold a row; nothing that can be read is left.
            StoreFull: there is no room.
        """

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """Rows of the keys that are there, in the order of the keys, with the columns and types that were written.

        Args:
            collection: its name.
            keys: which rows.
            version: of which version; by default of the live one.

        Raises:
            VersionMissing: there is no such version.
        """

    def count(self, collection: str, version: str) -> int:
        """Rows of a version, as the store itself counts them."""

    def collections(self) -> list[str]:
        """Names of the collections that have a version, in order."""

    def versions(self, collection: str) -> list[str]:
        """Names of the versions that are wholly written, in order; none for an unknown collection."""

    def live_version(self, collection: str) -> str | None:
        """The version that readers see; None if none is live."""

    def go_live(self, collection: str, version: str) -> None:
        """Show readers this version from now on, in one step: no reader finds no version, or parts of two.

        Raises:
            VersionMissing: there is no such version.
        """

    def switch(self, versions: Mapping[str, str]) -> None:
        """Show readers these versions of several collections from now on; the other collections stay as they are.

        All switch together if the store has one step for it, otherwise one after another in the order of names: the
        store's module says which. A second call completes what an interrupted one left.

        Raises:
            VersionMissing: one is not there. Then nothing is changed.
        """

    def owner(self) -> str | None:
        """The mark (`datasets/identity.py`) of the data set of the collections, as `claim` set it; None before that."""

    def claim(self, owner: str) -> None:
        """Write down which data set the collections belong to."""

    def drop(self, collection: str, version: str) -> None:
        """Remove a version, or what an interrupted write left of one; nothing happens if there is none."""


@runtime_checkable
class ReleaseStore(Store, Protocol):
    """A store that records sets of versions as releases; services follow the current one.

    A release is a mapping with the keys of `live_sets.release_of`, and its `number`. A service may also look rows up
    under the plain name of a collection, which shows the version of the current release.
    """

    def release(self, number: int | None = None) -> dict[str, Any] | None:
        """A release record by its number, or the current one; None if there is none."""

    def releases(self) -> list[dict[str, Any]]:
        """Every release record, newest first, including those that were never the current one."""

    def add_release(self, content: Mapping[str, Any]) -> int:
        """Write a release record without making it the current one; return its number."""

    def put_release(self, content: Mapping[str, Any], before: Mapping[str, Any] | None) -> int | None:
        """Make a release the current one and show its versions; return its number.

        Args:
            content: from `release_of`.
            before: the current release that the decision was based on. If another process has replaced it meanwhile,
                nothing is changed and None is returned.

        Raises:
            VersionMissing: there is no such version.
        """

    def follow(self) -> None:
        """Complete an interrupted switch: what services look up shows the current release's versions."""

    def shown_versions(self) -> dict[str, str]:
        """The version that each collection's plain name shows: the live one, unless a switch was interrupted."""
