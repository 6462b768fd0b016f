"""A service that reads users from MongoDB by key answers the same, and goes on without it."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.serving.budget import ONLINE, Usual
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.online_features import SERVER, FeaturesUnfit
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.stored_users import LIMIT, STORE, StoredUsers, users_limit
from recsys_assets.serving.variables import InvalidVariable
from recsys_assets.stores.registry import STORES, open_store
from recsys_assets_tests.helpers.mongo_servers import Daemon, daemon
from recsys_assets_tests.helpers.worlds import DAY, World

VERSION = f"{DAY}.aaaaaaaaaaaa"


@dataclass
class Published:
    """A server with a release that has the world's users, and their table."""

    server: Daemon
    release: int
    users: pa.Table

    def asked_by(self, engine: Engine, seconds: float = 5.0) -> StoredUsers:
        return StoredUsers(engine, self.release, seconds)


@pytest.fixture(scope="module")
def published(world: World, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("users") / "mongo"
    users = STORES["mongo"].collections([], "")["user"]
    with daemon(folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONGO_URI", server.uri)
        table = users.table(engine.profile, {asset: world.read(asset) for asset in users.reads})
        with open_store("mongo", engine.profile.name) as store:
            store.write("user", VERSION, table)
            store.switch({"user": VERSION})
            yield Published(server, store.release()["number"], table)  # type: ignore[attr-defined]
    shutil.rmtree(folder)


def answers(engine: Engine, online: StoredUsers | None, users: list[Any]) -> list[dict[str, Any]]:
    """The answers of a service that asks for users' rows."""
    engine.online, engine.usual = online, Usual()  # nothing rests
    try:
        service = Service(Opened(7, engine, Book()))
        return [service.answer(RecommendBody(user_id=user)).content for user in users]
    finally:
        engine.online = None


def test_the_rows_and_the_answers_are_those_of_the_release(engine: Engine, published: Published, world: World) -> None:
    users, asked = engine.log.user_ids[::10].tolist(), published.asked_by(engine)
    rows = pa.concat_tables([asked(user) for user in users])
    known = world.table("user_features")
    places = pa.compute.index_in(pa.array(users, known["user_id"].type), value_set=known["user_id"].combine_chunks())
    assert rows.equals(known.take(places).select(rows.column_names).cast(rows.schema))
    assert answers(engine, asked, users) == (expected := answers(engine, None, users))
    assert {each["served_by"] for each in expected} == {"full"}
    with pytest.raises(FeaturesUnfit, match=f"does not know user 99999999 in version {VERSION}"):
        asked(99_999_999)
    with pytest.raises(FeaturesUnfit, match="release 99 has no collection 'user'"):
        StoredUsers(engine, 99, 5.0)(users[0])
    asked.close()


def test_a_store_that_is_killed_costs_its_rows_and_is_asked_again(engine: Engine, published: Published) -> None:
    users = engine.log.user_ids[:3].tolist()
    expected, asked = answers(engine, None, users), published.asked_by(engine, 0.3)
    assert answers(engine, asked, users) == expected
    published.server.kill()
    begun = time.monotonic()
    found = answers(engine, asked, users)
    assert time.monotonic() - begun < 5
    assert [each["items"] for each in found] == [each["items"] for each in expected]
    assert {each["served_by"] for each in found} == {"degraded"}
    assert {step for each in found for step in each["left_out"]} == {f"{ONLINE}: failed", f"{ONLINE}: failed before"}
    published.server.start()
    assert answers(engine, published.asked_by(engine), users) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({STORE: "redis"}, "only `mongo` holds releases"),
        ({STORE: "mongo", LIMIT: "-1"}, f"{LIMIT}=-1: write a number of milliseconds above 0"),
        ({STORE: "mongo", SERVER: "http://127.0.0.1:6566"}, "are both set"),
    ],
)
def test_a_wrong_setting_stops_the_service_at_its_start(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidVariable, match=said):
        users_limit(settings)
    assert users_limit({}) is None
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    refused = CliRunner().invoke(main, ["serve", "--port", "1"])
    assert refused.exit_code == 1
    assert said in refused.output
