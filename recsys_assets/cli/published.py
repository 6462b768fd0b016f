"""`recsys published` and `recsys rollback`: what services see, and the way back to an earlier day."""

import datetime as dt
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from rich.table import Table

    from recsys_assets.stores.store import Store


class NothingPublished(RuntimeError):
    """There is no such collection in any store that is used here; the message lists those that there are."""


@click.command()
def published() -> None:
    """List the versions of every collection in every store: which is live, and which the release names."""
    from rich.console import Console

    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.stores.registry import configured, opened

    profile = load_profile().name
    for name in configured():
        with opened(name, profile) as store:
            Console().print(_listed(name, store))


@click.command()
@click.argument("collection", required=False)
@click.option("--all", "everything", is_flag=True, help="Every collection of every store.")
@click.option("--to", type=Day(), help="The bizdate to return to (default: the one before the live one).")
def rollback(collection: str | None, everything: bool, to: dt.date | None) -> None:
    """Show services an earlier version of COLLECTION (mongo_user, redis_user, …) again, or of --all.

    The next publication of a later bizdate, or the same one made again, goes live as usual. A MongoDB release with
    the older versions is made, under a number of its own.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.stores.publish import roll_back, roll_back_all
    from recsys_assets.stores.registry import configured, opened

    if everything == bool(collection):
        raise click.UsageError("name a collection, or give --all")
    profile, day = load_profile().name, to.isoformat() if to else None
    there: list[str] = []
    for name in configured():
        with opened(name, profile) as store:
            names = {f"{name}_{each}": each for each in store.collections()}
            there += names
            if everything and names:
                _say(name, store, roll_back_all(store, day))
            elif collection in names:
                _say(name, store, {names[collection]: roll_back(store, names[collection], day)})
    if collection and collection not in there:
        raise NothingPublished(f"no collection '{collection}' was published: there are {', '.join(there) or 'none'}")


def _say(name: str, store: "Store", versions: dict[str, str]) -> None:
    """What is live now, and for MongoDB the release that says so."""
    from recsys_assets.stores.release import release_anew

    for collection, version in versions.items():
        click.echo(f"{name}_{collection}: {version} is live")
    if number := release_anew(store, versions):
        click.echo(f"MongoDB release {number} names {'them' if len(versions) > 1 else 'it'}")


def _listed(name: str, store: "Store") -> "Table":
    """A row a version, newest first."""
    from rich.table import Table

    from recsys_assets.stores.release import current_release, pinned

    release, named = current_release(store), pinned(store)
    title = f"{name}: release {release['number']} of {release['bizdate']}" if release else name
    table = Table("collection", "version", "rows", "live", "released", title=title, title_justify="left")
    for collection in store.collections():
        live = store.live(collection)
        for version in reversed(store.versions(collection)):
            marks = ("yes" if version == live else "", "yes" if version == named.get(collection) else "")
            rows = f"{store.count(collection, version):,}"
            table.add_row(f"{name}_{collection}", version, rows, *marks)
    return table
