"""Drawn negatives: chosen from what was known at the moment, with the features that a real row would have had."""

import datetime as dt
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import DRAW_LOG_RATE
from recsys_assets.datasets.profile import load_profile
from recsys_assets.datasets.profile_parts import Negatives
from recsys_assets.features.draws import ATTEMPTS, RANKED, Drawn, Mentions, Moments, draw
from recsys_assets.features.history import sample_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.leakage import count_leaking_rows
from recsys_assets.features.pair_features import MODEL_INPUTS
from recsys_assets_tests.features.test_history import Log, Row, item_side, queried, same, user_side, write_files
from recsys_assets_tests.features.test_pair_features import ITEM_COUNT, log_of, world

KINDS: dict[str, dict[str, Any]] = {
    "implicit": {"label": "true", "rating": None},
    "asked for": {},
    "repeats": {"label": "true"},
}


def moments(users: int, items: int, events: int, seed: int = 1, arrivals: dict[int, int] | None = None) -> Moments:
    """Events of 10 days in order of time, all of them positives; the last fifth are validation and test."""
    rng = np.random.default_rng(seed)
    arrived = np.full(items, -1)
    arrived[list(arrivals or {})] = list((arrivals or {}).values())
    order = np.arange(events)
    popular = np.minimum(rng.geometric(min(4 / items, 1), events), items) - 1
    parts = np.searchsorted([0.8 * events, 0.9 * events], order, side="right")
    seeds = rng.integers(0, 2**63, events).astype(np.uint64)
    days = order * 10 // events
    return Moments(order, days, rng.integers(0, users, events), popular, parts, np.ones(events, int), seeds, arrived)


def drawn(given: Moments, rate: int, exponent: float = 0.75, without_seen: bool = False) -> Drawn:
    return draw(given, Mentions(given, exponent), rate, without_seen)


@pytest.mark.parametrize("without_seen", [True, False])
def test_a_draw_was_known_and_is_not_touched_in_the_same_part(without_seen: bool) -> None:
    given = moments(40, 60, 800, arrivals={59: 0, 58: 4, 57: 9})
    found = drawn(given, 4, without_seen=without_seen)
    assert len(found.items) > 2000
    for event, item in zip(found.events, found.items, strict=True):
        before = given.order < given.order[event]
        arrived = 0 <= given.arrivals[item] <= given.days[event]
        assert arrived or item in given.items[before]
        theirs = given.users == given.users[event]
        theirs &= (given.parts == given.parts[event]) | (before & without_seen)
        assert item not in given.items[theirs]
    early = found.items[given.days[found.events] < 9]
    assert 57 not in early
    assert {57, 58, 59} <= {*found.items.tolist()}


@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0, 1.5])
def test_items_are_drawn_by_the_power_of_their_mentions_before_the_moment(exponent: float) -> None:
    given = moments(40, 12, 400, arrivals={3: 0})
    place = 300
    alone = replace(given, users=np.where(given.order == place, 1000, given.users), labels=(given.order == place) * 1)
    mentions = Mentions(alone, exponent)
    found = Counter(draw(alone, mentions, 20_000, False).items.tolist())
    counts = np.bincount(given.items[:place], minlength=12) + (np.arange(12) == 3)
    weights = np.where(counts > 0, counts.astype(float) ** exponent, 0) * (np.arange(12) != given.items[place])
    for item in range(12):
        share = weights[item] / weights.sum()
        assert found[item] / found.total() == pytest.approx(share, abs=4 * np.sqrt(share / found.total()) + 1e-9)
    everything, now = np.arange(12), np.full(12, mentions.of_event[place])
    shares = np.exp(mentions.log_share(everything, now))
    assert shares == pytest.approx(
        np.where(counts > 0, counts.astype(float) ** exponent, 0) / (counts**exponent * (counts > 0)).sum()
    )
    assert mentions.events(everything, now).tolist() == (counts - (np.arange(12) == 3)).tolist()


def test_a_draw_depends_on_the_row_and_what_was_before_alone() -> None:
    given = moments(400, 60, 800)
    found = drawn(given, 4)
    of = [(int(given.order[e]), int(i)) for e, i in zip(found.events, found.items, strict=True)]
    mixed = np.random.default_rng(3).permutation(800)
    columns = {
        name: getattr(given, name)[mixed] for name in ("order", "days", "users", "items", "parts", "labels", "seeds")
    }
    shuffled = replace(given, **columns)
    again = drawn(shuffled, 4)
    assert sorted((int(shuffled.order[e]), int(i)) for e, i in zip(again.events, again.items, strict=True)) == sorted(
        of
    )
    first = replace(given, **{name: getattr(given, name)[:640] for name in columns})
    earlier = drawn(first, 4)
    same_train = [pair for pair in of if pair[0] < 640]
    assert [(int(e), int(i)) for e, i in zip(earlier.events, earlier.items, strict=True)] == same_train


def test_without_an_item_to_draw_there_is_no_row() -> None:
    everything = moments(1, 5, 100)
    assert len(drawn(everything, 4, without_seen=True).items) == 0, "the only user touched every item"
    assert len(drawn(moments(30, 1, 100), 100).items) == 0, "there is one item"
    assert len(drawn(moments(30, 40, 100), 0).items) == 0
    many = drawn(moments(30, 40, 100), 100)
    known = len(np.unique(many.events))
    assert 95 * known < len(many.items) <= 100 * known
    assert (np.diff(many.events) >= 0).all()
    assert ATTEMPTS >= 32


def drawn_log(folder: Path, kind: str) -> Log:
    """100 events of 20 users on five items, some in the same second; each user's last one is online."""
    rng = np.random.default_rng(5)
    order = rng.permutation(np.repeat(np.arange(1, 21), 5))
    rows: list[Row] = []
    for seq, (user, second) in enumerate(zip(order, np.sort(rng.integers(0, 60, 100)), strict=True)):
        own = [row for row in rows if row["user_id"] == user]
        time = dt.datetime(2001, 1, 1) + dt.timedelta(seconds=int(second))  # noqa: DTZ001 (UTC, as stored)
        item, rating = int(rng.integers(1, 6)), float(rng.integers(1, 6))
        part = ("train", "train", "validation", "test", "online")[len(own)]
        label = int(kind != "asked for" or rating > 3)
        row: Row = {"user_id": int(user), "item_id": item, "timestamp": time, "seq": seq, "rating": rating}
        rows.append({**row, "part": part, "label": label})
    changes: dict[str, Any] = {"negatives": Negatives(rate=3), **KINDS[kind]}
    profile = load_profile("movielens-1m").model_copy(update=changes)
    if kind == "repeats":
        profile = profile.model_copy(update={"recall": profile.recall.model_copy(update={"filter_seen": False})})
    log = Log(profile, *write_files(folder, rows), rows)
    with connect(folder) as connection:
        everyone = "SELECT range AS user_id, 'F' AS gender, 25 AS age, 3 AS occupation FROM range(1, 21)"
        connection.execute(f"COPY ({everyone}) TO '{log.users}' (FORMAT parquet)")
    return log


def shares(before: list[Row]) -> Counter[int]:
    """The chance of each item in a draw after these events."""
    counts = Counter(each["item_id"] for each in before)
    total = sum(count**0.75 for count in counts.values())
    return Counter({item: count**0.75 / total for item, count in counts.items()})


def left(log: Log, user: int, part: str) -> float:
    """The share of draws that are not drawn again, as of the user's last event in the part."""
    theirs = [(place, each) for place, each in enumerate(log.offline) if each["user_id"] == user]
    counted = RANKED[: RANKED.index(part) + 1] if log.profile.recall.filter_seen else (part,)
    taken = {each["item_id"] for _, each in theirs if each["part"] in counted}
    chance = shares(log.offline[: max(place for place, each in theirs if each["part"] == part)])
    return max(1 - sum(chance[item] for item in taken), 1 / ATTEMPTS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_row_has_the_features_that_an_event_would_have_had(tmp_path: Path, kind: str) -> None:
    """User and item side, recounted row by row in plain Python; drawn rows are in no statistic."""
    log = drawn_log(tmp_path, kind)
    pairs = log.factors / ROWS
    place = {(row["user_id"], row["timestamp"], row["seq"]): n for n, row in enumerate(log.offline)}
    real = negatives = 0
    for part in RANKED:
        for row in queried(log, sample_query(log.profile, log.users, log.items, pairs, part)):
            at = place[row["user_id"], row["timestamp"], row["seq"]]
            event, before = log.offline[at], log.offline[:at]
            if (real + negatives) % 9 == 0:  # the recount is slow
                expected = {**user_side(log, row["user_id"], before), **item_side(log, row["item_id"], before)}
                same(row, {name: value for name, value in expected.items() if name in row})
            assert row["item_id"] in {each["item_id"] for each in before}
            assert event["part"] == part
            if row["drawn"]:
                theirs = [each for each in log.offline if each["user_id"] == row["user_id"]]
                assert row["label"] == 0
                assert event["label"] == 1
                assert row["item_id"] not in {each["item_id"] for each in theirs if each["part"] == part}
            else:
                assert (row["item_id"], row["label"]) == (event["item_id"], event["label"])
            share = shares(before)[row["item_id"]]
            assert row[DRAW_LOG_RATE] == pytest.approx(np.log(3 * share / left(log, row["user_id"], part)))
            real, negatives = real + (not row["drawn"]), negatives + row["drawn"]
    first = {row["item_id"]: row for row in reversed(log.offline)}
    assert real == len(log.offline) - len(first), "the first event of an item is not ranked"
    assert negatives > 50


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_recounts_drawn_rows_too(tmp_path: Path, kind: str) -> None:
    log = drawn_log(tmp_path, kind)
    pairs = log.factors / ROWS
    with connect(tmp_path) as connection:
        build_history(connection, log.profile, log.splits, log.users, log.items)
        query = sample_query(log.profile, log.users, log.items, pairs, "train")
        connection.execute(f"COPY ({query}) TO '{tmp_path}/samples.parquet' (FORMAT parquet)")
        lifted = f"SELECT * REPLACE (item_count + 0.1 * drawn::INT AS item_count) FROM '{tmp_path}/samples.parquet'"
        connection.execute(f"COPY ({lifted}) TO '{tmp_path}/cheating.parquet' (FORMAT parquet)")
        keys = log.profile.event_keys
        assert count_leaking_rows(connection, log.splits, f"'{tmp_path}/samples.parquet'", keys) == 0
        assert count_leaking_rows(connection, log.splits, f"'{tmp_path}/cheating.parquet'", keys) > 0


def test_pair_features_of_a_drawn_row_are_those_of_an_event_on_its_item() -> None:
    """With the same factors of items: an event that is moved to the drawn item gets what the drawn row got."""
    events = world()
    rows = np.array([3, 50, 51, 51, 700, 2399])
    items = (events.items[rows] + np.array([1, 2, 3, 4, 5, 6])) % ITEM_COUNT
    plain = log_of(events)
    log = replace(plain, drawn=Drawn(rows, items), drawn_values=(-1.0, -1.0))
    for place, (row, item) in enumerate(zip(rows, items, strict=True)):
        moved = events.items.copy()
        moved[row] = item
        other = log_of(replace(events, items=moved), plain.labels)
        other.__dict__["item_factors"] = log.item_factors
        for feature in MODEL_INPUTS:
            found = feature.fit(log).column(np.array([len(events.users) + place]))
            expected = feature.fit(other).column(np.array([row]))
            assert np.array(found.to_pylist()) == pytest.approx(np.array(expected.to_pylist()), abs=1e-5), feature.name
    assert not np.allclose(log.item_factors, plain.item_factors), "items are fitted on drawn rows as well"
