"""JSON lines: one object per line becomes a row of texts; lines that are not objects are set aside.

Values keep their text, numbers as JSON writes them; a list becomes a list where the profile says `strings`.
"""

import codecs
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.duck import connect, quote, quote_name
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.text_files import Landed, LandedFileError, Malformed, landed_names

_BLOCK = 2**24  # bytes that are read at once; lines may be longer
_LONGEST = 2**28  # bytes of a line: a file without line breaks is not JSON lines


def read_json_lines(file: Path, codec: str | None, columns: dict[str, Column], files: Files) -> Landed:
    """Read a landing file.

    Raises:
        LandedFileError: no line has a column.
        pa.ArrowException, OSError: it cannot be read.
    """
    batches = list(json_batches(file, codec, columns, files))
    table = pa.concat_tables([batch.table for batch in batches])
    return Landed(table, [line for batch in batches for line in batch.malformed])


def json_batches(file: Path, codec: str | None, columns: dict[str, Column], files: Files) -> Iterator[Landed]:
    """Go through a file of any size: its rows in batches, numbered through the whole file; blank lines do not count.

    Raises:
        LandedFileError: no line has a column.
        pa.ArrowException, OSError: it cannot be read.
    """
    seen, example, done = set[str](), "", 0
    with connect() as connection:
        for block in _blocks(file, codec, files.encoding):
            lines = pc.list_flatten(pc.split_pattern(pa.array([block], pa.large_string()), "\n"))
            lines = lines.filter(pc.not_equal(pc.utf8_trim_whitespace(lines), ""))
            landed = _parse(connection, lines, columns, done)
            done += len(lines)
            seen |= {name for name in columns if landed.table[name].null_count < landed.table.num_rows}
            example = example or (lines[0].as_py() if landed.table.num_rows else "")
            yield landed
    for name, said in zip(columns, landed_names(columns), strict=True):
        if example and name not in seen:
            raise LandedFileError(
                f"{file}: no line has a value of the key '{said}'; the first one is {example[:200]}: fix the file, or "
                "say in the profile (`column`) which key it is"
            )


def _blocks(file: Path, codec: str | None, encoding: str) -> Iterator[str]:
    """The text of a file in blocks of whole lines, at least one."""
    decoder, rest = codecs.getincrementaldecoder(encoding)(errors="replace"), ""
    with pa.input_stream(str(file), compression=codec) as stream:
        for data in iter(partial(stream.read, _BLOCK), b""):
            whole, line_break, rest = (rest + decoder.decode(data)).rpartition("\n")
            if len(rest) > _LONGEST:
                raise LandedFileError(
                    f"{file}: a line is longer than {_LONGEST:,} characters: write one object per line"
                )
            if line_break:
                yield whole.removeprefix("\ufeff")
    yield (rest + decoder.decode(b"", final=True)).removeprefix("\ufeff")


def _parse(connection: duckdb.DuckDBPyConnection, lines: pa.Array, columns: dict[str, Column], before: int) -> Landed:
    """The rows of some lines."""
    numbered = pa.table({"row": np.arange(before + 1, before + 1 + len(lines)), "line": lines})
    connection.register("lines", numbered)
    values = ", ".join(
        f"{_value(spec, said)} AS {quote_name(name)}"
        for (name, spec), said in zip(columns.items(), landed_names(columns), strict=True)
    )
    kind = "CASE WHEN json_valid(line) THEN json_type(line) END"
    table = connection.sql(
        f"SELECT row, {values} FROM lines WHERE coalesce({kind}, '') = 'OBJECT' ORDER BY row"
    ).to_arrow_table()
    bad = connection.execute(
        f"SELECT row, line FROM lines WHERE coalesce({kind}, '') <> 'OBJECT' ORDER BY row"
    ).fetchall()
    connection.unregister("lines")
    return Landed(table, [Malformed(row, "the line is not a JSON object", text) for row, text in bad])


def object_texts(columns: dict[str, Column], rows: str) -> str:
    """SQL for the columns of JSON objects as texts, a list as JSON writes it; `rows` has the columns row and line."""
    named = zip(columns, landed_names(columns), strict=True)
    values = "".join(f", json_extract_string(line, {_path(said)}) AS {quote_name(name)}" for name, said in named)
    return f"SELECT row{values} FROM {rows}"


def _path(name: str, end: str = "") -> str:
    """SQL for the JSON path of a key."""
    plain = name.replace("\\", "\\\\").replace('"', '\\"')
    return quote(f'$."{plain}"{end}')


def _value(spec: Column, name: str) -> str:
    """SQL for the text of a key, or for its list."""
    path, every = _path(name), _path(name, "[*]")
    text = f"json_extract_string(line, {path})"
    if spec.type != "strings":
        return text
    parts = f"string_split({text}, {quote(spec.separator)})"
    return f"CASE json_type(line, {path}) WHEN 'ARRAY' THEN json_extract_string(line, {every}) ELSE {parts} END"
