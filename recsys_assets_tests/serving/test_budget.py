"""Deadlines and failing steps: what is left out, in which order, and that such an answer can be made again."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys_assets.funnel.funnel import step_of
from recsys_assets.funnel.model import FEATURES, MERGE, ORDERING
from recsys_assets.serving.budget import ALWAYS, KEPT, Budget, Usual
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.people import NOTHING
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service

COSTS = {ALWAYS: 1.0, "recall a": 4.0, "recall b": 2.0, MERGE: 1.0, FEATURES: 5.0, ORDERING: 3.0}


class Clock:
    """A clock that stands still until a step is made."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(clock: Clock, budget: Budget) -> dict[str, str]:
    """Make all steps, each of which takes as long as it costs; returns what was left out."""
    for step, cost in COSTS.items():

        def take(cost: float = cost) -> bool:
            clock.now += cost
            return True

        if step == MERGE:
            take()
        else:
            budget.make(step, take)
    return budget.left_out


@pytest.fixture
def known() -> tuple[Usual, Clock]:
    clock = Clock()
    usual = Usual(clock)
    for step, cost in COSTS.items():
        usual.took(step, cost)
    return usual, clock


@pytest.mark.parametrize(
    ("seconds", "left_out"),
    [
        (None, []),
        (16, []),
        (15, ["recall b"]),
        (12, ["recall a"]),  # the second channel still fits
        (11, ["recall a", "recall b"]),
        (9, [FEATURES]),  # ranking does not fit, so that channels have its time
        (5, ["recall a", FEATURES]),
        (3, ["recall a", "recall b", FEATURES]),
        (0.1, ["recall a", "recall b", FEATURES]),
    ],
)
def test_steps_are_left_out_in_the_stated_order_and_no_answer_is_late(
    known: tuple[Usual, Clock], seconds: float | None, left_out: list[str]
) -> None:
    usual, clock = known
    start, found = clock.now, run(clock, Budget(usual, seconds))
    assert [step for step in found if step != ORDERING] == left_out
    assert set(found.values()) <= {"late"}
    if seconds:
        assert clock.now - start <= max(seconds, COSTS[ALWAYS] + COSTS[MERGE])


def test_what_was_slow_once_is_tried_again(known: tuple[Usual, Clock]) -> None:
    usual, clock = known
    for _ in range(KEPT):
        usual.took("recall a", 1000.0)
    tries = 0
    while run(clock, Budget(usual, 40)):
        tries += 1
    assert 10 < tries < 500
    assert usual.seconds("recall a") > 500
    for _ in range(KEPT):
        usual.took("recall a", COSTS["recall a"])
    assert not run(clock, Budget(usual, 16))


def test_a_step_that_fails_rests_for_longer_each_time(known: tuple[Usual, Clock]) -> None:
    usual, clock = known

    def fail() -> None:
        raise OSError("the disk is gone")

    for pause in (1, 2, 4):
        assert Budget(usual).make("recall a", fail) is None
        clock.now += pause - 0.1
        assert Budget(usual).make("recall a", fail) is None  # it is not called
        assert usual.rests("recall a")
        clock.now += 0.2
        assert not usual.rests("recall a")
    assert not run(clock, Budget(usual))
    with pytest.raises(OSError, match="the disk is gone"):
        Budget(usual, given={}).make("recall a", fail)


@pytest.fixture
def served(engine: Engine) -> Callable[..., dict[str, Any]]:
    service = Service(Opened(7, engine, Book()))
    user = engine.log.user_ids[:8].tolist()[7]
    return lambda **more: service.answer(RecommendBody(user_id=user, **more)).content


def _steps_of(engine: Engine) -> set[str]:
    return {FEATURES, ORDERING, *map(step_of, engine.funnel.served)}


def test_a_degraded_answer_says_so_and_can_be_made_again(served: Callable[..., dict[str, Any]], engine: Engine) -> None:
    whole, quick = served(), served(deadline_ms=0.001)
    assert "left_out" not in whole
    assert (quick["served_by"], len(quick["items"])) == ("degraded", len(whole["items"]))
    assert {each.partition(": ")[0] for each in quick["left_out"]} >= _steps_of(engine) - {ALWAYS, ORDERING}
    assert {name for row in quick["items"] for name in row["channels"]} == {"popularity"}
    assert served(left_out=quick["left_out"], deadline_ms=5) == quick
    assert served(left_out=[], deadline_ms=0.001) == whole
    assert served(deadline_ms=60_000) == whole


def test_without_ranking_the_merge_orders_the_list(served: Callable[..., dict[str, Any]]) -> None:
    merged = served(left_out=[FEATURES])
    assert merged["left_out"] == [f"{FEATURES}: as asked"]
    assert all(row["probability"] is None for row in merged["items"])
    scores = [row["score"] for row in merged["items"]]
    assert scores == sorted(scores, reverse=True)


def test_a_lost_channel_or_model_does_not_fail_the_request(
    served: Callable[..., dict[str, Any]],
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    whole = served()
    monkeypatch.setattr(engine, "usual", Usual())
    monkeypatch.setitem(engine.funnel.channels, "swing", fail)
    monkeypatch.setattr(engine.funnel.known, "describe", fail)
    first, then = served(), served()
    assert first["left_out"] == ["recall swing: failed", f"{FEATURES}: failed"]
    assert then["left_out"] == ["recall swing: failed before", f"{FEATURES}: failed before"]
    assert [row["item_id"] for row in first["items"]] == [row["item_id"] for row in then["items"]]
    assert "'recall swing' failed and is left out for 1 s: RuntimeError('no memory')" in caplog.text
    monkeypatch.undo()
    assert served() == whole


def test_a_step_that_does_not_exist_is_refused(client: TestClient) -> None:
    found = client.post("/recommend", json={"user_id": 1, "left_out": ["recall popularity"]})
    assert (found.status_code, "there is no step 'recall popularity'" in found.json()["detail"]) == (422, True)
    assert client.post("/recommend", json={"user_id": 1, "deadline_ms": 0}).status_code == 422


def test_a_list_without_its_channels_holds_nothing_that_was_seen(engine: Engine) -> None:
    user = engine.log.user_ids[:8].tolist()[7]
    quick = Service(Opened(7, engine, Book()))
    listed = quick.answer(RecommendBody(user_id=user, deadline_ms=0.001)).content["items"]
    assert not {row["item_id"] for row in listed} & set(engine.log.item_ids[engine.people(user, NOTHING).history.items])
