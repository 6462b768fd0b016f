"""`recsys published` and `recsys rollback`: list what services see, and go back to an earlier day."""

import contextlib
import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from rich.table import Table

    from recsys_assets.stores.store import Store


class NothingPublished(RuntimeError):
    """There is no such collection in any configured store; the message lists those that exist."""


@click.command("published")
def list_published() -> None:
    """List the versions of every collection in every store and which is live; report mixtures of bizdates."""
    from rich.console import Console

    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.stores.feast.repository import describe
    from recsys_assets.stores.live_sets import remarks
    from recsys_assets.stores.registry import stores_in_use

    for name in stores_in_use():
        with _open_store(name) as store:
            Console().print(_version_table(name, store))
            for remark in remarks(name, store):
                click.echo(remark)
    if said := describe(load_profile()):
        click.echo(f"feast: {said}")


@click.command()
@click.argument("collection", required=False)
@click.option("--all", "everything", is_flag=True, help="Every collection of every store.")
@click.option("--to", type=Day(), help="The bizdate to return to (default: the one before the live one).")
def rollback(collection: str | None, everything: bool, to: dt.date | None) -> None:
    """Make an earlier version of COLLECTION (mongo_user, redis_user, …) live again, or with --all an earlier set.

    With --all every store goes back to the same bizdate; if one store lacks it, none does. A release of a later bizdate
    that is made afterwards goes live as usual. MongoDB records the rollback as a new release.
    """
    from recsys_assets.stores.live_sets import remarks
    from recsys_assets.stores.publish import roll_back, roll_back_all
    from recsys_assets.stores.registry import stores_in_use

    if everything == bool(collection):
        raise click.UsageError("name a collection (`recsys published` lists them), or give --all")
    day = to.isoformat() if to else None
    with contextlib.ExitStack() as stack:
        stores = {name: stack.enter_context(_open_store(name)) for name in stores_in_use()}
        if everything:
            done = dict(zip(stores, roll_back_all(list(stores.values()), day), strict=True))
        else:
            name, own = _find_collection(collection or "", stores)
            done = {name: {own: roll_back(stores[name], own, day)}}
        for name, versions in done.items():
            _say(name, stores[name], versions)
            for remark in remarks(name, stores[name]) if versions else ():
                click.echo(remark)


def _open_store(name: str) -> "contextlib.AbstractContextManager[Store]":
    """Open a store that is empty or holds the collections of the profile's data set."""
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings
    from recsys_assets.stores.registry import open_owned_store

    lake = Lake.of(settings().lake, load_profile())
    return open_owned_store(name, lake.profile, lake.owner)


def _find_collection(collection: str, stores: "Mapping[str, Store]") -> tuple[str, str]:
    """The store of a collection, and the collection's name in it.

    Raises:
        NothingPublished: no store has it.
    """
    there = {f"{name}_{each}": (name, each) for name, store in stores.items() for each in store.collections()}
    if collection not in there:
        raise NothingPublished(f"no collection '{collection}' was published: there are {', '.join(there) or 'none'}")
    return there[collection]


def _say(name: str, store: "Store", versions: "Mapping[str, str]") -> None:
    """Print what is live now, and for MongoDB the release that records it."""
    from recsys_assets.stores.live_sets import current_release
    from recsys_assets.stores.registry import STORES

    for collection, version in versions.items():
        click.echo(f"{name}_{collection}: {version} is live")
    if versions and (release := current_release(store)):
        click.echo(f"{STORES[name].title} release {release['number']} names {'them' if len(versions) > 1 else 'it'}")


def _version_table(name: str, store: "Store") -> "Table":
    """A table with one row per version, newest first."""
    from rich.table import Table

    from recsys_assets.stores.live_sets import current_release, live_set

    release, live = current_release(store), live_set(store)
    title = name
    if release:
        days = " and ".join(release.get("mixture", [str(release["bizdate"])]))
        title = f"{name}: release {release['number']} of {days}"
    table = Table("collection", "version", "rows", "live", title=title, title_justify="left")
    for collection in store.collections():
        for version in reversed(store.versions(collection)):
            rows = f"{store.count(collection, version):,}"
            table.add_row(f"{name}_{collection}", version, rows, "yes" if live.get(collection) == version else "")
    return table
