"""The settings of an online store in Redis: Feast names its parts in a form of its own, not as a URI."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from recsys_assets.stores.base import importing
from recsys_assets.stores.feast.place import FeastFailed
from recsys_assets.uris import safe_uri

_SECRETS = ("username", "password")


def redis_settings(uri: str, *, secrets: bool) -> dict[str, Any]:
    """The section `online_store` of Feast's settings for the Redis of a URI; nothing if the URI is empty.

    Args:
        uri: as in `RECSYS_REDIS_URI`.
        secrets: whether user and password are in it; without them it may be written to a file.

    Raises:
        FeastFailed: Feast cannot express the URI.
    """
    if not uri:
        return {}
    parts = _parse(uri)
    if "host" not in parts:
        raise FeastFailed(f"RECSYS_REDIS_URI is {safe_uri(uri)}: Feast reaches Redis by redis://HOST:PORT/DB only")
    named = {name: parts[name] for name in ("db", *(_SECRETS if secrets else ())) if parts.get(name)}
    if any("," in str(value) for value in named.values()):
        raise FeastFailed("the user or password in RECSYS_REDIS_URI has a comma, which separates settings in Feast's")
    named |= {"ssl": True} if uri.startswith("rediss:") else {}
    options = [f"{name}={json.dumps(value)}" for name, value in named.items()]  # Feast reads values as JSON
    return {"type": "redis", "connection_string": ",".join([f"{parts['host']}:{parts.get('port', 6379)}", *options])}


def _parse(uri: str) -> Mapping[str, Any]:
    with importing("redis"):
        import redis
    with suppress(ValueError):  # its message may contain a piece of the password
        found: Mapping[str, Any] = redis.Redis.from_url(uri).connection_pool.connection_kwargs
        return found
    return {}
