"""The stores by name: where each is found, how it is opened, and which collections it holds.

A new store is a module with a class that implements the protocol of `store.py`, and a line in `STORES`. Its assets,
`<store>_<collection>`, follow from that.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from recsys_assets.settings import Settings, settings
from recsys_assets.stores import collections, embedded
from recsys_assets.stores.collections import Collection
from recsys_assets.stores.lance import LanceStore
from recsys_assets.stores.milvus import MilvusStore
from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.redis import RedisStore
from recsys_assets.stores.store import Store, StoreError
from recsys_assets.uris import is_malformed, shown

Collections = Mapping[str, Collection]


class StoreNotConfigured(StoreError):
    """A store whose URI is not set; the message names the variable."""


class Destination(NamedTuple):
    """A kind of store.

    Attributes:
        variable: the environment variable of its URI.
        open: opens it, given (URI, profile's name).
        collections: its collections by name, given (the two-tower models, the one whose vectors go with terms).
        kind: its name in Dagster's UI.
    """

    variable: str
    open: Callable[[str, str], AbstractContextManager[Store]]
    collections: Callable[[Sequence[str], str], Collections]
    kind: str


def _mongo(models: Sequence[str], _: str) -> Collections:
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


def _redis(_: Sequence[str], vectors: str) -> Collections:
    reads = (f"emb_{vectors}_user", "users", "recall_term", "recall_samples")
    what = "The inputs of recall for each user: liked terms, the vector, and the items seen (recsys_pipeline's keys)."
    return {"user": Collection(what, reads, collections.recall_state)}


def _milvus(models: Sequence[str], _: str) -> Collections:
    return {
        f"{model}_item": Collection(
            f"The vector of each item under `recall_{model}`, for search.", (f"emb_{model}_item",), collections.vectors
        )
        for model in models
    }


def _lance(_: Sequence[str], vectors: str) -> Collections:
    what = "The terms and the vector of each item: one hybrid query uses both (recsys_pipeline's item index)."
    return {"item": Collection(what, (f"emb_{vectors}_item", "items"), collections.term_vectors)}


STORES = {
    "mongo": Destination("MONGO_URI", MongoStore, _mongo, "mongodb"),
    "redis": Destination("RECSYS_REDIS_URI", RedisStore, _redis, "redis"),
    "milvus": Destination("RECSYS_MILVUS_URI", MilvusStore, _milvus, "milvus"),
    "lance": Destination("RECSYS_LANCE_URI", LanceStore, _lance, "lancedb"),
}


def configured(place: Settings | None = None) -> list[str]:
    """The stores in use: those whose URI is set, and MongoDB, which the project serves itself if no URI is set."""
    given = (place or settings()).stores
    return [name for name, store in STORES.items() if name == "mongo" or store.variable in given]


@contextmanager
def opened(name: str, profile: str, place: Settings | None = None) -> Iterator[Store]:
    """A store of this installation, for the collections of a profile.

    Raises:
        StoreNotConfigured: its URI is not set.
        StoreError: it cannot be opened.
    """
    place, store = place or settings(), STORES[name]
    uri = place.stores.get(store.variable)
    if uri is None and name != "mongo":
        raise StoreNotConfigured(f"{store.variable} is not set: give the URI of the {name} store")
    if uri and is_malformed(uri):
        raise StoreError(f"{store.variable} is {shown(uri)}: write SCHEME://HOST, with %-escapes in user and password")
    served = contextlib.nullcontext(uri) if uri else embedded.serving(place.data / "mongo")
    with served as found, store.open(found, profile) as made:
        yield made
