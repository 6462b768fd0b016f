"""Conversion of landed values: SQL that turns them into the platform's integers, numbers, timestamps and texts.

As text, an integer is digits with an optional sign; a number may have a decimal point and an exponent; a timestamp is
seconds since 1970 without an exponent, or an ISO 8601 date. Blanks, underscores and other bases are not accepted.
"""

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from recsys_assets.datasets.arrow_types import is_number, is_text
from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.profile_parts import Column

_INTEGER = "[+-]?[0-9]+"
_SECONDS = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
_NUMBER = _SECONDS + "([eE][+-]?[0-9]+)?"
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that Python and most databases support
# The years 1980 and 2100 in days. In between, seconds are larger than days and smaller than milliseconds.
_DAYS = (3_653, 47_482)
_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}

WRITE_AS = {
    "int64": "write digits with an optional sign (a column with a gap as pandas' Int64, not as floats)",
    "float32": "write numbers like 1.5",
    "string": "write text",
    "strings": "write lists of text, or text with a separator",
    "timestamp": "write seconds since 1970 (UTC), a date like 2026-01-05T10:00:00Z, or Parquet's timestamps",
}


def typed_value(column: str, spec: Column, landed: pa.DataType) -> str:
    """SQL that turns a landed value into its platform type, or NULL if it cannot be read."""
    value = quote_name(column)
    match spec.type:
        case "int64":
            if is_text(landed):
                return _if_matches(value, _INTEGER, f"TRY_CAST({value} AS BIGINT)")
            whole = f"CASE WHEN {value} = trunc({value}) THEN TRY_CAST({value} AS BIGINT) END"
            return whole if types.is_floating(landed) else f"TRY_CAST({value} AS BIGINT)"
        case "float32":
            number = f"CASE WHEN isfinite(TRY_CAST({value} AS FLOAT)) THEN TRY_CAST({value} AS FLOAT) END"
            return _if_matches(value, _NUMBER, number) if is_text(landed) else number
        case "string":
            return f"nullif(CAST({value} AS VARCHAR), '')"
        case "strings":
            parts = f"string_split({value}, {quote(spec.separator)})" if is_text(landed) else value
            return f"list_filter({parts}, lambda part: part <> '')"
        case "timestamp":
            moment = _moment(value, landed)
            known = f"{moment} BETWEEN TIMESTAMP '0001-01-01' AND TIMESTAMP '9999-12-31 23:59:59.999999'"
            return f"CASE WHEN {known} THEN {moment} END"


def is_missing(column: str, landed: pa.DataType) -> str:
    """SQL that is true where a landed value is missing: null, NaN, or an empty field of a CSV."""
    value = quote_name(column)
    if types.is_floating(landed):
        return f"({value} IS NULL OR isnan({value}))"
    return f"coalesce({value}, '') = ''" if is_text(landed) else f"{value} IS NULL"


def other_unit(values: pa.ChunkedArray, *, days: bool) -> str:
    """The unit of a column of timestamps, by the median of its numbers; empty if that is seconds or unknown.

    `days`: whether small numbers are days, because no event is from the first day of 1970.
    """
    numbers = _numbers(values)
    typical = pc.quantile(pc.abs(numbers), 0.5, interpolation="lower")[0].as_py() if len(numbers) else None
    if typical is None:
        return ""
    if days and _DAYS[0] <= typical <= _DAYS[1]:
        return "days"
    if typical <= _LAST_SECOND:
        return ""
    return next((unit for unit, factor in _UNITS.items() if typical <= _LAST_SECOND * factor), "nanoseconds")


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


def _moment(value: str, landed: pa.DataType) -> str:
    """SQL for a TIMESTAMP in UTC."""
    # By way of TIMESTAMPTZ, in UTC: a cast of text to TIMESTAMP silently drops its offset.
    moment = f"TRY_CAST({value} AS TIMESTAMPTZ)"
    seconds = f"TRY(to_timestamp(TRY_CAST({value} AS DOUBLE)))"
    if is_text(landed):
        moment = f"coalesce({_if_matches(value, _SECONDS, seconds)}, {_if_matches(value, '[0-9].*', moment)})"
    elif is_number(landed):
        moment = seconds
    return f"CAST({moment} AS TIMESTAMP)"
