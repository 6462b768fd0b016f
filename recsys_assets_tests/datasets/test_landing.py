"""Landing files: their permissions, when they count as changed, and which are refused."""

import datetime as dt
import os
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from recsys_assets.datasets import landing
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import fingerprint, land, landed_bizdates, landing_files, newest_change
from recsys_assets.datasets.profile import Profile, load_profile

TODAY = dt.date(2026, 1, 11)


@pytest.fixture
def sample(tmp_path: Path) -> Profile:
    return load_profile("sample").model_copy(update={"landing": tmp_path / "landing"})


@pytest.fixture
def own(sample: Profile) -> Profile:
    return sample.model_copy(update={"source": None, "name": "own"})


def put(profile: Profile, *names: str) -> None:
    for name in names:
        path = profile.landing / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def test_files_are_listed_by_name_without_hidden_and_unfinished_ones(own: Profile) -> None:
    names = ["b.parquet", "a.csv", ".a.csv", "_c.csv", "d.csv.tmp", "e.parquet.part", "f.csv.crdownload", "README.md"]
    put(own, *(f"interactions/bizdate=2026-01-02/{name}" for name in names))
    assert [path.name for path in landing_files(own, "interactions", "2026-01-02")] == ["a.csv", "b.parquet"]
    assert landing_files(own, "interactions", "2026-01-03") == []


def test_undated_files_are_apart_from_dated_ones(own: Profile) -> None:
    put(own, "users/all.csv", "users/bizdate=2026-01-02/new.csv")
    assert [path.name for path in landing_files(own, "users")] == ["all.csv"]
    assert [path.name for path in landing_files(own, "users", "2026-01-02")] == ["new.csv"]
    assert landed_bizdates(own, "users") == ["2026-01-02"]


def test_landed_days_have_a_file_and_lie_in_the_profiles_range(own: Profile) -> None:
    put(own, *(f"interactions/bizdate={day}/a.csv" for day in ("2026-01-03", "2026-01-01", "2025-12-31")))
    put(own, "interactions/bizdate=2026-01-02/.a.csv.tmp", "interactions/notes/a.csv")
    assert landed_bizdates(own) == ["2026-01-01", "2026-01-03"]
    assert landed_bizdates(own.model_copy(update={"last_bizdate": dt.date(2026, 1, 2)})) == ["2026-01-01"]


@pytest.mark.parametrize("name", ["bizdate=2026-13-01", "bizdate=20260105", "bizdate=yesterday"])
def test_a_folder_that_names_no_day_is_an_error(own: Profile, name: str) -> None:
    put(own, f"interactions/{name}/a.csv")
    with pytest.raises(LandingError, match=f"{name} is not named after a day"):
        landed_bizdates(own)


def test_the_fingerprint_changes_with_the_days_files_only(own: Profile) -> None:
    put(own, "interactions/bizdate=2026-01-02/a.csv", "interactions/bizdate=2026-01-03/a.csv")
    before = fingerprint(own, "2026-01-02")
    put(own, "interactions/bizdate=2026-01-03/b.csv", "interactions/bizdate=2026-01-02/.b.csv.tmp")
    assert fingerprint(own, "2026-01-02") == before
    put(own, "users/bizdate=2026-01-02/a.csv")
    with_users = fingerprint(own, "2026-01-02")
    file = own.landing / "interactions/bizdate=2026-01-02/a.csv"
    os.utime(file, (5, 7))
    assert fingerprint(own, "2026-01-02") == with_users  # the content decides, not the time
    file.write_text("other content")
    assert len({before, with_users, fingerprint(own, "2026-01-02")}) == 3


def test_the_newest_change_is_that_of_the_latest_file_even_if_its_content_is_old(own: Profile) -> None:
    put(own, "interactions/bizdate=2026-01-02/a.csv", "items/old.csv")
    before = newest_change(own, "2026-01-02")
    os.utime(own.landing / "items/old.csv", (50, 50))
    time.sleep(0.02)  # file times are as coarse as the kernel's clock, 1 to 10 ms
    (own.landing / "items/bizdate=2026-01-02").mkdir()
    (own.landing / "items/old.csv").rename(own.landing / "items/bizdate=2026-01-02/b.csv")
    assert before < newest_change(own, "2026-01-02") <= time.time()
    assert newest_change(own, "2026-01-03") == 0


def test_a_profile_without_a_source_says_where_files_go(own: Profile) -> None:
    says = r"so you bring its files: give --source, or put them under .*bizdate=YYYY-MM-DD"
    with pytest.raises(LandingError, match=says):
        land(own)


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2026-01-05", "2026-01-04", "--from 2026-01-05 is after --to 2026-01-04"),
        ("2025-12-31", "2026-01-04", "--from 2025-12-31: the bizdates of 'sample' are 2026-01-01"),
        ("2026-01-05", "2026-01-09", "--to 2026-01-09: the bizdates of .* to 2026-01-08: give one of them"),
    ],
)
def test_days_out_of_range_are_refused(sample: Profile, first: str, last: str, message: str) -> None:
    ending = sample.model_copy(update={"last_bizdate": dt.date(2026, 1, 8)})
    with pytest.raises(LandingError, match=message):
        land(ending, first=dt.date.fromisoformat(first), last=dt.date.fromisoformat(last), today=TODAY)
    assert not sample.landing.exists()


def test_options_of_another_source_are_refused(sample: Profile, tmp_path: Path) -> None:
    with pytest.raises(LandingError, match="takes no source"):
        land(sample, source=tmp_path, today=TODAY)
    with pytest.raises(LandingError, match="takes no events"):
        land(sample.model_copy(update={"source": "movielens"}), source=tmp_path, events=1000)


def test_a_day_that_is_landed_again_without_change_keeps_its_files(sample: Profile) -> None:
    first = land(sample, today=TODAY, days=3)
    assert first.bizdates == first.changed == ["2026-01-08", "2026-01-09", "2026-01-10"]
    before = {day: fingerprint(sample, day) for day in first.bizdates}
    file = landing_files(sample, "interactions", "2026-01-09")[0]
    file.write_bytes(b"spoiled")
    again = land(sample, today=TODAY)
    assert again.changed == ["2026-01-09"]
    assert again.rows == first.rows == pq.read_table(sample.landing / "interactions").num_rows
    assert {day: fingerprint(sample, day) for day in first.bizdates} == before


def test_columns_land_under_the_profiles_names(sample: Profile) -> None:
    tables = {**sample.tables, "users": dict(sample.tables["users"])}
    del tables["users"]["zip"]
    tables["users"]["gender"] = tables["users"]["gender"].model_copy(update={"column": "sex"})
    renamed = sample.model_copy(update={"tables": tables})
    land(renamed, today=TODAY, days=1)
    file = landing_files(renamed, "users", "2026-01-10")[0]
    assert pq.read_schema(file).names == ["user_id", "sex", "age", "occupation"]


def test_a_column_that_the_source_does_not_have_is_an_error_and_lands_nothing(sample: Profile) -> None:
    tables = {**sample.tables, "interactions": dict(sample.tables["interactions"])}
    tables["interactions"]["price"] = tables["interactions"]["rating"]
    with pytest.raises(LandingError, match="no column price for tables.interactions"):
        land(sample.model_copy(update={"tables": tables}), today=TODAY, days=1)
    assert landed_bizdates(sample) == landed_bizdates(sample, "users") == []


def test_only_one_process_lands_at_a_time(sample: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "LOCK_TIMEOUT", 0.1)
    sample.landing.mkdir()
    with FileLock(sample.landing / ".lock"), pytest.raises(LandingError, match="another process is landing"):
        land(sample, today=TODAY, days=1)


def test_users_and_items_of_before_the_first_bizdate_are_known(tmp_path: Path) -> None:
    profile = load_profile("sample").model_copy(update={"landing": tmp_path})
    for table in ("interactions", "users"):
        for day in ("2025-12-31", "2026-01-01"):
            (tmp_path / table / f"bizdate={day}").mkdir(parents=True)
            (tmp_path / table / f"bizdate={day}" / "a.csv").touch()
    assert landed_bizdates(profile) == ["2026-01-01"]
    assert landed_bizdates(profile, "users") == ["2025-12-31", "2026-01-01"]
