"""The base class of the stores: opening and closing, errors in the project's words, and reading the live version."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self, TypeVar

import pyarrow as pa

from recsys_assets.stores.store import Store, StoreError, VersionMissing
from recsys_assets.uris import safe_message

Found = TypeVar("Found")


class ExtraMissing(StoreError):
    """The library of a store is not installed; the message names the extra to install."""


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Import a store's library inside this block.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ExtraMissing(f"{error.name} is not installed: pip install 'recsys-assets[{name}]'") from error


@dataclass(frozen=True)
class Address:
    """The name of a store in messages, without secrets, and its URI, which nothing shows."""

    name: str
    uri: str = field(repr=False)


class StoreBase(Store):
    """The part that every store's class inherits; it adds the other methods of `Store`, and the abstract ones."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.name})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, collection: str, keys: Sequence[str], version: str | None = None) -> pa.Table:
        """See `Store.read`."""
        return self._find(collection, version, lambda each: self._rows(collection, each, keys))

    def collections(self) -> list[str]:
        """See `Store.collections`."""
        return sorted({collection for collection, _ in self._entries()})

    def versions(self, collection: str) -> list[str]:
        """See `Store.versions`."""
        return sorted(version for other, version in self._entries() if other == collection)

    def go_live(self, collection: str, version: str) -> None:
        """See `Store.go_live`."""
        self.switch({collection: version})

    @abstractmethod
    def _translate(self, error: Exception, said: str) -> StoreError | None:
        """The project's error for one of the store's library, or None if it is not the library's.

        Args:
            error: the library's error.
            said: its message, on one line and without secrets.
        """

    @abstractmethod
    def _rows(self, collection: str, version: str, keys: Sequence[str]) -> pa.Table:
        """See `Store.read`; a version that is dropped before all of its rows are found raises `VersionMissing`."""

    @abstractmethod
    def _entries(self) -> list[tuple[str, str]]:
        """Collection and version of everything that is wholly written."""

    @contextmanager
    def _translate_errors(self, doing: str = "") -> Iterator[None]:
        """Turn the library's errors in this block into those of `store.py`; `doing` begins their messages."""
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            said = safe_message(error, self._address.uri)
            ours = self._translate(error, f"{doing}: {said}" if doing else said)
            if ours is None:
                raise
            raise ours from None

    def _find(self, collection: str, version: str | None, find: Callable[[str], Found]) -> Found:
        """The result of `find(version)`, by default for the live version.

        `find` raises `VersionMissing` when the version is not there, or is dropped before all of it is found. A reader
        of the live version then starts again with the version that replaced it.

        Raises:
            VersionMissing: the version is not there, or none is live.
        """
        while True:
            wanted = version or self.live_version(collection)
            if wanted is None:
                raise VersionMissing(f"{collection} has no live version in {self}: publish it")
            try:
                return find(wanted)
            except VersionMissing:
                if version or self.live_version(collection) == wanted:
                    raise

    def _missing_version(self, collection: str, version: str) -> VersionMissing:
        """The error for a missing version; it lists the versions that are kept."""
        kept = ", ".join(self.versions(collection)) or "none"
        return VersionMissing(f"{collection} has no version {version} in {self}: it has {kept}")
