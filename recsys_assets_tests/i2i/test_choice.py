"""Settings are chosen on validation rows, only by a clear lead, and never from an order that the log does not have."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.arrays import Doubles
from recsys_assets.i2i.choice import Search, choose
from recsys_assets.i2i.itemcf import STEPS, ItemCF, itemcf
from recsys_assets.i2i.swing import STEPS as SWING_STEPS
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.i2i.triggers import WHOLE_HISTORY
from recsys_assets.retrieval.choice import climb, sample_users
from recsys_assets.retrieval.interactions import Interactions
from recsys_assets.retrieval.order import Order, order_of_table
from recsys_assets.retrieval.term import WHOLE_HISTORY as ALL_ROWS
from recsys_assets.retrieval.term import ItemTerms, Taste, choose_taste, item_terms
from recsys_assets_tests.helpers import recall_world

REAL, NONE = Order(0.1, dated=False), Order(0.95, dated=True)
SEARCH = Search(STEPS, events=150_000)


def log(*rows: tuple[int, str]) -> pa.Table:
    users, times = zip(*rows, strict=True)
    return pa.table({"user_id": users, "timestamp": pa.array(times).cast(pa.timestamp("us"))})


def test_equal_times_of_a_user_are_ties_and_midnights_are_dates() -> None:
    noon, night = "2026-01-01 12:00:00", "2026-01-01 00:00:00"
    assert order_of_table(log((1, noon), (1, noon), (1, "2026-01-01 12:00:01"), (2, noon))) == Order(0.5, dated=False)
    found = order_of_table(log((1, night), (1, night), (1, "2026-01-02 00:00:00"), (1, "2026-01-02 00:00:00")))
    assert found.dated
    assert found.tied == pytest.approx(2 / 3)
    assert not found.is_real
    assert Order(0.6, dated=False).is_real
    assert order_of_table(log((1, noon), (2, noon))) == Order(0.0, dated=False)


def judge(lead: float) -> Any:
    """A figure of 200 queries: a third are right; `good` raises all by `lead`, `noise` by nothing on average."""
    rng = np.random.default_rng(0)
    base, noise = (rng.random(200) < 0.3).astype(np.float64), rng.normal(0, 0.1, 200)
    noise -= noise.mean() - 0.005

    def figures(settings: Mapping[str, Any]) -> Doubles:
        found: Doubles = base + lead * settings["good"] + noise * settings["noise"]
        return found

    return figures


def test_only_a_clear_lead_replaces_a_default() -> None:
    found = climb(judge(0.01), {"good": 0, "noise": 0}, {"good": (1, 2, -1), "noise": (1,)})
    assert found.settings == {"good": 2}
    assert [(each.setting, each.value, each.taken) for each in found.trials] == [
        ("start", "", True),
        ("good", "1", True),
        ("good", "2", True),
        ("good", "-1", False),
        ("noise", "1", False),
    ]


def test_a_lead_that_shrinks_with_more_rows_is_not_taken() -> None:
    steps = {"good": (1,)}
    start = {"good": 0, "noise": 0}
    assert climb(judge(0.01), start, steps, sample=judge(0.03)).settings == {}
    assert climb(judge(0.03), start, steps, sample=judge(0.01)).settings == {"good": 1}


def shuffled(events: Interactions) -> Interactions:
    """The events with the items of each user's part in another order."""
    keys = np.random.default_rng(1).random(len(events))
    order = np.lexsort((keys, events.parts, events.users))
    return replace(events, items=events.items[order], labels=events.labels[order])


def test_on_a_log_with_an_order_the_window_stays_and_the_chosen_settings_are_no_worse() -> None:
    settings, chosen = choose(itemcf, ItemCF(), SEARCH, recall_world.interactions(), REAL, filter_seen=False)
    assert settings.window == 50
    taken = [trial.recall for trial in chosen.trials if trial.taken]
    assert taken == sorted(taken)


@pytest.mark.parametrize(("find", "given"), [(itemcf, ItemCF()), (swing, Swing())])
def test_without_an_order_nothing_is_learned_from_it(find: Any, given: Any) -> None:
    events = shuffled(recall_world.interactions())
    search = SEARCH if find is itemcf else Search(SWING_STEPS, events=40_000)
    settings, chosen = choose(find, given, search, events, NONE, filter_seen=False)
    assert (settings.recency, settings.triggers) == (0, WHOLE_HISTORY)
    assert getattr(settings, "window", 0) == 0
    assert not {"window", "recency", "backward"} & {trial.setting for trial in chosen.trials}
    again = choose(find, given, search, shuffled(events), NONE, filter_seen=False)
    assert again[0] == settings


def test_items_ask_for_themselves_only_where_lists_hold_seen_ones() -> None:
    events = recall_world.interactions()
    again = replace(events, items=events.users // 2 % 20 + 20 * (np.arange(len(events)) % 2))  # two items for each user
    for filter_seen, tried in ((False, True), (True, False)):
        asked_for = events if filter_seen else again
        settings, chosen = choose(itemcf, ItemCF(), SEARCH, asked_for, REAL, filter_seen)
        assert ("own" in {trial.setting for trial in chosen.trials}) == tried
        assert settings.own == 0 or tried


def test_what_is_set_stays_whatever_the_order() -> None:
    events = recall_world.interactions()
    given = ItemCF(window=7, popularity=0.9, recency=2.0)
    for order in (REAL, NONE):
        settings, chosen = choose(itemcf, given, SEARCH, events, order, filter_seen=False)
        assert (settings.window, settings.popularity, settings.recency) == (7, 0.9, 2.0)
        assert not {"window", "popularity", "recency"} & {trial.setting for trial in chosen.trials}


def test_nothing_is_read_from_test_rows() -> None:
    events = recall_world.interactions()
    other = replace(events, items=np.where(events.parts == 2, 0, events.items))
    found, again = (choose(itemcf, ItemCF(), SEARCH, each, REAL, filter_seen=False) for each in (events, other))
    assert found == again


def test_a_few_users_keep_the_defaults() -> None:
    events = recall_world.interactions()
    few = events.where(events.users < 3)
    assert choose(itemcf, ItemCF(), SEARCH, few, REAL, filter_seen=False)[0] == ItemCF()


def test_a_sample_holds_whole_users() -> None:
    events = recall_world.interactions()
    sampled = sample_users(events, 240)
    counts = np.bincount(sampled.users, minlength=recall_world.USERS)
    assert 240 <= len(sampled) < 300
    assert set(counts.tolist()) == {0, recall_world.LENGTH}
    assert len(sample_users(events, 10**6)) == len(events)


def terms_of(events: Interactions) -> ItemTerms:
    names = pa.array([[f"term {number // 8}"] for number in range(recall_world.ITEMS)], pa.list_(pa.string()))
    return item_terms(pa.table({"item_id": events.item_ids, "terms": names}), "terms", events.item_ids)


def test_terms_have_the_whole_history_without_an_order_and_are_chosen_with_one() -> None:
    events = recall_world.interactions()
    carried = terms_of(events)
    unordered, _ = choose_taste(events, carried, Taste(), set(), NONE, filter_seen=False)
    assert (unordered.window, unordered.decay) == (ALL_ROWS, 1.0)
    kept, _ = choose_taste(events, carried, Taste(window=3), {"window", "decay"}, NONE, filter_seen=False)
    assert kept == Taste(window=3)
    near, chosen = choose_taste(events, carried, Taste(), set(), REAL, filter_seen=False)
    assert near.window < ALL_ROWS  # users walk along the terms: old rows say nothing about the next one
    assert chosen.trials[0].setting == "start"
