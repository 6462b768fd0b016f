"""Other kept releases: their lists are compared with those of the served one, by a process that ends by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys_assets.funnel.served import describe_served, served_partitions
from recsys_assets.lake import Lake
from recsys_assets.serving import kept_process
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.kept import KeptReleases
from recsys_assets.serving.order import Release, served_last
from recsys_assets.serving.place import Place
from recsys_assets.serving.requests import Problem, RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.snapshot import Snapshots
from recsys_assets_tests.helpers.told_events import telling
from recsys_assets_tests.helpers.worlds import DAY, World


def keep(lake: Lake, profile: str, copies: Path) -> Path:
    """Copies of release 6, which has no ranking model, and of release 7, which is served."""
    everything = served_partitions(lake, DAY)
    for number, partitions in ((6, [each for each in everything if "rank_" not in each.name]), (7, everything)):
        release = Release(number, DAY, describe_served(partitions))
        snapshots = Snapshots(copies, profile)
        snapshots.open(release, lake)
        snapshots.remember(release)
    return copies


@pytest.fixture(scope="module")
def copies(world: World, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return keep(world.lake, engine.profile.name, tmp_path_factory.mktemp("copies") / "releases")


@pytest.fixture(scope="module")
def asked(service: Service, copies: Path) -> Iterator[TestClient]:
    yield TestClient(create_app(service, place=Place(copies=copies)))


def without_id(found: Any) -> dict[str, Any]:
    return {key: value for key, value in found.json().items() if key != "request_id"}


def test_a_kept_release_answers_as_it_would_if_it_were_served(
    world: World, engine: Engine, copies: Path, asked: TestClient
) -> None:
    listed = asked.get("/releases").json()
    assert (listed["release"], listed["others"]) == (7, [{"release": 6, "bizdate": DAY}])
    release = next(each for each in served_last(copies) if each.number == 6)
    copy = Snapshots(copies, engine.profile.name).open(release, world.lake)
    before = TestClient(create_app(Service(Opened(6, Engine(engine.profile, copy, DAY), Book()))))
    for user in engine.log.user_ids[:3].tolist():
        body = {"user_id": user, "size": 8, "history": [{"item_id": engine.log.item_ids[[2]].tolist()[0]}]}
        found = asked.post("/releases/6/recommend", json=body)
        assert without_id(found) == without_id(before.post("/recommend", json=body))
        assert (found.json()["release"], found.json()["model"]) == (6, None)
        assert without_id(asked.post("/recommend", json=body))["items"] != found.json()["items"]


def test_refusals_name_what_is_kept_and_what_is_wrong(asked: TestClient) -> None:
    for number in (5, 7):
        found = asked.post(f"/releases/{number}/recommend", json={})
        assert (found.status_code, "the served one are 6" in found.json()["detail"]) == (404, True)
    found = asked.post("/releases/6/recommend", json={"scene": "nowhere"})
    assert (found.status_code, "there is no scene 'nowhere'" in found.json()["detail"]) == (422, True)
    assert asked.post("/releases/x/recommend", json={}).status_code == 422


def test_it_knows_what_was_told_and_another_process_takes_over_from_one_that_ended(
    world: World, engine: Engine, copies: Path
) -> None:
    user = engine.log.user_ids[[3]].tolist()[0]
    with telling(world.profile) as tell:
        kept = KeptReleases(Service(Opened(7, engine, Book()), tell.told), copies)
        first = kept.answer(6, RecommendBody(user_id=user))["items"][0]["item_id"]
        tell({"user_id": user, "item_id": first, "rating": 5.0})
        assert first not in {each["item_id"] for each in kept.answer(6, RecommendBody(user_id=user))["items"]}
        process = kept._process
        assert process
        process.kill()
        process.wait()
        assert kept.answer(6, RecommendBody(user_id=user))["items"]
        assert kept._process
        assert kept._process.pid != process.pid
        kept._end(kept._process)


def test_a_release_that_cannot_be_opened_is_a_refusal_with_the_reason(
    world: World, engine: Engine, tmp_path: Path
) -> None:
    def broken() -> Service:
        raise OSError("the disk is away")

    copies = keep(world.lake, engine.profile.name, tmp_path / "releases")
    release = served_last(copies)[1]
    found = list(kept_process.answers(broken, iter([b"{}", b"{}"])))
    assert found == [(503, "the release cannot be opened: the disk is away")] * 2
    service = kept_process.open_kept(copies, release)
    assert service.answer(RecommendBody()).content["release"] == 6
    with pytest.raises(Problem):
        KeptReleases(service, None).answer(7, RecommendBody())
