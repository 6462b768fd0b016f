"""Conversion of landed values: SQL that turns them into the platform's integers, numbers, timestamps and texts.

As text, an integer is digits with an optional sign; a number may have a decimal point and an exponent; a timestamp is
seconds since 1970 without an exponent, or an ISO 8601 date. Blanks, underscores and other bases are not accepted. The
profile's `files` may name another decimal sign, unit or form of dates, and the zone of times without an offset.
Decimals are read as float64: models compute with float32, stores and DuckDB hold no decimals of more than 38 digits,
and a double tells amounts of up to 15 digits apart.
"""

import re
from collections.abc import Callable
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from recsys_assets.datasets import list_values
from recsys_assets.datasets.arrow_types import is_number, is_text
from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.profile_parts import Column, ColumnType

_INTEGER = "[+-]?[0-9]+"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?"
_TRUE, _FALSE = "('true', 't', 'yes', 'y', '1')", "('false', 'f', 'no', 'n', '0')"
_SECONDS = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_NUMBER = _SECONDS + "([eE][+-]?[0-9]+)?"
_NO_OFFSET = "[0-9]+-[0-9]+-[0-9]+([ T]+[0-9:.]*)?"  # an ISO date that does not say its offset from UTC
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that Python and most databases support
# The years 1980 and 2100 in days. In between, seconds are larger than days and smaller than milliseconds.
_DAYS = (3_653, 47_482)
_UNITS = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_AS_OURS = Files()

WRITE_AS = {
    "int64": "write digits with an optional sign (a column with a gap as pandas' Int64, not as floats)",
    "float32": "write numbers like 1.5",
    "string": "write text",
    "strings": "write lists of text, a JSON list, or text with a separator",
    "int32": "write digits with an optional sign, up to 2147483647, or declare int64",
    "float64": "write numbers like 1.5",
    "bool": "write true or false",
    "date": "write dates like 2026-01-05",
    "path": "write text with a separator, like electronics.phone, or the list of its parts",
    "vector": "write lists of as many finite numbers as the width says, or text like [0.1, 0.2]",
    "text": "write text",
    "timestamp": "write seconds since 1970 (UTC), a date like 2026-01-05T10:00:00Z, or Parquet's timestamps",
}


def typed_value(column: str, spec: Column, landed: pa.DataType, files: Files = _AS_OURS) -> str:
    """SQL that turns a landed value into its platform type, or NULL if it cannot be read."""
    return _READERS[spec.type](quote_name(column), landed, spec, files)


def is_missing(column: str, landed: pa.DataType) -> str:
    """SQL that is true where a landed value is missing: null, NaN, or an empty field of a CSV."""
    value = quote_name(column)
    if types.is_floating(landed):
        return f"({value} IS NULL OR isnan({value}))"
    return f"coalesce({value}, '') = ''" if is_text(landed) else f"{value} IS NULL"


def other_unit(values: pa.ChunkedArray, *, days: bool, unit: str = "s") -> str:
    """The unit of a column of timestamps, by the median of its numbers; empty if that is `unit` or unknown.

    `days`: whether small numbers are of a larger unit, because no event is from the first days of 1970.
    """
    numbers = _numbers(values)
    typical = pc.quantile(pc.abs(numbers), 0.5, interpolation="lower")[0].as_py() if len(numbers) else None
    if typical is None:
        return ""
    found = next((name for name, factor in _UNITS.items() if typical <= _LAST_SECOND * factor), "nanoseconds")
    if days and _DAYS[0] <= typical <= _DAYS[1]:
        found = "days"
    sizes = ["days", *_UNITS]
    larger = sizes.index(found) < sizes.index(UNIT_NAMES[unit])
    return "" if found == UNIT_NAMES[unit] or (larger and not days) else found


def _numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column's numbers; none if half of a text column or more is something else."""
    if is_text(values.type):
        numeric = pc.match_substring_regex(values, f"^{_SECONDS}$")
        values = values.filter(numeric)
        values = values if (pc.sum(numeric).as_py() or 0) * 2 > len(numeric) else values.slice(0, 0)
    if is_text(values.type) or is_number(values.type):
        return values.cast(pa.float64(), safe=False).drop_null()
    return pa.chunked_array([], pa.float64())


def _if_matches(value: str, pattern: str, converted: str) -> str:
    return f"CASE WHEN regexp_full_match({value}, {quote(pattern)}) THEN {converted} END"


def _moment(value: str, landed: pa.DataType, files: Files) -> str:
    """SQL for a TIMESTAMP in UTC."""
    if files.date_format and (is_text(landed) or is_number(landed)):
        return _from_pattern(value, files)
    # By way of TIMESTAMPTZ, in UTC: a cast of text to TIMESTAMP silently drops its offset.
    moment = f"TRY_CAST({value} AS TIMESTAMPTZ)"
    local = _to_utc(f"TRY_CAST({value} AS TIMESTAMP)", files)
    if is_text(landed):
        moment = f"CASE WHEN regexp_full_match({value}, {quote(_NO_OFFSET)}) THEN {local} ELSE {moment} END"
        number = _if_matches(value, _SECONDS, _from_number(value, files.time_unit))
        moment = f"coalesce({number}, {_if_matches(value, '[0-9].*', moment)})"
    elif is_number(landed):
        moment = _from_number(value, files.time_unit)
    elif types.is_timestamp(landed) and landed.tz is None:
        moment = local
    return f"CAST({moment} AS TIMESTAMP)"


def _from_number(value: str, unit: str) -> str:
    """SQL for the moment of a number since 1970; the fine units by way of integers, which are exact."""
    match unit:
        case "s" | "ms":
            return f"TRY(to_timestamp(TRY_CAST({value} AS DOUBLE){' / 1000' if unit == 'ms' else ''}))"
        case _:
            whole = f"TRY_CAST({value} AS BIGINT)"
            return f"TRY(make_timestamp({whole if unit == 'us' else f'{whole} // 1000'}))"


def _from_pattern(value: str, files: Files) -> str:
    """SQL for the moment of a text of the profile's date format."""
    parsed = f"try_strptime(CAST({value} AS VARCHAR), {quote(files.date_format or '')})"
    has_offset = re.search("%[zZ]", files.date_format or "")
    return f"CAST({parsed} AS TIMESTAMP)" if has_offset else _to_utc(parsed, files)


def _to_utc(local: str, files: Files) -> str:
    """SQL that turns a TIMESTAMP of the profile's zone into UTC."""
    moment = files.utc_sql(local)
    return moment if moment == local else f"TRY({moment})"


def _whole(value: str, landed: pa.DataType, spec: Column, _: Files) -> str:
    number = f"TRY_CAST({value} AS {_SQL_NUMBERS[spec.type]})"
    if is_text(landed):
        return _if_matches(value, _INTEGER, number)
    return f"CASE WHEN {value} = trunc({value}) THEN {number} END" if types.is_floating(landed) else number


def _number(value: str, landed: pa.DataType, spec: Column, files: Files) -> str:
    pattern, plain = _NUMBER, value
    if files.decimal == "," and is_text(landed):
        pattern, plain = _NUMBER.replace(r"\.", ","), f"replace({value}, ',', '.')"
    number = f"TRY_CAST({plain} AS {_SQL_NUMBERS[spec.type]})"
    finite = f"CASE WHEN isfinite({number}) THEN {number} END"
    return _if_matches(value, pattern, finite) if is_text(landed) else finite


def _truth(value: str, landed: pa.DataType, *_: object) -> str:
    if types.is_boolean(landed):
        return value
    said = f"lower({value})" if is_text(landed) else f"CAST({value} AS DOUBLE)"
    true, false = (_TRUE, _FALSE) if is_text(landed) else ("(1)", "(0)")
    return f"CASE WHEN {said} IN {true} THEN true WHEN {said} IN {false} THEN false END"


def _text(value: str, *_: object) -> str:
    return f"nullif(CAST({value} AS VARCHAR), '')"


def _time(value: str, landed: pa.DataType, _: Column, files: Files) -> str:
    moment = _moment(value, landed, files)
    known = f"{moment} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
    return f"CASE WHEN {known} THEN {moment} END"


def _date(value: str, landed: pa.DataType, _: Column, files: Files) -> str:
    """SQL for the date as it is written, whatever the zone; of a time with a zone in Parquet, the date in UTC."""
    date = f"TRY_CAST({value} AS DATE)"
    if is_text(landed):
        whole = f"TRY_CAST({value} AS TIMESTAMPTZ) IS NOT NULL"
        written = _if_matches(value, _DATE, f"CASE WHEN {whole} THEN TRY_CAST(left({value}, 10) AS DATE) END")
        date = f"CAST(try_strptime({value}, {quote(files.date_format)}) AS DATE)" if files.date_format else written
    return f"CASE WHEN {date} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {date} END"


def _list(read: Callable[[str, pa.DataType, Column], str]) -> "Reader":
    return lambda value, landed, spec, _: read(value, landed, spec)


Reader: TypeAlias = Callable[[str, pa.DataType, Column, Files], str]
_SQL_NUMBERS = {"int64": "BIGINT", "int32": "INTEGER", "float32": "FLOAT", "float64": "DOUBLE"}
_READERS: dict[ColumnType, Reader] = {
    "int64": _whole,
    "int32": _whole,
    "float32": _number,
    "float64": _number,
    "bool": _truth,
    "date": _date,
    "timestamp": _time,
    "string": _text,
    "text": _text,
    "strings": _list(list_values.texts),
    "path": _list(list_values.prefixes),
    "vector": _list(list_values.vector),
}
