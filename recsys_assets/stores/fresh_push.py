"""The push of fresh vectors to every store in use: by the job `fresh_items`, and by jobs over streams."""

from collections.abc import Iterator
from functools import partial

import duckdb

from recsys_assets.coldstart.choice import newest_serving_model
from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.judge import Judge
from recsys_assets.fresh.towers import FILES, Tower, towers_of
from recsys_assets.lake import Lake
from recsys_assets.settings import settings
from recsys_assets.stores.fresh import FreshStore, push
from recsys_assets.stores.registry import STORES, open_owned_store, stores_in_use
from recsys_assets.stores.store import Store, bizdate_of


def fresh_stores() -> list[str]:
    """The stores in use that take fresh rows; the project's own server only if something was published to it."""
    place = settings()
    named = [name for name in stores_in_use(place) if STORES[name].has_fresh]
    return [name for name in named if STORES[name].variable in place.stores or (place.data / name).exists()]


class Pusher:
    """Puts what changed next to the live versions of the vectors.

    Args:
        profile: of the data set.
        lake: has the towers of the live versions.
        database: keeps the rows.
        duck: a connection on which there is no other `Judge`, because each prepares its statements there.
    """

    def __init__(self, profile: Profile, lake: Lake, database: Database, duck: duckdb.DuckDBPyConnection) -> None:
        self._profile, self._lake, self._database = profile, lake, database
        self._judge, self._towers = Judge(duck, profile), dict[tuple[str, str], dict[str, Tower]]()

    def push(self) -> dict[str, int]:
        """Push to every store in use; returns the rows of each collection, by `<store>_<collection>`.

        Raises:
            OtherDataset: a store has the collections of a different data set of that name.
            StoreError: a store cannot be opened, or does not answer.
        """
        done = dict[str, int]()
        for name in fresh_stores():
            with open_owned_store(name, self._profile.name, self._lake.owner) as store:
                done |= {f"{name}_{collection}": rows for collection, rows in self._push(name, store)}
        return done

    def _push(self, name: str, store: Store) -> Iterator[tuple[str, int]]:
        model = newest_serving_model(self._profile, self._lake).model
        for side in FILES:
            collection = STORES[name].collection_of(f"emb_{model}_{side[:-1]}", model)
            version = store.live_version(collection)
            if version and side in self._profile.tables and isinstance(store, FreshStore):
                tower, typed = self._towers_of(model, bizdate_of(version))[side], partial(self._judge.typed, side)
                yield collection, push(store, collection, version, self._database, side, tower, typed)

    def _towers_of(self, model: str, bizdate: str) -> dict[str, Tower]:
        """The towers of a model and a day; the newest ones are kept."""
        if (model, bizdate) not in self._towers:
            self._towers = {(model, bizdate): towers_of(self._lake.read_sound(f"onnx_{model}", bizdate))}
        return self._towers[model, bizdate]
