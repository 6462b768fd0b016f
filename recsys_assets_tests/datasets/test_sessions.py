"""Rows without a user: they are kept under their session's id, which no user has, and a session can be in one part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys_assets.datasets.duck import connect, scan
from recsys_assets.datasets.ingest import REJECTED, ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile, ProfileError
from recsys_assets.datasets.sessions import LOWEST_USER, TEXT_PREFIX
from recsys_assets.datasets.splits import split
from recsys_assets_tests.datasets.test_log_entities import DAYS, own, put

LOG: dict[str, Any] = {"user_id": "string", "item_id": "int64", "timestamp": "timestamp", "visit": "string"}
VISITS: dict[str, Any] = {"tables": {"interactions": LOG}, "label": True, "session": {"column": "visit"}}
NUMBERS: dict[str, Any] = {**VISITS, "tables": {"interactions": {**LOG, "user_id": "int64"}}}


def profile_of(home: Path, settings: dict[str, Any], **changes: Any) -> Profile:
    return own(home, **{**settings, **changes})


def land(profile: Profile, *lines: str, day: str = DAYS[0]) -> None:
    """Land a day's rows of user, item, time of day and session, as one file."""
    rows = [line.split(",") for line in lines]
    header = ",".join(profile.tables["interactions"])
    put(profile, f"interactions/bizdate={day}/e.csv", header, *(f"{u},{i},{day} {t},{v}" for u, i, t, v in rows))


def ingest(profile: Profile, home: Path, day: str = DAYS[0]) -> tuple[Path, dict[str, int]]:
    folder = home / "events" / day
    folder.mkdir(parents=True, exist_ok=True)
    with connect(folder) as connection:
        load_known_ids(connection, profile, DAYS[-1])
        return folder / ROWS, ingest_events(connection, profile, day, folder)


def split_of(profile: Profile, home: Path, files: Sequence[Path], day: str, table: str = "splits") -> list[Any]:
    """user, item and part, in the order of the table."""
    with connect(home) as connection:
        split(connection, profile, files, day)
        return connection.execute(f"SELECT user_id, item_id, part FROM {table}").fetchall()


ROWS_OF_A_DAY = ["ann,1,10:00:00,s1", ",2,10:01:00,s2", ",3,10:02:00,s2", ",4,10:03:00,", ",5,10:04:00,ann"]


def test_a_row_without_a_user_belongs_to_its_session(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, VISITS)
    land(profile, *ROWS_OF_A_DAY)
    file, counts = ingest(profile, tmp_path)
    assert counts == {"rows": 4, "user_id is missing": 1}
    assert pd.read_parquet(file).user_id.tolist() == ["ann", "session:s2", "session:s2", "session:ann"]
    without = profile_of(tmp_path, {**VISITS, "session": None})
    land(without, *ROWS_OF_A_DAY)
    assert ingest(without, tmp_path)[1] == {"rows": 1, "user_id is missing": 4}


def test_numbers_get_ids_below_those_of_all_users(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, NUMBERS)
    least = [f"{LOWEST_USER},9,11:00:00,x", f"{LOWEST_USER - 1},9,11:00:00,x", f"{-(2**63)},9,11:00:00,x"]
    land(profile, "-7,1,10:00:00,s1", *(f",{n},10:01:00,s{n % 500}" for n in range(1000)), *least)
    file, counts = ingest(profile, tmp_path)
    assert counts == {"rows": 1002, "user_id is one of those that anonymous sessions get": 2}
    found = pd.read_parquet(file)
    users = found[found.user_id >= LOWEST_USER]
    assert users.user_id.tolist() == [-7, LOWEST_USER]
    sessions = found[found.user_id < LOWEST_USER]
    assert sessions.groupby("visit").user_id.nunique().max() == 1
    assert sessions.user_id.nunique() == 500
    rejected = pd.read_parquet(file.parent / REJECTED)
    assert rejected.user_id.tolist() == [str(LOWEST_USER - 1), str(-(2**63))]


def test_a_users_own_id_is_never_that_of_a_session(tmp_path: Path) -> None:
    """Neither in the log nor in the table of users, so it does not matter which lands first."""
    tables = {"interactions": LOG, "users": {"user_id": "string", "age": "int64"}}
    profile = profile_of(tmp_path, VISITS, tables=tables)
    put(profile, "users/u.csv", "user_id,age", "ann,3", f"{TEXT_PREFIX}s2,4", "s2,5")
    land(profile, "ann,1,10:00:00,s1", f"{TEXT_PREFIX}s2,2,10:01:00,s1", "bob,2,10:02:00,s1", ",2,10:03:00,s2")
    file, counts = ingest(profile, tmp_path)
    assert counts["rows"] == 2
    assert counts["user_id is one of those that anonymous sessions get"] == 1
    assert counts["user_id is unknown"] == 1, "bob; a session needs no row in the table of users"
    assert pd.read_parquet(file).user_id.tolist() == ["ann", "session:s2"]
    with connect(tmp_path) as connection:
        counts = ingest_entities(connection, profile, "users", DAYS[0], tmp_path)
    assert counts == {"rows": 2, "user_id is one of those that anonymous sessions get": 1}


def test_sessions_are_no_users_and_their_items_are_items(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, VISITS)
    land(profile, *ROWS_OF_A_DAY)
    file, _ = ingest(profile, tmp_path)
    found = {}
    for table, key in (("users", "user_id"), ("items", "item_id")):
        folder = tmp_path / table
        folder.mkdir()
        with connect(tmp_path) as connection:
            ingest_entities(connection, profile, table, DAYS[0], folder, [file])  # type: ignore[arg-type]
        found[table] = pd.read_parquet(folder / ROWS)[key].tolist()
    assert found == {"users": ["ann"], "items": [1, 2, 3, 5]}


def test_sessions_are_split_by_day_and_apart_from_users(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, VISITS, split={"strategy": "by_day"})
    files = []
    for number, day in enumerate(DAYS):
        land(profile, f"ann,{number},10:00:00,s1", f",{number + 10},10:00:00,s2", day=day)
        files.append(ingest(profile, tmp_path, day)[0])
    parts = ["train", "validation", "test"]
    assert split_of(profile, tmp_path, files, DAYS[2]) == [("ann", n, part) for n, part in enumerate(parts)]
    sessions = split_of(profile, tmp_path, files, DAYS[2], "anonymous")
    assert sessions == [("session:s2", n + 10, part) for n, part in enumerate(parts)]


def test_where_users_keep_rows_for_themselves_sessions_train(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, VISITS, split={"strategy": "leave_last_n", "validation_ratio": 0.4})
    land(profile, *(f"ann,{n},10:00:0{n},s1" for n in range(5)), ",1,11:00:00,s2", ",2,11:01:00,s2")
    file, _ = ingest(profile, tmp_path)
    assert [part for *_, part in split_of(profile, tmp_path, [file], DAYS[0])] == [*["train"] * 3, "validation", "test"]
    assert {part for *_, part in split_of(profile, tmp_path, [file], DAYS[0], "anonymous")} == {"train"}


MIDNIGHT = [  # user, item, day, time, session
    ("ann", 1, 0, "08:00:00", "a1"), ("ann", 2, 0, "09:00:00", "a1"),  # of one day
    ("ann", 3, 0, "23:40:00", "a2"), ("ann", 4, 0, "23:50:00", "a3"),  # a2 goes on for three days, a3 ends in between
    ("ann", 5, 1, "00:10:00", "a2"), ("ann", 6, 1, "00:20:00", ""),
    ("ann", 7, 2, "00:30:00", "a2"), ("ann", 8, 2, "10:00:00", ""),
    ("bob", 1, 0, "08:00:00", ""), ("bob", 2, 1, "08:00:00", "a1"), ("bob", 3, 1, "09:00:00", "a1"),
    ("", 1, 0, "23:59:00", "a2"), ("", 2, 1, "00:01:00", "a2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("whole", "ann", "session"),
    [(False, "rrrrvvee", "rv"), (True, "rreeeeee", "vv")],
)
def test_a_session_is_in_the_part_of_its_last_row(tmp_path: Path, whole: bool, ann: str, session: str) -> None:
    """Overlapping sessions of a user count as one; equal names of sessions of different users do not."""
    settings = {**VISITS, "session": {"column": "visit", "split": whole}}
    profile = profile_of(tmp_path, settings, split={"strategy": "by_day"})
    files = []
    for number, day in enumerate(DAYS):
        land(profile, *(f"{u},{i},{t},{v}" for u, i, n, t, v in MIDNIGHT if n == number), day=day)
        files.append(ingest(profile, tmp_path, day)[0])
    letters = {"train": "r", "validation": "v", "test": "e"}
    found = split_of(profile, tmp_path, files, DAYS[2])
    assert "".join(letters[part] for user, _, part in found if user == "ann") == ann
    assert "".join(letters[part] for user, _, part in found if user == "bob") == "rvv"
    assert [item for user, item, _ in found if user == "ann"] == list(range(1, 9))
    anonymous = split_of(profile, tmp_path, files, DAYS[2], "anonymous")
    assert "".join(letters[part] for *_, part in anonymous) == session


def test_a_whole_session_may_cross_the_cut_of_a_users_rows(tmp_path: Path) -> None:
    settings = {**VISITS, "session": {"column": "visit", "split": True}}
    rule = {"strategy": "leave_last_n", "test_last_n": 1, "validation_ratio": 0.3}
    profile = profile_of(tmp_path, settings, split=rule)
    land(profile, *(f"ann,{n},10:0{n}:00,s{n // 2}" for n in range(8)))
    file, _ = ingest(profile, tmp_path)
    parts = [part for *_, part in split_of(profile, tmp_path, [file], DAYS[0])]
    assert parts == [*["train"] * 4, *["validation"] * 2, *["test"] * 2]


def test_without_sessions_in_the_profile_nothing_changes(tmp_path: Path) -> None:
    rule = {"strategy": "leave_last_n", "validation_ratio": 0.4}
    profile = profile_of(tmp_path, {**VISITS, "session": None}, split=rule)
    land(profile, *(f"{TEXT_PREFIX}{n % 2},{n},10:0{n}:00,s" for n in range(8)))
    file, counts = ingest(profile, tmp_path)
    assert counts == {"rows": 8}
    with connect(tmp_path) as connection:
        split(connection, profile, [file], DAYS[0])
        tables = {name for (name,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        assert tables == {"splits"}
        assert connection.execute(f"SELECT count(*) FROM {scan([file])}").fetchall() == [(8,)]


REFUSED = [
    # what, the changed settings, message
    ("no column", {"session": {"column": "gone"}}, "session.column: 'gone' is not a column of tables.interactions"),
    ("a time", {"session": {"column": "timestamp"}}, "'timestamp' is not a column of .* type string or int64"),
    ("the user", {"session": {"column": "user_id"}}, "'user_id' is not a column of tables.interactions"),
    (
        "two rules",
        {
            "session": {"column": "visit", "split": True},
            "split": {"strategy": "given", "column": "visit", "values": {"train": [1], "validation": [2], "test": [3]}},
        },
        "session.split: and split.strategy given both say",
    ),
    (
        "rows alone",
        {"tables": {"interactions": {"visit": "string", "liked": "int64"}}, "label": "liked = 1"}
        | {"split": {"strategy": "by_day"}},
        "session: needs user_id, item_id and timestamp",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), [pytest.param(*rest, id=what) for what, *rest in REFUSED])
def test_a_profile_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ProfileError, match=says):
        profile_of(tmp_path, VISITS, **changes)
