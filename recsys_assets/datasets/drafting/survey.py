"""A survey of one file of a new data set: the form of its text, and what each of its columns holds."""

import codecs
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from recsys_assets.datasets.drafting.date_formats import MOST, find_date_format
from recsys_assets.datasets.duck import only_row, quote, quote_name

SAMPLE = 1_000_000  # rows whose values are looked at; the number of all rows and the span of time are of the whole file
_HEAD = 2**20  # bytes by which the encoding is recognised
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # by the unit of times
_EARLIEST, _LATEST = 315_532_800, 4_102_444_800  # seconds of 1980 and of 2100: a number between them may be a time
_SEPARATORS = ("|", ";", ",")  # of several values in one text
# Words that programs write for a missing value; a text may mean what it says, so it counts only among numbers or times.
_MISSING = (
    *("NA", "N/A", "n/a", "na", "#N/A", "NULL", "Null", "null", "None", "none", "nil", "\\N", "-", "?", "undefined"),
)


class SurveyError(ValueError):
    """A file that cannot be surveyed; the message names it and says what to do."""


@dataclass(frozen=True)
class Facts:
    """A description of the sampled values of one column.

    Attributes:
        kind: DuckDB's type of the column in a typed file; VARCHAR in text files.
        filled, distinct: how many values are not empty, and about how many are different.
        integers, numbers, times: the shares of the filled values that are read as such.
        wholes: the share of values that are whole numbers written with a point, like 12.0.
        padded: the share of values with a zero in front, which an integer would lose.
        units: the share of values that are numbers between 1980 and 2100, by the unit in which they would be times.
        low, high: the least and the greatest number; None if no value is one.
        words: the mean number of words of a value.
        truths: the share of values that are written as true or false.
        has_decimal_comma: whether all values are numbers with a decimal comma, which is a point in the sample.
        listed: the share of values that hold each of several separators, and `[` for JSON lists.
        examples: a few values.
    """

    name: str
    kind: str
    filled: int
    distinct: int
    integers: float
    numbers: float
    times: float
    wholes: float
    padded: float
    units: Mapping[str, float]
    low: float | None
    high: float | None
    words: float
    truths: float
    has_decimal_comma: bool
    listed: Mapping[str, float]
    examples: list[str]

    @property
    def is_integer(self) -> bool:
        """Whether all values are integers that lose nothing as numbers."""
        return self.filled > 0 and self.integers == 1 and not self.padded

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return self.filled > 0 and self.numbers == 1 and not self.padded

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers written with a point, as programs do that know no missing integers."""
        return self.filled > 0 and self.wholes == 1

    @property
    def time_unit(self) -> str | None:
        """The unit in which most values would be times since 1970; None if they cannot be."""
        if not self.filled or self.padded:
            return None
        return next((unit for unit, share in self.units.items() if share >= MOST), None)

    @property
    def may_be_id(self) -> bool:
        """Whether the values may be ids by their form: short, and no fractions."""
        return self.filled > 0 and self.words <= 1.2 and (not self.is_number or self.is_integer or self.is_whole)

    @property
    def is_time(self) -> bool:
        """Whether all values may be times, as text or as numbers."""
        return self.is_mostly_time and (self.times == 1 or max(self.units.values()) == 1)

    @property
    def is_mostly_time(self) -> bool:
        """Whether most values may be times, as text or as numbers."""
        return self.time_unit is not None or (self.filled > 0 and self.times >= MOST and not self.is_number)


@dataclass(frozen=True)
class Survey:
    """One file.

    Attributes:
        relation: SQL of its rows, in which a column of text is VARCHAR.
        sample: the table with the first of them.
        form: the keys of the profile's `files` that differ from their defaults.
        rows: number of rows in the file.
        has_names: whether the file names its columns.
        columns: by name, in the file's order.
    """

    path: Path
    relation: str
    sample: str
    form: Mapping[str, object]
    rows: int
    has_names: bool
    columns: Mapping[str, Facts] = field(default_factory=dict)


def survey(connection: duckdb.DuckDBPyConnection, path: Path, sample: str) -> Survey:
    """Survey a CSV, TSV, Parquet or JSON-lines file, compressed or not; `sample` is the table to put its rows into.

    Raises:
        SurveyError: the file is missing or empty, or its form cannot be recognised.
    """
    if not path.is_file():
        raise SurveyError(f"{path} is not a file: give the log as one CSV, TSV, Parquet or JSON-lines file")
    try:
        relation, form, date_format = _relation(connection, path)
        (rows,) = only_row(connection, f"SELECT count(*) FROM {relation}")
        described = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {sample} AS FROM {relation} LIMIT {SAMPLE}")
        texts = [name for name, kind, *_ in described if kind == "VARCHAR"]
        if relation.startswith("read_csv") and (missing := _remove_missing(connection, sample, texts)):
            form = {**form, "missing": missing}
        commas = {name for name in texts if _replace_commas(connection, sample, name)}
        formats = (find_date_format(connection, sample, name) for name in texts)
        date_format = next(filter(None, formats), date_format)
        facts = [_facts(connection, sample, name, kind, date_format, name in commas) for name, kind, *_ in described]
    except duckdb.Error as error:
        raise SurveyError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if not rows:
        raise SurveyError(f"{path} has no rows: give a file with some of the log's rows")
    if date_format and any(each.is_mostly_time and each.time_unit is None for each in facts):
        form = {**form, "date_format": date_format}
    has_names = bool(form.get("header", ".tsv" not in path.name.lower()))
    return Survey(path, relation, sample, form, int(rows), has_names, {each.name: each for each in facts})


def _relation(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[str, dict[str, object], str | None]:
    """SQL of the file's rows, the form of its text, and the format of its times."""
    name = path.name.lower()
    if ".parquet" in name:
        return f"read_parquet({quote(path)})", {}, None
    if ".json" in name or ".ndjson" in name:
        return f"read_json({quote(path)}, format = 'newline_delimited')", {}, None
    encoding = _encoding(path)
    readable = path if encoding == "utf-8" else _utf8_copy(connection, path, encoding)
    sniffed = connection.execute(f"FROM sniff_csv({quote(readable)})").fetchone()
    if sniffed is None:
        raise SurveyError(f"{path} is not a table: give a CSV, TSV, Parquet or JSON-lines file")
    separator, header, dates, times = sniffed[0], bool(sniffed[6]), sniffed[8], sniffed[9]
    relation = (
        f"read_csv({quote(readable)}, all_varchar = true, delim = {quote(separator)}, header = {header}, "
        "ignore_errors = true)"
    )
    return relation, _form(name, separator, header, encoding), _foreign(times) or _foreign(dates)


def _encoding(path: Path) -> str:
    """The encoding of a text file, by its beginning: UTF-16 if it says so, UTF-8 if it is that, or else Windows-1252.

    Windows-1252 has all letters of Latin-1, and the euro sign and quotation marks besides.
    """
    with pa.input_stream(str(path), compression="detect") as stream:
        head = bytes(stream.read(_HEAD))
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _utf8_copy(connection: duckdb.DuckDBPyConnection, path: Path, encoding: str) -> Path:
    """A copy of a text file in UTF-8, which is removed with the connection's other temporary files."""
    (folder,) = only_row(connection, "SELECT current_setting('temp_directory')")
    copy = Path(tempfile.mkdtemp(dir=folder)) / "text"
    with (
        pa.input_stream(str(path), compression="detect") as stream,
        copy.open("w", encoding="utf-8", newline="") as file,
    ):
        file.writelines(codecs.iterdecode(iter(partial(stream.read, _HEAD), b""), encoding, errors="replace"))
    return copy


def _form(name: str, separator: str, header: bool, encoding: str) -> dict[str, object]:
    """The keys of `files` that a text file needs."""
    is_tsv = ".tsv" in name
    found: dict[str, object] = {}
    if separator != ("\t" if is_tsv else ","):
        found["separator"] = separator
    if header is is_tsv:
        found["header"] = header
    if encoding != "utf-8":
        found["encoding"] = encoding
    return found


def _foreign(pattern: Any) -> str | None:
    """A format of dates or times that is not the standard's own, which is read without being named."""
    known = str(pattern or "")
    return known if known and not known.startswith("%Y-%m-%d") else None


def _remove_missing(connection: duckdb.DuckDBPyConnection, sample: str, names: Sequence[str]) -> list[str]:
    """Find the words that stand for missing values among numbers or times, and empty all fields that hold one."""
    known, found = ", ".join(map(quote, _MISSING)), set[str]()
    for name in names:
        value = f"trim({quote_name(name)})"
        point = f"replace({value}, ',', '.')"
        words, others, plain = only_row(
            connection,
            f"SELECT list(DISTINCT {value}) FILTER ({value} IN ({known})), "
            f"count(*) FILTER ({value} NOT IN ({known}, '')), "
            f"count(coalesce(try_cast({point} AS DOUBLE)::VARCHAR, try_cast({value} AS TIMESTAMP)::VARCHAR)) "
            f"FROM {sample}",
        )
        if words and others and others == plain:
            found |= set(words)
    for name in names if found else ():
        column, listed = quote_name(name), ", ".join(map(quote, sorted(found)))
        connection.execute(f"UPDATE {sample} SET {column} = NULL WHERE trim({column}) IN ({listed})")
    return sorted(found)


def _replace_commas(connection: duckdb.DuckDBPyConnection, sample: str, name: str) -> bool:
    """Make points of decimal commas in a column of numbers, and say whether it has any."""
    column = quote_name(name)
    fits = f"bool_and(regexp_full_match(trim({column}), '[+-]?[0-9]*(,[0-9]+)?')) AND bool_or(contains({column}, ','))"
    (found,) = only_row(connection, f"SELECT coalesce({fits}, false) FROM {sample}")
    if found:
        connection.execute(f"UPDATE {sample} SET {column} = replace({column}, ',', '.')")
    return bool(found)


def _facts(
    connection: duckdb.DuckDBPyConnection,
    sample: str,
    name: str,
    kind: str,
    date_format: str | None,
    has_decimal_comma: bool,
) -> Facts:
    """Describe the sampled values of a column."""
    text = f"nullif(trim(CAST({quote_name(name)} AS VARCHAR)), '')"
    unknown = f"coalesce(NOT isfinite(try_cast({text} AS DOUBLE)), false)"  # NaN, as pandas writes what is missing
    text = f"CASE WHEN NOT {unknown} THEN {text} END"
    time = "try_cast(value AS TIMESTAMP)"
    if date_format and kind == "VARCHAR":
        time = f"coalesce({time}, try_strptime(value, {quote(date_format)}))"
    shares = {
        "integers": "regexp_full_match(value, '[+-]?[0-9]+') AND try_cast(value AS BIGINT) IS NOT NULL",
        "numbers": "try_cast(value AS DOUBLE) IS NOT NULL",
        "times": f"{time} IS NOT NULL",
        "wholes": "regexp_full_match(value, '[0-9]+[.]0+')",
        "padded": "regexp_full_match(value, '0[0-9]+')",
        "truths": "lower(value) IN ('true', 'false')",
        **{
            unit: f"coalesce(try_cast(value AS DOUBLE) BETWEEN {_EARLIEST * n} AND {_LATEST * n}, false)"
            for unit, n in PER_SECOND.items()
        },
        **{mark: f"contains(value, {quote(mark)})" for mark in _SEPARATORS},
        "[": "regexp_full_match(value, '\\[.*\\]')",
    }
    listed = ", ".join(f"coalesce(avg(({condition})::INT), 0)" for condition in shares.values())
    filled, distinct, low, high, words, *found = only_row(
        connection,
        "SELECT count(value), count(DISTINCT value), min(try_cast(value AS DOUBLE)), max(try_cast(value AS DOUBLE)), "
        f"coalesce(avg(len(value) - len(replace(value, ' ', '')) + 1), 0), {listed} "
        f"FROM (SELECT {text} AS value FROM {sample}) WHERE value IS NOT NULL",
    )
    examples = connection.execute(
        f"SELECT DISTINCT {text} AS value FROM (FROM {sample} LIMIT 1000) "
        "WHERE value IS NOT NULL ORDER BY value LIMIT 3"
    ).fetchall()
    of = dict(zip(shares, found, strict=True))
    marks = {mark: of[mark] for mark in (*_SEPARATORS, "[")}
    kinds = {each: of[each] for each in ("integers", "numbers", "times", "wholes", "padded", "truths")}
    return Facts(
        name, kind, filled, distinct, low=low, high=high, words=words, listed=marks,
        units={unit: of[unit] for unit in PER_SECOND}, has_decimal_comma=has_decimal_comma,
        examples=[value for (value,) in examples], **kinds,
    )  # fmt: skip
