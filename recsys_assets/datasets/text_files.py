"""Text with separators: CSV and TSV become columns of text; lines that are not rows are set aside with the reason.

`read_text` takes a landing file as a whole; `text_batches` goes through a file of any size, for `recsys land`.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv

from recsys_assets.datasets.files import Files, Suffix
from recsys_assets.datasets.profile_parts import LISTS, Column

# Replaces NUL and bytes that are not text, for which pyarrow would refuse the file: a code point that is not a
# character.
NO_TEXT, _MARKED = "\ufffe", "recsys_assets_marked"
codecs.register_error(_MARKED, lambda error: (NO_TEXT, error.end))  # type: ignore[attr-defined]
_BLOCK = 2**20  # bytes that the CSV reader takes at once; a longer row needs a larger block
_STREAM_BLOCK = 2**24  # the same for files of any size, whose rows must not be longer
_SEPARATORS = ",;\t|"


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
        table: the columns of the profile, as text if from a text file; and `row`, which counts from 1.
        malformed: lines that could not be put into the table, numbered by the same `row`.
    """

    table: pa.Table
    malformed: list[Malformed] = field(default_factory=list)


def read_text(file: Path, suffix: Suffix, codec: str | None, columns: dict[str, Column], files: Files) -> Landed:
    """Read a landing file.

    Raises:
        LandedFileError: it is not text, lacks a column, has no line of the right form, or has an open quotation mark.
        pa.ArrowException, OSError, UnicodeError: it cannot be read.
    """
    quoted, names = bool(files.quote_of(suffix)), list(dict.fromkeys(landed_names(columns)))
    content = _quoted_content(file, codec, files) if quoted else _lines_content(file, codec, files)
    if not content and not files.header_of(suffix):
        return number_rows(pa.table({name: pa.array([], pa.string()) for name in columns}), [])
    table, malformed = _parse(content, suffix, names, files, _BLOCK if quoted else block_size(content))
    refuse_columns(file, names, table.column_names, files.separator_of(suffix))
    _refuse_other_separator(file, files.separator_of(suffix), table.num_rows, malformed)
    landed = number_rows(_under_own_names(table, columns, files), malformed)
    refuse_swallowed_lines(file, columns, landed, files.quote_of(suffix))
    return landed if quoted or NO_TEXT.encode() not in content else without_marked(landed)


def _quoted_content(file: Path, codec: str | None, files: Files) -> bytes:
    """The bytes of a file in UTF-8, in which a quoted field may have line breaks: one bad byte spoils the file."""
    content = read_bytes(file, codec)
    if codecs.lookup(files.encoding).name != "utf-8":
        content = content.decode(files.encoding).encode()
    if b"\0" in content:  # after a NUL, pyarrow misses the ends of fields and lines
        raise LandedFileError(f"{file} cannot be read (it holds NUL bytes, so it is not text): land it again as UTF-8")
    return content


def _lines_content(file: Path, codec: str | None, files: Files) -> bytes:
    """The bytes of a file in UTF-8, with marks where it is not text."""
    return read_bytes(file, codec).decode(files.encoding, _MARKED).replace("\0", NO_TEXT).encode()


def _parse(
    content: bytes, suffix: Suffix, names: list[str], files: Files, block: int
) -> tuple[pa.Table, list[Malformed]]:
    """The columns of a text, and its malformed lines."""
    malformed: list[Malformed] = []
    try:
        table = pv.read_csv(pa.BufferReader(content), **_options(suffix, names, files, malformed, block))
    except pa.ArrowInvalid as error:
        if "straddling object" not in str(error) or block >= len(content):
            raise
        return _parse(content, suffix, names, files, block_size(content))  # a row is longer than the block
    return table, malformed


def _options(
    suffix: Suffix, names: list[str], files: Files, malformed: list[Malformed], block: int
) -> dict[str, pv.ReadOptions | pv.ParseOptions | pv.ConvertOptions]:
    """Pyarrow's options for a text; malformed lines are appended to the list."""
    header, quote = files.header_of(suffix), files.quote_of(suffix)
    return {
        # Threads lose the line numbers.
        "read_options": pv.ReadOptions(column_names=None if header else names, use_threads=False, block_size=block),
        "parse_options": pv.ParseOptions(
            delimiter=files.separator_of(suffix),
            quote_char=quote or False,
            double_quote=bool(quote),
            newlines_in_values=bool(quote),
            ignore_empty_lines=bool(quote),
            invalid_row_handler=_handler(malformed, int(header)),
        ),
        "convert_options": pv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    }


def text_batches(
    file: Path, suffix: Suffix, codec: str | None, columns: dict[str, Column], files: Files
) -> Iterator[Landed]:
    """Go through a file of any size: its rows in batches, numbered through the whole file.

    Raises:
        LandedFileError: it lacks a column, or a row is longer than 16 MB.
        pa.ArrowException, OSError: it cannot be read.
    """
    malformed, names, done = list[Malformed](), list(dict.fromkeys(landed_names(columns))), 0
    source = _Utf8(file, codec, files.encoding)
    with pv.open_csv(pa.PythonFile(source, "r"), **_options(suffix, names, files, malformed, _STREAM_BLOCK)) as reader:
        refuse_columns(file, names, reader.schema.names, files.separator_of(suffix))
        for batch in chain(reader, [pa.RecordBatch.from_pylist([], reader.schema)]):
            table = _under_own_names(batch, columns, files)
            bad = malformed[: _lines_before(malformed, done, table.num_rows)] if table.num_rows else malformed
            landed = number_rows(table, bad, done)
            refuse_swallowed_lines(file, columns, landed, files.quote_of(suffix))
            done += table.num_rows + len(bad)
            del malformed[: len(bad)]
            if landed.table.num_rows or landed.malformed:
                yield without_marked(landed) if source.has_marks else landed


def _under_own_names(landed: pa.Table | pa.RecordBatch, columns: dict[str, Column], files: Files) -> pa.Table:
    """The columns of the profile as text; fields that mean that there is no value are empty."""
    texts = [landed[name].cast(pa.string()) for name in landed_names(columns)]
    if files.missing:
        words = pa.array(files.missing)
        texts = [pc.if_else(pc.is_in(pc.utf8_trim_whitespace(text), value_set=words), "", text) for text in texts]
    return pa.table(texts, list(columns))


def _lines_before(malformed: list[Malformed], done: int, rows: int) -> int:
    """How many malformed lines come before the last of the next rows: the reader may be ahead of the rows it gave."""
    places = np.array([line.row for line in malformed], int) - done - 1 - np.arange(len(malformed))
    return int((places < rows).sum())


class _Utf8(io.RawIOBase):
    """A compressed file in any encoding as a stream of UTF-8, with marks where it is not text."""

    def __init__(self, file: Path, codec: str | None, encoding: str) -> None:
        self._stream = pa.input_stream(str(file), compression=codec)
        self._decoder = codecs.getincrementaldecoder(encoding)(errors=_MARKED)
        self._blocks = self._decoded()
        self._rest = b""
        self.has_marks = False

    def _decoded(self) -> Iterator[bytes]:
        for data in iter(partial(self._stream.read, _STREAM_BLOCK), b""):
            text = self._decoder.decode(data).replace("\0", NO_TEXT)
            self.has_marks |= NO_TEXT in text
            yield text.encode()
        yield self._decoder.decode(b"", final=True).encode()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts, length = [self._rest], len(self._rest)
        while (size < 0 or length < size) and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            length += len(block)
        content = b"".join(parts)
        size = len(content) if size < 0 else size
        self._rest = content[size:]
        return content[:size]


def read_bytes(file: Path, codec: str | None) -> bytes:
    """The content of a file, without its compression."""
    with pa.input_stream(str(file), compression=codec) as stream:
        return bytes(stream.read())


def block_size(content: bytes) -> int:
    """The block size that holds the whole content, or the largest block there can be."""
    return min(len(content), 2**31 - 1)


def landed_names(columns: dict[str, Column]) -> list[str]:
    """The columns' names in a landing file."""
    return [spec.column or column for column, spec in columns.items()]


def _handler(malformed: list[Malformed], header: int) -> Callable[[pv.InvalidRow], str]:
    """The callback for each line with a wrong number of fields; rows are counted from 1 after the header."""

    def set_aside(line: pv.InvalidRow) -> str:
        reason = f"the line has {line.actual_columns} fields, not {line.expected_columns}"
        malformed.append(Malformed(line.number - header, reason, line.text))
        return "skip"

    return set_aside


def without_marked(landed: Landed) -> Landed:
    """Set aside the rows in which bytes were not text."""
    marked = np.zeros(landed.table.num_rows, bool)
    for column in landed.table.column_names[1:]:
        marked |= pc.fill_null(pc.match_substring(landed.table[column], NO_TEXT), False).to_numpy()
    if not marked.any():
        return landed
    bad = landed.table.filter(pa.array(marked)).to_pydict()
    lines = [
        Malformed(row, "the line is not UTF-8 text", "\t".join(values))
        for row, *values in zip(*bad.values(), strict=True)
    ]
    return Landed(landed.table.filter(pa.array(~marked)), [*landed.malformed, *lines])


def number_rows(table: pa.Table, malformed: list[Malformed], before: int = 0) -> Landed:
    """The rows with their numbers in the file, from 1; malformed lines are counted too, and the rows `before`."""
    count = table.num_rows + len(malformed)
    gaps = np.array([line.row for line in malformed], int) - 1 - before
    row = np.delete(np.arange(before + 1, before + count + 1), gaps)
    return Landed(table.add_column(0, "row", pa.array(row)), list(malformed))


def refuse_columns(file: Path | str, names: list[str], found: list[str], separator: str = "") -> None:
    """Refuse a file in which a column is missing or occurs twice."""
    for column in names:
        if found.count(column) != 1:
            fault = "has more than once" if column in found else "lacks"
            hint = _separator_hint(found[0], separator) if len(found) == 1 and separator else ""
            raise LandedFileError(
                f"{file} {fault} the column '{column}'; it has {', '.join(found) or 'none'}: "
                f"{hint or 'fix the file, or say in the profile (`column`) which one it is'}"
            )


def _separator_hint(line: str, separator: str) -> str:
    """The advice to name another separator, if the line has one."""
    other = max(_SEPARATORS.replace(separator, ""), key=line.count)
    said = {"\t": "\\t"}.get(other, other)
    return (
        f'if {other!r} separates its columns, say in the profile `files: {{separator: "{said}"}}`'
        if other in line
        else ""
    )


def _refuse_other_separator(file: Path, separator: str, rows: int, malformed: list[Malformed]) -> None:
    """Refuse a file without a header in which every line has one field, and another separator."""
    if rows or len(malformed) < 2:
        return
    first = malformed[0]
    hint = _separator_hint(first.text, separator)
    if hint and all(re.match("the line has 1 fields", line.reason) for line in malformed):
        raise LandedFileError(f"{file}: {first.reason}, in every line; the first is {first.text[:100]!r}: {hint}")


def refuse_swallowed_lines(file: Path, columns: dict[str, Column], landed: Landed, quote: str) -> None:
    """Refuse a CSV in which an open quotation mark has swallowed lines."""
    for line in landed.malformed if quote else ():
        if "\n" in line.text:
            raise LandedFileError(f"{file}: row {line.row} runs over several lines: close its quotation mark")
    for (column, spec), said in zip(columns.items(), landed_names(columns), strict=True) if quote else ():
        _refuse_open_quote(file, said, spec, landed.table["row"], landed.table[column])


def _refuse_open_quote(file: Path, column: str, spec: Column, rows: pa.ChunkedArray, values: pa.ChunkedArray) -> None:
    """Refuse a CSV in which an open quotation mark has swallowed lines: no number holds a line break."""
    if spec.type in ("string", *LISTS):
        return
    broken = pc.index(pc.match_substring(values, "\n"), True).as_py()
    if broken >= 0:
        row = rows[broken].as_py()
        raise LandedFileError(f"{file}: '{column}' of row {row} runs over several lines: close its quotation mark")
