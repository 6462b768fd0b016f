"""Writing the commands' outputs: a table, or the folder of a model, is written whole or not at all."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from recsys_assets.datasets.folders import clear_leftovers, new_folder, replacing
from recsys_assets.tzrec.shares import ALONE, Share
from recsys_assets.tzrec.table_files import Format


class Unwritable(ValueError):
    """A table or folder that cannot be written as asked; the message says why."""


class TableWriter:
    """Writes tables of one schema, one after the other, to a Parquet or CSV file.

    Args:
        place: the file.
        kind: its format.
        stack: when it ends without an error, the file appears, if anything was written.
    """

    def __init__(self, place: Path, kind: Format, stack: contextlib.ExitStack) -> None:
        self._place, self._kind, self._stack = place, kind, stack
        self._writer: pq.ParquetWriter | csv.CSVWriter | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return self._writer is None

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        if self._kind == "csv":
            table = pa.table({name: to_text(name, table[name].combine_chunks()) for name in table.column_names})
        if self._writer is None:
            file = self._stack.enter_context(replacing(self._place))
            file.chmod(0o644)  # the hidden temporary file is private
            make = pq.ParquetWriter if self._kind == "parquet" else csv.CSVWriter
            self._writer = self._stack.enter_context(make(file, table.schema))
        self._writer.write_table(table)


@contextlib.contextmanager
def table_writer(place: str, kind: Format, share: Share = ALONE) -> Iterator[TableWriter]:
    """A writer whose file appears when the block succeeds: `place`, or the file `part-<rank>` in the folder `place`.

    `place` is a file if it ends like the format and is not a folder. The files of several processes appear when all of
    them have succeeded; files of more processes, which an earlier command left in the folder, are removed then.

    Raises:
        Unwritable: it cannot be created, or several processes are to write one file.
    """
    path = Path(place)
    is_folder = path.suffix != f".{kind}" or path.is_dir()
    if not is_folder and share.processes > 1:
        raise Unwritable(f"{place} is one file, and {share.processes} processes write one each: name a folder")
    file = path / f"part-{share.rank}.{kind}" if is_folder else path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(f"{file} cannot be written: {error}") from error
    with contextlib.ExitStack() as stack:
        writer = TableWriter(file, kind, stack)
        yield writer
        written = [not each for each in share.gather(writer.is_empty)]
    if is_folder and share.is_first:
        _remove_others(path, kind, written)


def _remove_others(folder: Path, kind: Format, written: list[bool]) -> None:
    """Remove the parts of a folder that no process has written now."""
    kept = {f"part-{rank}.{kind}" for rank, done in enumerate(written) if done}
    for file in folder.iterdir():
        if re.fullmatch(rf"part-(0|[1-9]\d*)\.{kind}", file.name) and file.name not in kept:
            file.unlink()


def refuse_existing(place: Path) -> None:
    """Check that a place is free.

    Raises:
        Unwritable: it is not.
    """
    if place.exists():
        raise Unwritable(f"{place} is there already: name another folder, or remove it")


@contextlib.contextmanager
def new_folder_at(place: Path) -> Iterator[Path]:
    """A hidden folder that becomes `place` when the block succeeds.

    Raises:
        Unwritable: `place` is there already, or cannot be created.
    """
    refuse_existing(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(place.parent, "")
        hidden = new_folder(place.parent, "", place.name)
    except OSError as error:
        raise Unwritable(f"{place} cannot be created: {error}") from error
    try:
        yield hidden
        hidden.chmod(0o755)  # the hidden folder is private
        hidden.rename(place)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_text(place: Path, text: str) -> None:
    """Replace a text file in one step; its folder must exist."""
    with replacing(place) as file:
        file.write_text(text, encoding="utf-8")
        file.chmod(0o644)  # the hidden temporary file is private


def to_text(name: str, column: pa.Array) -> pa.Array:
    """Lists as text: commas between their elements, semicolons between lists of lists; other columns as they are.

    Raises:
        Unwritable: an element contains a comma or a semicolon.
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
            raise Unwritable(f"{name}: in CSV the id {values[broken].as_py()!r} would read as two ids: use Parquet")
    return pc.binary_join(pa.ListArray.from_arrays(column.offsets, values), mark)
