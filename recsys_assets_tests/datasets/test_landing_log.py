# ruff: noqa: E501 (each table has one case per line)
"""`recsys land --source`: one big log becomes files by day, all or nothing, with the raw values of the source."""

import datetime as dt
import gzip
import json
import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets import landing_log
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.landing import LandingReport, land, landed_bizdates, landing_files
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.text_files import LandedFileError
from recsys_assets.lake import Lake
from recsys_assets_tests.datasets.test_files import with_files
from recsys_assets_tests.helpers.shop import DAY, HEADER, T, bytes_in, ingest, lake, put, rows, shop

__all__ = ["lake", "shop"]  # fixtures

FROM = f"interactions/bizdate={DAY}"
EVENTS = [(1 + n % 3, 10 + n % 4, f"{1 + n % 5}.50", T + 40_000 * n) for n in range(12)]  # over six days
DAYS = sorted({str(dt.datetime.fromtimestamp(row[3], dt.UTC).date()) for row in EVENTS})
TEXT = "\n".join([HEADER, *(",".join(map(str, row)) for row in EVENTS)]) + "\n"


def put_log(folder: Path, content: str | bytes = TEXT, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def landed_values(profile: Profile) -> list[tuple[Any, ...]]:
    files = [file for day in landed_bizdates(profile) for file in landing_files(profile, "interactions", day)]
    return [tuple(row.values()) for file in files for row in pq.read_table(file).to_pylist()]


def as_frame() -> pd.DataFrame:
    return pd.DataFrame(EVENTS, columns=HEADER.split(",")).astype({"rating": float})


def write_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE log (user_id, item_id, rating REAL, at INTEGER)")
        connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", EVENTS)
    connection.close()


@pytest.mark.parametrize(
    ("files", "name", "content"),
    [
        ({}, "log.csv", TEXT),
        ({}, "log", TEXT.replace("\n", "\r\n")),
        ({}, "log.csv.gz", gzip.compress(TEXT.encode("utf-8-sig"))),
        ({}, "log.tsv", TEXT.partition("\n")[2].replace(",", "\t")),
        ({"separator": ";", "encoding": "utf-16", "decimal": ","}, "log.csv", TEXT.replace(",", ";").replace(".50", ",50").encode("utf-16")),
        ({}, "log.jsonl", "\n".join(json.dumps(dict(zip(HEADER.split(","), row, strict=True))) for row in EVENTS)),
    ],
)  # fmt: skip
def test_a_log_of_each_form_becomes_days_with_its_raw_values(
    shop: Profile, lake: Lake, tmp_path: Path, files: dict[str, Any], name: str, content: str | bytes
) -> None:
    others = {table: {"separator": ",", "encoding": "utf-8"} for table in ("users", "items")}
    own = with_files(shop, **others | files) if files else shop
    report = land(own, put_log(tmp_path, content, name))
    assert report.bizdates == report.changed == landed_bizdates(own) == DAYS
    assert (report.rows, report.rejected) == (12, {})
    decimal = "," if files else "."
    expected = [(str(u), str(i), rating.replace(".", decimal), str(t)) for u, i, rating, t in EVENTS]
    assert landed_values(own) == expected
    assert ingest(lake, own) == {"rows": 3}
    assert rows(lake).rating.tolist() == [1.5, 2.5, 3.5]


def test_a_parquet_log_and_a_database_land_as_well(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    as_frame().to_parquet(tmp_path / "log.parquet", row_group_size=5)
    assert land(shop, tmp_path / "log.parquet").bizdates == DAYS
    assert landed_values(shop) == [(u, i, float(r), t) for u, i, r, t in EVENTS]
    write_database(tmp_path / "log.db")
    query = "SELECT user_id, item_id, rating, at AS timestamp FROM log WHERE user_id > 1 -- not the first;"
    report = land(shop, f"sqlite:///{tmp_path}/log.db", query=query)
    assert report.rows == 8
    assert landed_values(shop) == [(str(u), str(i), str(float(r)), str(t)) for u, i, r, t in EVENTS if u > 1]
    assert ingest(lake, shop) == {"rows": 2}


def test_rows_without_a_day_are_rejected_with_the_reason(shop: Profile, tmp_path: Path) -> None:
    bad = [
        "1,10,4",
        "1,10,4,",
        "1,10,4,soon",
        f"1,10,4,{T - 10**8}",
        "1,10,4,4102444800",
        "1,\xff,4,1",
        "x,10,4,1767571200",
    ]
    report = land(shop, put_log(tmp_path, (TEXT + "\n".join(bad)).encode("latin-1")))
    today = dt.datetime.now(dt.UTC).date()
    assert report.rejected == {
        f"the day is not within 2026-01-01 to {today}": 2,
        "the line has 3 fields, not 4": 1,
        "the line is not UTF-8 text": 1,
        "timestamp is missing": 1,
        "timestamp is not of type timestamp": 1,
    }
    assert report.rejected_file is not None
    found = pd.read_parquet(report.rejected_file)
    assert found.row.tolist() == list(range(13, 19))
    assert found.user_id.tolist() == ["1,10,4", "1", "1", "1", "1", "1\t\ufffe\t4\t1"]
    assert found.timestamp.tolist() == [None, "", "soon", str(T - 10**8), "4102444800", None]
    assert ("x", "10", "4", "1767571200") in landed_values(shop)  # ingest rejects it
    land(shop, put_log(tmp_path))
    assert not report.rejected_file.exists()


@pytest.mark.parametrize(
    ("files", "name", "content", "says"),
    [
        ({}, "log.csv", "", "log.csv cannot be read .*[Ee]mpty"),
        ({}, "log.csv", HEADER + "\n", "log.csv has no rows"),
        ({}, "log.csv", TEXT.replace(",", ";"), "lacks the column 'user_id'; it has user_id;item_id.*if ';' separates"),
        ({}, "log.csv", TEXT.replace(f",{T}", f",{T}000").replace("000\n", "\n").replace("\n", "000\n").replace("timestamp000", "timestamp"), "looks like milliseconds since 1970.*time_unit: ms"),
        ({"date_format": "%d.%m.%Y"}, "log.csv", TEXT, "no row of 12 can be landed: row 1: timestamp is not of type timestamp .'1767571200'"),
        ({"header": False}, "log.csv", TEXT.replace(",", "\t"), "no row of 13 can be landed: row 1: the line has 1 fields, not 4"),
        ({}, "log.csv", HEADER + '\n1,"10,4,1767571200\n' + "1,10,4,1767571200\n" * 10**6, "row 1 runs over several lines: close its quotation mark"),
        ({"encoding": "ascii"}, "log.jsonl", "{}", "no row of 1 can be landed|no line has a value of the key 'user_id'"),
    ],
)  # fmt: skip
def test_a_log_that_cannot_be_used_is_named_and_leaves_the_landing_as_it_was(
    shop: Profile, tmp_path: Path, files: dict[str, Any], name: str, content: str, says: str
) -> None:
    land(shop, put_log(tmp_path))
    before = bytes_in(shop.landing)
    with pytest.raises((LandingError, LandedFileError), match=says):
        land(with_files(shop, **files), put_log(tmp_path, content, name))
    assert bytes_in(shop.landing) == before


def test_landing_a_source_again_replaces_its_rows_and_nothing_else(shop: Profile, tmp_path: Path) -> None:
    mine = put(shop, f"{FROM}/mine.csv", HEADER + "\n1,10,4,1767571300\n")
    put(shop, f"{FROM}/.writing.csv.tmp", "x")
    (shop.landing / FROM / "link.csv").symlink_to(mine)
    land(shop, put_log(tmp_path))
    first = bytes_in(shop.landing)
    assert land(shop, put_log(tmp_path)).changed == []
    assert bytes_in(shop.landing) == first
    assert (shop.landing / FROM / "link.csv").is_symlink()
    land(shop, put_log(tmp_path, TEXT, "more.csv"))
    assert [file.name for file in landing_files(shop, "interactions", DAY)] == [
        "from-log-0000.parquet",
        "from-more-0000.parquet",
        "link.csv",
        "mine.csv",
    ]
    shorter = TEXT.splitlines()[:9]
    report = land(shop, put_log(tmp_path, "\n".join(shorter), "more.csv"))
    assert report.changed == DAYS[3:]
    assert [file.name for file in landing_files(shop, "interactions", DAYS[-1])] == ["from-log-0000.parquet"]
    assert mine.read_text().endswith("1767571300\n")


def test_users_and_items_come_along(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    users = put_log(tmp_path, "user_id,gender,age\n7,F,30\n", "u.csv")
    items = put_log(tmp_path, gzip.compress(b"item_id,title,genres\n77,T,a|b\n"), "i.v2.csv.gz")
    files: dict[TableName, Path | None] = {"users": users, "items": items}
    land(shop, put_log(tmp_path), files=files)
    land(shop, put_log(tmp_path), files=files)
    assert sorted(path.name for path in landing_files(shop, "users")) == ["from-u.csv", "users.csv"]
    ingest(lake, shop, "users")
    assert rows(lake, "users").user_id.tolist() == [1, 2, 3, 7]
    with pytest.raises(LandedFileError, match="lacks the column 'user_id'"):
        land(shop, put_log(tmp_path), files={"users": items})


@pytest.mark.parametrize(
    ("source", "query", "says"),
    [
        ("s3://bucket/log.csv", None, "give a file of this machine"),
        ("none.csv", None, "none.csv is not a file"),
        ("sqlite:///none.db", "SELECT 1", "an absolute path begins with a fourth slash"),
        ("sqlite:///{}/log.db", None, "log.db needs --query: the SELECT that gives the log"),
        ("{}/log.csv", "SELECT 1", "--query is for databases and .*log.csv is neither: leave out --query"),
        ("{}/*.parquet", "SELECT 1", "no file has a path of this pattern"),
        ("{}/*.parquet", None, "a pattern of Parquet files needs --query"),
        ("sqlite:///{}/log.db", "DROP TABLE log", "--query cannot be answered by .*log.db"),
        (
            "sqlite:///{}/log.db",
            "SELECT * FROM log",
            "lacks the column 'timestamp'; it has user_id, item_id, rating, at",
        ),
    ],
)
def test_a_source_that_is_not_there_is_refused(
    shop: Profile, tmp_path: Path, source: str, query: str | None, says: str
) -> None:
    put_log(tmp_path)
    write_database(tmp_path / "log.db")
    with pytest.raises((LandingError, LandedFileError), match=says):
        land(shop, source.format(tmp_path), query=query)


def test_days_in_no_order_keep_the_order_of_rows_and_come_in_parts(
    shop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_log, "PART_ROWS", 400)
    rng = np.random.default_rng(3)
    times = T + 86_400 * rng.integers(0, 5, 5000) + 7
    table = pa.table({"user_id": np.arange(5000), "item_id": times * 0, "rating": times * 1.0, "timestamp": times})
    pq.write_table(table, tmp_path / "log.parquet")
    report = land(shop, tmp_path / "log.parquet")
    values = [row[0] for row in landed_values(shop)]
    assert values == np.argsort(times, kind="stable").tolist()
    assert len(landing_files(shop, "interactions", report.bizdates[0])) == 3


def test_malformed_lines_of_a_log_of_many_blocks_keep_their_numbers(shop: Profile, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    bad = rng.random(900_000) < 0.01
    lines = np.where(bad, "1,2", f"1,10,4.0000000000000000000,{T}")
    bad[:3] = bad[-2:] = True
    lines[:3] = lines[-2:] = "1,2"
    report = land(shop, put_log(tmp_path, "\n".join([HEADER, *lines])))
    assert report.rejected == {"the line has 2 fields, not 4": int(bad.sum())}
    assert report.rejected_file is not None
    assert (pd.read_parquet(report.rejected_file).row.to_numpy() == np.flatnonzero(bad) + 1).all()
    assert report.rows == int((~bad).sum())


def test_local_days_of_a_log_are_those_of_ingest(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    own = with_files(shop, timezone="Europe/Berlin", day_folder="dt=%Y%m%d", date_format="%d.%m.%Y %H:%M")
    lines = [f"{1 + n % 3},10,4,29.03.2026 {n:02}:30" for n in range(24) if n != 2]
    report: LandingReport = land(own, put_log(tmp_path, "\n".join([HEADER, *lines, "1,10,4,30.03.2026 00:00"])))
    assert report.bizdates == ["2026-03-29", "2026-03-30"]
    assert ingest(lake, own, day="2026-03-29") == {"rows": 23}
    assert (own.landing / "interactions/dt=20260330/from-log-0000.parquet").is_file()


def test_distinct_days_without_end_make_no_folders_without_end(shop: Profile, tmp_path: Path) -> None:
    days = np.datetime64("0001-01-01") + np.arange(3_000_000)
    table = pa.table(
        {"user_id": pa.array(np.ones(len(days), int)), "timestamp": pa.array(days.astype("datetime64[D]"))}
    )
    pq.write_table(
        table.append_column("item_id", table["user_id"]).append_column("rating", table["user_id"]),
        tmp_path / "log.parquet",
    )
    report = land(shop.model_copy(update={"last_bizdate": dt.date(2026, 1, 3)}), tmp_path / "log.parquet")
    assert report.bizdates == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert sum(report.rejected.values()) == 3_000_000 - 3


def _land_and_die(profile: Profile, log: Path, step: str) -> None:
    def die(*_: Any, **__: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(landing_log, step, die)
    land(profile, log)


@pytest.mark.parametrize("step", ["_write_days", "_changed_days", "sync_tree", "move_in"])
def test_a_landing_that_is_killed_is_not_seen(shop: Profile, tmp_path: Path, step: str) -> None:
    put(shop, f"{FROM}/mine.csv", HEADER + "\n")
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_land_and_die, args=(shop, put_log(tmp_path), step))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert landed_bizdates(shop) == [DAY]
    assert [file.name for file in landing_files(shop, "interactions", DAY)] == ["mine.csv"]
    assert land(shop, put_log(tmp_path)).bizdates == DAYS
    assert not [path for path in shop.landing.iterdir() if path.name.startswith(".inter")]
