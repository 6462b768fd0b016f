"""The landing of told events: when they are due, in which form, and what happens if it is interrupted."""

import datetime as dt
import shutil
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import land, lock
from recsys_assets.datasets.profile import Profile
from recsys_assets.serving import told_landing
from recsys_assets.serving.told import ToldEvents
from recsys_assets.serving.told_landing import LONGEST_WAIT
from recsys_assets.serving.told_writer import Refused
from recsys_assets_tests.datasets.test_impressions import SHOP
from recsys_assets_tests.datasets.test_log_entities import DAYS, own
from recsys_assets_tests.datasets.test_sessions import VISITS
from recsys_assets_tests.helpers.told_events import Event, ingested, telling

LOG = {"user_id": "string", "item_id": "int64", "timestamp": "timestamp"}
AT: Event = {"user_id": "ann", "item_id": 7, "timestamp": f"{DAYS[0]}T10:00:00Z"}
WEIGHTS = {"events": {"column": "what", "weights": {"view": 1, "order": 5}, "recall": ["order"]}}


def profile_of(home: Path, **settings: Any) -> Profile:
    """A profile of a log alone, of which nothing has landed."""
    profile = own(home, **settings)
    shutil.rmtree(profile.landing)
    return profile


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path / "lake"))


@pytest.mark.parametrize(
    ("settings", "events", "impressions", "told"),
    [
        (
            {"tables": {"interactions": {**LOG, "what": "string"}}, "label": True, **WEIGHTS},
            [{**AT, "what": "view"}, {**AT, "what": "order"}],
            [],
            ToldEvents([7, 7], [0, 1], [1.0, 5.0]),
        ),
        (SHOP, [{**AT, "request_id": "r"}], [{**AT, "request_id": "r", "position": 3}], ToldEvents([7], [1], [1.0])),
        (VISITS, [{**AT, "visit": "s1"}, {**AT, "user_id": "", "visit": "s1"}], [], ToldEvents([7], [1], [1.0])),
        (
            {
                "tables": {"interactions": {**LOG, "tags": {"type": "strings", "column": "Tags"}, "price": "float32"}},
                "label": "price > 1.5",
                "files": {"decimal": ",", "date_format": "%d.%m.%Y %H:%M:%S", "timezone": "Asia/Tokyo"},
            },
            [{**AT, "timestamp": "05.01.2026 08:30:00", "Tags": ["a|b", "c"], "price": "2,5"}],
            [],
            ToldEvents([7], [1], [1.0]),
        ),
    ],
    ids=["kinds", "impressions", "sessions", "form"],
)
def test_rows_of_every_sort_of_profile_are_ingested_as_they_were_told(
    tmp_path: Path, settings: dict[str, Any], events: list[Event], impressions: list[Event], told: ToldEvents
) -> None:
    profile = profile_of(tmp_path, **settings)
    with telling(profile) as tell:
        answer = tell(*events, impressions=impressions)
        assert tell.told.of("ann", "2026-01-04") == told
        files = tell.land()
    assert {file.parts[-3] for file in files} == set(profile.tables)
    rows, counts = ingested(profile, tmp_path, DAYS[0])
    assert [count for table in counts.values() for count in table] == ["rows"] * len(rows)
    kept = [each for table in rows.values() for each in table]
    assert [each["user_id"] for each in kept] == [each.user_id for each in answer.events]
    assert [each["item_id"] for each in kept] == [7] * len(events + impressions)
    if "files" in settings:
        assert (kept[0]["tags"], kept[0]["price"]) == (["a|b", "c"], 2.5)
        assert kept[0]["timestamp"] == dt.datetime(2026, 1, 4, 23, 30)  # noqa: DTZ001  # the lake's times are UTC
    if "session" in settings:
        assert kept[1]["user_id"] == "session:s1"


def test_events_that_no_part_of_a_given_split_takes_are_refused(tmp_path: Path) -> None:
    log = {"interactions": {**LOG, "set": "string"}}
    files = {"strategy": "given", "parts": {"train": "a", "validation": "b", "test": "c"}}
    for split, said in ((files, "are files"), ({"strategy": "given", "column": "set"}, "set names no part")):
        profile = profile_of(tmp_path, tables=log, label=True, split=split)
        with telling(profile) as tell, pytest.raises(Refused, match=said):
            tell({**AT, "set": "other"})


def at(day: str, time: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"{day}T{time}+00:00")


def test_events_land_soon_after_the_end_of_their_day_and_late_ones_in_a_further_file(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, tables={"interactions": LOG}, label=True, files={"timezone": "Asia/Tokyo"})
    end = profile.files.end_of(DAYS[0])
    assert end == at(DAYS[0], "15:00:00")
    minute = dt.timedelta(minutes=1)
    with telling(profile) as tell:
        with mock.patch("time.time", return_value=end.timestamp() - 30):
            tell(AT)
        assert tell.land(end - minute / 10) == tell.land(end) == []
        (first,) = tell.land(end + minute / 20)
        with mock.patch("time.time", return_value=end.timestamp() + 60):
            tell({**AT, "item_id": 8})  # of the day that has ended
        assert tell.land(end + 5 * minute) == [first]
        assert len(tell.land(end + minute + dt.timedelta(seconds=LONGEST_WAIT))) == 2
        with mock.patch.object(told_landing, "MOST_ROWS", 2):
            tell(*({**AT, "item_id": item} for item in range(20, 25)))
            assert len(tell.land(dt.datetime.now(dt.UTC))) == 4  # two files of two rows; the last one waits
            assert len(tell.land()) == 5
    rows, counts = ingested(profile, tmp_path, DAYS[0])
    assert [each["item_id"] for each in rows["interactions"]] == [7, 8, 20, 21, 22, 23, 24]
    assert counts["interactions"] == {"rows": 7}


def test_a_landing_that_was_interrupted_at_any_step_is_repaired_with_the_same_files(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, tables={"interactions": LOG}, label=True)
    steps = ("_write", "_mark")
    with telling(profile) as tell:
        for number, step in enumerate(steps):
            tell({**AT, "item_id": number}, {**AT, "item_id": number + 10, "timestamp": f"{DAYS[1]}T00:00:00Z"})
            crash = mock.patch.object(told_landing.Landing, step, side_effect=KeyboardInterrupt)
            with crash, pytest.raises(KeyboardInterrupt):
                tell.land()
            before = {file: file.read_bytes() for file in profile.landing.rglob("told-*")}
            after = tell.land()
            assert before.items() <= {file: file.read_bytes() for file in after}.items()
            assert len(after) == 2 * (number + 1)
    assert sorted(item for file in after for item in pq.read_table(file)["item_id"].to_pylist()) == [
        "0",
        "1",
        "10",
        "11",
    ]


def test_told_events_and_other_landings_leave_each_other_alone(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, tables={"interactions": LOG}, label=True)
    log = tmp_path / "log.csv"
    log.write_text(f"user_id,item_id,timestamp\nbob,1,{DAYS[0]} 09:00:00\n")
    with telling(profile) as tell:
        tell(AT)
        with lock(profile.landing), pytest.raises(LandingError, match="another process is landing files"):
            tell.land()
        files = tell.land()
        for _ in range(2):
            land(profile, str(log))
        assert tell.land() == files
    rows, counts = ingested(profile, tmp_path, DAYS[0])
    assert [each["user_id"] for each in rows["interactions"]] == ["bob", "ann"]
    assert counts["interactions"] == {"rows": 2}


def test_events_that_were_told_long_ago_are_forgotten_once_they_have_landed(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, tables={"interactions": LOG}, label=True)
    with telling(profile) as tell:
        with mock.patch("time.time", return_value=time.time() - 31 * 86_400):
            tell(AT)
        tell({**AT, "item_id": 8})
        files = tell.land()
        assert len(files) == 1
        assert tell.land(dt.datetime.now(dt.UTC)) == files
        assert tell.told.of("ann", "2026-01-04").items == [8]
