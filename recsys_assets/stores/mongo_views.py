"""Views: how a collection's plain name leads to its live version, for services that know nothing but that name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recsys_assets.stores.store import StoreError

if TYPE_CHECKING:
    from pymongo.database import Database

EXISTS = 48  # NamespaceExists


def shown(database: "Database[dict[str, Any]]") -> dict[str, str]:
    """The version that each plain name shows."""
    views = {each["name"]: str(each.get("options", {}).get("viewOn", "")) for each in database.list_collections()}
    ours = {name: physical.partition(".") for name, physical in views.items()}
    return {name: version for name, (collection, _, version) in ours.items() if version and collection == name}


def show_only(database: "Database[dict[str, Any]]", versions: Mapping[str, str]) -> None:
    """Make the plain names show these versions, one after another in their order, and drop all others."""
    before = shown(database)
    for name, version in sorted(versions.items()):
        if before.get(name) != version:
            _show(database, name, f"{name}.{version}")
    for name in sorted(before.keys() - versions.keys()):
        database.drop_collection(name)


def refuse_collections(database: "Database[dict[str, Any]]", names: Mapping[str, str], place: object) -> None:
    """Raise a `StoreError` where a name is that of a collection with rows of its own."""
    theirs = [each["name"] for each in database.list_collections() if each.get("type", "view") != "view"]
    if taken := sorted(names.keys() & set(theirs)):
        raise StoreError(
            f"MongoDB at {place} has a collection {taken[0]}, where a view of the live version belongs: "
            "rename or drop it, then publish again"
        )


def _show(database: "Database[dict[str, Any]]", name: str, physical: str) -> None:
    """Make `name` a view of the collection `physical`; an existing view changes in one step.

    SecantusDB 0.7.0b3 cannot change a view unless `embedded.fix_views` has fixed that: the view is then dropped and
    made again, and its readers find nothing for a moment.
    """
    from pymongo.errors import OperationFailure

    try:
        database.command("create", name, viewOn=physical, pipeline=[])
    except OperationFailure as error:
        if error.code != EXISTS:
            raise
        database.command("collMod", name, viewOn=physical, pipeline=[])
        if f"{name}.{shown(database).get(name)}" != physical:
            database.drop_collection(name)
            _show(database, name, physical)
