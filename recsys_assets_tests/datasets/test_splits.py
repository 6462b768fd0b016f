"""Splits: the reference's rule on real data, and every rule on frames with known answers."""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.profile_parts import Split
from recsys_assets.datasets.splits import SplitError, split, split_rows, split_sizes

WriteEvents = Callable[[Sequence[tuple[int, int, float]]], Path]
START = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def events(tmp_path: Path) -> WriteEvents:
    """Write (user, hour of the event, rating) as an interactions file; item ids count up within each user."""

    def write(rows: Sequence[tuple[int, int, float]]) -> Path:
        path = tmp_path / "events.parquet"
        users, hours, ratings = zip(*rows, strict=True)
        times = [(START + dt.timedelta(hours=hour)).replace(tzinfo=None) for hour in hours]
        columns = {
            "user_id": pa.array(users, pa.int64()),
            "item_id": pa.array(range(len(rows)), pa.int64()),
            "timestamp": pa.array(times, pa.timestamp("us")),
            "rating": pa.array(ratings, pa.float32()),
            "seq": pa.array(range(len(rows)), pa.int64()),
        }
        pq.write_table(pa.table(columns), path)
        return path

    return write


def profile_with(rule: Split) -> Profile:
    return load_profile("movielens-1m").model_copy(update={"split": rule})


def parts_of(profile: Profile, path: Path, bizdate: str) -> dict[int, str]:
    """The parts of each user's rows as letters, in order of position: t(r)ain, v, t(e)st, o."""
    with connect(path.parent) as connection:
        split(connection, profile, [path], bizdate)
        letters = "CASE part WHEN 'train' THEN 'r' WHEN 'validation' THEN 'v' WHEN 'test' THEN 'e' ELSE 'o' END"
        found = connection.execute(
            f"SELECT user_id, string_agg({letters}, '' ORDER BY position) FROM splits GROUP BY user_id"
        ).fetchall()
    return dict(found)


def test_the_tail_of_each_user_is_online_then_test_then_validation(
    events: WriteEvents,
) -> None:
    rule = Split(strategy="per_user_tail", online_last_n=2, test_ratio=0.2, validation_ratio=0.25)
    path = events([(1, hour, 5) for hour in range(13)] + [(2, hour, 1) for hour in range(3)])
    # user 1: 11 offline rows, ceil(8.8) = 9 train, floor(2.25) = 2 of these validation; user 2: 1 offline row
    assert parts_of(profile_with(rule), path, "2001-01-01") == {1: "rrrrrrrvveeoo", 2: "roo"}


def test_leave_last_n_tests_the_rows_before_the_online_ones(
    events: WriteEvents,
) -> None:
    rule = Split(strategy="leave_last_n", online_last_n=1, test_last_n=2, validation_ratio=0.5)
    path = events([(1, hour, 5) for hour in range(7)])
    assert parts_of(profile_with(rule), path, "2001-01-01") == {1: "rrvveeo"}


def test_by_day_tests_the_newest_days(events: WriteEvents) -> None:
    rule = Split(strategy="by_day", test_days=1, validation_days=2)
    path = events([(1, 24 * day, 5) for day in range(5)])
    assert parts_of(profile_with(rule), path, "2001-01-05") == {1: "rrvve"}


def test_by_day_keeps_the_very_newest_days_for_the_online_evaluation(events: WriteEvents) -> None:
    rule = Split(strategy="by_day", online_days=2, test_days=1)
    path = events([(1, 24 * day, 5) for day in range(6)])
    assert parts_of(profile_with(rule), path, "2001-01-06") == {1: "rrveoo"}
    assert rule.has_online
    assert not Split(strategy="by_day").has_online


def test_moments_cut_the_rows_of_all_users_and_rows_of_one_moment_stay_together(events: WriteEvents) -> None:
    rule = Split(strategy="successive", shares=(6, 2, 1, 1))
    path = events([(1, hour, 5) for hour in (0, 1, 2, 6, 7)] + [(2, hour, 5) for hour in (3, 4, 5, 5, 8)])
    # 6 of 10 rows are train, but the sixth and the seventh have the same moment
    assert parts_of(profile_with(rule), path, "2001-01-01") == {1: "rrrve", 2: "rrrro"}
    assert rule.has_online
    assert not Split(strategy="successive").has_online


def test_a_column_names_the_part_of_each_row(events: WriteEvents) -> None:
    """Here the rating does: 5 and 4 train, 3 validates, 2 tests and 1 is online."""
    values = {"train": ["5.0", "4.0"], "validation": ["3.0"], "test": ["2.0"], "online": ["1.0"]}
    rule = Split.model_validate({"strategy": "given", "column": "rating", "values": values})
    path = events([(1, hour, 5 - hour) for hour in range(5)])
    assert parts_of(profile_with(rule), path, "2001-01-01") == {1: "rrveo"}


def test_a_row_of_an_unknown_part_is_named(events: WriteEvents) -> None:
    rule = Split.model_validate({"strategy": "given", "column": "rating"})
    path = events([(1, hour, 5 - hour) for hour in range(5)])
    with pytest.raises(SplitError, match=r"a row's part is '[1-5]\.0', which split.values does not have"):
        parts_of(profile_with(rule), path, "2001-01-01")


def test_a_random_part_is_drawn_by_day_and_place(events: WriteEvents) -> None:
    rule = Split(strategy="random", shares=(8, 1, 1))
    path = events([(1, hour % 24, 5) for hour in range(20_000)])
    own = profile_with(rule)
    with connect(path.parent) as connection:
        split_rows(connection, own, [path], "2001-01-01")
        first = connection.execute("SELECT seq, part FROM splits ORDER BY seq").fetchall()
        split_rows(connection, own, [path], "2001-01-02")
        assert connection.execute("SELECT seq, part FROM splits ORDER BY seq").fetchall() == first
    shares = Counter(part for _, part in first)
    assert abs(shares["validation"] - 2000) < 5 * 42  # five standard deviations of a binomial draw
    assert abs(shares["test"] - 2000) < 5 * 42


def test_equal_times_keep_the_order_of_arrival(events: WriteEvents) -> None:
    path = events([(1, 7, 5)] * 20)
    with connect(path.parent) as connection:
        split(connection, profile_with(Split(strategy="leave_last_n")), [path], "2001-01-01")
        found = connection.execute("SELECT item_id FROM splits ORDER BY position").fetchall()
    assert [row[0] for row in found] == list(range(20))


def test_an_empty_part_is_refused_by_name(events: WriteEvents) -> None:
    path = events([(1, 0, 5), (1, 1, 5)])
    with pytest.raises(SplitError, match=r"train and validation part is empty at 2001-01-01 .* by_day"):
        parts_of(profile_with(Split(strategy="by_day")), path, "2001-01-01")


def test_a_train_part_that_is_all_validation_is_refused_by_name(events: WriteEvents) -> None:
    path = events([(1, 24 * day, 5) for day in range(5)])
    with pytest.raises(SplitError, match=r"the train part is empty at 2001-01-05 .* by_day"):
        parts_of(profile_with(Split(strategy="by_day", validation_days=100)), path, "2001-01-05")


def test_ml_1m_is_split_as_recsys_pipeline_splits_it(ml1m: Path) -> None:
    """The sizes were verified in the reference; each user's last 10 rows come from a stable sort of the file."""
    ratings = (
        f"SELECT *, row_number() OVER () AS seq FROM read_csv('{ml1m / 'ratings.dat'}', delim='::', header=false, "
        "columns={'user_id': 'BIGINT', 'item_id': 'BIGINT', 'rating': 'FLOAT', 'seconds': 'BIGINT'})"
    )
    with connect(ml1m) as connection:
        connection.execute(f"CREATE TABLE raw AS {ratings}")
        split_from_table(connection)
        assert split_sizes(connection) == {
            "train_rows": 754_233,
            "validation_rows": 72_800,
            "test_rows": 185_576,
            "online_rows": 60_400,
            "positives": 575_281,
            "negatives": 424_928,
        }
        positives = (
            "SELECT part, sum(label) FROM (SELECT label, CASE part WHEN 'validation' THEN 'train' ELSE part END "
        )
        found = connection.execute(positives + "AS part FROM splits) GROUP BY part").fetchall()
        assert dict(found) == {"train": 442_643, "test": 97_146, "online": 35_492}
        online = connection.execute(
            "SELECT user_id, item_id FROM splits WHERE part = 'online' ORDER BY user_id, position"
        )
        ours = online.fetchall()
        frame = connection.execute("SELECT user_id, item_id, seconds, seq FROM raw ORDER BY seq").df()
    stable = frame.sort_values(["user_id", "seconds"], kind="stable").groupby("user_id").tail(10)
    assert ours == list(zip(stable["user_id"], stable["item_id"], strict=True))


def split_from_table(connection: duckdb.DuckDBPyConnection) -> None:
    """Split the table `raw` through a file, as the asset does."""
    events = "SELECT user_id, item_id, rating, to_timestamp(seconds)::TIMESTAMP AS timestamp, seq FROM raw ORDER BY seq"
    path = Path(connection.execute("SELECT current_setting('temp_directory')").fetchall()[0][0]) / "events.parquet"
    connection.execute(f"COPY ({events}) TO '{path}' (FORMAT parquet)")
    split(connection, load_profile("movielens-1m"), [path], "2003-02-28")
