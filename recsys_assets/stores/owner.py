"""The owner of a store's collections: a different data set of the same name is refused, never mixed in."""

from collections.abc import Iterator
from contextlib import contextmanager

from recsys_assets.datasets.identity import refuse_other
from recsys_assets.settings import Settings
from recsys_assets.stores.registry import opened
from recsys_assets.stores.store import Store


@contextmanager
def opened_by(name: str, profile: str, owner: str, place: Settings | None = None) -> Iterator[Store]:
    """A store of this installation whose collections belong to a data set, or to none yet.

    Args:
        name: the store's name in the registry.
        profile: the name of the data set's profile.
        owner: the data set's mark, from `identity.mark`.
        place: the settings, by default those of the environment.

    Raises:
        OtherDataset: they belong to another data set.
        StoreError: the store cannot be opened.
    """
    with opened(name, profile, place) as store:
        refuse_other(f"the collections of '{profile}' in {name}", store.owner(), owner)
        yield store
