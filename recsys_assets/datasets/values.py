"""Conversion of landed values: SQL that turns them into the platform's integers, numbers, timestamps and texts.

As text, an integer is digits with an optional sign; a number may have a decimal point and an exponent; a timestamp is
seconds since 1970 without an exponent, or an ISO 8601 date. Blanks, underscores and other bases are not accepted. The
profile's `files` may name another decimal sign, unit or form of dates, and the zone of times without an offset.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from recsys_assets.datasets.arrow_types import is_number, is_text
from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.profile_parts import Column

_INTEGER = "[+-]?[0-9]+"
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
    "strings": "write lists of text, or text with a separator",
    "timestamp": "write seconds since 1970 (UTC), a date like 2026-01-05T10:00:00Z, or Parquet's timestamps",
}


def typed_value(column: str, spec: Column, landed: pa.DataType, files: Files = _AS_OURS) -> str:
    """SQL that turns a landed value into its platform type, or NULL if it cannot be read."""
    value = quote_name(column)
    match spec.type:
        case "int64":
            if is_text(landed):
                return _if_matches(value, _INTEGER, f"TRY_CAST({value} AS BIGINT)")
            whole = f"CASE WHEN {value} = trunc({value}) THEN TRY_CAST({value} AS BIGINT) END"
            return whole if types.is_floating(landed) else f"TRY_CAST({value} AS BIGINT)"
        case "float32":
            pattern, plain = _NUMBER, value
            if files.decimal == "," and is_text(landed):
                pattern, plain = _NUMBER.replace(r"\.", ","), f"replace({value}, ',', '.')"
            number = f"CASE WHEN isfinite(TRY_CAST({plain} AS FLOAT)) THEN TRY_CAST({plain} AS FLOAT) END"
            return _if_matches(value, pattern, number) if is_text(landed) else number
        case "string":
            return f"nullif(CAST({value} AS VARCHAR), '')"
        case "strings":
            parts = f"string_split({value}, {quote(spec.separator)})" if is_text(landed) else value
            return f"list_filter({parts}, lambda part: part <> '')"
        case "timestamp":
            moment = _moment(value, landed, files)
            known = f"{moment} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
            return f"CASE WHEN {known} THEN {moment} END"


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
