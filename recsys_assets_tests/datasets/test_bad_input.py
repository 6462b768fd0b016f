# ruff: noqa: E501 (each table has one case per line)
"""Damaged landing files and profiles give a named error or rejected rows, and nothing else is lost.

There are four tables with one line per kind of damage: files that fail, rows that are rejected, odd input that is
accepted, and profiles that are refused. Below them are the same cases through Dagster.
"""

import math
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.ingest import REJECTED, ROWS, NotLanded
from recsys_assets.datasets.profile import Profile, ProfileError, load_profile
from recsys_assets.datasets.splits import split
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.lake import Lake
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.shop import (
    CSV,
    DAY,
    EVENTS,
    GOOD,
    HEADER,
    LINES,
    OWN,
    PARQUET,
    WHOLE,
    T,
    bytes_in,
    csv,
    frame,
    ingest,
    lake,
    put,
    put_days,
    rows,
    shop,
)  # fmt: skip

__all__ = ["lake", "shop"]  # fixtures

IN_PARQUET = frame(*GOOD).to_parquet(index=False)
FILES_THAT_FAIL: list[tuple[str, str, str | bytes | pd.DataFrame | None, type[Exception], str]] = [
    # damage, file, content, error, its message apart from the file
    ("folder of a day without dashes", "users/bizdate=20260105/new.csv", "user_id,gender,age\n", LandingError, "bizdate=20260105 is not named after a day: rename it"),
    ("parquet cut short", PARQUET, IN_PARQUET[:-40], LandedFileError, r"cannot be read .*: land it again"),
    ("parquet cut in the middle", PARQUET, IN_PARQUET[:90], LandedFileError, "cannot be read"),
    ("parquet of no bytes", PARQUET, b"", LandedFileError, "cannot be read .*size is 0"),
    ("text named parquet", PARQUET, WHOLE, LandedFileError, "cannot be read .*magic bytes not found"),
    ("parquet with a damaged page", PARQUET, IN_PARQUET[:30] + b"\xff" * 40 + IN_PARQUET[70:], LandedFileError, "cannot be read"),
    ("parquet named csv", CSV, IN_PARQUET, LandedFileError, "cannot be read"),
    ("csv of no bytes", CSV, b"", LandedFileError, "cannot be read .Empty CSV file"),
    ("csv not utf-8", CSV, WHOLE.encode() + b"\xe9,10,4,5\n", LandedFileError, "cannot be read .*invalid UTF8"),
    ("csv header not utf-8", CSV, b"\xe9," + WHOLE.encode(), LandedFileError, "cannot be read .*utf-8"),
    ("csv in utf-16", CSV, WHOLE.encode("utf-16"), LandedFileError, "cannot be read|lacks the column"),
    ("csv without header", CSV, "\n".join(LINES), LandedFileError, "lacks the column 'user_id'; it has 1, 10, 1.0"),
    ("csv with semicolons", CSV, WHOLE.replace(",", ";"), LandedFileError, "lacks the column 'user_id'; it has user_id;item_id"),
    ("csv with an open quote", CSV, csv(*LINES[:3], '1,"10,4,5', *LINES[3:]), LandedFileError, "row 4 runs over several lines: close its quot"),
    ("csv with two open quotes", CSV, csv(*LINES[:2], '1,10,4,"5', *LINES[2:4], '6"'), LandedFileError, "'timestamp' of row 3 runs over"),
    ("column missing in csv", CSV, WHOLE.replace("rating", "stars"), LandedFileError, "lacks the column 'rating'; it has user_id, item_id, stars"),
    ("column missing in parquet", PARQUET, frame(*GOOD).drop(columns="timestamp"), LandedFileError, "lacks the column 'timestamp'"),
    ("column twice", CSV, WHOLE.replace("rating", "item_id"), LandedFileError, "has more than once the column 'item_id'"),
    ("text where numbers belong", PARQUET, frame(*GOOD, item_id="x"), LandedFileError, "column 'item_id' is .*string, where the profile says int64"),
    ("booleans where numbers belong", PARQUET, frame(*GOOD, rating=True), LandedFileError, "column 'rating' is bool, where the profile says float32"),
    ("text column in csv", CSV, csv(*(f"u{line}" for line in LINES)), LandedFileError, r"column 'user_id' is not of type int64 in any row \(it holds 'u1'\): write digits"),
    ("milliseconds", PARQUET, frame(*GOOD).assign(timestamp=lambda f: f.timestamp * 1000), LandedFileError, "'timestamp' looks like milliseconds since 1970: write seconds"),
    ("nanoseconds in csv", CSV, csv(*(line + "0" * 9 for line in LINES)), LandedFileError, "'timestamp' looks like nanoseconds since 1970: write seconds"),
    ("days", PARQUET, frame(*GOOD).assign(timestamp=lambda f: f.timestamp // 86_400), LandedFileError, "'timestamp' looks like days since 1970: write seconds"),
    ("ids that doubles round", PARQUET, frame(*GOOD, (1e18, 10, 4.0, T)), LandedFileError, r"column 'user_id' holds integers as double, which rounds integers as large as 1e\+18"),
    ("ids as whole floats in csv", CSV, csv(*(f"{u}.0,{i},{r},{t}" for u, i, r, t in GOOD)), LandedFileError, r"'user_id' is not of type int64 in any row \(it holds '1.0'\): write digits"),
    ("day not landed", "interactions/bizdate=2026-01-04/events.csv", WHOLE, NotLanded, f"{DAY} has not landed: put its events under .*bizdate={DAY}"),
    ("only an unfinished file", f"interactions/bizdate={DAY}/.events.csv", WHOLE, NotLanded, f"{DAY} has not landed"),
    ("users table damaged", "users/new.parquet", b"PAR1", LandedFileError, "users/new.parquet cannot be read"),
    ("folder that names no day", "users/bizdate=foo/new.csv", "user_id,gender,age\n", LandingError, "bizdate=foo is not named after a day: rename it"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "error", "says"), [pytest.param(*rest, id=what) for what, *rest in FILES_THAT_FAIL]
)
def test_a_file_that_cannot_be_used_is_named_and_leaves_the_lake_as_it_was(
    shop: Profile, lake: Lake, tmp_path: Path, file: str, content: Any, error: type[Exception], says: str
) -> None:
    good = put(shop, CSV, WHOLE)
    ingest(lake, shop)
    before = bytes_in(tmp_path / "lake")
    good.unlink()
    damaged = put(shop, file, content)
    with pytest.raises(error, match=says) as raised:
        ingest(lake, shop)
    assert error is NotLanded or str(damaged.parent if error is LandingError else damaged) in str(raised.value)
    assert bytes_in(tmp_path / "lake") == before
    assert len(rows(lake)) == len(GOOD)


def test_a_table_that_has_not_landed_is_named(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    (shop.landing / "users" / "users.csv").unlink()
    with pytest.raises(NotLanded, match=f"no users have landed by {DAY}: put the table under .*shop/users"):
        ingest(lake, shop, "users")
    assert bytes_in(tmp_path / "lake") == {}


LINES_REJECTED = [
    # damage, line of a CSV, reason
    ("one field too few", f"1,10,{T}", "the line has 3 fields, not 4"),
    ("one field too many", f"1,10,4,{T},9", "the line has 5 fields, not 4"),
    ("no user", f",10,4,{T}", "user_id is missing"),
    ("no time", "1,10,4,", "timestamp is missing"),
    ("unreadable number", f"1,10,four,{T}", "rating is not of type float32"),
    ("unreadable id", f"1,1x,4,{T}", "item_id is not of type int64"),
    ("unreadable time", "1,10,4,yesterday", "timestamp is not of type timestamp"),
    ("nan rating", f"1,10,nan,{T}", "rating is not of type float32"),
    ("no rating to label", f"1,10,,{T}", "the label rule gives no answer"),
    ("time with an offset, of the day before", "1,10,4,2026-01-05T01:00:00+02:00", f"timestamp is outside {DAY} (UTC)"),
]
ROWS_REJECTED = [
    # damage, row of a Parquet file, reason
    ("NaN item", (1, math.nan, 4.0, T), "item_id is missing"),
    ("id that is not whole", (1.5, 10, 4.0, T), "user_id is not of type int64"),
    ("unknown user", (7, 10, 4.0, T), "user_id is unknown"),
    ("unknown item", (1, 77, 4.0, T), "item_id is unknown"),
    ("item known only from a later day", (1, 99, 4.0, T), "item_id is unknown"),
    ("rating too low", (1, 10, 0.5, T), "rating is out of bounds"),
    ("rating too high", (1, 10, 6.0, T), "rating is out of bounds"),
    ("infinite rating", (1, 10, math.inf, T), "rating is not of type float32"),
    ("second before the day", (1, 10, 4.0, T - 1), f"timestamp is outside {DAY} (UTC)"),
    ("second after the day", (1, 10, 4.0, T + 86_400), f"timestamp is outside {DAY} (UTC)"),
    ("milliseconds", (1, 10, 4.0, T * 1000), "timestamp is not of type timestamp"),
    ("microseconds", (1, 10, 4.0, T * 10**6), "timestamp is not of type timestamp"),
    ("negative time", (1, 10, 4.0, -T), f"timestamp is outside {DAY} (UTC)"),
    ("repeated row", GOOD[0], "repeats user, item and time"),
    ("repeated key, other rating", (*GOOD[0][:2], 5.0, GOOD[0][3]), "repeats user, item and time"),
]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        *(pytest.param("csv", csv(*LINES[:5], bad, *LINES[5:]), why, id=f"csv: {what}") for what, bad, why in LINES_REJECTED),
        *(pytest.param("parquet", frame(*GOOD[:5], bad, *GOOD[5:]), why, id=what) for what, bad, why in ROWS_REJECTED),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_kept_aside_with_its_reason(
    shop: Profile, lake: Lake, file: str, content: str | pd.DataFrame, reason: str
) -> None:
    put(shop, f"{EVENTS}.{file}", content)
    assert ingest(lake, shop) == {"rows": len(GOOD), reason: 1}
    kept = rows(lake)
    assert list(kept[["user_id", "item_id", "rating"]].itertuples(index=False, name=None)) == [row[:3] for row in GOOD]
    assert list(kept.timestamp.astype("datetime64[s]").astype("int64")) == [row[3] for row in GOOD]
    assert kept.seq.tolist() == [0, 1, 2, 3, 4, *range(6, 13)]
    rejected = rows(lake, file=REJECTED)
    assert rejected[["file", "row", "reason"]].to_numpy().tolist() == [[f"{EVENTS}.{file}", 6, reason]]


ACCEPTED: list[tuple[str, dict[str, str | bytes | pd.DataFrame]]] = [
    ("ids as whole floats", {PARQUET: frame(*GOOD).astype({"user_id": float, "item_id": float})}),
    ("byte order mark and DOS line ends", {CSV: ("\ufeff" + WHOLE).replace("\n", "\r\n").encode()}),
    ("blank lines", {CSV: csv(*LINES[:4], "", "", *LINES[4:], "")}),
    ("columns that nobody asked for", {PARQUET: frame(*GOOD, note="x", other=1.5)}),
    ("times as timestamps", {PARQUET: frame(*GOOD).assign(timestamp=lambda f: pd.to_datetime(f.timestamp, unit="s"))}),
    ("times of another time zone", {PARQUET: frame(*GOOD).assign(timestamp=lambda f: pd.to_datetime(f.timestamp, unit="s", utc=True).dt.tz_convert("Asia/Tokyo"))}),
    ("times as text with an offset", {CSV: csv(*(f"{u},{i},{r},{pd.Timestamp(t + 3600, unit='s')}+01:00" for u, i, r, t in GOOD))}),
    ("values in quotes", {CSV: csv(*('"' + line.replace(",", '","') + '"' for line in LINES))}),
    ("several files", {f"{EVENTS}1.csv": csv(*LINES[:7]), f"{EVENTS}2.parquet": frame(*GOOD[7:])}),
    ("an empty file and a full one", {f"{EVENTS}1.csv": csv(), f"{EVENTS}2.csv": WHOLE}),
    ("hidden and unfinished files too", {CSV: WHOLE, f"interactions/bizdate={DAY}/.x.csv": "?", f"interactions/bizdate={DAY}/_x.parquet": "?", f"{EVENTS}.csv.tmp": "?"}),
]  # fmt: skip


@pytest.mark.parametrize("files", [pytest.param(files, id=what) for what, files in ACCEPTED])
def test_what_can_be_read_is_not_refused(shop: Profile, lake: Lake, files: dict[str, str]) -> None:
    for file, content in files.items():
        put(shop, file, content)
    assert ingest(lake, shop) == {"rows": len(GOOD)}
    kept = rows(lake)
    assert list(kept[["user_id", "item_id", "rating"]].itertuples(index=False, name=None)) == [row[:3] for row in GOOD]
    assert list(kept.timestamp.astype("datetime64[s]").astype("int64")) == [row[3] for row in GOOD]
    assert kept.seq.tolist() == list(range(len(GOOD)))


@pytest.mark.parametrize("content", [csv(), frame(), frame().astype("int64")], ids=["csv", "parquet", "typed parquet"])
def test_a_day_without_events_is_a_file_without_rows(shop: Profile, lake: Lake, content: str | pd.DataFrame) -> None:
    put(shop, f"{EVENTS}.{'csv' if isinstance(content, str) else 'parquet'}", content)
    assert ingest(lake, shop) == {"rows": 0}
    assert list(rows(lake).columns) == [*HEADER.split(","), "seq"]


def test_users_and_items_keep_the_last_row_of_a_day_and_the_newest_day(shop: Profile, lake: Lake) -> None:
    put(shop, f"users/bizdate={DAY}/a.csv", "user_id,gender,age\n2,F,36\n2,M,37\n8,F,old\n,F,3\n")
    put(shop, "users/bizdate=2026-01-06/a.csv", "user_id,gender,age\n1,M,99\n")
    counts = {"rows": 3, "age is not of type int64": 1, "repeats user_id": 1, "user_id is missing": 1}
    assert ingest(lake, shop, "users") == counts
    assert rows(lake, "users").fillna(-1).to_numpy().tolist() == [[1, "F", 25], [2, "M", 37], [3, "F", -1]]
    found = rows(lake, "users", REJECTED)
    place = f"users/bizdate={DAY}/a.csv"
    assert found.fillna("").to_numpy().tolist() == [
        [place, 1, "repeats user_id", "2", "F", "36"],
        [place, 3, "age is not of type int64", "8", "F", "old"],
        [place, 4, "user_id is missing", "", "F", "3"],
    ]


def test_a_title_may_hold_a_line_break_a_comma_and_quotes(shop: Profile, lake: Lake) -> None:
    put(shop, f"items/bizdate={DAY}/a.csv", 'item_id,title,genres\n13,"Two\nlines, ""quoted""",drama||comedy\n')
    assert ingest(lake, shop, "items") == {"rows": 4}
    found = rows(lake, "items").iloc[-1]
    assert (found.title, found.genres.tolist()) == ('Two\nlines, "quoted"', ["drama", "comedy"])


def test_a_user_whose_row_was_rejected_is_unknown_to_the_events(shop: Profile, lake: Lake) -> None:
    put(shop, "users/users.csv", "user_id,gender,age\n1,F,25\n2,M,35\n3,F,unknown\n")
    put(shop, CSV, WHOLE)
    assert ingest(lake, shop) == {"rows": 8, "user_id is unknown": 4}


PROFILES_REFUSED = [
    # damage, text, replacement, error message
    ("not YAML", "name: shop", "name: [shop", "is not valid YAML"),
    ("a list", OWN, "- name: shop", "is not a mapping of keys to values: see the bundled profiles"),
    ("unknown key", "label:", "colour: red\nlabel:", "line 13: colour: is not a key that profiles have here: correct its name, or remove it"),
    ("no landing", "landing: ${RECSYS_LANDING}/shop", "", "landing: Field required"),
    ("unset variable", "${RECSYS_LANDING}", "${NO_SUCH_PLACE}", r"uses \${NO_SUCH_PLACE}, which is not set in the environment"),
    ("name with a blank", "name: shop", "name: my shop", "name: String should match pattern"),
    ("no such type", "gender: string", "gender: enum", "line 11: tables.users.gender: Input should be 'int64', 'float32'"),
    ("unknown column setting", "max: 5", "maximum: 5", "line 9: tables.interactions.rating.maximum: is not a key"),
    ("bounds of a text", "gender: string", "gender: {type: string, min: 1}", "min and max are for numbers, not string"),
    ("no key column", "    item_id: int64\n", "", "line 6: tables.interactions: lacks item_id: add it with its type"),
    ("no key of users", "users: {user_id: int64, ", "users: {", "line 11: tables.users: lacks user_id"),
    ("ids of two types", "users: {user_id: int64", "users: {user_id: string", "line 11: tables.users.user_id: must be int64, or string, in both"),
    ("time that is none", "timestamp: timestamp", "timestamp: int64", "line 10: tables.interactions.timestamp: is int64, not timestamp: write `timestamp: timestamp`"),
    ("a name of the platform's", "age: int64", "age: int64, row: int64", "line 11: tables.users.row: 'row' is a name of the platform's own"),
    ("feature in no table", "[gender, age]", "[gender, shoe]", "line 15: features.categorical.1: 'shoe' is not a column of users or items"),
    ("feature of the wrong type", "multi_valued: [genres]", "multi_valued: [genres, title]", "'title' is string, not strings or path: name it under features.categorical"),
    ("feature in both tables", "title: string", "title: string, age: int64", "'age' is a column of both users and items"),
    ("terms of no feature", "terms: {column: genres}", "terms: {column: title}", "line 15: features.terms.column: 'title' is not a column of items among"),
    ("cross of one", "[[gender, genres]]", "[[gender]]", r"line 15: features.crosses.0: \['gender'\] is not a pair"),
    ("rating that is none", "rating: rating", "rating: stars", "line 14: rating: 'stars' is not a numeric column of tables.interactions"),
    ("last before first", "landing:", "last_bizdate: 2025-12-31\nlanding:", "line 4: last_bizdate: is before first_bizdate: correct one of them"),
    ("no date", "2026-01-01", "soon", "first_bizdate: Input should be a valid date"),
    ("no such strategy", "by_day", "by_moon", "split.strategy: Input should be 'per_user_tail', 'leave_last_n', 'by_day', 'given', 'successive' or 'random'"),
    ("ratio above one", "{strategy: by_day}", "{strategy: by_day, test_ratio: 1.5}", "split.test_ratio: Input should be less than 1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "becomes", "says"), [pytest.param(*rest, id=what) for what, *rest in PROFILES_REFUSED]
)
def test_a_profile_that_cannot_be_used_is_named_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, becomes: str, says: str
) -> None:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path))
    assert text in OWN
    path = tmp_path / "shop.yaml"
    path.write_text(OWN.replace(text, becomes, 1))
    with pytest.raises(ProfileError, match=says) as raised:
        load_profile(str(path))
    assert str(path) in str(raised.value)


def test_a_profile_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="no profile 'mine': give one of criteo, movielens-1m, sample, or the path"):
        load_profile("mine")
    (tmp_path / "latin.yaml").write_bytes("title: Café".encode("latin-1"))
    with pytest.raises(ProfileError, match=r"latin.yaml, line 1: is not valid YAML: byte 0xe9 is not UTF-8"):
        load_profile(str(tmp_path / "latin.yaml"))


@pytest.mark.usefixtures("shop")
def test_a_value_of_the_environment_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_LANDING", "/data/with: colon #1")
    assert load_profile().landing == Path("/data/with: colon #1/shop")


def test_a_day_that_fails_in_dagster_keeps_its_old_partition(shop: Profile, tmp_path: Path) -> None:
    put(shop, PARQUET, frame(*GOOD))
    assert materialize(["interactions"], DAY).success
    before = bytes_in(tmp_path / "lake")
    put(shop, PARQUET, IN_PARQUET[:-40])
    result = materialize(["interactions"], DAY)
    assert not result.success
    said = failures(result)["interactions"]
    assert "LandedFileError: " in said
    assert f"{PARQUET} cannot be read" in said
    assert bytes_in(tmp_path / "lake") == before


def test_a_range_with_a_bad_day_ingests_the_others_and_names_it(shop: Profile, lake: Lake, tmp_path: Path) -> None:
    days = put_days(shop, -1, 3)
    bad = put(shop, PARQUET, b"PAR1")
    instance = dg.DagsterInstance.ephemeral()
    result = materialize(["interactions"], days[0], days[-1], instance=instance)
    assert not result.success
    others = [day for day in days if day != DAY]
    assert lake.bizdates("interactions") == others
    assert instance.get_materialized_partitions(dg.AssetKey("interactions")) == set(others)
    said = failures(result)["interactions"]
    assert f"1 of 4 days could not be made; the others were. 2026-01-05: {bad} cannot be read" in said
    assert not [path for path in (tmp_path / "lake").rglob(".*")]


@pytest.mark.fails_check("*:rejected_rows_are_few")
def test_too_many_rejected_rows_close_the_gate_for_later_runs_too(shop: Profile, lake: Lake) -> None:
    *_, last = put_days(shop, 0, 3)
    assert materialize(["interactions"], DAY, last).success
    assert materialize(["splits"], last).success

    unknown = [(50 + n, *row[1:]) for n, row in enumerate(GOOD[:8])]
    put(shop, PARQUET, frame(*GOOD[8:], *unknown))
    result = materialize(["interactions"], DAY)
    checks = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert [name for name, check in checks.items() if not check.passed] == ["rejected_rows_are_few"]
    assert checks["rejected_rows_are_few"].metadata["rejected"].value == 8
    manifest = lake.manifest("interactions", DAY)
    assert (manifest.failed_checks, manifest.metrics) == (
        ["rejected_rows_are_few"],
        {"files_left_out": 0.0, "rejected_rows": 8.0},
    )

    later = materialize(["splits"], last)
    assert not later.success
    said = failures(later)["splits"]
    assert "GateNotPassed: " in said
    assert f"interactions {DAY} failed rejected_rows_are_few" in said
    put(shop, PARQUET, frame(*GOOD))
    assert materialize(["interactions"], DAY).success
    assert materialize(["splits"], last).success


def test_nothing_is_built_on_a_partition_that_is_damaged_or_replaced_meanwhile(
    shop: Profile, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, last = put_days(shop, 0, 3)
    assert materialize(["interactions"], DAY, last).success
    data = lake.read("interactions", DAY).path(ROWS)
    whole = data.read_bytes()
    data.write_bytes(whole[:100] + b"?" + whole[101:])
    said = failures(materialize(["splits"], last))["splits"]
    assert f"PartitionDamaged: {data} is missing or not as its manifest says" in said
    data.write_bytes(whole)

    def split_while_a_day_is_ingested_again(*args: Any) -> None:
        split(*args)
        put(shop, PARQUET, frame(*GOOD[1:]))
        ingest(lake, shop)

    monkeypatch.setattr("recsys_assets.assets.data.samples.split", split_while_a_day_is_ingested_again)
    said = failures(materialize(["splits"], last))["splits"]
    assert (
        f"PartitionReplaced: interactions/{DAY} changed while splits {last} was built from it: materialize it again"
        in said
    )
    assert lake.bizdates("splits") == []
