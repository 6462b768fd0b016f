"""Impressions: their labels and parts, which of them wait for their window, and profiles that contradict themselves."""

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.impressions import label_impressions
from recsys_assets.datasets.ingest import REJECTED, ROWS, SHOWN, ingest_events, load_known_ids
from recsys_assets.datasets.profile import Profile, ProfileError
from recsys_assets.datasets.profile_parts import Impressions
from recsys_assets.datasets.rehearsal import rehearse
from recsys_assets.datasets.splits import split
from recsys_assets_tests.datasets.test_log_entities import DAYS, own, put

LOG = {"user_id": "string", "item_id": "int64", "timestamp": "timestamp", "request_id": "string"}
SEEN = {**LOG, "position": "int64"}
SHOP: dict[str, Any] = {
    "tables": {"interactions": LOG, "impressions": SEEN},
    "label": True,
    "impressions": {"match": "window", "window": "30min"},
    "split": {"strategy": "by_day"},
}


def land(profile: Profile, table: str, *lines: str) -> None:
    """Land rows of user, item, day (0 to 2), time and the other columns, in the folders of their days."""
    header = ",".join(profile.tables[table])  # type: ignore[index]
    for number, day in enumerate(DAYS):
        rows = [line.split(",") for line in lines]
        mine = [[u, i, f"{day} {t}", *more] for u, i, n, t, *more in rows if int(n) == number]
        put(profile, f"{table}/bizdate={day}/e.csv", header, *(",".join(each) for each in mine))


def shown_of(profile: Profile, home: Path, day: str = DAYS[-1]) -> list[dict[str, Any]]:
    """The labelled impressions of a day, from the landed files."""
    files: dict[str, list[Path]] = {"interactions": [], "impressions": []}
    for each in [each for each in DAYS if each <= day]:
        folder = home / "events" / each
        folder.mkdir(parents=True, exist_ok=True)
        with connect(folder) as connection:
            load_known_ids(connection, profile, DAYS[-1])
            for table, prefix in (("interactions", ""), ("impressions", SHOWN)):
                ingest_events(connection, profile, each, folder, table)  # type: ignore[arg-type]
                files[table].append(folder / f"{prefix}{ROWS}")
    assert profile.impressions
    with connect(home) as connection:
        split(connection, profile, files["interactions"], day)
        events, impressions = files.values()
        label_impressions(connection, profile, profile.impressions, events, impressions, day)
        return connection.execute("FROM shown").df().to_dict("records")  # type: ignore[return-value]


EVENTS = [
    "ann,1,0,10:10:00,r1",  # answers the newest impression of item 1
    "ann,2,0,11:00:00,r1",  # 60 minutes after its impression: too late
    "ann,3,1,00:10:00,r2",  # on the day after its impression
    "bob,1,1,10:00:00,",
    "bob,2,2,10:00:00,r9",  # of another request
]
IMPRESSIONS = [
    "ann,1,0,10:00:00,r1,1", "ann,2,0,10:00:00,r1,2", "ann,4,0,10:00:00,r1,3",
    "ann,1,0,10:05:00,r5,1", "ann,3,0,23:50:00,r2,", "bob,1,1,09:00:00,r3,1",
    "bob,2,2,09:55:00,r4,1", "bob,4,2,23:40:00,r6,1",
]  # fmt: skip


def labels(rows: list[dict[str, Any]]) -> dict[tuple[str, int, str], int]:
    return {(row["user_id"], row["item_id"], f"{row['timestamp']:%d %H:%M}"): row["label"] for row in rows}


def test_an_event_answers_the_newest_impression_of_its_item_within_the_window(tmp_path: Path) -> None:
    profile = own(tmp_path, **SHOP)
    land(profile, "interactions", *EVENTS)
    land(profile, "impressions", *IMPRESSIONS)
    assert labels(shown_of(profile, tmp_path)) == {
        ("ann", 1, "05 10:00"): 0, ("ann", 1, "05 10:05"): 1, ("ann", 2, "05 10:00"): 0, ("ann", 4, "05 10:00"): 0,
        ("ann", 3, "05 23:50"): 1, ("bob", 1, "06 09:00"): 0, ("bob", 2, "07 09:55"): 1,
    }  # fmt: skip


def test_with_requests_an_event_answers_the_impression_of_its_request(tmp_path: Path) -> None:
    profile = own(tmp_path, **{**SHOP, "impressions": {"match": "request", "window": "2h"}})
    land(profile, "interactions", *EVENTS)
    land(profile, "impressions", *IMPRESSIONS)
    assert labels(shown_of(profile, tmp_path)) == {
        ("ann", 1, "05 10:00"): 1, ("ann", 1, "05 10:05"): 0, ("ann", 2, "05 10:00"): 1, ("ann", 4, "05 10:00"): 0,
        ("ann", 3, "05 23:50"): 1, ("bob", 1, "06 09:00"): 0, ("bob", 2, "07 09:55"): 0,
    }  # fmt: skip


def test_an_impression_waits_until_its_window_has_passed(tmp_path: Path) -> None:
    """Nothing after the day is known on it: whether ann answers after midnight cannot be said yet."""
    rule = {"strategy": "leave_last_n", "validation_ratio": 0.6}
    profile = own(tmp_path, **{**SHOP, "split": rule})
    cat = [f"cat,{n},0,0{n}:00:00," for n in range(5)]
    land(profile, "interactions", *EVENTS, *cat)
    land(profile, "impressions", *IMPRESSIONS)
    assert ("ann", 3, "05 23:50") not in labels(shown_of(profile, tmp_path, DAYS[0]))
    before = shown_of(profile, tmp_path, DAYS[1])
    put(profile, f"interactions/bizdate={DAYS[2]}/more.csv", ",".join(LOG), f"ann,4,{DAYS[2]} 00:00:00,")
    put(profile, f"impressions/bizdate={DAYS[2]}/more.csv", ",".join(SEEN), f"ann,9,{DAYS[2]} 00:00:00,,1")
    assert str(shown_of(profile, tmp_path, DAYS[1])) == str(before)
    assert labels(before)["ann", 3, "05 23:50"] == 1


def test_no_part_knows_a_label_of_a_later_one(tmp_path: Path) -> None:
    """By day: that of the window's end. By the user's rows: that of the last event by the window's end."""
    by_day = own(tmp_path, **SHOP)
    land(by_day, "interactions", *EVENTS)
    land(by_day, "impressions", *IMPRESSIONS)
    parts = {(row["user_id"], row["item_id"]): row["part"] for row in shown_of(by_day, tmp_path)}
    assert parts["ann", 4] == "train"
    assert parts["ann", 3] == "validation", "its answer may come after midnight"
    assert parts["bob", 2] == "test"
    rule = {"strategy": "leave_last_n", "online_last_n": 1, "validation_ratio": 0.5}
    by_user = own(tmp_path, **{**SHOP, "split": rule})
    days = [f"ann,{n},0,1{n}:00:00," for n in range(6)]
    land(by_user, "interactions", *days)
    shown = [f"ann,{n},0,{9 + n:02}:50:00,,1" for n in range(6)]
    land(
        by_user,
        "impressions",
        *shown,
        "ann,9,0,08:00:00,,1",
        "ann,9,0,14:10:00,,1",
        "ann,9,0,15:10:00,,1",
        "zoe,1,0,10:00:00,,1",
    )
    found = sorted(shown_of(by_user, tmp_path), key=lambda row: (row["user_id"], row["timestamp"]))
    assert [row["part"] for row in found] == [
        "train", "train", "train", "validation", "validation", "test", "test", "online", "online", "train",
    ]  # fmt: skip
    assert [row["label"] for row in found] == [0, 1, 1, 1, 1, 1, 0, 1, 0, 0]


def test_events_strictly_before_the_moment_are_counted(tmp_path: Path) -> None:
    profile = own(tmp_path, **SHOP)
    land(profile, "interactions", *EVENTS, "ann,4,0,10:00:00,", "cat,1,0,10:04:59,")
    land(profile, "impressions", *IMPRESSIONS)
    rows = {(row["user_id"], row["item_id"], f"{row['timestamp']:%H:%M}"): row for row in shown_of(profile, tmp_path)}
    first, second, last = rows["ann", 1, "10:00"], rows["ann", 1, "10:05"], rows["bob", 2, "09:55"]
    assert [(row["user_events"], row["item_events"]) for row in (first, second, last)] == [(0, 0), (1, 1), (1, 1)]
    assert [row["base_rate"] for row in (first, second)] == [1 / 2, 3 / 4]
    assert first["shown_position"] == 1
    assert pd.isna(rows["ann", 3, "23:50"]["shown_position"])


def test_bad_impressions_are_rejected_with_the_reason_and_a_missing_day_is_named(tmp_path: Path) -> None:
    profile = own(tmp_path, **SHOP)
    land(profile, "interactions", *EVENTS)
    land(
        profile,
        "impressions",
        "ann,1,0,10:00:00,r1,1",
        "ann,1,0,10:00:00,r1,2",
        ",1,0,10:00:00,r1,2",
        "ann,x,0,10:00:00,r1,1",
    )
    folder = tmp_path / "one"
    folder.mkdir()
    with connect(folder) as connection:
        load_known_ids(connection, profile, DAYS[0])
        counts = ingest_events(connection, profile, DAYS[0], folder, "impressions")
        assert counts == {
            "rows": 1, "item_id is not of type int64": 1, "repeats user, item and time": 1, "user_id is missing": 1,
        }  # fmt: skip
        assert len(pd.read_parquet(folder / f"{SHOWN}{REJECTED}")) == 3
        (profile.landing / f"impressions/bizdate={DAYS[1]}/e.csv").unlink()
        with pytest.raises(FileNotFoundError, match="put its impressions under .*impressions/bizdate=2026-01-06"):
            ingest_events(connection, profile, DAYS[1], folder, "impressions")


NO_REQUEST = {name: kind for name, kind in LOG.items() if name != "request_id"}
REFUSED = [
    # what, the tables, other changed settings, message
    ("no key", [LOG, SEEN], {"impressions": None}, "tables.impressions: needs the key `impressions`"),
    ("no table", [LOG], {}, "impressions: needs tables.impressions"),
    ("other draws", [LOG, SEEN], {"negatives": {"rate": 4}}, "negatives.draw: with impressions, the negatives are"),
    ("no such draw", [LOG], {"impressions": None, "negatives": {"draw": "impressions"}}, "impressions needs the key"),
    ("no request", [NO_REQUEST, SEEN], {"impressions": {"match": "request"}}, "request_id: must be int64, or string"),
    ("other ids", [LOG, {**SEEN, "user_id": "int64"}], {}, "user_id: must be int64, or string, in both"),
    ("a position of text", [LOG, {**SEEN, "position": "string"}], {}, "position: is string, not int64"),
    ("a window without unit", [LOG, SEEN], {"impressions": {"window": "30"}}, "window: String should match pattern"),
    ("a key is missing", [LOG, {"user_id": "string"}], {}, "tables.impressions: lacks item_id, timestamp"),
    ("a given part", [LOG, SEEN], {"split": {"strategy": "given", "column": "request_id"}}, "their part follows from"),
]  # fmt: skip


@pytest.mark.parametrize(("tables", "changes", "says"), [pytest.param(*rest, id=what) for what, *rest in REFUSED])
def test_a_profile_that_contradicts_itself_is_refused(
    tmp_path: Path, tables: list[dict[str, str]], changes: dict[str, Any], says: str
) -> None:
    landed = dict(zip(("interactions", "impressions"), tables, strict=False))
    with pytest.raises(ProfileError, match=says):
        own(tmp_path, **{**SHOP, "tables": landed, **changes})


def test_the_rehearsal_reads_impressions_too(tmp_path: Path) -> None:
    profile = own(tmp_path, **SHOP)
    land(profile, "interactions", *EVENTS)
    land(profile, "impressions", *IMPRESSIONS, ",1,2,10:00:00,r1,2")
    found = list(rehearse(profile))
    said = "\n".join(each.text for each in found)
    assert not [each for each in found if each.is_fault]
    assert "1 rows would be rejected: user_id is missing, of impressions" in said
    assert "ranking models learn from impressions; negatives are shown items that were not touched within 30min" in said
    assert "declined" not in said
    (profile.landing / f"impressions/bizdate={DAYS[2]}/e.csv").unlink()
    assert any("put its impressions under" in each.text for each in rehearse(profile) if each.is_fault)


def test_windows_have_units() -> None:
    assert [Impressions(window=each).seconds for each in ("90s", "30min", "2h")] == [90, 1800, 7200]
    assert dt.timedelta(seconds=Impressions().seconds) == dt.timedelta(minutes=30)
