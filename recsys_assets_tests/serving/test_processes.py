"""The processes of a service that really runs: they share a release, are replaced, and follow releases together."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from recsys_assets.processes import is_alive
from recsys_assets.serving.background import Background
from recsys_assets_tests.helpers.worlds import DAY, World
from recsys_assets_tests.serving.running import Running, release, running, until

DEAD = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=300"


@pytest.fixture(scope="module")
def service(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:  # noqa: ARG001 (it names it)
    release()
    with running(tmp_path_factory.mktemp("log") / "serve.log") as found:
        until("the release answers", found.status)
        yield found


class Load(Background):
    """Requests one after another on a connection that is kept, and their statuses and releases."""

    def __init__(self, url: str) -> None:
        super().__init__("load")
        self._url, self.longest = url, 0.0
        self.answers: list[tuple[int, int]] = []

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.wait(0.01):
                began = time.monotonic()
                found = client.get("/recommend/1?size=3")
                self.longest = max(self.longest, time.monotonic() - began)
                self.answers.append((found.status_code, found.json().get("release", 0)))


def test_all_processes_are_counted_together_and_share_most_of_their_memory(service: Running) -> None:
    before = service.metric("recsys_requests_total")
    for _ in range(20):
        service.get("/health/live")
    assert service.metric("recsys_requests_total") == before + 21
    until("the one that said that nothing is open is gone", lambda: service.metric("recsys_processes") == 3)
    alone = sum(each.memory_info().rss for each in service.workers())
    assert service.metric("recsys_memory_bytes") < 0.8 * alone


def test_a_process_that_is_killed_is_replaced_and_the_others_go_on(service: Running) -> None:
    killed, other = until("there are two", lambda: len(found := service.workers()) == 2 and found)
    killed.kill()
    with Load(service.url) as load:
        until("requests are answered", lambda: len(load.answers) > 5)
        until("there are two again", lambda: len([each for each in service.workers() if is_alive(each)]) == 2)
    assert other in service.workers()
    assert {status for status, _ in load.answers} == {200}


def test_the_process_that_looks_after_the_others_is_replaced_while_they_answer(service: Running) -> None:
    first = service.workers()[0].parent()
    assert first
    with Load(service.url) as load:
        first.kill()
        until("there are two others", lambda: len(service.workers()) == 2)
        until("requests are answered", lambda: len(load.answers) > 5)
    assert {status for status, _ in load.answers} == {200}


def test_a_new_release_takes_over_under_load_without_a_failed_or_an_older_answer(service: Running) -> None:
    old = service.status()["release"]
    with Load(service.url) as load:
        until("requests are answered", lambda: len(load.answers) > 5)
        new = release()
        until("the new release answers", lambda: service.status().get("release") == new)
        time.sleep(1.5)  # by then the last connection to a process of the old release is closed
        settled = len(load.answers)
        until("it goes on", lambda: len(load.answers) > settled + 5)
    assert {status for status, _ in load.answers} == {200}
    assert load.answers[0][1] == old
    assert {number for _, number in load.answers[settled:]} == {new}
    until("the old processes are gone", lambda: len(service.workers()) == 2)


def test_a_release_whose_files_are_not_there_is_refused_and_the_next_sound_one_served(service: Running) -> None:
    stays = service.status()["release"]
    strange = [{"partition": f"splits/{DAY}", "fingerprint": "0" * 64, "files": []}]
    for changes, reason in (
        ({"partitions": strange}, "splits 2026-03-31 was made again since"),
        ({"form": 99}, "form 99"),
    ):
        refused = release(**changes)
        until("it is refused", lambda: service.status()["refused"] == refused)  # noqa: B023
        assert service.status()["release"] == stays
        assert f"release {refused} of {DAY} cannot be served, the one before stays: " in service.log.read_text()
        assert reason in service.log.read_text()
    sound = release()
    until("the sound one answers", lambda: service.status()["release"] == sound)
    assert service.status()["refused"] is None
    until("the old processes are gone", lambda: len(service.workers()) == 2)


def test_when_the_store_is_away_at_the_start_the_last_release_is_served(service: Running, world: World) -> None:
    last = service.status()["release"]
    moved = (world.home / "lake").rename(world.home / "elsewhere")  # the lake is away too
    try:
        with running(service.log.with_name("alone.log"), 1, {"MONGO_URI": DEAD}) as alone:
            said = until("it answers", alone.status)
            assert (said["release"], said["store"]) == (last, "away")
            assert alone.metric("recsys_store_answers") == 0
            assert alone.get("/recommend/1").status_code == 200
    finally:
        moved.rename(world.home / "lake")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_supervisor_ends(service: Running, sign: int) -> None:
    with running(service.log.with_name(f"{sign}.log"), 2) as other:
        until("it answers", other.status)
        family = until("two processes answer", lambda: len(found := other.family()) == 4 and found)
        other.process.send_signal(sign)
        until("all have ended", lambda: not any(map(is_alive, family)))
        assert "leaked" not in other.log.read_text()  # what a library did not free no user has to know


def test_without_a_release_it_says_what_makes_one(world: World, tmp_path: Path) -> None:  # noqa: ARG001 (its profile)
    elsewhere = {"RECSYS_DATA": str(tmp_path / "data"), "RECSYS_LAKE": str(tmp_path / "lake"), "MONGO_URI": ""}
    with running(tmp_path / "serve.log", 1, elsewhere) as empty:
        until("it says so", lambda: "there is no release yet: `recsys materialize '*'`" in empty.log.read_text())
        assert empty.get("/recommend/1").status_code == 503
