"""The kinds of services: what the processes of one open, and the application that answers from it.

All kinds share the supervisor, the generations, the front, the limits and the guard. A kind is named by the place of
its record, as in `recsys_assets.serving.recommender:KIND`, so that only the process that opens it imports it.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from recsys_assets.guard import App, Guard, hosts_in, hosts_of
from recsys_assets.serving.order import Order, Release
from recsys_assets.serving.place import Place


@dataclass(frozen=True)
class Kind:
    """A kind of service.

    Attributes:
        open: opens what an order names, once, before the processes are copied.
        application: the guarded application over what was opened, on a port, as long as the block runs; over None, it
            says that nothing is open yet.
        look: is called ten times a second with what was opened, by the process that looks after the others.
    """

    open: Callable[[Order, Release], Any]
    application: Callable[[Any, int, Place], AbstractContextManager[App]]
    look: Callable[[Any], None]


def kind_of(name: str) -> Kind:
    """The kind whose record is at a place.

    Raises:
        TypeError: something else is there.
    """
    found = resolve_name(name)
    if not isinstance(found, Kind):
        raise TypeError(f"{name} is no kind of service")
    return found


def guarded(app: FastAPI, port: int, place: Place, open_paths: frozenset[str] = frozenset()) -> App:
    """The application behind the guard: its hosts and its token are those of the environment."""
    hosts, origins = hosts_of(port, hosts_in("RECSYS_SERVE_HOSTS")), frozenset(place.limits.origins)
    found: App = Guard(app, hosts, os.environ.get("RECSYS_SERVE_TOKEN", ""), open_paths, origins)
    if origins:
        headers = ("authorization", "content-type", "x-request-id")
        found = CORSMiddleware(found, list(origins), ("GET", "POST"), headers, expose_headers=("x-request-id",))
    return found
