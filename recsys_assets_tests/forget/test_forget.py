"""`recsys forget` leaves no row of a user in the newest bizdate, which is what the landing files without them give."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from recsys_assets.cli import main
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.settings import settings
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.counted_world import QUICK, STATE, build
from recsys_assets_tests.helpers.funnel_world import RANK, RECALL, TAIL, write_champion
from recsys_assets_tests.helpers.shop import bytes_in
from recsys_assets_tests.helpers.told_events import telling
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, copy_of, open_world, world_in

NOBODY = 987_654_321


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The counted world with few assets: each of them is a process when it is built again."""
    with world_in(copy_of("counted_world", build, tmp_path_factory)) as world:
        for asset in world.lake.assets():
            if asset not in ("interactions", *STATE):
                shutil.rmtree(Path(world.lake.folder) / asset)
        yield world


def forget(user: int, *options: str) -> Result:
    done = CliRunner().invoke(main, ["forget", str(user), *options], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done


def rows_of(user: int, files: Iterator[Path]) -> dict[str, int]:
    """The rows of the user in each Parquet file with a column of users."""
    tables = {file: pq.read_table(file, partitioning=None) for file in files}
    ids = {file.name: table["user_id"].to_pylist() for file, table in tables.items() if "user_id" in table.column_names}
    assert ids
    return {name: found for name, each in ids.items() if (found := each.count(user) + each.count(str(user)))}


def test_the_newest_bizdate_is_that_of_a_log_without_the_user(world: World) -> None:
    splits = world.table("splits").to_pandas()
    first = splits.groupby("user_id")["timestamp"].min()
    user = int(first[first >= DAY].index[0])  # so that the state of the day before has nobody to forget
    before = bytes_in(world.home)
    said = forget(user).output
    assert f"  {DAY}: event_features " in said
    assert "nothing was changed" in said
    assert bytes_in(world.home) == before
    done = forget(user, "--yes").output
    assert "equal" in done
    assert "(0 with rows of the user)" in done
    assert list(world.lake.manifest("event_features", DAY).extended) == [f"event_features/{YESTERDAY}"]
    assert rows_of(user, world.home.rglob("*.parquet")) == {}
    assert world.table("splits").num_rows == len(splits) - (splits["user_id"] == user).sum()
    again = CliRunner().invoke(main, ["forget", str(user), "--yes"])
    assert f"no user '{user}'" in again.output


def test_a_forgotten_user_gets_what_an_unknown_one_gets(tmp_path: Path) -> None:
    few = {**TAIL, "features": {**TAIL["features"], **QUICK["features"]}}  # type: ignore[dict-item]
    (tmp_path / "world").mkdir()
    with open_world(tmp_path / "world", few, users=60, items=80, events=1500, days=5) as world:
        rows = world.table("interactions").to_pandas()
        user, other = rows["user_id"].value_counts().index[:2].tolist()
        with telling(world.profile) as teller:
            teller({"user_id": user, "item_id": int(rows["item_id"][0]), "rating": 5})
            assert teller.told.of(user, DAY).items
            forget(user, "--yes")
            world.run(["users", "items", "splits", *RECALL, *RANK])
            world.write_vectors()
            write_champion(world.lake)
            world.run(["funnel_model"])
            profile = load_profile()
            engine = Engine(profile, Lake.of(settings().lake, profile), DAY)
            client = TestClient(create_app(Service(Opened(7, engine, Book()), teller.told)))
            answers = {each: client.get(f"/recommend/{each}").json() for each in (user, NOBODY, other)}
    differ = {"user_id", "request_id"}
    mine, unknown = ({k: v for k, v in answers[each].items() if k not in differ} for each in (user, NOBODY))
    assert mine == unknown
    assert answers[other]["served_by"] == "full"
