"""Landed tables: read a file as it came (CSV, TSV or Parquet), give its columns the platform's names and types.

A TSV has no header and no quotation marks: its columns are those of the profile, in their order. A file that
cannot be read, lacks a column or holds another type fails as a whole, by name. A single bad row never does:
its reason is found here or in `ingest.py`, and it is kept aside.
"""

import codecs
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import name, quoted
from recsys_assets.datasets.profile_parts import Column

# Stands for bytes that are no UTF-8, where pyarrow would refuse the file: a code point that is no character.
_NO_TEXT, _MARKED = "\ufffe", "recsys_assets_marked"
codecs.register_error(_MARKED, lambda error: (_NO_TEXT, error.end))  # type: ignore[attr-defined]


class LandedFileError(ValueError):
    """A landing file that cannot be used at all; the message names the file and the column."""


@dataclass(frozen=True)
class Malformed:
    """A line that is no row of the table: another number of fields than columns, or no text."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class Landed:
    """Rows of one file under the platform's column names, values as they came.

    Attributes:
        table: a column for each column of the profile, text in a CSV or TSV; and `row`, which counts from 1.
        malformed: what could not be put into the table, counted by the same `row`.
    """

    table: pa.Table
    malformed: list[Malformed] = field(default_factory=list)


def read_landed(file: Path, columns: dict[str, Column]) -> Landed:
    """Read one landing file.

    Raises:
        LandedFileError: unreadable, a column is missing or there twice, or a column is of another type.
    """
    names = [spec.column or column for column, spec in columns.items()]
    suffix = file.suffix.lower()
    try:
        landed = {".csv": _read_csv, ".tsv": _read_tsv, ".parquet": _read_parquet}[suffix](file, names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LandedFileError(f"{file} cannot be read ({str(error).splitlines()[0]}): land it again") from error
    for column, spec in zip(names, columns.values(), strict=True):
        if suffix == ".csv":
            _refuse_open_quote(file, column, spec, landed.table)
        elif suffix == ".parquet":
            _refuse_type(file, column, spec, landed.table[column].type)
    return Landed(landed.table.rename_columns(["row", *columns]), landed.malformed)


def typed(column: str, spec: Column, landed: pa.DataType) -> str:
    """SQL that turns a landed value into its platform type, NULL where it cannot be."""
    value = name(column)
    match spec.type:
        case "int64":
            whole = f"TRY_CAST({value} AS DOUBLE) = trunc(TRY_CAST({value} AS DOUBLE))"
            return f"CASE WHEN {whole} THEN TRY_CAST({value} AS BIGINT) END"
        case "float32":
            return f"CASE WHEN isfinite(TRY_CAST({value} AS FLOAT)) THEN TRY_CAST({value} AS FLOAT) END"
        case "string":
            return f"nullif(CAST({value} AS VARCHAR), '')"
        case "strings":
            parts = f"string_split({value}, {quoted(spec.separator)})" if _text(landed) else value
            return f"list_filter({parts}, lambda part: part <> '')"
        case "timestamp":
            # By way of TIMESTAMPTZ, in UTC: a cast of text to TIMESTAMP drops its offset without a word.
            moment = f"TRY_CAST({value} AS TIMESTAMPTZ)"
            if _text(landed) or _number(landed):
                seconds = f"TRY(to_timestamp(TRY_CAST({value} AS DOUBLE)))"
                moment = f"coalesce({seconds}, {moment})" if _text(landed) else seconds
            return f"CAST({moment} AS TIMESTAMP)"


def missing(column: str, landed: pa.DataType) -> str:
    """SQL that is true where a landed value is missing: null, NaN, or an empty field of a CSV."""
    value = name(column)
    if pa.types.is_floating(landed):
        return f"({value} IS NULL OR isnan({value}))"
    return f"coalesce({value}, '') = ''" if _text(landed) else f"{value} IS NULL"


def _read_parquet(file: Path, names: list[str]) -> Landed:
    with pq.ParquetFile(file) as source:
        _refuse_columns(file, names, source.schema_arrow.names)
        table = source.read(names).select(names)
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in table.schema.types]
    return _numbered(table.cast(pa.schema(list(zip(names, kinds, strict=True)))), [])


def _read_csv(file: Path, names: list[str]) -> Landed:
    """A CSV with a header, the named columns as text; lines with too many or too few fields are set aside."""
    malformed: list[Malformed] = []
    table = pv.read_csv(
        file,
        read_options=pv.ReadOptions(use_threads=False),  # with threads, lines have no number
        parse_options=pv.ParseOptions(invalid_row_handler=_aside(malformed, header=1), newlines_in_values=True),
        convert_options=_as_text(names),
    )
    _refuse_columns(file, names, table.column_names)
    for line in malformed:
        if "\n" in line.text:
            raise LandedFileError(f"{file}: row {line.row} runs over several lines: close its quotation mark")
    return _numbered(table.select(names), malformed)


def _read_tsv(file: Path, names: list[str]) -> Landed:
    """Lines of tab-separated text; those with too many or too few fields, or bytes that are no UTF-8, are set aside."""
    malformed: list[Malformed] = []
    text = file.read_bytes().decode("utf-8", _MARKED)
    content = text.encode()
    if not content:
        return _numbered(pa.table({name: pa.array([], pa.string()) for name in names}), [])
    table = pv.read_csv(
        pa.BufferReader(content),
        # In one block, so that no line, however long, lies across two; with threads, lines have no number.
        read_options=pv.ReadOptions(column_names=names, use_threads=False, block_size=len(content)),
        parse_options=pv.ParseOptions(
            delimiter="\t",
            quote_char=False,
            double_quote=False,
            ignore_empty_lines=False,
            invalid_row_handler=_aside(malformed, header=0),
        ),
        convert_options=_as_text(names),
    )
    landed = _numbered(table, malformed)
    return _without_marked(landed) if _NO_TEXT in text else landed


def _aside(malformed: list[Malformed], header: int) -> Callable[[pv.InvalidRow], str]:
    """What pyarrow calls with each line of a wrong number of fields; rows are counted from 1 after the header."""

    def set_aside(line: pv.InvalidRow) -> str:
        reason = f"the line has {line.actual_columns} fields, not {line.expected_columns}"
        malformed.append(Malformed(line.number - header, reason, line.text))
        return "skip"

    return set_aside


def _as_text(names: list[str]) -> pv.ConvertOptions:
    return pv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))


def _without_marked(landed: Landed) -> Landed:
    """Set aside the rows in which bytes were no text."""
    marked = np.zeros(landed.table.num_rows, bool)
    for column in landed.table.column_names[1:]:
        marked |= pc.match_substring(landed.table[column], _NO_TEXT).to_numpy()
    bad = landed.table.filter(pa.array(marked)).to_pydict()
    lines = [
        Malformed(row, "the line is no UTF-8 text", "\t".join(values))
        for row, *values in zip(*bad.values(), strict=True)
    ]
    return Landed(landed.table.filter(pa.array(~marked)), [*landed.malformed, *lines])


def _numbered(table: pa.Table, malformed: list[Malformed]) -> Landed:
    """The rows with their numbers in the file, from 1, which malformed lines take up too."""
    count = table.num_rows + len(malformed)
    row = np.delete(np.arange(1, count + 1), np.array([line.row for line in malformed], int) - 1)
    return Landed(table.add_column(0, "row", pa.array(row)), malformed)


def _refuse_columns(file: Path, names: list[str], found: list[str]) -> None:
    for column in names:
        if found.count(column) != 1:
            fault = "has more than once" if column in found else "lacks"
            raise LandedFileError(
                f"{file} {fault} the column '{column}'; it has {', '.join(found) or 'none'}: "
                "mend the file, or say in the profile (`column`) which one it is"
            )


def _refuse_open_quote(file: Path, column: str, spec: Column, table: pa.Table) -> None:
    """Refuse a CSV in which an open quotation mark has swallowed lines: no number holds a line break."""
    if spec.type in ("string", "strings"):
        return
    broken = pc.index(pc.match_substring(table[column], "\n"), True).as_py()
    if broken >= 0:
        row = table["row"][broken].as_py()
        raise LandedFileError(f"{file}: '{column}' of row {row} runs over several lines: close its quotation mark")


def _refuse_type(file: Path, column: str, spec: Column, found: pa.DataType) -> None:
    """Refuse a Parquet column whose type cannot hold the values that the profile declares."""
    nested = pa.types.is_list(found) or pa.types.is_large_list(found)
    fits = {
        "int64": _number(found),
        "float32": _number(found),
        "string": _text(found) or pa.types.is_integer(found),
        "strings": _text(found) or (nested and _text(found.value_type)),
        "timestamp": pa.types.is_timestamp(found) or _number(found),
    }
    if not fits[spec.type] and not pa.types.is_null(found):
        raise LandedFileError(f"{file}: column '{column}' is {found}, where the profile says {spec.type}: mend either")


def _text(found: pa.DataType) -> bool:
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found))


def _number(found: pa.DataType) -> bool:
    return bool(pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found))
