"""Rows of the user's tables with the types that a pipeline file gives to their columns."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.row_faults import typed_rows
from recsys_assets.datasets.tables import plain_table, refuse_units
from recsys_assets.datasets.text_files import landed_names, number_rows
from recsys_assets.datasets.text_vectors import register_text_vector, written_columns


@dataclass
class Faults:
    """Faults of rows.

    Attributes:
        rows: the number of rows with each fault.
        examples: the first of them, as file and number.
    """

    rows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def note(self, file: Path, rows: pa.Table) -> None:
        """Add those of some rows of a file, which are its `reason`s."""
        bad = rows.filter(pc.is_valid(rows["reason"]))
        for found in bad["reason"].value_counts().to_pylist():
            self.rows[found["values"]] += found["counts"]
            place = pc.index(bad["reason"], found["values"]).as_py()
            self.examples.setdefault(found["values"], f"{file}, row {bad['row'][place]}")

    def __str__(self) -> str:
        return "; ".join(f"{times:,} rows: {fault} ({self.examples[fault]})" for fault, times in self.rows.items())


def typed(
    connection: duckdb.DuckDBPyConnection, profile: Profile, file: Path, raw: pa.Table, before: int = 0
) -> pa.Table:
    """N rows with the columns of the profile, null where a value is missing or cannot be read.

    Next to them are `row`, the row's number in the file from 1, and `reason`, which says why a row cannot be trained
    on; it is null for a good one.

    Args:
        connection: of DuckDB, which converts the values.
        profile: whose `interactions` the rows are.
        file: where they are from, for messages.
        raw: the columns as they are in the file.
        before: the rows of the file before these.

    Raises:
        LandedFileError: a column has a type that cannot hold the profile's, or times in another unit than seconds.
    """
    columns = profile.tables["interactions"]
    plain = plain_table(file, raw, columns, profile.files)
    refuse_units(file, columns, plain, profile.files, days=False)
    if any(spec.type == "text" for spec in columns.values()):
        register_text_vector(connection)
    connection.register("coming", number_rows(plain, [], before).table)
    query = typed_rows(profile, "interactions", plain.schema, "0 AS seq")
    found = connection.sql(f"SELECT row, reason, {written_columns(columns)} FROM ({query})").to_arrow_table()
    connection.unregister("coming")
    return found


def labels(connection: duckdb.DuckDBPyConnection, profile: Profile, rows: pa.Table) -> pa.Array:
    """(N,) the label of each of these rows: 0, 1, or null where the rule gives no answer."""
    connection.register("labelled", rows)
    found = connection.sql(f"SELECT ({label_rule(profile).sql})::TINYINT AS label FROM labelled").to_arrow_table()
    connection.unregister("labelled")
    return found["label"].combine_chunks()


def raw_names(profile: Profile) -> list[str]:
    """The names that the columns of the profile have in the files."""
    return list(dict.fromkeys(landed_names(profile.tables["interactions"])))
