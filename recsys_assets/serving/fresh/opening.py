"""Opening of the fresh rows: the layer with the release, before its process is copied; the writers in each process."""

import contextlib
from collections.abc import Iterator

from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.towers import towers_of
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.fresh.blend import Fresh
from recsys_assets.serving.fresh.cold import cold_items
from recsys_assets.serving.fresh.layer import Layer
from recsys_assets.serving.fresh.sql import sql_recall
from recsys_assets.serving.fresh.watcher import Watcher
from recsys_assets.serving.fresh.writer import Writer
from recsys_assets.serving.log import say


def open_layer(engine: Engine) -> Layer | None:
    """The rows that are fresher than a release, with vectors of its towers; None if the items do not land.

    Raises:
        PlaceUnwritable: the data folder cannot be written.
    """
    profile = engine.profile
    if "items" not in profile.tables:
        return None
    if engine.fresh_towers is None:
        say(f"no fresh item is listed: this release has no onnx_{engine.fresh_model}")
    towers = towers_of(engine.fresh_towers) if engine.fresh_towers else {}
    layer = Layer(profile, Database(profile.name), towers, cold_items(engine))
    layer.look()
    layer.close()
    return layer


@contextlib.contextmanager
def open_fresh(profile: Profile, layer: Layer) -> Iterator[Fresh]:
    """The fresh rows of a service: further ones are taken, from requests and from files, until the block ends.

    Raises:
        StoreNotConfigured, ExtraMissing: the profile names a table, and what it needs is not there.
    """
    with (
        sql_recall(profile) or contextlib.nullcontext() as sql,
        Writer(profile, layer.database, layer.towers) as writer,
        Watcher(profile, layer.database, layer.towers),
    ):
        yield Fresh(layer, writer, layer.towers, sql)
