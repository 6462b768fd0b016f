"""Rows that are described day by day have the features, and leave the state, of rows that are described at once."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.engines.engine import Engine
from recsys_assets.features import history_blocks
from recsys_assets.features.history_blocks import describe_blocks
from recsys_assets.features.history_state import ITEM_SUMS, NEWEST, USER_SUMS
from recsys_assets.features.history_table import (
    SNAPSHOTS,
    build_history,
    extend_history,
    known_rows,
    offer_rows,
    open_history,
    read_rule,
)
from recsys_assets.features.known_rows import only_after

LEFT = [SNAPSHOTS, *(f"{table}.parquet" for table in (USER_SUMS, ITEM_SUMS, NEWEST))]
ROW_COUNT = 700  # of 6 users and 5 items, so that all frames are longer than some days and shorter than others
PROFILE = Profile.model_validate(
    {
        "name": "days",
        "first_bizdate": "2026-01-01",
        "landing": "nowhere",
        "tables": {
            "interactions": {
                "user_id": "int64",
                "item_id": "string",
                "timestamp": "timestamp",
                "rating": "float32",
                "price": {"type": "float64", "of": "item"},
                "tags": {"type": "strings", "of": "item"},
                "device": {"type": "string", "of": "user"},
                "page": "string",
            },
            "users": {"user_id": "int64", "age": "int64"},
            "items": {"item_id": "string", "genres": "strings"},
        },
        "label": "rating > 3",
        "rating": "rating",
        "features": {
            "categorical": ["age", "device"],
            "multi_valued": ["genres", "tags"],
            "numeric": ["price"],
            "terms": {"column": "genres", "window": 40},
            "moment": ["page"],
        },
        "split": {"strategy": "by_day"},
    }
)


@dataclass(frozen=True)
class Log:
    """A log in files."""

    splits: Path
    users: Path
    items: Path

    @property
    def home(self) -> Path:
        return self.users.parent


def write_log(home: Path, seed: int) -> Log:
    """Rows of six users and five items: some in one second, repeated, without a rating, or of an unlisted item."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, 300, ROW_COUNT))
    start = dt.datetime(2026, 1, 1)  # noqa: DTZ001 (UTC, as stored)

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[place] for place in rng.integers(0, len(values), ROW_COUNT)]

    ratings = [None if rng.random() < 0.2 else round(float(each), 1) for each in rng.uniform(1, 5, ROW_COUNT)]
    users = rng.choice([0, 0, 0, 1, 1, 2, 3, 4, 5], ROW_COUNT)
    users[(users == 5) & (seconds < 200)] = 4  # the newcomer's first row is late
    rows = {
        "user_id": pa.array(users),
        "item_id": pa.array(some(["a", "a", "b", "c", "d", "unlisted"])),
        "timestamp": pa.array([start + dt.timedelta(minutes=20 * int(each)) for each in seconds], pa.timestamp("us")),
        "seq": pa.array(np.arange(ROW_COUNT)),
        "label": pa.array([int((each or 0) > 3) for each in ratings], pa.int8()),
        "part": pa.array(["train"] * (ROW_COUNT - 20) + ["online"] * 20),
        "rating": pa.array(ratings, pa.float32()),
        "price": pa.array(some([None, 1.5, 2.5, 9.0]), pa.float64()),
        "tags": pa.array(some([None, [], ["x"], ["x", "y"]]), pa.list_(pa.string())),
        "device": pa.array(some([None, None, "phone", "desk"])),
        "page": pa.array(some([None, "home", "list"])),
    }
    tables = {
        "splits": rows,
        "users": {"user_id": pa.array(range(8)), "age": pa.array([30] * 8)},
        "items": {
            "item_id": pa.array(["a", "b", "c", "d", "never"]),
            "genres": pa.array([["War"], ["Drama", "War"], [], None, ["Drama"]], pa.list_(pa.string())),
        },
    }
    home.mkdir()
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), home / f"{name}.parquet")
    return Log(*(home / f"{name}.parquet" for name in tables))


def describe(log: Log, cuts: Sequence[str], home: Path, lists: Sequence[Log] = ()) -> list[Path]:
    """Describe the rows on DuckDB; see `describe_on`."""
    with connect(log.home, home, *(each.home for each in lists)) as connection:
        return describe_on(connection, log, cuts, home, lists)


def describe_on(engine: Engine, log: Log, cuts: Sequence[str], home: Path, lists: Sequence[Log] = ()) -> list[Path]:
    """Describe the rows up to each cut, and the rest, one after the other; returns the folders.

    Each day has the users and items of its own log in `lists`, or all those of `log`.
    """
    folders: list[Path] = []
    rule = read_rule(engine, PROFILE, log.splits, log.items)
    ends = [*cuts, "infinity"]
    for day, start, end in zip(lists or [log] * len(ends), ["-infinity", *cuts], ends, strict=True):
        (home / str(len(folders))).mkdir(parents=True)
        rows = f"{known_rows(log.splits)} AND {only_after(start)} AND NOT {only_after(end)}"
        offer_rows(engine, PROFILE, rule, day.items, rows)
        state, folder = folders[-1] if folders else None, home / str(len(folders))
        extend_history(engine, PROFILE, rule, day.users, day.items, state, folder)
        folders.append(home / str(len(folders)))
    return folders


def without(log: Log, users: Sequence[int], items: Sequence[str], home: Path) -> Log:
    """The same rows with some users and items unlisted."""
    home.mkdir()
    tables = [(log.users, "user_id", users), (log.items, "item_id", items)]
    for path, key, left_out in tables:
        table = pq.read_table(path)
        kept = pc.invert(pc.is_in(table[key], pa.array(left_out, table[key].type)))
        pq.write_table(table.filter(kept), home / path.name)
    return Log(log.splits, home / log.users.name, home / log.items.name)


def moments(log: Log, count: int, seed: int) -> list[str]:
    times = pq.read_table(log.splits)["timestamp"].to_pylist()
    return [str(each) for each in sorted(np.random.default_rng(seed).choice(sorted(set(times)), count, replace=False))]


def all_rows(folders: Sequence[Path]) -> pa.Table:
    return read([folder / ROWS for folder in folders])


def read(files: Sequence[Path]) -> pa.Table:
    """The rows of files, without DuckDB's marks of columns that are never null: these depend on the tables of a run."""
    with connect(*(file.parent for file in files)) as connection:
        return connection.sql(f"FROM {scan(files)}").to_arrow_table()


@pytest.mark.parametrize(("seed", "days"), [(0, 1), (1, 2), (2, 7), (3, 40)])
def test_days_one_by_one_give_the_features_and_the_state_of_all_rows_at_once(
    tmp_path: Path, seed: int, days: int
) -> None:
    log = write_log(tmp_path / "log", seed)
    (tmp_path / "days").mkdir()
    (tmp_path / "once").mkdir()
    by_day = describe(log, moments(log, days, seed), tmp_path / "days")
    (once,) = describe(log, [], tmp_path / "once")
    assert all_rows(by_day).equals(all_rows([once]))
    assert all_rows([once]).num_rows == ROW_COUNT - 20
    for file in LEFT:
        assert read([by_day[-1] / file]).equals(read([once / file])), file


def test_rows_and_snapshots_are_those_of_the_whole_history(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", seed=4)
    (tmp_path / "days").mkdir()
    folders = describe(log, moments(log, 5, seed=4), tmp_path / "days")
    with connect(tmp_path) as connection:
        build_history(connection, PROFILE, log.splits, log.users, log.items)
        rows = connection.sql("FROM history WHERE label IS NOT NULL ORDER BY timestamp, seq").to_arrow_table()
        next_rows = connection.sql("FROM history WHERE label IS NULL ORDER BY user_id, item_id").to_arrow_table()
    with connect(tmp_path) as connection:
        open_history(connection, [folder / ROWS for folder in folders], folders[-1] / SNAPSHOTS)
        opened = connection.sql("FROM history ORDER BY timestamp, seq, user_id, item_id").to_arrow_table()
    assert all_rows(folders).equals(rows)
    assert read([folders[-1] / SNAPSHOTS]).equals(next_rows)
    assert next_rows.num_rows == 8 + 5
    assert opened.equals(pa.concat_tables([rows, next_rows]))


def test_users_and_items_that_come_and_go_have_the_next_rows_of_all_rows_at_once(tmp_path: Path) -> None:
    log = write_log(tmp_path / "log", seed=5)
    times = sorted({str(each) for each in pq.read_table(log.splits)["timestamp"].to_pylist()})
    cuts = [times[100], times[200], times[-14], times[-13]]  # few rows on the last days: most users have none
    few = without(log, [1, 3, 7], ["never"], tmp_path / "few")
    (tmp_path / "days").mkdir()
    by_day = describe(log, cuts, tmp_path / "days", [few, log, few, few, log])
    for place, listed in ((3, few), (4, log)):
        (tmp_path / f"once-{place}").mkdir()
        once, *_ = describe(log, cuts[place:], tmp_path / f"once-{place}", [listed] * (5 - place))
        assert read([by_day[place] / SNAPSHOTS]).equals(read([once / SNAPSHOTS]))


def test_blocks_of_days_give_what_all_rows_at_once_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, known = write_log(tmp_path / "log", seed=6), []
    for name, most in (("once", history_blocks.ROWS_AT_ONCE), ("blocks", 60)):
        monkeypatch.setattr(history_blocks, "ROWS_AT_ONCE", most)
        (tmp_path / name).mkdir()
        with connect(log.home, tmp_path) as connection:
            rule = read_rule(connection, PROFILE, log.splits, log.items)
            written = describe_blocks(
                connection, PROFILE, rule, log.users, log.items, known_rows(log.splits), None, tmp_path / name
            )
        known.append([written, *(read([tmp_path / name / file]) for file in [ROWS, *LEFT])])
    assert known[0] == known[1]
    assert known[0][0] == ROW_COUNT - 20
    assert {each.name for each in (tmp_path / "blocks").iterdir()} == {ROWS, *LEFT}
