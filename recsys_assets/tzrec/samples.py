"""The user's tables as the samples of the assets: labelled rows, split into parts, and the feature schema of train.

The statements are those of the assets: `splits` and `recall_samples` for a two-tower model, `rank_samples` of labelled
rows for a ranking model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.duck import only_row, quote, quote_name, scan, write_parquet
from recsys_assets.datasets.log_entities import entity_query
from recsys_assets.datasets.names import LANDED_PART
from recsys_assets.datasets.splits import PARTS, sample_rows, split
from recsys_assets.features.fit import fit_schema, fit_tower_schema
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.retrieval.interactions import Interactions, read
from recsys_assets.tzrec.outputs import table_writer
from recsys_assets.tzrec.pipeline import TIME, Pipeline
from recsys_assets.tzrec.table_files import blocks, files
from recsys_assets.tzrec.typed_rows import Faults, labels, raw_names, typed

Say = Callable[[str], None]
_TRAINED = PARTS[:3]
_PLACE = f"list_position({list(PARTS)}, part)"  # SQL for the place of a row's part in the order of time
_NO_LABEL = "the label rule gives no answer"


class UnusableTables(ValueError):
    """Tables that no model can be trained on; the message says why, and what to do."""


@dataclass(frozen=True)
class RankSamples:
    """The file of each part's rows, and the schema of their features."""

    parts: dict[str, Path]
    schema: FeatureSchema


@dataclass(frozen=True)
class RecallSamples:
    """The events of a two-tower model, its users and items with their features, and the schema of these."""

    interactions: Interactions
    users: pa.Table
    items: pa.Table
    schema: FeatureSchema


def rank_samples(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, folder: Path, say: Say) -> RankSamples:
    """Write the rows of each part to a file in the folder, and fit the schema on those of train.

    Raises:
        LandedFileError, UnreadableTable, UnusableTables: the tables cannot be used.
    """
    events, parts = _write_events(connection, pipeline, folder, say), {}
    for part in _TRAINED:
        parts[part] = folder / f"rows_{part}.parquet"
        rows = sample_rows(pipeline.profile, [events], "", part)
        write_parquet(connection, f"SELECT * EXCLUDE (timestamp, seq) FROM ({rows})", parts[part])
    return RankSamples(parts, fit_schema(connection, pipeline.profile, parts["train"], []))


def recall_samples(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, folder: Path, say: Say) -> RecallSamples:
    """Order the events by user, part and time, and fit the schema on those of train; files are written to the folder.

    The features of a user and of an item are their newest known values.

    Raises:
        LandedFileError, UnreadableTable, UnusableTables: the tables cannot be used.
    """
    profile, events = pipeline.profile, _write_events(connection, pipeline, folder, say)
    split(connection, profile, [events], "")
    _tell_of_the_future(connection, say)
    ordered, train = folder / "ordered.parquet", folder / "rows_train.parquet"
    columns = "user_id, item_id, label, part"
    write_parquet(connection, f"SELECT {columns} FROM splits ORDER BY user_id, {_PLACE}, position", ordered)
    write_parquet(connection, f"FROM {scan([events])} WHERE {quote_name(LANDED_PART)} = 'train'", train)
    users, items = (
        connection.sql(entity_query(profile, table, [events])).to_arrow_table() for table in ("users", "items")
    )
    return RecallSamples(read(ordered), users, items, fit_tower_schema(connection, profile, train))


def _tell_of_the_future(connection: duckdb.DuckDBPyConnection, say: Say) -> None:
    """Say how many users of `splits` have a row of an earlier part after one of a later part."""
    order = "PARTITION BY user_id ORDER BY position"
    rows = f"SELECT user_id, {_PLACE} < lag({_PLACE}) OVER ({order}) AS late FROM splits"
    (users,) = only_row(connection, f"SELECT count(DISTINCT user_id) FROM ({rows}) WHERE late")
    if users:
        say(f"{users:,} users have train rows that are newer than rows they are judged by: the figures are too good")


def _write_events(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, folder: Path, say: Say) -> Path:
    """Write the usable rows of all parts, in the order of the files, with their `seq`, `timestamp` and part."""
    form, seq, parts = pipeline.form, 0, {}
    places = {"train": form.train_input_path, "validation": form.validation_input_path, "test": form.eval_input_path}
    for part, place in ((part, place) for part, place in places.items() if place):
        parts[part] = folder / f"{part}.parquet"
        seq = _write_part(connection, pipeline, place, parts[part], seq, say)
    rows = " UNION ALL ".join(f"SELECT *, {quote(part)} AS part FROM {scan([file])}" for part, file in parts.items())
    part = "part" if form.validation_input_path else _part_with_tail(pipeline)
    time = "" if pipeline.is_tower else ", TIMESTAMP '1970-01-01' AS timestamp"
    chosen = f"SELECT * EXCLUDE (part){time}, {part} AS {quote_name(LANDED_PART)} FROM ({rows}) ORDER BY seq"
    write_parquet(connection, chosen, events := folder / "events.parquet")
    found = connection.execute(f"SELECT DISTINCT {quote_name(LANDED_PART)} FROM {scan([events])}").fetchall()
    if ("validation",) not in found:
        raise UnusableTables(
            "no train row is left to validate on: raise data_config.validation_ratio, or name validation_input_path"
        )
    return events


def _part_with_tail(pipeline: Pipeline) -> str:
    """SQL for the part of a row where the tail of train validates: the last rows of each user, or of all."""
    whose, order = (
        ("PARTITION BY part, user_id", "timestamp, seq") if pipeline.is_tower else ("PARTITION BY part", "seq")
    )
    place, count = f"row_number() OVER ({whose} ORDER BY {order})", f"count(*) OVER ({whose})"
    tail = f"{place} > {count} - floor({count} * {pipeline.form.data_config.validation_ratio})"
    return f"CASE WHEN part = 'train' AND {tail} THEN 'validation' ELSE part END"


def _write_part(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, place: str, path: Path, seq: int, say: Say
) -> int:
    """Write the usable rows of a part's files, numbered from `seq`, say which are left out, return the next number.

    Raises:
        UnusableTables: no row can be used.
    """
    first, faults = seq, Faults()
    with table_writer(str(path), "parquet") as writer:
        for file, rows in _typed_blocks(connection, pipeline, place):
            faults.note(file, rows)
            good = rows.filter(pc.is_null(rows["reason"])).drop(["row", "reason"])
            writer.write(good.append_column("seq", pa.array(np.arange(seq, seq := seq + len(good)))))
        if faults.rows:
            say(f"left out of {place}: {faults}")
        if seq == first:
            raise UnusableTables(f"{place} has no row that can be used: correct its rows, or data_config.columns")
    return seq


def _typed_blocks(
    connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, place: str
) -> Iterator[tuple[Path, pa.Table]]:
    """The file and the typed rows of each block of a part's files; rows without an answer of the label rule are bad."""
    profile = pipeline.profile
    found, kind = files(place)
    made = pipeline.is_tower and TIME not in pipeline.form.data_config.columns
    names = [name for name in raw_names(profile) if name != TIME or not made]
    for file in found:
        before = 0
        for block in blocks(file, kind, names):
            # Rows without times are of one moment, so they keep their order.
            raw = block.append_column(TIME, pa.array(np.zeros(len(block), np.int64))) if made else block
            rows = typed(connection, profile, file, raw, before)
            reasons = pc.if_else(labels(connection, profile, rows).is_null(), _NO_LABEL, pa.scalar(None, pa.string()))
            place_of_reason = rows.schema.get_field_index("reason")
            yield file, rows.set_column(place_of_reason, "reason", pc.coalesce(rows["reason"], reasons))
            before += len(raw)
