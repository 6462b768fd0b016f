"""The items of one release as scenes see them: who passes a filter, who has which value, who is how new."""

import datetime as dt
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Doubles, Ints, find, is_list, offsets, spread
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.label import condition
from recsys_assets.datasets.profile_parts import ColumnType
from recsys_assets.retrieval import embeddings
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.pinned import ranked_by

MOST_PINNED = 8  # ranking models of scenes that are kept open
MOST_MASKS = 64  # conditions whose answers are kept, one byte for each item
Columns = tuple[tuple[str, ColumnType], ...]
Similarity = Callable[[Ints], Doubles]  # gives (C, C) how alike the items (C,) are, from 0 to 1


def passing(items: pa.Table, text: str, columns: Columns) -> Bools:
    """(N,) which rows of the items' table meet a condition over these columns; one that cannot be evaluated is not met.

    Raises:
        ExpressionError: it is not a condition over these columns.
    """
    rule = condition(text, columns)
    with connect_without_lake() as connection:
        connection.register("items", items.select(sorted(rule.columns) or ["item_id"]))
        found = connection.sql(f"SELECT {rule.sql} AS passes FROM items").to_arrow_table()["passes"]
    passes: Bools = found.fill_null(False).to_numpy()
    return passes


class Shelf:
    """The items of a release; whatever is computed for all of them is computed once.

    Args:
        engine: of the release. Items have the numbers of its log.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.passing = lru_cache(MOST_MASKS)(self._passing)
        self.values = lru_cache(MOST_MASKS)(self._values)
        self.ranked_by = lru_cache(MOST_PINNED)(partial(ranked_by, engine))

    def _passing(self, text: str, columns: Columns) -> Bools:
        """(I,) which items meet a condition over these columns; one that cannot be evaluated is not met.

        Raises:
            ExpressionError: it is not a condition over these columns.
        """
        return passing(self._engine.items, text, columns)

    def _values(self, column: str) -> "Values":
        """The values of a column, as numbers."""
        return Values(self._engine.items[column])

    @cached_property
    def ages(self) -> Ints:
        """(I,) days between the item's first event and the bizdate, both in the profile's time zone."""
        engine, zone = self._engine, self._engine.profile.files.timezone
        splits = engine.funnel.inputs["splits"].path(ROWS)
        events = pq.read_table(splits, columns=["item_id", "timestamp"])
        first = events.group_by("item_id").aggregate([("timestamp", "min")])
        moments = pc.assume_timezone(first["timestamp_min"].cast(pa.timestamp("us")), "UTC")
        days = pc.local_timestamp(moments.cast(pa.timestamp("us", zone))).cast(pa.date32()).cast(pa.int32())
        today = (dt.date.fromisoformat(engine.bizdate) - dt.date(1970, 1, 1)).days
        order = np.argsort(ids := first["item_id"].to_numpy())
        ages: Ints = (today - days.to_numpy())[order][find(ids[order], engine.log.item_ids)].astype(np.int64)
        return ages

    def alike(self, column: str) -> Similarity:
        """Similarity by a column: the share of common values."""
        values = self.values(column)

        def similarity(items: Ints) -> Doubles:
            has = values.of(items).astype(np.float64)
            common, sizes = has @ has.T, has.sum(axis=1)
            either = sizes[:, None] + sizes - common
            found: Doubles = np.divide(common, either, out=np.zeros_like(common), where=either > 0)
            return found

        return similarity

    def near(self, model: str) -> Similarity | None:
        """Similarity by the vectors of a two-tower model, their cosine; None if the release has no such vectors."""
        asset = f"emb_{model}_item"
        if asset not in self._engine.funnel.inputs.partitions:
            return None
        ids, vectors = embeddings.read(self._engine.funnel.inputs[asset].path(ROWS))
        rows = find(ids.to_numpy(zero_copy_only=False), self._engine.log.item_ids)

        def similarity(items: Ints) -> Doubles:
            found = np.where((rows[items] >= 0)[:, None], vectors[rows[items]], 0).astype(np.float64)
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
            unit = found / np.where(lengths > 0, lengths, 1)
            return np.asarray((unit @ unit.T).clip(0, 1))

        return similarity


class Values:
    """The values of a column of I items; a list has several, a missing one none."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        flat = column.combine_chunks()
        if is_list(flat.type):
            self._offsets, flat = offsets(pc.fill_null(pc.list_value_length(flat), 0).to_numpy()), flat.flatten()
        else:
            self._offsets, flat = offsets(flat.is_valid().to_numpy(zero_copy_only=False)), flat.drop_null()
        self._codes = flat.dictionary_encode().indices.to_numpy().astype(np.int64)

    def of(self, items: Ints) -> Bools:
        """(C, V) which of C items has which of the V values that some of them have."""
        row, place = spread(self._offsets[items], self._offsets[items + 1])
        values, code = np.unique(self._codes[place], return_inverse=True)
        has = np.zeros((len(items), len(values)), bool)
        has[row, code] = True
        return has


def scaled(scores: Sequence[float]) -> Doubles:
    """(C,) scores, best first, from 1 for the best to 0 for the last; equal ones are all 1."""
    found = np.asarray(scores, np.float64)
    span = found.max(initial=-np.inf) - found.min(initial=np.inf)
    return (found - found.min(initial=np.inf)) / span if len(found) and span > 0 else np.ones(len(found))
