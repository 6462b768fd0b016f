"""The protocol of every store: it holds several versions of each collection, and says which of them is live.

A collection is a table whose first column, `KEY`, is text and identifies a row. A version is a whole collection of one
bizdate; readers see the live one, or pin any that is still kept. `publish.py` and `release.py` decide, for all stores
alike, which versions go live, and what must hold before they do.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

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
    """A destination. A version's name is `<bizdate>.<digest>`, so that names sort by bizdate.

    Every method raises `StoreUnavailable` when the store does not answer.
    """

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

    def live(self, collection: str) -> str | None:
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
        """The mark of the data set that the collections belong to, as `claim` set it; None before that."""

    def claim(self, owner: str) -> None:
        """Write down which data set the collections belong to."""

    def drop(self, collection: str, version: str) -> None:
        """Remove a version, or what an interrupted write left of one; nothing happens if there is none."""
