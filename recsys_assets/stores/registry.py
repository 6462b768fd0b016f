"""The stores by name: where each is found, how it is opened and for whom, and which collections it holds.

A new store is a module with a class that inherits `StoreBase` of `base.py`, and a line in `STORES`. Its assets,
`<store>_<collection>`, follow from that, and `<store>_release` if the class has the methods of `ReleaseStore`.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from recsys_assets.datasets.identity import refuse_other
from recsys_assets.settings import Settings, settings
from recsys_assets.stores import collections
from recsys_assets.stores.collections import Collection
from recsys_assets.stores.fresh import FreshStore
from recsys_assets.stores.lance.store import LanceStore
from recsys_assets.stores.milvus.store import MilvusStore
from recsys_assets.stores.mongo.embedded import run_server
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.postgres.store import PostgresStore
from recsys_assets.stores.redis import RedisStore
from recsys_assets.stores.store import ReleaseStore, Store, StoreError
from recsys_assets.stores.triton.store import TritonStore
from recsys_assets.uris import is_malformed, safe_uri

Collections = Mapping[str, Collection]


class StoreNotConfigured(StoreError):
    """A store whose URI is not set; the message names the variable."""


@dataclass(frozen=True)
class Destination:
    """A kind of store.

    Attributes:
        variable: the environment variable of its URI.
        open: its class, which opens a store given (URI, profile's name).
        collections: its collections by name, given (the two-tower models, the one that `publishing.vectors` names).
        kind: its name in Dagster's UI.
        title: its name in sentences.
        run_server: runs a server of the project's own in a folder, and gives its URI, if the variable is not set.
    """

    variable: str
    open: Callable[[str, str], Store]
    collections: Callable[[Sequence[str], str], Collections]
    kind: str
    title: str
    run_server: Callable[[Path], AbstractContextManager[str]] | None = None

    @property
    def has_fresh(self) -> bool:
        """Whether it takes fresh rows next to its versions."""
        return isinstance(self.open, type) and issubclass(self.open, FreshStore)

    def collection_of(self, asset: str, model: str) -> str:
        """The collection that holds nothing but the rows of an asset of a two-tower model."""
        made = self.collections([model], model).items()
        return next(name for name, each in made if each.reads == (asset,))

    @property
    def has_releases(self) -> bool:
        """Whether services follow its releases, so that a set goes live with one."""
        return isinstance(self.open, type) and issubclass(self.open, ReleaseStore)


def _mongo_collections(models: Sequence[str], _: str) -> Collections:
    """MetaSpore's collections, and the vectors of every model."""
    vectors = {
        f"emb_{model}_{side}": Collection(
            f"The vector of each {side} under `recall_{model}`.", (f"emb_{model}_{side}",), collections.vectors
        )
        for model in models
        for side in ("user", "item")
    }
    return {
        "user": Collection(
            "For each user, the profile, the features that rankers read, liked terms, and items seen, oldest first.",
            ("users", "user_features", "recall_term", "recall_samples"),
            collections.users,
            optional=("recall_term",),
        ),
        "item": Collection(
            "The fields of each item that people see: title, genres, links.", ("items",), collections.items
        ),
        "item_feature": Collection(
            "The features of each item that rankers read.", ("item_features",), collections.item_features
        ),
        "itemcf": Collection("The ItemCF neighbours of each item.", ("i2i_itemcf",), collections.neighbours),
        "swing": Collection("The Swing neighbours of each item.", ("i2i_swing",), collections.neighbours),
        "term": Collection("The best items of each term.", ("recall_term",), collections.terms),
        **vectors,
    }


def _redis_collections(_: Sequence[str], model: str) -> Collections:
    reads = (f"emb_{model}_user", "users", "recall_term", "recall_samples")
    what = "The inputs of recall for each user: liked terms, the vector and what to leave out (recsys_pipeline's keys)."
    return {"user": Collection(what, reads, collections.recall_state, optional=("recall_term",))}


def _milvus_collections(models: Sequence[str], _: str) -> Collections:
    return {
        f"{model}_item": Collection(
            f"The vector of each item under `recall_{model}`, for search.", (f"emb_{model}_item",), collections.vectors
        )
        for model in models
    }


def _lance_collections(_: Sequence[str], model: str) -> Collections:
    what = "The terms and the vector of each item: one hybrid query uses both (recsys_pipeline's item index)."
    return {"item": Collection(what, (f"emb_{model}_item", "items"), collections.term_vectors)}


def _triton_collections(*_: object) -> Collections:
    """None that hold rows: `assets/publish/triton.py` publishes models."""
    return {}


def _postgres_collections(models: Sequence[str], _: str) -> Collections:
    return {
        f"{model}_{side}": Collection(
            f"The vector of each {side} under `recall_{model}`, which SQL searches.",
            (f"emb_{model}_{side}",),
            collections.vectors,
        )
        for model in models
        for side in ("user", "item")
    }


STORES = {
    "mongo": Destination("MONGO_URI", MongoStore, _mongo_collections, "mongodb", "MongoDB", run_server),
    "redis": Destination("RECSYS_REDIS_URI", RedisStore, _redis_collections, "redis", "Redis"),
    "milvus": Destination("RECSYS_MILVUS_URI", MilvusStore, _milvus_collections, "milvus", "Milvus"),
    "lance": Destination("RECSYS_LANCE_URI", LanceStore, _lance_collections, "lancedb", "LanceDB"),
    "triton": Destination("RECSYS_TRITON_URI", TritonStore, _triton_collections, "triton", "Triton"),
    "postgres": Destination("RECSYS_POSTGRES_URI", PostgresStore, _postgres_collections, "postgres", "PostgreSQL"),
}


def stores_in_use(place: Settings | None = None) -> list[str]:
    """The stores whose URI is set, and those that the project serves itself if no URI is set (MongoDB)."""
    given = (place or settings()).stores
    return [name for name, store in STORES.items() if store.run_server or store.variable in given]


@contextmanager
def open_store(name: str, profile: str, place: Settings | None = None) -> Iterator[Store]:
    """Open a store of this installation, for the collections of a profile.

    Raises:
        StoreNotConfigured: its URI is not set.
        StoreError: it cannot be opened.
    """
    place, store = place or settings(), STORES[name]
    with _find_uri(name, place) as uri, store.open(uri, profile) as found:
        yield found


@contextmanager
def open_owned_store(name: str, profile: str, owner: str) -> Iterator[Store]:
    """Open a store of this installation whose collections belong to a data set, or to none yet.

    A different data set of the same name is refused, and never mixed in.

    Args:
        name: the store's name in the registry.
        profile: the name of the data set's profile.
        owner: the data set's mark, from `identity.mark`.

    Raises:
        OtherDataset: they belong to another data set.
        StoreError: the store cannot be opened.
    """
    with open_store(name, profile) as store:
        refuse_other(f"the collections of '{profile}' in {name}", store.owner(), owner)
        yield store


def _find_uri(name: str, place: Settings) -> AbstractContextManager[str]:
    """The URI of a store that is set, or that of the project's own server, which runs as long as the block."""
    store = STORES[name]
    uri = place.stores.get(store.variable)
    if not uri and store.run_server:
        return store.run_server(place.data / name)
    if uri is None:
        raise StoreNotConfigured(f"{store.variable} is not set: give the URI of the {name} store")
    if is_malformed(uri):
        what = f"{store.variable} is {safe_uri(uri)}"
        raise StoreError(f"{what}: write SCHEME://HOST, with %-escapes in user and password")
    return contextlib.nullcontext(uri)
