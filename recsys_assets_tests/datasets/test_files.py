# ruff: noqa: E501 (each table has one case per line)
"""Files as they are: `files` in a profile says how text, times and day folders are written."""

import bz2
import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from recsys_assets.datasets.ingest import REJECTED, NotLanded
from recsys_assets.datasets.landing import landed_bizdates, landing_files
from recsys_assets.datasets.profile import Profile, ProfileError, load_profile
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.lake import Lake
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
    ingest,
    lake,
    put,
    rows,
    shop,
)
from recsys_assets_tests.helpers.shop import frame as made

__all__ = ["lake", "shop"]  # fixtures

ROWS = {"rows": len(GOOD)}
SEMI, PIPES = WHOLE.replace(",", ";"), WHOLE.replace(",", "|")
BERLIN = {"timezone": "Europe/Berlin"}


def with_files(profile: Profile, **files: Any) -> Profile:
    values = profile.model_dump(exclude={"files"}) | {"files": files, "label": profile.label}
    return Profile.model_validate(values)


def local_times(form: str, values: list[int]) -> list[str]:
    return [dt.datetime.fromtimestamp(value, dt.UTC).strftime(form) for value in values]


def with_times(times: list[Any]) -> str:
    lines = [f"{user},{item},{rating},{time}" for (user, item, rating, _), time in zip(GOOD, times, strict=True)]
    return "\n".join([HEADER, *lines]) + "\n"


TIMES = [row[3] for row in GOOD]


@pytest.mark.parametrize(
    ("files", "name", "content"),
    [
        ({"separator": ";"}, CSV, SEMI),
        ({"separator": "|", "header": False}, CSV, "\n".join(LINES).replace(",", "|")),
        ({"header": False}, CSV, "\r\n".join(LINES)),
        ({"header": True}, CSV.replace("csv", "tsv"), WHOLE.replace(",", "\t")),
        ({"quote": "'"}, CSV, WHOLE.replace(",10,", ",'10',")),
        ({"quote": ""}, CSV, WHOLE),
        ({"encoding": "utf-16"}, CSV, WHOLE.encode("utf-16")),
        ({"encoding": "utf-16-le"}, CSV, ("\ufeff" + WHOLE).encode("utf-16-le")),
        ({}, CSV, WHOLE.encode("utf-8-sig")),
        ({}, CSV, WHOLE.replace("\n", "\r\n")),
        ({"separator": ";", "decimal": ","}, CSV, SEMI.replace(".0;", ",0;")),
        ({"separator": ";"}, CSV + ".gz", gzip.compress(SEMI.encode())),
        ({"separator": ";", "interactions": {"separator": "|"}}, CSV + ".bz2", bz2.compress(PIPES.encode())),
        ({"missing": ["NA", "-"]}, CSV, WHOLE),
        ({"time_unit": "ms"}, CSV, with_times([t * 1000 for t in TIMES])),
        ({"time_unit": "us"}, PARQUET, made(*GOOD).assign(timestamp=lambda f: f.timestamp * 10**6)),
        ({"time_unit": "ns"}, PARQUET, made(*GOOD).assign(timestamp=lambda f: f.timestamp * 10**9)),
        ({"date_format": "%d.%m.%Y %H:%M:%S"}, CSV, with_times(local_times("%d.%m.%Y %H:%M:%S", TIMES))),
        ({"date_format": "%d/%b/%Y:%H:%M:%S %z"}, CSV, with_times(local_times("%d/%b/%Y:%H:%M:%S +0000", TIMES))),
        ({"date_format": "%Y%m%d%H%M"}, PARQUET, made(*GOOD).assign(timestamp=list(map(int, local_times("%Y%m%d%H%M", TIMES))))),
    ],
)  # fmt: skip
def test_each_form_gives_the_same_rows(
    shop: Profile, lake: Lake, files: dict[str, Any], name: str, content: Any
) -> None:
    put(shop, name, content)
    others = {table: {"separator": ",", "encoding": "utf-8"} for table in ("users", "items")}
    assert ingest(lake, with_files(shop, **others | files)) == ROWS or not files
    read = rows(lake)
    assert read[["user_id", "item_id", "rating"]].to_numpy().tolist() == [list(row[:3]) for row in GOOD]
    assert [int(time.timestamp()) for time in read.timestamp] == TIMES


def at_times(times: np.ndarray[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame({"user_id": 1, "item_id": 10, "rating": 1.0, "timestamp": times})


def test_units_keep_their_microseconds(shop: Profile, lake: Lake) -> None:
    rng = np.random.default_rng(1)
    micros = np.sort(T * 10**6 + rng.integers(0, 86_400 * 10**6, 500))
    for unit, factor in {"us": 1, "ns": 1000}.items():
        put(shop, PARQUET, at_times(micros * factor + factor // 2))
        assert ingest(lake, with_files(shop, time_unit=unit)) == {"rows": 500}
        assert (rows(lake).timestamp.astype("datetime64[us]").astype("int64") == micros).all()
    put(
        shop,
        PARQUET,
        pd.DataFrame({"user_id": 1, "item_id": 10, "rating": 1.0, "timestamp": np.unique(micros // 1000)}),
    )
    ingest(lake, with_files(shop, time_unit="ms"))
    found = rows(lake).timestamp.astype("datetime64[us]").astype("int64")
    assert (found == np.unique(micros // 1000) * 1000).all()


JSON = [
    json.dumps({"user_id": u, "item_id": i, "rating": r, "timestamp": t, "more": {"a": [1]}}) for u, i, r, t in GOOD
]


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".jsonl.gz"])
def test_json_lines_are_read_and_bad_ones_set_aside(shop: Profile, lake: Lake, suffix: str) -> None:
    lines = [
        *JSON,
        '{"user_id": 1, "item_id": 10,',
        "",
        "[1, 2]",
        '{"user_id": "x", "item_id": 10, "rating": 4, "timestamp": 1}',
    ]
    text = "\ufeff" + "\r\n".join(lines)
    put(shop, f"interactions/bizdate={DAY}/e{suffix}", gzip.compress(text.encode()) if "gz" in suffix else text)
    assert ingest(lake, shop) == ROWS | {"the line is not a JSON object": 2, "user_id is not of type int64": 1}
    bad = rows(lake, file=REJECTED)
    assert bad.row.tolist() == [13, 14, 15]
    assert bad.user_id.tolist() == ['{"user_id": 1, "item_id": 10,\r', "[1, 2]\r", "x"]


def test_json_keys_may_be_anything_and_lists_are_lists(shop: Profile, lake: Lake) -> None:
    columns = {"item_id": "int64", "title": {"type": "string", "column": 'the "ti.tle'}, "genres": "strings"}
    put(shop, "items/items.csv", "")
    (shop.landing / "items/items.csv").unlink()
    put(
        shop,
        "items/i.jsonl",
        '{"item_id": 9007199254740993, "the \\"ti.tle": "a\\nb", "genres": ["x|y", "z"]}\n{"item_id": 2, "genres": "p|q"}',
    )
    own = Profile.model_validate(shop.model_dump() | {"tables": {**shop.model_dump()["tables"], "items": columns}})
    ingest(lake, own, "items")
    found = rows(lake, "items")
    assert found.item_id.tolist() == [2, 9007199254740993]
    assert [list(each) for each in found.genres] == [["p", "q"], ["x|y", "z"]]
    assert found.title.tolist() == [None, "a\nb"]


@pytest.mark.parametrize(
    ("files", "name", "content", "says"),
    [
        ({}, CSV, SEMI, 'if \';\' separates its columns, say in the profile `files: {separator: ";"}`'),
        ({"header": False}, CSV, "\n".join(LINES).replace(",", "\t"), r"has 1 fields, not 4, in every line; the first is '1\\t10\\t1.0.*separator: \"\\t\""),
        ({"separator": ";"}, CSV, WHOLE, "if ',' separates its columns"),
        ({}, CSV, with_times([t * 1000 for t in TIMES]), "looks like milliseconds .*say in the profile `files: {time_unit: ms}`"),
        ({"time_unit": "ms"}, CSV, WHOLE, "looks like seconds since 1970.*time_unit: s}"),
        ({"time_unit": "ns"}, CSV, with_times([t * 1000 for t in TIMES]), "looks like milliseconds"),
        ({"encoding": "ascii"}, CSV, WHOLE.replace("3.0", "é"), "cannot be read .*ascii.*say its `encoding`"),
        ({"date_format": "%d.%m.%Y"}, CSV, WHOLE, "'timestamp' is not of type timestamp in any row"),
        ({}, EVENTS + ".jsonl", "\n".join(JSON).replace("rating", "stars"), "no line has a value of the key 'rating'; the first one is {"),
        ({}, CSV, "", "cannot be read .*[Ee]mpty"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_an_error_that_names_what_was_seen(
    shop: Profile, lake: Lake, files: dict[str, Any], name: str, content: str, says: str
) -> None:
    put(shop, name, content)
    others = {"users": {"separator": ",", "header": True}, "items": {"separator": ",", "header": True}}
    with pytest.raises(LandedFileError, match=says):
        ingest(lake, with_files(shop, **others | files))


def test_words_for_missing_values_are_empty_fields_of_numbers_and_of_texts(shop: Profile, lake: Lake) -> None:
    put(shop, "users/users.csv", "user_id,gender,age\n1,F,NA\n2, NA ,35\n3,NAN,-\n")
    assert ingest(lake, with_files(shop, users={"missing": ["NA", "-"]}), "users")["rows"] == 3
    read = rows(lake, "users")
    assert read.age.isna().tolist() == [True, False, True]
    assert read.gender.fillna("").tolist() == ["F", "", "NAN"]


def test_a_file_with_a_header_only_is_a_day_without_events(shop: Profile, lake: Lake) -> None:
    put(shop, CSV, HEADER + "\n")
    assert ingest(lake, shop) == {"rows": 0}


def test_quoted_fields_hold_separators_and_line_breaks(shop: Profile, lake: Lake) -> None:
    put(shop, "items/items.csv", 'item_id;title;genres\r\n10;"A; ""B""\r\nC";x|y\r\n'.encode("latin-1"))
    put(shop, "items/more.csv", "item_id;title;genres\n11;Amélie;x\n".encode("latin-1"))
    own = with_files(shop, items={"separator": ";", "encoding": "latin-1"})
    (shop.landing / "items/bizdate=2026-01-06/items.csv").unlink()
    ingest(lake, own, "items")
    assert rows(lake, "items").title.tolist() == ['A; "B"\r\nC', "Amélie"]


@pytest.mark.parametrize(
    ("pattern", "folder", "wrong"),
    [
        ("dt=%Y%m%d", "dt=20260105", "dt=2026-01-05"),
        ("%Y/%m/%d", "2026/01/05", "2026/13/05"),
        ("year=%Y/month=%m/day=%d", "year=2026/month=01/day=05", "year=2026/month=1/day=05"),
        ("%d.%m.%Y-log", "05.01.2026-log", "31.02.2026-log"),
    ],
)
def test_day_folders_have_the_names_of_the_profile(
    shop: Profile, lake: Lake, pattern: str, folder: str, wrong: str
) -> None:
    own = with_files(shop, day_folder=pattern)
    put(shop, f"interactions/{folder}/hour=00/e.csv", WHOLE)
    put(shop, f"users/{folder}/u.csv", "user_id,gender,age\n7,F,1\n")
    assert landed_bizdates(own) == landed_bizdates(own, "users") == [DAY]
    assert [path.name for path in landing_files(own, "users")] == ["users.csv"]
    assert ingest(lake, own) == ROWS
    put(shop, f"interactions/{wrong}/e.csv", WHOLE)
    with pytest.raises(Exception, match="is not named after a day: rename it to"):
        landed_bizdates(own)


def test_events_above_the_level_of_days_are_an_error(shop: Profile) -> None:
    put(shop, "interactions/2026/01/e.csv", WHOLE)
    with pytest.raises(Exception, match="e.csv is not in a day's folder: move it to .*/YYYY/MM/DD/"):
        landed_bizdates(with_files(shop, day_folder="%Y/%m/%d"))


def test_a_day_folder_that_leads_out_of_the_landing_folder_is_not_followed(shop: Profile) -> None:
    put(shop, "../outside/01/05/e.csv", WHOLE)
    (shop.landing / "interactions").mkdir()
    (shop.landing / "interactions/2026").symlink_to(shop.landing / "../outside")
    assert landing_files(with_files(shop, day_folder="%Y/%m/%d"), "interactions", DAY) == []


def at(*times: str) -> str:
    return "\n".join([HEADER, *(f"1,{10 + n % 4},4,{time}" for n, time in enumerate(times))]) + "\n"


@pytest.mark.parametrize(
    ("day", "hours", "first", "last"),
    [
        ("2026-01-05", 24, "2026-01-04 23:00:00", "2026-01-05 22:59:59"),
        ("2026-03-29", 23, "2026-03-28 23:00:00", "2026-03-29 21:59:59"),
        ("2026-10-25", 25, "2026-10-24 22:00:00", "2026-10-25 22:59:59"),
    ],
)
def test_a_day_is_local_and_timestamps_stay_utc(
    shop: Profile, lake: Lake, day: str, hours: int, first: str, last: str
) -> None:
    own = with_files(shop, **BERLIN)
    start = pd.Timestamp(first, tz="UTC")
    times = [start + pd.Timedelta(hours=n) for n in range(-1, hours + 1)]
    put(shop, f"interactions/bizdate={day}/a.csv", at(*(str(int(time.timestamp())) for time in times), last + "Z"))
    assert ingest(lake, own, day=day) == {"rows": hours + 1, f"timestamp is outside {day} (Europe/Berlin)": 2}
    found = pd.read_parquet(lake.read("interactions", day).path("data.parquet")).timestamp
    assert [str(found.min()), str(found.max())] == [first, last]
    assert own.files.end_of(day) == start + pd.Timedelta(hours=hours)


def test_times_without_an_offset_are_local(shop: Profile, lake: Lake) -> None:
    said = ["2026-01-05 00:00:00", "2026-01-05T10:00:00+03:00", "2026-01-05", "2026-01-04 23:30:00Z", str(T)]
    put(shop, f"interactions/bizdate={DAY}/a.csv", at(*said))
    naive = pd.DataFrame({"user_id": 1, "item_id": 10, "rating": 4.0, "timestamp": [pd.Timestamp("2026-01-05 12:00")]})
    put(shop, f"interactions/bizdate={DAY}/b.parquet", naive)
    ingest(lake, with_files(shop, **BERLIN))
    expected = ["2026-01-04 23:00:00", "2026-01-05 07:00:00", "2026-01-04 23:00:00", "2026-01-04 23:30:00"]
    found = rows(lake).timestamp.astype(str).tolist()
    assert found == [*expected, "2026-01-05 00:00:00", "2026-01-05 11:00:00"]
    put(shop, f"interactions/bizdate={DAY}/a.csv", at("05.01.2026 00:30"))
    (shop.landing / f"interactions/bizdate={DAY}/b.parquet").unlink()
    ingest(lake, with_files(shop, **BERLIN, date_format="%d.%m.%Y %H:%M"))
    assert rows(lake).timestamp.astype(str).tolist() == ["2026-01-04 23:30:00"]


def test_missing_days_are_empty_up_to_the_last_landed_one(shop: Profile, lake: Lake) -> None:
    put(shop, CSV, WHOLE)
    put(shop, "interactions/bizdate=2026-01-09/e.csv", HEADER + "\n")
    own = with_files(shop, missing_days="empty")
    days = [f"2026-01-0{day}" for day in range(5, 10)]
    assert landed_bizdates(shop) == [days[0], days[-1]]
    assert landed_bizdates(own) == days
    assert ingest(lake, own, day=days[2]) == {"rows": 0}
    for profile, day in ((shop, days[2]), (own, "2026-01-10")):
        with pytest.raises(NotLanded):
            ingest(lake, profile, day=day)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ("{separator: '::'}", "line 17: files.separator"),
        ('{separator: "\'", quote: "\'"}', "separator and quote are both"),
        ("{items: {quote: ','}, separator: ','}", "separator and quote are both"),
        ("{encoding: rot13}", "'rot13' is not an encoding"),
        ("{timezone: Mars/Olympus}", "'Mars/Olympus' is not a time zone"),
        ("{timezone: ../../etc/passwd}", "is not a time zone"),
        ("{day_folder: ../%Y%m%d}", "give names of folders that do not begin with"),
        ("{day_folder: /tmp/%Y%m%d}", "give names of folders"),
        ("{day_folder: '%Y-%m'}", "must have %Y, %m and %d once each"),
        ("{day_folder: '%Y[%m]*%d'}", "give names of folders"),
        ("{date_format: '%Q'}", "'%Q' is not a date format"),
        ("{date_format: yesterday}", "'yesterday' has no code"),
        ("{time_unit: min}", "files.time_unit"),
        ("{users: {missing: ['NA', ' ']}}", "' ' is an empty field, which is missing anyway"),
        ("{compression: gzip}", "files.compression: is not a key that profiles have here"),
    ],
)
def test_a_form_that_cannot_be_is_refused_with_the_profile(tmp_path: Path, files: str, says: str) -> None:
    file = tmp_path / "shop.yaml"
    file.write_text(OWN.replace("${RECSYS_LANDING}", str(tmp_path)).strip() + f"\nfiles: {files}\n")
    with pytest.raises(ProfileError) as error:
        load_profile(str(file))
    assert says in str(error.value)
