"""Writing the tools' output tables: a table is written whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from recsys_assets.datasets.folders import replacing
from recsys_assets.tzrec.vector_tables import Format


class UnwritableTable(ValueError):
    """A table that its format cannot hold; the message says why."""


class TableWriter:
    """Writes tables of one schema, one after the other, to a Parquet or CSV file."""

    def __init__(self, file: Path, kind: Format) -> None:
        self._file, self._kind = file, kind
        self._writer: pq.ParquetWriter | csv.CSVWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        if self._kind == "csv":
            table = pa.table({name: to_text(name, table[name].combine_chunks()) for name in table.column_names})
        if self._writer is None:
            make = pq.ParquetWriter if self._kind == "parquet" else csv.CSVWriter
            self._writer = make(self._file, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what remains and close the file."""
        if self._writer is not None:
            self._writer.close()


@contextlib.contextmanager
def table_writer(place: str, kind: Format) -> Iterator[TableWriter]:
    """A writer whose file appears when the block succeeds: `place`, or the file `part-0` in the folder `place`.

    `place` is a file if it ends like the format and is not a folder.
    """
    path = Path(place)
    if path.suffix != f".{kind}" or path.is_dir():
        path = path / f"part-0.{kind}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableTable(f"{path} cannot be written: {error}") from error
    with replacing(path) as file:
        writer = TableWriter(file, kind)
        try:
            yield writer
        finally:
            writer.close()
        file.chmod(0o644)  # the hidden temporary file was private


def to_text(name: str, column: pa.Array) -> pa.Array:
    """Lists as text: commas between their elements, semicolons between lists of lists; other columns as they are.

    Raises:
        UnwritableTable: an element contains a comma or a semicolon.
    """
    if not pa.types.is_list(column.type):
        return column
    values, mark = column.flatten(), ","
    if pa.types.is_list(values.type):
        values, mark = to_text(name, values), ";"
    else:
        values = values.cast(pa.string())
        broken = pc.index(pc.match_substring_regex(values, "[,;]"), True).as_py()
        if broken >= 0:
            raise UnwritableTable(
                f"{name}: in CSV the id {values[broken].as_py()!r} would read as two ids: use Parquet"
            )
    return pc.binary_join(pa.ListArray.from_arrays(column.offsets, values), mark)
