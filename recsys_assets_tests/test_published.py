"""`recsys published` and `recsys rollback` on the project's own server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recsys_assets.cli import main
from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.publish import publish
from recsys_assets.stores.registry import STORES, StoreNotConfigured, configured, opened
from recsys_assets.stores.release import release_set
from recsys_assets_tests.store_contract import NEW, NEWER, OLD, no_gate, rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MongoStore]:
    """Collections `user` and `item`, published on two days and released on both."""
    monkeypatch.setenv("RECSYS_DATA", str(home))
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    for variable in [kind.variable for kind in STORES.values()]:
        monkeypatch.delenv(variable, raising=False)
    with opened("mongo", "sample") as found:
        assert isinstance(found, MongoStore)
        for collection in found.collections():
            for version in found.versions(collection):
                found.drop(collection, version)
        for version in (OLD, NEW):
            for collection in ("user", "item"):
                publish(found, collection, version, rows(5), no_gate, keep=3)
            found.put_release(released(version))
        yield found


def released(version: str) -> dict[str, object]:
    collections = {name: {"version": version, "rows": 5} for name in ("item", "user")}
    return {"bizdate": version[:10], "collections": collections, "champion": {"bizdate": version[:10]}}


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), terminal_width=200)


@pytest.mark.usefixtures("store")
def test_versions_are_listed_with_what_is_live_and_released() -> None:
    shown = recsys("published")
    assert shown.exit_code == 0
    marked = [line.split("│")[1:-1] for line in shown.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in line] for line in marked] == [
        [f"mongo_{name}", version, "5", mark, mark]
        for name in ("item", "user")
        for version, mark in ((NEW, "yes"), (OLD, ""))
    ]


def test_one_collection_goes_back_and_the_new_release_says_so(store: MongoStore) -> None:
    before = store.release() or {}
    done = recsys("rollback", "mongo_user")
    assert (done.exit_code, store.live("user"), store.live("item")) == (0, OLD, NEW)
    release = store.release() or {}
    assert release["number"] == before["number"] + 1
    assert f"MongoDB release {release['number']} names it" in done.stdout
    assert {name: each["version"] for name, each in release["collections"].items()} == {"item": NEW, "user": OLD}


def test_all_collections_go_back_together_with_the_champion_of_that_day(store: MongoStore) -> None:
    done = recsys("rollback", "--all")
    assert (done.exit_code, store.live("user"), store.live("item")) == (0, OLD, OLD)
    release = store.release() or {}
    assert {key: release[key] for key in ("bizdate", "collections", "champion")} == released(OLD)


def test_a_set_of_an_earlier_bizdate_is_recorded_once_and_not_current(store: MongoStore) -> None:
    current = store.release() or {}
    content = {**released(OLD), "champion": {"model": "of the backfill"}}
    (number, is_current), again = release_set(store, content), release_set(store, content)
    assert ((number, is_current), store.release()) == (again, current)
    assert not is_current
    assert release_set(store, released(NEW)) == (current["number"], True)
    recsys("rollback", "--all")
    release = store.release() or {}
    assert {key: value for key, value in release.items() if key != "number"} == content
    assert release["number"] > number > current["number"]
    assert release_set(store, released(NEW)) == (release["number"] + 1, True)
    assert (store.live("user"), store.live("item")) == (NEW, NEW)


def test_what_the_release_names_stays_while_newer_versions_are_published(store: MongoStore) -> None:
    for version in (NEWER, f"{NEWER}2"):
        publish(store, "user", version, rows(5), no_gate, keep=1)
    assert store.versions("user") == [NEW, f"{NEWER}2"]
    store.put_release(released(f"{NEWER}2"))
    publish(store, "user", f"{NEWER}2", rows(5), no_gate, keep=1)
    assert store.versions("user") == [f"{NEWER}2"]


def test_if_one_collection_lacks_the_day_none_goes_back(store: MongoStore) -> None:
    store.drop("item", OLD)
    done = recsys("rollback", "--all", "--to", OLD[:10])
    assert (done.exit_code, store.live("user"), store.live("item")) == (1, NEW, NEW)
    assert f"item has no version of {OLD[:10]}: it has {NEW}" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("mongo_other",), "no collection 'mongo_other' was published: there are mongo_item, mongo_user"),
        ((), "name a collection, or give --all"),
        (("mongo_user", "--to", "2020-01-01"), "user has no version of 2020-01-01"),
    ],
)
def test_what_cannot_be_done_is_said(store: MongoStore, arguments: tuple[str, ...], says: str) -> None:
    done = recsys("rollback", *arguments)
    assert done.exit_code > 0
    assert says in done.output
    assert store.live("user") == NEW


@pytest.mark.usefixtures("store")
def test_a_store_is_used_once_its_uri_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured() == ["mongo"]
    with pytest.raises(StoreNotConfigured, match="RECSYS_REDIS_URI is not set"), opened("redis", "sample"):
        pass
    monkeypatch.setenv("RECSYS_REDIS_URI", "redis://127.0.0.1:1")
    assert configured() == ["mongo", "redis"]
