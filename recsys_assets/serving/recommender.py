"""The recommender as a kind of service: it opens a release, and answers with its lists and what was told since."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from recsys_assets.datasets.profile import load_profile
from recsys_assets.guard import App
from recsys_assets.lake import Lake
from recsys_assets.serving.app import create_app
from recsys_assets.serving.budget import DEADLINE
from recsys_assets.serving.by_triton import rank_by_triton
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.fresh.layer import Layer
from recsys_assets.serving.fresh.opening import open_fresh, open_layer
from recsys_assets.serving.kinds import Kind, guarded
from recsys_assets.serving.log import say
from recsys_assets.serving.online_features import online_features
from recsys_assets.serving.order import Order, Release
from recsys_assets.serving.page import PATHS
from recsys_assets.serving.place import Place
from recsys_assets.serving.request_log import logging
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.scenes.file import scenes_path
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.snapshot import Snapshots, named
from recsys_assets.serving.stored_users import stored_users
from recsys_assets.serving.told import open_told
from recsys_assets.serving.variables import milliseconds
from recsys_assets.settings import settings


@dataclass(frozen=True)
class Ready:
    """A release that is open, and the rows that are fresher; None for a data set whose items do not land."""

    opened: Opened
    layer: Layer | None

    def __str__(self) -> str:
        return str(self.opened)


def open_release(order: Order, release: Release) -> Ready:
    """The release, opened from its checked copy and asked once."""
    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    copies = Snapshots(Path(order.copies), profile.name)
    release, book = named(release, lake), Book(scenes_path(settings()), profile, say)
    copy = copies.open(release, lake)
    engine = Engine(profile, copy, release.bizdate, copies.pins(release, lake))
    rank_by_triton(engine)
    engine.warm_up()
    book.prepare(engine)
    book.ages(engine)  # whatever is made once is made before the processes are copied
    layer = open_layer(engine)
    copies.remember(release)
    return Ready(Opened(release.number, engine, book), layer)


@contextlib.contextmanager
def application(ready: Ready | None, port: int, place: Place) -> Iterator[App]:
    """The guarded application over a release and what was told since; without one, it says that none is open yet."""
    with contextlib.ExitStack() as stack:
        if ready is None:
            yield guarded(create_app(Service(None), None, place), port, place, PATHS)
            return
        engine, book, layer = ready.opened.engine, ready.opened.book, ready.layer
        log = stack.enter_context(logging(engine.profile.name, say))
        told = stack.enter_context(open_told(engine.profile))
        fresh = stack.enter_context(open_fresh(engine.profile, layer)) if layer else None
        in_store = stack.enter_context(stored_users(engine, ready.opened.number, os.environ))
        engine.online = in_store or online_features(engine, os.environ)
        book.follow(engine)
        service = Service(ready.opened, told, milliseconds(os.environ, DEADLINE), fresh)
        service.warm_up()
        yield guarded(create_app(service, log, place), port, place, PATHS)


KIND = Kind(open_release, application, lambda ready: ready.opened.book.look(ready.opened.engine))
