"""Reading of landed tables: a file (CSV, TSV, JSON lines or Parquet) becomes columns with the platform's names.

A file that cannot be read, lacks a column or has a wrong type fails as a whole, with an error that names it. A single
bad row never fails a file: it is set aside with its reason, here or in `ingest.py`. The one exception is a column of
integers stored as floats too large to be exact: nobody can say which rows are wrong.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.arrow_types import can_hold, is_any_list, is_text, largest_inexact, to_plain
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.json_lines import read_json_lines
from recsys_assets.datasets.landing_files import form
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.text_files import (
    Landed,
    LandedFileError,
    Malformed,
    landed_names,
    number_rows,
    read_text,
    refuse_columns,
)
from recsys_assets.datasets.values import UNIT_NAMES, WRITE_AS, other_unit

__all__ = ["Landed", "LandedFileError", "Malformed", "read_landed", "refuse_units"]

# In the metadata of a Parquet file: its values are texts as they came from a text file, whatever the declared types.
RAW = {b"recsys_assets.values": b"text"}


def read_landed(file: Path, columns: dict[str, Column], files: Files) -> Landed:
    """Read one landing file; `files` says how the files of this table are written.

    Raises:
        LandedFileError: the file is unreadable, or a column is missing, occurs twice or has a wrong type.
    """
    kind, codec = form(file.name) or ("", None)
    try:
        match kind:
            case ".parquet":
                with pq.ParquetFile(file) as source:
                    refuse_columns(file, landed_names(columns), source.schema_arrow.names)
                    table = source.read(list(dict.fromkeys(landed_names(columns))))
                return number_rows(plain_table(file, table, columns, files), [])
            case ".jsonl" | ".ndjson":
                return read_json_lines(file, codec, columns, files)
            case _:
                return read_text(file, ".tsv" if kind == ".tsv" else ".csv", codec, columns, files)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        encoding = ", or say its `encoding` in the profile's `files`" if isinstance(error, UnicodeError) else ""
        raise LandedFileError(
            f"{file} cannot be read ({str(error).splitlines()[0]}): land it again{encoding}"
        ) from error


def plain_table(file: Path | str, table: pa.Table, columns: dict[str, Column], files: Files) -> pa.Table:
    """The columns of the profile, from a table of a Parquet file, in plain types.

    Raises:
        LandedFileError: a column has a wrong type, or cannot be read.
    """
    found = {}
    for (column, spec), landed in zip(columns.items(), landed_names(columns), strict=True):
        values = table[landed]
        is_date = spec.type == "timestamp" and files.date_format is not None and is_text(values.type)
        if not is_date and not is_raw(table.schema, values.type):
            _refuse_type(file, landed, spec, values)
        try:
            found[column] = to_plain(values, spec.type)
        except pa.ArrowException as error:
            said = str(error).splitlines()[0]
            raise LandedFileError(f"{file}: column '{landed}' ({values.type}) cannot be read: {said}") from error
    return pa.table(found)


def is_raw(schema: pa.Schema, kind: pa.DataType) -> bool:
    """Whether a column of a file that `recsys land` wrote holds the texts of its source."""
    return RAW.items() <= (schema.metadata or {}).items() and (is_text(kind) or is_any_list(kind))


def refuse_units(file: Path | str, columns: dict[str, Column], table: pa.Table, files: Files, *, days: bool) -> None:
    """Refuse a column of timestamps in another unit than the profile's.

    `days`: whether small numbers are of a larger unit, because no event is from the first days of 1970.
    """
    for column, spec in columns.items() if files.date_format is None else ():
        unit = other_unit(table[column], days=days, unit=files.time_unit) if spec.type == "timestamp" else ""
        if unit:
            code = next((code for code, name in UNIT_NAMES.items() if name == unit), "")
            advice = f", or say in the profile `files: {{time_unit: {code}}}`" if code else ""
            where = f"{file}: column '{spec.column or column}'"
            raise LandedFileError(f"{where} looks like {unit} since 1970: {WRITE_AS['timestamp']}{advice}")


def _refuse_type(file: Path | str, column: str, spec: Column, values: pa.ChunkedArray) -> None:
    """Refuse a Parquet column whose type cannot hold the declared type, or has rounded its values."""
    if not can_hold(values.type, spec.type):
        raise LandedFileError(
            f"{file}: column '{column}' is {values.type}, where the profile says {spec.type}: {WRITE_AS[spec.type]}, "
            "or change the profile"
        )
    whole = spec.type in ("int64", "int32") or (
        spec.type == "timestamp" and values.type in (pa.float16(), pa.float32())
    )
    if whole and (size := largest_inexact(values)) is not None:
        raise LandedFileError(
            f"{file}: column '{column}' holds integers as {values.type}, which rounds integers as large as "
            f"{size:.17g}: write it as int64 or text (pandas turns a column with a gap into floats: use its Int64)"
        )
