"""Views: how a collection's plain name leads to its live version, for services that know nothing but that name."""

from typing import TYPE_CHECKING, Any

from recsys_assets.stores.store import StoreError

if TYPE_CHECKING:
    from pymongo.database import Database

EXISTS = 48  # NamespaceExists


def show(database: "Database[dict[str, Any]]", name: str, physical: str) -> None:
    """Make `name` a view of the collection `physical`; one that there is changes in one step.

    SecantusDB 0.7.0b3 cannot change a view: where it was not mended by `embedded.mend` the view is made anew, and
    its readers find nothing for a moment.
    """
    from pymongo.errors import OperationFailure

    try:
        database.command("create", name, viewOn=physical, pipeline=[])
    except OperationFailure as error:
        if error.code != EXISTS:
            raise
        database.command("collMod", name, viewOn=physical, pipeline=[])
        if _said(database, name).get("options", {}).get("viewOn") != physical:
            database.drop_collection(name)
            show(database, name, physical)


def refuse_collection(database: "Database[dict[str, Any]]", name: str, place: object) -> None:
    """Raise a `StoreError` where the name is that of a collection with rows of its own."""
    if _said(database, name).get("type", "view") != "view":
        raise StoreError(
            f"MongoDB at {place} has a collection {name}, where a view of the live version belongs: "
            "rename or drop it, then publish again"
        )


def _said(database: "Database[dict[str, Any]]", name: str) -> dict[str, Any]:
    """What MongoDB says of a collection or view; nothing where there is none."""
    return dict(next(database.list_collections(filter={"name": name}), {}))
