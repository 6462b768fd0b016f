"""Shared by the stores: the error for an extra that is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from recsys_assets.stores.store import StoreError


class ExtraMissing(StoreError):
    """The library of a store is not installed; the message names the extra to install."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import a store's library inside this block.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ExtraMissing(f"{error.name} is not installed: pip install 'recsys-assets[{name}]'") from error
