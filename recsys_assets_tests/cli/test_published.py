"""`recsys published` and `recsys rollback` on the project's own server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main
from recsys_assets.stores.live_sets import content_of, release_of, release_set, remarks, versions_of
from recsys_assets.stores.mongo.releases import show_only
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.publish import stage
from recsys_assets.stores.registry import STORES, StoreNotConfigured, open_store, stores_in_use
from recsys_assets_tests.helpers.publishing import publish
from recsys_assets_tests.helpers.store_contract import NEW, NEWER, OLD, no_gate, rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoStore]:
    """A store with collections `user` and `item`, published and released for two days."""
    monkeypatch.setenv("RECSYS_DATA", str(home))
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    for variable in [kind.variable for kind in STORES.values()]:
        monkeypatch.delenv(variable, raising=False)
    with open_store("mongo", "sample") as found:
        assert isinstance(found, MongoStore)
        for collection in found.collections():
            for version in found.versions(collection):
                found.drop(collection, version)
        for version in (OLD, NEW):
            for collection in ("user", "item"):
                stage(found, collection, version, rows(5), no_gate, keep=3)
            assert release_set(found, released(version))[1]
        yield found


def released(version: str, champion: str = "") -> dict[str, Any]:
    collections = {name: {"version": version, "rows": 5} for name in ("item", "user")}
    return release_of(collections, {"bizdate": version[:10], "model": champion})


def content(store: MongoStore) -> dict[str, Any]:
    return content_of(store.release() or {})


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), terminal_width=200)


@pytest.mark.usefixtures("store")
def test_versions_are_listed_with_what_is_live() -> None:
    shown = recsys("published")
    assert shown.exit_code == 0
    marked = [line.split("│")[1:-1] for line in shown.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in marked] == [
        [f"mongo_{name}", version, "5", mark]
        for name in ("item", "user")
        for version, mark in ((NEW, "yes"), (OLD, ""))
    ]
    assert "mixture" not in shown.stdout


def test_one_collection_goes_back_and_what_is_live_is_called_a_mixture(store: MongoStore) -> None:
    before = store.release() or {}
    done = recsys("rollback", "mongo_user")
    assert (done.exit_code, store.live_version("user"), store.live_version("item")) == (0, OLD, NEW)
    release = store.release() or {}
    assert release["number"] == before["number"] + 1
    assert f"MongoDB release {release['number']} names it" in done.stdout
    assert versions_of(release) == store.shown_versions() == {"item": NEW, "user": OLD}
    assert (release["bizdate"], release["mixture"]) == (NEW[:10], [OLD[:10], NEW[:10]])
    for shown in (done, recsys("published")):
        assert (
            f"mongo: the live set is a mixture of bizdates, user of {OLD[:10]} and the rest of {NEW[:10]}"
            in shown.stdout
        )
    assert f"release {release['number']} of {OLD[:10]} and {NEW[:10]}" in recsys("published").stdout


def test_collections_that_went_back_one_by_one_are_the_release_of_that_day(store: MongoStore) -> None:
    for collection in ("mongo_user", "mongo_item"):
        assert recsys("rollback", collection).exit_code == 0
    assert content(store) == released(OLD)
    assert "mixture" not in recsys("published").stdout


def test_all_collections_go_back_together_with_the_champion_of_that_day(store: MongoStore) -> None:
    done = recsys("rollback", "--all")
    assert (done.exit_code, store.live_version("user"), store.live_version("item")) == (0, OLD, OLD)
    assert content(store) == released(OLD)


def test_a_set_of_an_earlier_bizdate_is_recorded_once_and_not_live(store: MongoStore) -> None:
    current = store.release() or {}
    backfill = released(OLD, "of the backfill")
    (number, is_live), again = release_set(store, backfill), release_set(store, backfill)
    assert ((number, is_live), store.release()) == (again, current)
    assert not is_live
    assert release_set(store, released(NEW)) == (current["number"], True)
    recsys("rollback", "--all")
    release = store.release() or {}
    assert content_of(release) == backfill
    assert release["number"] > number > current["number"]
    assert release_set(store, released(NEW)) == (release["number"] + 1, True)
    assert store.shown_versions() == {"item": NEW, "user": NEW}


def test_an_earlier_bizdate_does_not_replace_a_later_one_of_a_mixture(store: MongoStore) -> None:
    recsys("rollback", "mongo_user")
    before = store.release()
    assert not release_set(store, released(OLD, "another"))[1]
    assert store.release() == before
    assert release_set(store, released(NEW))[1]
    assert content(store) == released(NEW)


def test_a_set_that_is_not_released_is_not_live_and_named(store: MongoStore) -> None:
    stage(store, "user", NEWER, rows(5), no_gate, keep=3)
    assert store.shown_versions() == {"item": NEW, "user": NEW}
    said = recsys("published").stdout
    assert f"mongo: {NEWER[:10]} is written but not live, 1 of 2 collections; mongo_item are missing" in said
    stage(store, "item", NEWER, rows(5), no_gate, keep=3)
    assert f"`recsys materialize '+mongo_release' --bizdate {NEWER[:10]}` shows it" in recsys("published").stdout
    release_set(store, released(NEWER))
    assert NEWER[:10] not in "".join(remarks("mongo", store))


def test_an_interrupted_switch_is_named_and_completed(store: MongoStore) -> None:
    for shown in ({"item": OLD, "user": NEW}, {"user": NEW}):
        show_only(store._database, shown)
        said = recsys("published").stdout
        assert "a switch was interrupted, and some plain names do not show what is live" in said
        assert f": item ({shown.get('item', 'nothing')}): `recsys rollback --all --to {NEW[:10]}`" in said
        assert recsys("rollback", "--all", "--to", NEW[:10]).exit_code == 0
        assert store.shown_versions() == {"item": NEW, "user": NEW}
        show_only(store._database, shown)
        assert release_set(store, released(NEW))[1]
        assert store.shown_versions() == {"item": NEW, "user": NEW}


def test_what_is_live_stays_while_newer_versions_are_published(store: MongoStore) -> None:
    for version in (NEWER, f"{NEWER}2"):
        stage(store, "user", version, rows(5), no_gate, keep=1)
    assert store.versions("user") == [NEW, f"{NEWER}2"]


def test_if_one_collection_lacks_the_day_none_goes_back(store: MongoStore) -> None:
    store.drop("item", OLD)
    done = recsys("rollback", "--all", "--to", OLD[:10])
    assert (done.exit_code, store.live_version("user"), store.live_version("item")) == (1, NEW, NEW)
    assert f"item has no version of {OLD[:10]}: it has {NEW}" in done.output


def test_if_one_store_lacks_the_day_none_goes_back(
    store: MongoStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_LANCE_URI", str(home / "lance"))
    with open_store("lance", "sample") as lance:
        publish(lance, "item", NEW, rows(5), no_gate, keep=3)
        done = recsys("rollback", "--all", "--to", OLD[:10])
        assert (done.exit_code, store.live_version("user"), lance.live_version("item")) == (1, NEW, NEW)
        publish(lance, "item", OLD, rows(5), no_gate, keep=3)
        assert recsys("rollback", "--all").exit_code == 0
        assert (store.live_version("user"), store.live_version("item"), lance.live_version("item")) == (OLD, OLD, OLD)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mongo_other",), "no collection 'mongo_other' was published: there are mongo_item, mongo_user"),
        ((), "or give --all"),
        (("mongo_user", "--to", "2020-01-01"), "user has no version of 2020-01-01"),
    ],
)
def test_what_cannot_be_done_is_said(store: MongoStore, arguments: tuple[str, ...], says: str) -> None:
    done = recsys("rollback", *arguments)
    assert done.exit_code > 0
    assert says in done.output
    assert store.live_version("user") == NEW


@pytest.mark.usefixtures("store")
def test_a_store_is_used_once_its_uri_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stores_in_use() == ["mongo"]
    with pytest.raises(StoreNotConfigured, match="RECSYS_REDIS_URI is not set"), open_store("redis", "sample"):
        pass
    monkeypatch.setenv("RECSYS_REDIS_URI", "redis://127.0.0.1:1")
    assert stores_in_use() == ["mongo", "redis"]
