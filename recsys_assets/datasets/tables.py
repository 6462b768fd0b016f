"""Landed tables: read a CSV or Parquet file as it came, give its columns the platform's names and types.

A file that cannot be read, lacks a column or holds another type fails as a whole, by name. A single bad
row never does: its reason is found here or in `ingest.py`, and it is kept aside.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import name, quoted
from recsys_assets.datasets.profile import Column


class LandedFileError(ValueError):
    """A landing file that cannot be used at all; the message names the file and the column."""


@dataclass
class Landed:
    """Rows of one file under the platform's column names, values as they came.

    Attributes:
        table: one column for each column of the profile, text in a CSV; `row` counts from 1.
        malformed: (reason, text) of each CSV line that has another number of fields than the header.
    """

    file: Path
    table: pa.Table
    malformed: list[tuple[str, str]] = field(default_factory=list)


def read_landed(file: Path, columns: dict[str, Column]) -> Landed:
    """Read one landing file.

    Raises:
        LandedFileError: unreadable, a column is missing, or a column is of another type.
    """
    try:
        landed = _read_csv(file) if file.suffix == ".csv" else Landed(file, pq.read_table(file))
    except (pa.ArrowException, OSError) as error:
        raise LandedFileError(f"{file} cannot be read ({str(error).splitlines()[0]}): land it again") from error
    picked = {}
    for column, spec in columns.items():
        wanted = spec.column or column
        if wanted not in landed.table.column_names:
            raise LandedFileError(
                f"{file} lacks the column '{wanted}'; it has {', '.join(landed.table.column_names) or 'none'}"
            )
        picked[column] = landed.table[wanted]
        _check_type(file, wanted, picked[column].type, spec, is_csv=file.suffix == ".csv")
    landed.table = pa.table({"row": pa.array(range(1, landed.table.num_rows + 1), pa.int64()), **picked})
    return landed


def typed(column: str, spec: Column, landed: pa.DataType) -> str:
    """SQL that turns a landed value into its platform type, NULL where it cannot be."""
    value = name(column)
    text = pa.types.is_string(landed) or pa.types.is_large_string(landed)
    match spec.type:
        case "int64":
            whole = f"TRY_CAST({value} AS DOUBLE) = trunc(TRY_CAST({value} AS DOUBLE))"
            return f"CASE WHEN {whole} THEN TRY_CAST({value} AS BIGINT) END"
        case "float32":
            return f"CASE WHEN isfinite(TRY_CAST({value} AS FLOAT)) THEN TRY_CAST({value} AS FLOAT) END"
        case "string":
            return f"nullif(CAST({value} AS VARCHAR), '')"
        case "strings":
            parts = f"string_split({value}, {quoted(spec.separator)})" if text else value
            return f"list_filter({parts}, lambda part: part <> '')"
        case "timestamp":
            seconds = f"to_timestamp(TRY_CAST({value} AS BIGINT))::TIMESTAMP"
            if text:
                return f"coalesce({seconds}, TRY_CAST({value} AS TIMESTAMP))"
            return seconds if _number(landed) else f"CAST({value} AS TIMESTAMP)"


def missing(column: str, landed: pa.DataType) -> str:
    """SQL that is true where a landed value is missing: null, NaN, or an empty field of a CSV."""
    value = name(column)
    if pa.types.is_floating(landed):
        return f"({value} IS NULL OR isnan({value}))"
    if pa.types.is_string(landed) or pa.types.is_large_string(landed):
        return f"coalesce({value}, '') = ''"
    return f"{value} IS NULL"


def _read_csv(file: Path) -> Landed:
    """A CSV with a header, every column as text; lines with too many or too few fields are set aside."""
    malformed: list[tuple[str, str]] = []

    def set_aside(row: pv.InvalidRow) -> str:
        reason = f"the line has {row.actual_columns} fields, not {row.expected_columns}"
        malformed.append((reason, row.text))
        return "skip"

    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            header = pv.open_csv(pa.BufferReader(lines.readline().encode())).schema.names
        except UnicodeDecodeError as error:
            raise LandedFileError(f"{file} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    table = pv.read_csv(
        file,
        parse_options=pv.ParseOptions(invalid_row_handler=set_aside, newlines_in_values=True),
        convert_options=pv.ConvertOptions(column_types=dict.fromkeys(header, pa.string())),
    )
    return Landed(file, table, malformed)


def _check_type(file: Path, column: str, found: pa.DataType, spec: Column, *, is_csv: bool) -> None:
    """Refuse a Parquet column whose type cannot hold the values that the profile declares."""
    if is_csv:
        return
    textual = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_dictionary(found)
    fits = {
        "int64": _number(found),
        "float32": _number(found),
        "string": textual or pa.types.is_integer(found),
        "strings": textual or pa.types.is_list(found) or pa.types.is_large_list(found),
        "timestamp": pa.types.is_timestamp(found) or _number(found),
    }
    if not fits[spec.type] and not pa.types.is_null(found):
        raise LandedFileError(f"{file}: column '{column}' is {found}, where the profile says {spec.type}")


def _number(found: pa.DataType) -> bool:
    return bool(pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found))
