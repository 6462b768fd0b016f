"""Columns of items that a user touched before, on a history small enough to count by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from recsys_assets.arrays import Floats
from recsys_assets.funnel.candidates import Candidates
from recsys_assets.funnel.funnel import describer
from recsys_assets.funnel.known import Known
from recsys_assets.funnel.repeats import COUNT, SINCE, WORTH, repeats
from recsys_assets.funnel.users import Users
from recsys_assets.retrieval.interactions import Interactions, user_queries
from recsys_assets_tests.funnel.test_funnel import events

PLAIN = events(
    *((1, 10, 1, "train"), (1, 11, 1, "train"), (1, 10, 1, "test"), (1, 12, 1, "online")),
    *((2, 11, 1, "online"), (3, 10, 1, "train")),
)
LOG: Interactions = replace(PLAIN, weights=np.array([1.0, 3, 10, 1, 1, 1]))


def counted(users: list[int], query: list[int], item: list[int]) -> dict[str, list[float]]:
    none: Floats = np.empty((len(item), 0), np.float32)
    candidates = Candidates(np.array(query), np.array(item), none, none)
    found = repeats(LOG, user_queries(LOG, "online", np.array(users)), candidates)
    return {name: np.nan_to_num(column, nan=-1).tolist() for name, column in found.items()}


def test_events_are_counted_with_their_weights_up_to_the_moment_and_the_newest_one_has_a_place() -> None:
    assert counted([0, 1, 2], [0, 0, 0, 1, 2, 2], [0, 1, 2, 1, 0, 1]) == {
        COUNT: [2, 1, 0, 0, 1, 0],
        WORTH: [11, 3, 0, 0, 1, 0],
        SINCE: [1, 2, -1, -1, 1, -1],
    }


def test_a_user_alone_has_the_same_and_items_may_come_in_any_order() -> None:
    assert counted([0], [0, 0], [1, 0]) == {COUNT: [1, 2], WORTH: [3, 11], SINCE: [2, 1]}


def test_a_user_without_a_history_has_touched_nothing() -> None:
    assert counted([1], [0], [1]) == {COUNT: [0], WORTH: [0], SINCE: [-1]}


@pytest.mark.parametrize("filter_seen", [False, True])
def test_candidates_have_these_columns_where_lists_may_hold_them(filter_seen: bool) -> None:
    nothing: dict[str, Any] = {"moments": lambda *_: None, "describe": lambda *_: {}}
    known = SimpleNamespace(item_ids=LOG.item_ids, repeats=not filter_seen, **nothing)
    asked, users = user_queries(LOG, "online", np.array([0])), SimpleNamespace(ids=LOG.user_ids)
    describe = describer(cast(Known, known), cast(Users, users), LOG, asked, {})
    none: Floats = np.empty((1, 0), np.float32)
    found = describe(Candidates(np.array([0]), np.array([0]), none, none))
    assert found == ({} if filter_seen else {COUNT: [2], WORTH: [11], SINCE: [1]})
