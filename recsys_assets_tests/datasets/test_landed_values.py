# ruff: noqa: E501 (each table has one case per line)
"""Landed values: how text and Arrow types are read, which rows are rejected, and which files are refused."""

import datetime as dt
import decimal
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS, ingest_entities
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.tables import LandedFileError

BAD = object()  # stands for a row that is rejected
UTC = dt.UTC


def taken(folder: Path, declared: str, table: pa.Table | str, first: str = "2026-01-01") -> dict[int, Any]:
    """The value of each user after ingest, without rejected users."""
    profile = Profile.model_validate(
        {
            "name": "shop",
            "first_bizdate": first,
            "landing": folder / "landing",
            "tables": {
                "interactions": {"user_id": "int64", "item_id": "int64", "timestamp": "timestamp"},
                "users": {"user_id": "int64", "value": declared},
                "items": {"item_id": "int64"},
            },
            "label": "item_id > 3",
            "split": {"strategy": "by_day"},
        }
    )
    users = profile.landing / "users"
    users.mkdir(parents=True)
    if isinstance(table, str):
        (users / "u.csv").write_text(table)
    else:
        pq.write_table(table, users / "u.parquet")
    with connect(folder) as connection:
        ingest_entities(connection, profile, "users", "2026-01-05", folder)
    return {row["user_id"]: row["value"] for row in pq.read_table(folder / ROWS).to_pylist()}


def texts(values: list[str]) -> str:
    lines = [f'{number},"{value}"' for number, value in enumerate(values)]
    return "\n".join(["user_id,value", *lines]) + "\n"


def same(found: dict[int, Any], expected: list[Any]) -> None:
    assert found == {number: value for number, value in enumerate(expected) if value is not BAD}


MIDDAY = dt.datetime(2026, 1, 5, 12)  # noqa: DTZ001 (UTC, as stored)
T = 1_767_614_400  # the same in seconds
TEXTS: dict[str, list[tuple[str, Any]]] = {
    "int64": [
        *[("12", 12), ("-7", -7), ("+5", 5), ("007", 7), ("-0", 0), ("", None), (str(2**63 - 1), 2**63 - 1)],
        *[(text, BAD) for text in (" 2 ", "2 ", "1_2", "0_2", "1e0", "0x1", "1.0", "1.5", "--1", "+", "１", "true")],
        *[(text, BAD) for text in (str(2**63), "-" + "9" * 19, "1,000", "nan", "0b1", "1n")],
    ],
    "float32": [
        *[("1", 1.0), ("-1.5", -1.5), (".5", 0.5), ("2.", 2.0), ("2e3", 2000.0), ("+1E-2", pytest.approx(0.01))],
        *[(text, BAD) for text in ("1_0.5", " 2 ", "0x1p3", "nan", "inf", "1e39", "4,5", "1e", ".", "٣", "true")],
        ("", None),
    ],
    "timestamp": [
        *[(str(T), MIDDAY), (f"{T}.5", MIDDAY.replace(microsecond=500_000)), ("2026-01-05 12:00:00", MIDDAY)],
        *[("2026-01-05T13:00:00+01:00", MIDDAY), ("2026-01-05T12:00:00Z", MIDDAY), ("2026-01-05 12:00", MIDDAY)],
        *[(text, BAD) for text in ("1_767_614_400", f" {T}", "1.7676144e9", "infinity", "epoch", "now", "12:00")],
        *[(text, BAD) for text in ("2026-13-01", "0000-01-01", "10000-01-01", str(T * 1000), "-99999999999999")],
        ("", None),
    ],
    "string": [("a", "a"), (" a ", " a "), ("1_2", "1_2"), ("", None), ("null", "null"), ("NaN", "NaN")],
    "strings": [("a|b", ["a", "b"]), ("|a||", ["a"]), ("", []), (" a | b", [" a ", " b"])],
}


@pytest.mark.parametrize("declared", TEXTS)
def test_a_text_is_a_value_or_a_rejected_row(tmp_path: Path, declared: str) -> None:
    same(
        taken(tmp_path, declared, texts([text for text, _ in TEXTS[declared]])), [value for _, value in TEXTS[declared]]
    )


WORDS = ["a", "b", None, ""]
LISTS = [["a", "b"], None, ["c", None], []]
FROM_LISTS = [["a", "b"], None, ["c"], []]
DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def of_dictionary(lists: list[Any], large: bool = False) -> pa.Array:
    plain = pa.array(lists, pa.large_list(pa.string()) if large else pa.list_(pa.string()))
    kind = pa.LargeListArray if large else pa.ListArray
    return kind.from_arrays(plain.offsets, plain.values.dictionary_encode(), mask=plain.is_null())


def decimals(*values: str) -> list[decimal.Decimal]:
    return [decimal.Decimal(value) for value in values]


ARROW: list[tuple[str, str, pa.Array, list[Any]]] = [
    # case, declared type, landed, read
    *((f"text as {kind}", "string", pa.array(WORDS, kind), ["a", "b", None, None])
      for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())),
    ("text in a dictionary", "string", pa.array(WORDS).dictionary_encode(), ["a", "b", None, None]),
    ("text as JSON", "string", pa.array(['{"a": 1}', None], pa.json_()), ['{"a": 1}', None]),
    ("text of integers", "string", pa.array([2**64 - 1, 1], pa.uint64()), ["18446744073709551615", "1"]),
    *((f"lists as {kind}", "strings", pa.array(LISTS, kind), FROM_LISTS)
      for kind in (pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_view(pa.string()),
                   pa.large_list_view(pa.string()), pa.list_(pa.string_view()), pa.list_(pa.large_string()))),
    ("lists of a fixed size", "strings", pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2)), [["a", "b"], ["c"]]),
    ("lists of a dictionary", "strings", of_dictionary(LISTS), FROM_LISTS),
    ("large lists of a dictionary", "strings", of_dictionary(LISTS, large=True), FROM_LISTS),
    ("a part of lists", "strings", pa.array([["x"], *LISTS]).slice(1), FROM_LISTS),
    ("lists that are all empty", "strings", pa.array([[], None, [None]], pa.list_(pa.null())), [[], None, []]),
    ("integers as 8 bits", "int64", pa.array([1, -1, None], pa.int8()), [1, -1, None]),
    ("integers beyond int64", "int64", pa.array([1, 2**63, 2**64 - 1], pa.uint64()), [1, BAD, BAD]),
    ("integers in a dictionary", "int64", pa.array([5, 6, 5]).dictionary_encode(), [5, 6, 5]),
    ("integers as doubles", "int64", pa.array([1.0, 1.5, math.nan, math.inf, -0.0, 2.0**53 - 1]), [1, BAD, None, BAD, 0, 2**53 - 1]),
    ("integers as floats", "int64", pa.array([1.0, 0.5, 2.0**24 - 1], pa.float32()), [1, BAD, 2**24 - 1]),
    ("integers as half floats", "int64", pa.array([1.0, 0.5, 2047.0], pa.float16()), [1, BAD, 2047]),
    *((f"integers as {kind}", "int64", pa.array(decimals("1.00", "1.50", "-7", "0"), kind), [1, BAD, -7, 0])
      for kind in (pa.decimal32(5, 2), pa.decimal64(10, 2), pa.decimal128(38, 2), pa.decimal256(60, 2))),
    ("integers as wide decimals", "int64", pa.array(decimals("9223372036854775807", "9223372036854775808", "1e30"), pa.decimal256(60, 20)), [2**63 - 1, BAD, BAD]),
    ("no integer at all", "int64", pa.nulls(3), [None] * 3),
    ("numbers as half floats", "float32", pa.array([1.5, math.nan], pa.float16()), [1.5, None]),
    ("numbers as wide decimals", "float32", pa.array(decimals("1.5", "1e39"), pa.decimal256(60, 2)), [1.5, BAD]),
    ("no number at all", "float32", pa.nulls(2), [None] * 2),
    ("no text at all", "strings", pa.nulls(2), [None] * 2),
    *((f"times as {unit}", "timestamp", pa.array([MIDDAY, None], pa.timestamp(unit)), [MIDDAY, None]) for unit in ("s", "ms", "us", "ns")),
    ("times of a zone", "timestamp", pa.array([MIDDAY.replace(tzinfo=UTC)], pa.timestamp("ns", "Asia/Tokyo")), [MIDDAY]),
    ("times as nanoseconds are cut", "timestamp", pa.array([T * 10**9 + 1], pa.int64()).cast(pa.timestamp("ns")), [MIDDAY]),
    ("times as days", "timestamp", pa.array([MIDDAY.date()]), [dt.datetime(2026, 1, 5)]),  # noqa: DTZ001
    ("times as fractions", "timestamp", pa.array([T + 0.25]), [MIDDAY.replace(microsecond=250_000)]),
    ("times as decimals", "timestamp", pa.array(decimals(f"{T}.5"), pa.decimal128(20, 3)), [MIDDAY.replace(microsecond=500_000)]),
    ("a time that is none", "timestamp", pa.array([T, T, 2**62, -(2**62)]), [MIDDAY, MIDDAY, BAD, BAD]),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "landed", "expected"), [pytest.param(*rest, id=what) for what, *rest in ARROW])
def test_a_parquet_column_is_read_as_the_declared_type(
    tmp_path: Path, declared: str, landed: pa.Array, expected: list[Any]
) -> None:
    table = pa.table({"user_id": range(len(landed)), "value": landed})
    same({user: value for user, value in taken(tmp_path, declared, table).items()}, expected)


REFUSED: list[tuple[str, str, pa.Array, str]] = [
    ("ids that a double rounds", "int64", pa.array([1.0, 2.0**53]), "holds integers as double, which rounds integers as large as 9007199254740992: write it as int64 or text"),
    ("ids that a float rounds", "int64", pa.array([-(2.0**24)], pa.float32()), "holds integers as float, .* as large as 16777216"),
    ("ids that half a float rounds", "int64", pa.array([2048.0], pa.float16()), "holds integers as halffloat, .* as large as 2048"),
    ("times that a float rounds", "timestamp", pa.array([float(T)], pa.float32()), "holds integers as float"),
    ("truth where numbers belong", "int64", pa.array([True]), "is bool, where the profile says int64: write digits"),
    ("truth where floats belong", "float32", pa.array([True]), "is bool, where the profile says float32"),
    ("lists where text belongs", "string", pa.array([["a"]]), "is list<element: string>, where the profile says string"),
    ("lists of integers", "strings", pa.array([[1]]), "where the profile says strings: write lists of text"),
    ("lists of lists", "strings", pa.array([[["a"]]]), "where the profile says strings"),
    ("floats where text belongs", "string", pa.array([1.5]), "is double, where the profile says string"),
    ("structs", "string", pa.array([{"x": 1}]), "is struct<x: int64>, where the profile says string"),
    ("durations", "timestamp", pa.array([1], pa.duration("s")), r"is duration\[.*\], where the profile says timestamp"),
    ("uuids", "string", pa.array([b"0123456789abcdef"], pa.uuid()), "arrow.uuid.*, where the profile says string"),
    ("bytes that are not text", "string", pa.array([b"\xff"]), r"column 'value' \(binary\) cannot be read"),
    ("text that is not UTF-8", "string", pa.array([b"\xff"]).view(pa.string()), r"column 'value' \(string\) cannot be read"),
    ("lists of what is not UTF-8", "strings", pa.ListArray.from_arrays([0, 1], pa.array([b"\xff"]).view(pa.string())), "cannot be read"),
    ("times of a far future", "timestamp", pa.array([2**60], pa.timestamp("ms")), "cannot be read: .*out of bounds"),
    ("milliseconds", "timestamp", pa.array([T * 1000, None]), "looks like milliseconds since 1970: write seconds since 1970"),
    ("microseconds", "timestamp", pa.array([T * 10**6, 0, T * 10**6]), "looks like microseconds"),
    ("nanoseconds", "timestamp", pa.array([T * 1e9]), "looks like nanoseconds"),
    ("days", "timestamp", pa.array([20_458, 20_459]), "looks like days"),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "landed", "says"), [pytest.param(*rest, id=what) for what, *rest in REFUSED])
def test_a_parquet_column_that_cannot_be_trusted_is_named(
    tmp_path: Path, declared: str, landed: pa.Array, says: str
) -> None:
    table = pa.table({"user_id": range(len(landed)), "value": landed})
    with pytest.raises(LandedFileError, match=says) as raised:
        taken(tmp_path, declared, table)
    assert "u.parquet" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_milliseconds_as_text_are_told_from_seconds(tmp_path: Path) -> None:
    with pytest.raises(LandedFileError, match="u.csv: column 'value' looks like milliseconds since 1970"):
        taken(tmp_path, "timestamp", texts([str(T * 1000), f"{T * 1000}.5", ""]))


def test_small_numbers_are_seconds_where_events_are_of_1970(tmp_path: Path) -> None:
    table = pa.table({"user_id": [1, 2], "value": [20_458, 20_459]})
    assert taken(tmp_path, "timestamp", table, first="1970-01-01")[1] == dt.datetime(1970, 1, 1, 5, 40, 58)  # noqa: DTZ001


def test_a_column_that_is_mostly_of_another_type_says_what_to_write(tmp_path: Path) -> None:
    """This is how pandas writes integers with a gap into a CSV."""
    with pytest.raises(
        LandedFileError, match=r"is not of type int64 in any row \(it holds '25.0'\): write digits .*Int64"
    ):
        taken(tmp_path, "int64", texts(["25.0", "35.0", ""]))
