"""Point-in-time features, recounted row by row in plain Python on a small seeded log with ties in time."""

import datetime as dt
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import TERM_STATISTICS
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.features.fit import fit_schema
from recsys_assets.features.history import item_columns, item_query, sample_query, user_columns, user_query
from recsys_assets.features.history_table import ITEM_PRIOR, USER_PRIOR, build_history, terms
from recsys_assets.features.leakage import count_leaking_rows
from recsys_assets.features.pair_data import ItemSnapshot
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, write_pair_features
from recsys_assets.features.pair_features import MODEL_INPUTS, candidate_rows

GENRES = {1: ["Drama"], 2: ["Comedy", "Drama"], 3: ["War"], 4: ["Comedy"], 5: []}
TERMS = ["Comedy", "Drama", "War"]
PRIOR = {"user": USER_PRIOR, "item": ITEM_PRIOR}
Row = dict[str, Any]
LEARNED = {feature.name for feature in MODEL_INPUTS if feature.serve}  # from other users' train rows, later ones too


@dataclass
class Log:
    """A log in files, and its rows ordered by time."""

    profile: Profile
    splits: Path
    users: Path
    items: Path
    rows: list[Row]

    @property
    def factors(self) -> Path:
        """The folder with the affinities of its events."""
        folder = self.splits.parent
        with connect(folder) as connection:
            (folder / "factors").mkdir(exist_ok=True)
            write_pair_features(
                connection, self.profile, Sources(self.splits, self.users, self.items), folder / "factors"
            )
        return folder / "factors"

    @property
    def offline(self) -> list[Row]:
        return [row for row in self.rows if row["part"] != "online"]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return write_log(tmp_path, seed=7)


def write_log(folder: Path, seed: int) -> Log:
    """Write 120 events of 4 users and 5 items, some in the same second. Each user's last 2 are online."""
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
    unique = {(row["user_id"], row["item_id"], row["timestamp"]): row for row in rows}  # `interactions` guarantees this
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
            "CREATE TABLE s (user_id BIGINT, item_id BIGINT, timestamp TIMESTAMP, seq BIGINT, rating FLOAT,"
            " part VARCHAR, label TINYINT);"
            "CREATE TABLE u (user_id BIGINT, gender VARCHAR, age BIGINT, occupation BIGINT);"
            "CREATE TABLE i (item_id BIGINT, year BIGINT, genres VARCHAR[])"
        )
        connection.executemany("INSERT INTO s VALUES (?, ?, ?, ?, ?, ?, ?)", [list(row.values()) for row in rows])
        connection.executemany("INSERT INTO u VALUES (?, 'F', 25, 3)", [[user] for user in range(1, 6)])
        connection.executemany("INSERT INTO i VALUES (?, 1999, ?)", list(GENRES.items()))
        for table, path in zip("sui", paths, strict=True):
            connection.execute(f"COPY {table} TO '{path}' (FORMAT parquet)")
    return paths


def queried(log: Log, query: str) -> list[Row]:
    with connect(log.splits.parent) as connection:
        build_history(connection, log.profile, log.splits, log.users, log.items)
        found = connection.execute(query)
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def rates_before(log: Log, side: str) -> dict[int, float]:
    """The positive rate of the row's user or item just before the row, for each offline row by seq."""
    rates = {}
    for place, row in enumerate(log.offline):
        earlier = [r for r in log.offline[:place] if r[f"{side}_id"] == row[f"{side}_id"]]
        rates[row["seq"]] = positive_rate(earlier, log.offline[:place], PRIOR[side])
    return rates


def positive_rate(rows: list[Row], everyone: list[Row], prior: int) -> float:
    """The share of positives, shrunk towards that of all rows so far."""
    base = (sum(row["label"] for row in everyone) + 1) / (len(everyone) + 2)
    return float((sum(row["label"] for row in rows) + prior * base) / (len(rows) + prior))


def counts_before(log: Log, side: str) -> dict[int, float]:
    """ln(1 + earlier rows) of the row's user or item, for each offline row by seq."""
    return {
        row["seq"]: math.log(1 + sum(r[f"{side}_id"] == row[f"{side}_id"] for r in log.offline[:place]))
        for place, row in enumerate(log.offline)
    }


def common(log: Log, side: str, rows: list[Row], everyone: list[Row]) -> Row:
    """Statistics that users and items share, over their earlier rows."""
    other = "item" if side == "user" else "user"
    rate, count = rates_before(log, other), counts_before(log, other)
    ratings = [row["rating"] for row in rows if row["rating"] is not None]
    return {
        f"{side}_count": math.log(1 + len(rows)),
        f"{side}_positive_rate": positive_rate(rows, everyone, PRIOR[side]),
        f"{side}_bias": sum(row["label"] - rate[row["seq"]] for row in rows) / (len(rows) + PRIOR[side]),
        f"{side}_{other}_rate": mean([rate[row["seq"]] for row in rows]),
        f"{side}_{other}_count": mean([count[row["seq"]] for row in rows]),
        f"{side}_rating_mean": mean(ratings),
        f"{side}_rating_std": float(np.std(ratings)) if ratings else None,
    }


def newest(log: Log, side: str, rows: list[Row], window: int) -> Row:
    """Positive rate and bias of the newest rows."""
    rate, recent = rates_before(log, "item" if side == "user" else "user"), rows[-window:]
    return {
        f"{side}_positive_rate_{window}": mean([row["label"] for row in recent]),
        f"{side}_bias_{window}": mean([row["label"] - rate[row["seq"]] for row in recent]),
    }


def term_statistics(log: Log, rows: list[Row]) -> Row:
    rate = rates_before(log, "item")

    def by_term(of: list[Row], value: Callable[[Row], float]) -> list[float]:
        return [sum(value(row) for row in of if term in GENRES[row["item_id"]]) for term in TERMS]

    return {
        "recent_term_imp": by_term(rows[-10:], lambda _: 1.0),
        "recent_term_clk": by_term(rows[-10:], lambda row: row["label"]),
        "user_term_imp": by_term(rows, lambda _: 1.0),
        "user_term_clk": by_term(rows, lambda row: row["label"]),
        "user_term_bias": by_term(rows, lambda row: row["label"] - rate[row["seq"]]),
    }


def user_side(log: Log, user: int, before: list[Row]) -> Row:
    rows = [row for row in before if row["user_id"] == user]
    rate = rates_before(log, "item")
    return {
        **common(log, "user", rows, before),
        **newest(log, "user", rows, 30),
        **newest(log, "user", rows, 10),
        "user_positive_rate_3": mean([row["label"] for row in rows[-3:]]),
        "user_item_rate_10": mean([rate[row["seq"]] for row in rows[-10:]]),
        **term_statistics(log, rows),
    }


def item_side(log: Log, item: int, before: list[Row]) -> Row:
    rows = [row for row in before if row["item_id"] == item]
    of_50, of_100 = newest(log, "item", rows, 50), newest(log, "item", rows, 100)
    return {
        **common(log, "item", rows, before),
        "item_positive_rate_50": of_50["item_positive_rate_50"],
        "item_bias_100": of_100["item_bias_100"],
    }


def same(found: Row, expected: Row) -> None:
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=1e-5)), name


def test_each_row_sees_exactly_the_rows_before_it(log: Log) -> None:
    found = queried(log, sample_query(log.profile, log.users, log.items, log.factors / ROWS, "train"))
    expected = sorted(enumerate(log.offline), key=lambda pair: (pair[1]["user_id"], pair[0]))
    assert len(found) == len(expected)
    for row, (place, event) in zip(found, expected, strict=True):
        assert (row["user_id"], row["item_id"], row["label"]) == (event["user_id"], event["item_id"], event["label"])
        before = log.offline[:place]
        same(row, {**user_side(log, event["user_id"], before), **item_side(log, event["item_id"], before)})
        assert {*user_columns(log.profile), *item_columns(log.profile)} <= row.keys()


def test_the_user_snapshot_is_what_the_next_row_would_see(log: Log) -> None:
    """The window is 10 rows here too, while recsys_pipeline serves 11."""
    found = queried(log, user_query(log.profile, log.users, log.factors / USER_FILE))
    assert [row["user_id"] for row in found] == [1, 2, 3, 4, 5]  # user 5 has no events but is served too
    for row in found:
        same(row, user_side(log, row["user_id"], log.offline))


def test_the_item_snapshot_is_what_the_next_row_would_see(log: Log) -> None:
    found = queried(log, item_query(log.profile, log.items, log.factors / ITEM_FILE))
    assert [row["item_id"] for row in found] == [1, 2, 3, 4, 5]
    for row in found:
        same(row, item_side(log, row["item_id"], log.offline))


@pytest.mark.parametrize("changed", [30, 60, 90])
def test_no_row_changes_with_its_own_label_or_a_later_one(log: Log, tmp_path: Path, changed: int) -> None:
    """Flip every label from row `changed` on: all rows up to it, itself included, keep their features.

    Only the features of pairs learn from other users' later train rows; `test_pair_features.py` has their limits.
    """
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
        same_features = all(v == before[key][k] for k, v in row.items() if k not in ("label", *LEARNED))
        if key in {(r["user_id"], r["timestamp"], r["item_id"]) for r in untouched}:
            assert same_features, key
        differing += not same_features
    assert differing > 0  # the later ones do change, so the comparison can fail


def ordered(log: Log) -> Iterator[Row]:
    yield from queried(log, sample_query(log.profile, log.users, log.items, log.factors / ROWS, "train"))


def rerated(folder: Path, rating: Callable[[Row], float | None]) -> Log:
    """The log with different ratings and its original labels."""
    log = write_log(folder, seed=7)
    for row in log.rows:
        row["rating"] = None if (value := rating(row)) is None else float(np.float32(value))
    return Log(log.profile, *write_files(folder, log.rows), log.rows)


def rating_statistics(log: Log) -> tuple[list[Row], list[Row]]:
    """Means and deviations in the snapshots of users and items, and their expected values."""
    found: list[Row] = []
    expected: list[Row] = []
    factors = log.factors
    snapshots = {
        "user": user_query(log.profile, log.users, factors / USER_FILE),
        "item": item_query(log.profile, log.items, factors / ITEM_FILE),
    }
    for side, query in snapshots.items():
        for row in queried(log, query):
            ratings = [r["rating"] for r in log.offline if r[f"{side}_id"] == row[f"{side}_id"]]
            known = [value for value in ratings if value is not None]
            found.append({"mean": row[f"{side}_rating_mean"], "std": row[f"{side}_rating_std"]})
            expected.append({"mean": mean(known), "std": float(np.std(known)) if known else None})
    return found, expected


RATINGS: dict[str, Callable[[Row], float | None]] = {
    "half of them missing": lambda row: row["rating"] if row["seq"] % 2 else None,
    "those of one user missing": lambda row: row["rating"] if row["user_id"] != 2 else None,
    "one alone": lambda row: 4.0 if row["seq"] == 3 else None,
    "none": lambda _: None,
    "zero": lambda _: 0.0,
    "plays, up to 400,000": lambda row: math.floor(math.exp((row["seq"] * 7919 % 130) / 10.08)),
    "plays, up to 10^10": lambda row: math.floor(math.exp((row["seq"] * 7919 % 130) / 5.6)),
    "far from zero and close together": lambda row: 10_000_000 + row["seq"] % 7,
    "tiny": lambda row: row["rating"] * 1e-9,
    "below zero": lambda row: -1000 * row["rating"],
    "as large as floats are": lambda row: row["rating"] * 6e37,
}


@pytest.mark.parametrize("what", RATINGS)
def test_means_and_deviations_are_of_the_rows_that_have_a_rating(tmp_path: Path, what: str) -> None:
    found, expected = rating_statistics(rerated(tmp_path, RATINGS[what]))
    for one, other in zip(found, expected, strict=True):
        for name, value in other.items():
            assert one[name] == (None if value is None else pytest.approx(value, rel=1e-4)), (name, one, other)


def test_rows_without_a_rating_leave_the_statistics_of_labels_as_they_are(log: Log, tmp_path: Path) -> None:
    (tmp_path / "gaps").mkdir()
    gaps = rerated(tmp_path / "gaps", RATINGS["half of them missing"])
    for one, other in zip(ordered(gaps), ordered(log), strict=True):
        for name, value in other.items():
            if "rating_" not in name and name not in LEARNED:
                assert one[name] == value, name


def test_where_no_item_has_a_term_there_is_nothing_to_count(log: Log, tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        empty = f"SELECT item_id, year, []::VARCHAR[] AS genres FROM '{log.items}'"
        connection.execute(f"COPY ({empty}) TO '{tmp_path}/empty.parquet' (FORMAT parquet)")
    bare = Log(log.profile, log.splits, log.users, tmp_path / "empty.parquet", log.rows)
    with connect(tmp_path) as connection:
        assert build_history(connection, bare.profile, bare.splits, bare.users, bare.items) == []
        query = sample_query(bare.profile, bare.users, bare.items, bare.factors / ROWS, "train")
        connection.execute(f"COPY ({query}) TO '{tmp_path}/train.parquet' (FORMAT parquet)")
        schema = fit_schema(connection, bare.profile, tmp_path / "train.parquet", [])
    assert not {feature.name for feature in schema.features} & {*TERM_STATISTICS}
    for row, other in zip(ordered(bare), ordered(log), strict=True):
        assert all(row[name] == [] for name in TERM_STATISTICS)
        assert all(row[name] == other[name] for name in row if "term" not in name and name != "genres")


def test_the_check_finds_rows_that_know_too_much(log: Log, tmp_path: Path) -> None:
    samples, cheating = tmp_path / "samples.parquet", tmp_path / "cheating.parquet"
    with connect(log.splits.parent, tmp_path) as connection:
        build_history(connection, log.profile, log.splits, log.users, log.items)
        query = sample_query(log.profile, log.users, log.items, log.factors / ROWS, "train")
        connection.execute(f"COPY ({query}) TO '{samples}' (FORMAT parquet)")
        lifted = f"SELECT * REPLACE (user_positive_rate + 0.1 * label AS user_positive_rate) FROM '{samples}'"
        connection.execute(f"COPY ({lifted}) TO '{cheating}' (FORMAT parquet)")
        assert count_leaking_rows(connection, log.splits, f"'{samples}'") == 0
        assert count_leaking_rows(connection, log.splits, f"'{cheating}'") > 0


def test_terms_are_the_most_frequent_ones_in_ascending_order(log: Log) -> None:
    with connect(log.splits.parent) as connection:
        assert terms(connection, log.profile, log.items) == TERMS
        assert log.profile.features.terms is not None
        two = log.profile.features.model_copy(
            update={"terms": log.profile.features.terms.model_copy(update={"max_terms": 2})}
        )
        assert terms(connection, log.profile.model_copy(update={"features": two}), log.items) == ["Comedy", "Drama"]


def test_serving_makes_of_the_snapshots_what_the_next_row_would_have(tmp_path: Path) -> None:
    """The newest event, first as a row, then as a user-item pair from the snapshots without it."""
    log = write_log(tmp_path, seed=7)
    newest = log.offline[-1]
    newest["part"] = "test"
    (tmp_path / "with").mkdir()
    known = Log(log.profile, *write_files(tmp_path / "with", log.rows), log.rows)
    (row,) = queried(known, sample_query(known.profile, known.users, known.items, known.factors / ROWS, "test"))
    earlier = [each for each in log.rows if each is not newest]
    (tmp_path / "without").mkdir()
    before = Log(log.profile, *write_files(tmp_path / "without", earlier), earlier)
    snapshots = (
        user_query(before.profile, before.users, before.factors / USER_FILE),
        item_query(before.profile, before.items, before.factors / ITEM_FILE),
    )
    users, items = (pa.Table.from_pylist(queried(before, query)) for query in snapshots)
    user, item = (np.array([newest[key] - 1]) for key in ("user_id", "item_id"))
    (served,) = candidate_rows(users, ItemSnapshot(items, log.profile.features.affinity), user, item).to_pylist()
    assert {*served} == {*row} - {"timestamp", "label"}
    for name, value in served.items():
        assert row[name] == (value if value is None or isinstance(value, str) else pytest.approx(value, abs=1e-4)), name
