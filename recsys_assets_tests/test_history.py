"""Point-in-time features: counted again row by row in plain Python, on a small seeded log with ties in time."""

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.features.history import (
    BIAS_SHRINK,
    build_history,
    item_query,
    rows_that_know_too_much,
    sample_query,
    terms,
    user_query,
)

GENRES = {1: ["Drama"], 2: ["Comedy", "Drama"], 3: ["War"], 4: ["Comedy"], 5: []}
TERMS = ["Comedy", "Drama", "War"]
Row = dict[str, Any]


@dataclass
class Log:
    """A log in files, and its rows in order of time."""

    profile: Profile
    splits: Path
    users: Path
    items: Path
    rows: list[Row]

    @property
    def offline(self) -> list[Row]:
        return [row for row in self.rows if row["part"] != "online"]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return write_log(tmp_path, seed=7)


def write_log(folder: Path, seed: int) -> Log:
    """120 events of 4 users and 5 items; several share a second. The last 2 of each user are online."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, 60, 120))
    rows: list[Row] = [
        {
            "user_id": int(rng.integers(1, 5)),
            "item_id": int(rng.integers(1, 6)),
            "timestamp": dt.datetime(2001, 1, 1) + dt.timedelta(seconds=int(second)),  # noqa: DTZ001 (UTC, as stored)
            "seq": seq,
            "rating": float(rng.integers(1, 6)),
        }
        for seq, second in enumerate(seconds)
    ]
    unique = {(row["user_id"], row["item_id"], row["timestamp"]): row for row in rows}  # as `interactions` sees to
    rows = sorted(unique.values(), key=lambda row: row["seq"])
    for user in range(1, 5):
        own = [row for row in rows if row["user_id"] == user]
        for place, row in enumerate(own):
            row |= {"part": "online" if place >= len(own) - 2 else "train", "label": int(row["rating"] > 3)}
    return Log(load_profile("movielens-1m"), *write_files(folder, rows), rows)


def write_files(folder: Path, rows: list[Row]) -> tuple[Path, Path, Path]:
    paths = folder / "splits.parquet", folder / "users.parquet", folder / "items.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE s (user_id BIGINT, item_id BIGINT, timestamp TIMESTAMP, seq BIGINT, rating FLOAT, part VARCHAR,"
            " label TINYINT); CREATE TABLE u (user_id BIGINT, gender VARCHAR, age BIGINT, occupation BIGINT);"
            "CREATE TABLE i (item_id BIGINT, genres VARCHAR[])"
        )
        connection.executemany("INSERT INTO s VALUES (?, ?, ?, ?, ?, ?, ?)", [list(row.values()) for row in rows])
        connection.executemany("INSERT INTO u VALUES (?, 'F', 25, 3)", [[user] for user in range(1, 6)])
        connection.executemany("INSERT INTO i VALUES (?, ?)", list(GENRES.items()))
        for table, path in zip("sui", paths, strict=True):
            connection.execute(f"COPY {table} TO '{path}' (FORMAT parquet)")
    return paths


def queried(log: Log, query: str) -> list[Row]:
    with connect() as connection:
        build_history(connection, log.profile, log.splits, log.users, log.items)
        found = connection.execute(query)
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def statistics(rows: list[Row], side: str, other_rate: dict[int, float]) -> Row:
    """Running statistics of `side` over its rows; `other_rate` is the other side's rate at each row, by seq."""
    positives = sum(row["label"] for row in rows)
    above = sum(row["label"] - other_rate[row["seq"]] for row in rows)
    return {
        f"{side}_count": math.log(1 + len(rows)),
        f"{side}_positive_rate": (positives + 1) / (len(rows) + 2),
        f"{side}_bias": above / (len(rows) + BIAS_SHRINK),
        f"{side}_rating_mean": sum(row["rating"] for row in rows) / len(rows) if rows else None,
    }


def term_counts(rows: list[Row], prefix: str) -> Row:
    imp = [float(sum(term in GENRES[row["item_id"]] for row in rows)) for term in TERMS]
    clk = [float(sum(term in GENRES[row["item_id"]] for row in rows if row["label"])) for term in TERMS]
    return {f"{prefix}_imp": imp, f"{prefix}_clk": clk}


def rates_before(log: Log, side: str) -> dict[int, float]:
    """Smoothed positive rate of each offline row's user or item just before the row, by seq."""
    rates = {}
    for place, row in enumerate(log.offline):
        earlier = [r for r in log.offline[:place] if r[f"{side}_id"] == row[f"{side}_id"]]
        rates[row["seq"]] = (sum(r["label"] for r in earlier) + 1) / (len(earlier) + 2)
    return rates


def user_side(log: Log, rows: list[Row]) -> Row:
    return {
        **statistics(rows, "user", rates_before(log, "item")),
        **term_counts(rows[-10:], "recent_term"),
        **term_counts(rows, "user_term"),
    }


def item_side(log: Log, rows: list[Row]) -> Row:
    return statistics(rows, "item", rates_before(log, "user"))


def same(found: Row, expected: Row) -> None:
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=1e-5)), name


def test_each_row_sees_exactly_the_rows_before_it(log: Log) -> None:
    found = queried(log, sample_query(log.profile, log.users, log.items, "train"))
    expected = sorted(enumerate(log.offline), key=lambda pair: (pair[1]["user_id"], pair[0]))
    assert len(found) == len(expected)
    for row, (place, event) in zip(found, expected, strict=True):
        assert (row["user_id"], row["item_id"], row["label"]) == (event["user_id"], event["item_id"], event["label"])
        before = log.offline[:place]
        same(row, user_side(log, [r for r in before if r["user_id"] == event["user_id"]]))
        same(row, item_side(log, [r for r in before if r["item_id"] == event["item_id"]]))


def test_the_user_snapshot_is_what_the_next_row_would_see(log: Log) -> None:
    """The window is 10 rows here too: recsys_pipeline serves 11."""
    found = queried(log, user_query(log.profile, log.users))
    assert [row["user_id"] for row in found] == [1, 2, 3, 4, 5]  # user 5 has no event and is served all the same
    for row in found:
        same(row, user_side(log, [r for r in log.offline if r["user_id"] == row["user_id"]]))


def test_the_item_snapshot_is_what_the_next_row_would_see(log: Log) -> None:
    found = queried(log, item_query(log.profile, log.items))
    assert [row["item_id"] for row in found] == [1, 2, 3, 4, 5]
    for row in found:
        same(row, item_side(log, [r for r in log.offline if r["item_id"] == row["item_id"]]))


@pytest.mark.parametrize("changed", [30, 60, 90])
def test_no_row_changes_with_its_own_label_or_a_later_one(log: Log, tmp_path: Path, changed: int) -> None:
    """Flip every label from row `changed` on: all rows up to it, itself included, keep their features."""
    before = {(r["user_id"], r["timestamp"], r["item_id"]): r for r in ordered(log)}
    for row in log.rows:
        if row["seq"] >= changed:
            row["label"], row["rating"] = 1 - row["label"], 6 - row["rating"]
    (tmp_path / "flipped").mkdir()
    flipped = Log(log.profile, *write_files(tmp_path / "flipped", log.rows), log.rows)
    after = {(r["user_id"], r["timestamp"], r["item_id"]): r for r in ordered(flipped)}
    untouched = [r for r in log.offline if r["seq"] <= changed]
    differing = 0
    for key, row in after.items():
        same_features = {k: v for k, v in row.items() if k != "label"} == {
            k: v for k, v in before[key].items() if k != "label"
        }
        if key in {(r["user_id"], r["timestamp"], r["item_id"]) for r in untouched}:
            assert same_features, key
        differing += not same_features
    assert differing > 0  # the later ones do change, so the comparison can fail


def ordered(log: Log) -> Iterator[Row]:
    yield from queried(log, sample_query(log.profile, log.users, log.items, "train"))


def test_the_check_finds_rows_that_know_too_much(log: Log, tmp_path: Path) -> None:
    samples, cheating = tmp_path / "samples.parquet", tmp_path / "cheating.parquet"
    with connect() as connection:
        build_history(connection, log.profile, log.splits, log.users, log.items)
        query = sample_query(log.profile, log.users, log.items, "train")
        connection.execute(f"COPY ({query}) TO '{samples}' (FORMAT parquet)")
        lifted = f"SELECT * REPLACE (user_positive_rate + 0.1 * label AS user_positive_rate) FROM '{samples}'"
        connection.execute(f"COPY ({lifted}) TO '{cheating}' (FORMAT parquet)")
        assert rows_that_know_too_much(connection, log.splits, f"'{samples}'") == 0
        assert rows_that_know_too_much(connection, log.splits, f"'{cheating}'") > 0


def test_terms_are_the_most_frequent_ones_in_ascending_order(log: Log) -> None:
    with connect() as connection:
        assert terms(connection, log.profile, log.items) == TERMS
        assert log.profile.features.terms is not None
        two = log.profile.features.model_copy(
            update={"terms": log.profile.features.terms.model_copy(update={"max_terms": 2})}
        )
        assert terms(connection, log.profile.model_copy(update={"features": two}), log.items) == ["Comedy", "Drama"]
