"""Reading of landed tables: a file (CSV, TSV or Parquet) becomes columns with the platform's names and plain types.

A TSV has no header and no quotation marks: its columns are those of the profile, in their order. A file that
cannot be read, lacks a column or has a wrong type fails as a whole, with an error that names it. A single bad row
never fails a file: it is set aside with its reason, here or in `ingest.py`. The one exception is a column of integers
stored as floats too large to be exact: nobody can say which rows are wrong.
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

from recsys_assets.datasets.arrow_types import can_hold, largest_inexact, to_plain
from recsys_assets.datasets.landing_files import form
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.values import WRITE_AS

# Replaces NUL and bytes that are not UTF-8, for which pyarrow would refuse the file: a code point that is not a
# character.
_NO_TEXT, _MARKED = "\ufffe", "recsys_assets_marked"
codecs.register_error(_MARKED, lambda error: (_NO_TEXT, error.end))  # type: ignore[attr-defined]
_BLOCK = 2**20  # bytes that the CSV reader takes at once; a longer row needs a larger block


class LandedFileError(ValueError):
    """A landing file that cannot be used at all; the message names the file and the column."""


@dataclass(frozen=True)
class Malformed:
    """A line that is not a row of the table: its number of fields is wrong, or it is not text."""

    row: int
    reason: str
    text: str


@dataclass(frozen=True)
class Landed:
    """Rows of one file under the platform's column names, with their original values.

    Attributes:
        table: the columns of the profile, as text if from a CSV or TSV; and `row`, which counts from 1.
        malformed: lines that could not be put into the table, numbered by the same `row`.
    """

    table: pa.Table
    malformed: list[Malformed] = field(default_factory=list)


def read_landed(file: Path, columns: dict[str, Column]) -> Landed:
    """Read one landing file.

    Raises:
        LandedFileError: the file is unreadable, or a column is missing, occurs twice or has a wrong type.
    """
    kind, codec = form(file.name) or ("", None)
    try:
        match kind:
            case ".parquet":
                return _read_parquet(file, columns)
            case ".tsv":
                return _read_tsv(file, codec, columns)
            case _:
                return _read_csv(file, codec, columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LandedFileError(f"{file} cannot be read ({str(error).splitlines()[0]}): land it again") from error


def _read_parquet(file: Path, columns: dict[str, Column]) -> Landed:
    """The columns of the profile in plain types."""
    names, found = _landed_names(columns), {}
    with pq.ParquetFile(file) as source:
        _refuse_columns(file, names, source.schema_arrow.names)
        table = source.read(list(dict.fromkeys(names)))
    for (column, spec), landed in zip(columns.items(), names, strict=True):
        values = table[landed]
        _refuse_type(file, landed, spec, values)
        try:
            found[column] = to_plain(values, spec.type)
        except pa.ArrowException as error:
            said = str(error).splitlines()[0]
            raise LandedFileError(f"{file}: column '{landed}' ({values.type}) cannot be read: {said}") from error
    return _number_rows(pa.table(found), [])


def _read_csv(file: Path, codec: str | None, columns: dict[str, Column]) -> Landed:
    """A CSV with a header, the named columns as text; lines with too many or too few fields are set aside."""
    names, content = _landed_names(columns), _read_bytes(file, codec)
    if b"\0" in content:  # after a NUL, pyarrow misses the ends of fields and lines
        raise LandedFileError(f"{file} cannot be read (it holds NUL bytes, so it is not text): land it again as UTF-8")
    table, malformed = _parse(content, names)
    _refuse_columns(file, names, table.column_names)
    for line in malformed:
        if "\n" in line.text:
            raise LandedFileError(f"{file}: row {line.row} runs over several lines: close its quotation mark")
    landed = _number_rows(pa.table([table[column] for column in names], list(columns)), malformed)
    for (column, spec), said in zip(columns.items(), names, strict=True):
        _refuse_open_quote(file, said, spec, landed.table["row"], landed.table[column])
    return landed


def _parse(content: bytes, names: list[str], block: int = _BLOCK) -> tuple[pa.Table, list[Malformed]]:
    """The columns of a CSV, and its malformed lines."""
    malformed: list[Malformed] = []
    try:
        table = pv.read_csv(
            pa.BufferReader(content),
            read_options=pv.ReadOptions(use_threads=False, block_size=block),  # threads lose the line numbers
            parse_options=pv.ParseOptions(invalid_row_handler=_handler(malformed, header=1), newlines_in_values=True),
            convert_options=_text_options(names),
        )
    except pa.ArrowInvalid as error:
        if "straddling object" not in str(error) or block >= len(content):
            raise
        return _parse(content, names, _block_size(content))  # a row is longer than the block
    return table, malformed


def _read_tsv(file: Path, codec: str | None, columns: dict[str, Column]) -> Landed:
    """Lines of tab-separated text; those of a wrong number of fields, or that are not UTF-8 text, are set aside."""
    names, malformed = list(columns), list[Malformed]()
    text = _read_bytes(file, codec).decode("utf-8", _MARKED).replace("\0", _NO_TEXT)
    content = text.encode()
    if not content:
        return _number_rows(pa.table({name: pa.array([], pa.string()) for name in names}), [])
    table = pv.read_csv(
        pa.BufferReader(content),
        # One block, so that no line, however long, spans two; one thread, as threads lose the line numbers.
        read_options=pv.ReadOptions(column_names=names, use_threads=False, block_size=_block_size(content)),
        parse_options=pv.ParseOptions(
            delimiter="\t",
            quote_char=False,
            double_quote=False,
            ignore_empty_lines=False,
            invalid_row_handler=_handler(malformed, header=0),
        ),
        convert_options=_text_options(names),
    )
    landed = _number_rows(table, malformed)
    return _without_marked(landed) if _NO_TEXT in text else landed


def _read_bytes(file: Path, codec: str | None) -> bytes:
    with pa.input_stream(str(file), compression=codec) as stream:
        return bytes(stream.read())


def _block_size(content: bytes) -> int:
    """The block size that holds the whole content, or the largest block there can be."""
    return min(len(content), 2**31 - 1)


def _landed_names(columns: dict[str, Column]) -> list[str]:
    """The columns' names in a landing file."""
    return [spec.column or column for column, spec in columns.items()]


def _handler(malformed: list[Malformed], header: int) -> Callable[[pv.InvalidRow], str]:
    """The callback for each line with a wrong number of fields; rows are counted from 1 after the header."""

    def set_aside(line: pv.InvalidRow) -> str:
        reason = f"the line has {line.actual_columns} fields, not {line.expected_columns}"
        malformed.append(Malformed(line.number - header, reason, line.text))
        return "skip"

    return set_aside


def _text_options(names: list[str]) -> pv.ConvertOptions:
    return pv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))


def _without_marked(landed: Landed) -> Landed:
    """Set aside the rows in which bytes were not text."""
    marked = np.zeros(landed.table.num_rows, bool)
    for column in landed.table.column_names[1:]:
        marked |= pc.match_substring(landed.table[column], _NO_TEXT).to_numpy()
    bad = landed.table.filter(pa.array(marked)).to_pydict()
    lines = [
        Malformed(row, "the line is not UTF-8 text", "\t".join(values))
        for row, *values in zip(*bad.values(), strict=True)
    ]
    return Landed(landed.table.filter(pa.array(~marked)), [*landed.malformed, *lines])


def _number_rows(table: pa.Table, malformed: list[Malformed]) -> Landed:
    """The rows with their numbers in the file, from 1; malformed lines are counted too."""
    count = table.num_rows + len(malformed)
    row = np.delete(np.arange(1, count + 1), np.array([line.row for line in malformed], int) - 1)
    return Landed(table.add_column(0, "row", pa.array(row)), malformed)


def _refuse_columns(file: Path, names: list[str], found: list[str]) -> None:
    for column in names:
        if found.count(column) != 1:
            fault = "has more than once" if column in found else "lacks"
            raise LandedFileError(
                f"{file} {fault} the column '{column}'; it has {', '.join(found) or 'none'}: "
                "fix the file, or say in the profile (`column`) which one it is"
            )


def _refuse_open_quote(file: Path, column: str, spec: Column, rows: pa.ChunkedArray, values: pa.ChunkedArray) -> None:
    """Refuse a CSV in which an open quotation mark has swallowed lines: no number holds a line break."""
    if spec.type in ("string", "strings"):
        return
    broken = pc.index(pc.match_substring(values, "\n"), True).as_py()
    if broken >= 0:
        row = rows[broken].as_py()
        raise LandedFileError(f"{file}: '{column}' of row {row} runs over several lines: close its quotation mark")


def _refuse_type(file: Path, column: str, spec: Column, values: pa.ChunkedArray) -> None:
    """Refuse a Parquet column whose type cannot hold the declared type, or has rounded its values."""
    if not can_hold(values.type, spec.type):
        raise LandedFileError(
            f"{file}: column '{column}' is {values.type}, where the profile says {spec.type}: {WRITE_AS[spec.type]}, "
            "or change the profile"
        )
    whole = spec.type == "int64" or (spec.type == "timestamp" and values.type in (pa.float16(), pa.float32()))
    if whole and (size := largest_inexact(values)) is not None:
        raise LandedFileError(
            f"{file}: column '{column}' holds integers as {values.type}, which rounds integers as large as "
            f"{size:.17g}: write it as int64 or text (pandas turns a column with a gap into floats: use its Int64)"
        )
