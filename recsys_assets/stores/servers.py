"""What the files of the stores share: naming a server without its password, and an extra that is not installed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from recsys_assets.stores.store import StoreError

# Scheme, user and password, host and port, path, options; what does not read like this may have a password anywhere.
_URI = re.compile(r"(?P<scheme>[\w+]+://)([^@/?#]*@)?(?P<host>[^@/?#:]+(:\d+)?)?(?P<path>/[^@?#]*)?(\?[^@]*)?")


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


def without_credentials(uri: str) -> str:
    """A URI without user, password and options, for people to read; a path stays as it is."""
    if "://" not in uri:
        return uri
    parts = _URI.fullmatch(uri)
    shown = [parts[name] or "" for name in ("scheme", "host", "path")] if parts else [uri.partition("://")[0], "://…"]
    return "".join(shown)
