"""Landing files without the rows of one user: the rows of others keep their bytes, and each file its form.

A file is read by the rules of ingest, so that a row counts as the user's if ingest takes it for theirs. A line that is
not a row at all goes too, if the id is a word of it. The new content is read again before anything is replaced: it must
give the rows that were not to be removed, or the file is refused.
"""

import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools
from recsys_assets.datasets.files import Files, Suffix
from recsys_assets.datasets.landing_files import form
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.tables import Landed, read_landed
from recsys_assets.datasets.text_files import read_bytes
from recsys_assets.datasets.values import typed_value

USER = "user_id"
_LINE, _JSON_LINE = r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", r"[^\n]*\n|[^\n]+"


class CannotRewrite(ValueError):
    """A landing file cannot be written without some of its rows; the message says why, and what to do."""


@dataclass(frozen=True)
class UserFile:
    """A file that may hold rows of users.

    Attributes:
        path: of the file.
        columns: of its table, by the platform's names.
        files: how it is written.
    """

    path: Path
    columns: dict[str, Column]
    files: Files

    @property
    def kind(self) -> str:
        """Its suffix, without that of a compression."""
        return (form(self.path.name) or ("", None))[0]

    @property
    def codec(self) -> str | None:
        """Its compression."""
        return (form(self.path.name) or ("", None))[1]

    def read(self, path: Path | None = None) -> Landed:
        """Its rows as ingest reads them: all columns of a text, whose places may count, or else the ids alone."""
        is_text = self.kind in (".csv", ".tsv")
        return read_landed(path or self.path, self.columns if is_text else {USER: self.columns[USER]}, self.files)


def count_rows(connection: duckdb.DuckDBPyConnection, file: UserFile, user: int | str) -> tuple[int, int]:
    """The number of rows of a user in a file, and of lines that are not rows and name the user.

    Raises:
        LandedFileError: the file cannot be read.
    """
    landed = file.read()
    lines = sum(names_user(line.text, user) for line in landed.malformed)
    return len(_numbers(connection, file, landed, user)) - lines, lines


def without_user(connection: duckdb.DuckDBPyConnection, file: UserFile, user: int | str) -> bytes:
    """The content of a file without the rows of a user.

    Raises:
        LandedFileError: the file cannot be read.
        CannotRewrite: the new content would not give the other rows as they were.
    """
    landed = file.read()
    numbers = _numbers(connection, file, landed, user)
    if file.kind == ".parquet":
        content = parquet_without(file.path, np.isin(np.arange(1, len(landed.table) + 1), sorted(numbers)))
    else:
        content = _compressed(_text_without(file, numbers), file.codec)
    _check(file, landed, numbers, content)
    return content


def parquet_without(path: Path, is_gone: Bools) -> bytes:
    """A Parquet file without some of its N rows, with the same schema, metadata, row groups and compression."""
    sink = io.BytesIO()
    with pq.ParquetFile(path) as source:
        codec = source.metadata.row_group(0).column(0).compression.lower() if source.num_row_groups else "snappy"
        schema, first = source.schema_arrow, 0
        with pq.ParquetWriter(sink, schema, compression="none" if codec == "uncompressed" else codec) as writer:
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group)
                writer.write_table(rows.filter(pa.array(~is_gone[first : first + len(rows)])))
                first += len(rows)
    return sink.getvalue()


def are_of(
    connection: duckdb.DuckDBPyConnection, values: pa.ChunkedArray, spec: Column, files: Files, user: int | str
) -> Bools:
    """(N,) whether landed values of a column of ids are the id of a user."""
    coming = pa.table({USER: values})
    connection.register("coming", coming)
    typed = typed_value(USER, spec, coming.schema.field(USER).type, files)
    query = f"SELECT coalesce(({typed}) = $1, false) AS found FROM coming"
    found = connection.sql(query, params=[user]).to_arrow_table()["found"]
    connection.unregister("coming")
    return np.asarray(found.to_numpy(), bool)


def names_user(text: str, user: int | str) -> bool:
    """Whether the id of a user is a word of a text."""
    return re.search(rf"(?<!\w){re.escape(str(user))}(?!\w)", text) is not None


def _numbers(connection: duckdb.DuckDBPyConnection, file: UserFile, landed: Landed, user: int | str) -> set[int]:
    """The numbers of the user's rows in a file, from 1."""
    found = are_of(connection, landed.table[USER], file.columns[USER], file.files, user)
    rows = landed.table["row"].to_numpy()[found].tolist()
    return {*rows, *(line.row for line in landed.malformed if names_user(line.text, user))}


def _text_without(file: UserFile, numbers: set[int]) -> bytes:
    """The text of a file without some of its rows, not compressed.

    Raises:
        CannotRewrite: its bytes are not those of its encoding.
    """
    content, encoding = read_bytes(file.path, file.codec), file.files.encoding
    text = content.decode(encoding, "surrogateescape")
    if text.encode(encoding, "surrogateescape") != content:
        raise CannotRewrite(f"{file.path} cannot be written again byte for byte in {encoding}: land it as utf-8 first")
    kept = (line for number, line in _numbered(file, text) if number not in numbers)
    return "".join(kept).encode(encoding, "surrogateescape")


def _numbered(file: UserFile, text: str) -> Iterator[tuple[int, str]]:
    """The lines of a text with the numbers of their rows; 0 for a header, and for lines that count as none."""
    suffix: Suffix = ".tsv" if file.kind == ".tsv" else ".csv"
    is_json = file.kind in (".jsonl", ".ndjson")
    quote = "" if is_json else file.files.quote_of(suffix)
    pattern = _JSON_LINE if is_json else _record(quote, file.files.separator_of(suffix)) if quote else _LINE
    number = 0 if is_json or not file.files.header_of(suffix) else -1
    for found in re.finditer(pattern, text):
        line = found[0]
        if not line:
            continue
        is_blank = not line.strip() if is_json else bool(quote) and not line.strip("\r\n")
        number += not is_blank
        yield 0 if is_blank else number, line


def _record(quote: str, separator: str) -> str:
    """The pattern of a row of a text with quotation marks, which may have line breaks in between."""
    mark, sign = re.escape(quote), re.escape(separator)
    field = rf"(?:{mark}(?:[^{mark}]|{mark}{mark})*+{mark})?[^{sign}\r\n]*"
    return rf"{field}(?:{sign}{field})*(?:\r\n|\r|\n|\Z)"


def _compressed(content: bytes, codec: str | None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) if codec else sink as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def _check(file: UserFile, before: Landed, gone: set[int], content: bytes) -> None:
    """Read the new content, and compare it with the rows that were to stay.

    Raises:
        CannotRewrite: they differ.
    """
    kept = before.table.filter(pa.array(~np.isin(before.table["row"].to_numpy(), sorted(gone)))).drop_columns("row")
    lines = [line.text for line in before.malformed if line.row not in gone]
    with tempfile.TemporaryDirectory(prefix="recsys_assets-forget-") as folder:
        new = Path(folder) / file.path.name
        new.write_bytes(content)
        after = file.read(new)
        same = file.kind != ".parquet" or pq.read_schema(new).equals(pq.read_schema(file.path), check_metadata=True)
    if not (same and after.table.drop_columns("row").equals(kept) and [line.text for line in after.malformed] == lines):
        raise CannotRewrite(
            f"{file.path} cannot be written without {len(gone)} of its rows so that all others stay as they are: "
            "remove them yourself, and run the command again"
        )
