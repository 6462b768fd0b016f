"""The daily snapshots in the form that Feast reads: a join key, the time from which they are known, and its types.

Feast joins an event with the newest row whose event time is not later than the event. The event time of a snapshot is
therefore the end of its day, so that no event can meet what happened after it. Feast uses the created time only to
choose among rows with the same event time. There are none here, because a day has one snapshot, so both times are equal
and a partition that is made again has the same bytes.
"""

import datetime as dt
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list
from recsys_assets.datasets.profile import Profile
from recsys_assets.stores.store import Unrepresentable

EVENT_TIME, CREATED_TIME = "event_timestamp", "created_timestamp"
_TIME = pa.timestamp("us", "UTC")
# Stands for NaN in a list: the answers of Feast's server are JSON, which has no NaN.
NO_NUMBER = float(np.finfo(np.float32).min)
FEAST_TYPES = {
    pa.bool_(): "Bool",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float32(): "Float32",
    pa.float64(): "Float64",
    pa.string(): "String",
}
# Types that Feast does not have, and those that hold the same values; a date is the days since 1970.
_STORED_AS = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.date32(): pa.int32(),
    pa.large_string(): pa.string(),
}


@dataclass(frozen=True)
class Side:
    """An entity of Feast, and the view and the files of its snapshots; the names are those of recsys_pipeline.

    Attributes:
        name: of the entity, `user` or `item`.
    """

    name: str

    @property
    def snapshot(self) -> str:
        """The asset with its features."""
        return f"{self.name}_features"

    @property
    def key(self) -> str:
        """The key of the snapshot."""
        return f"{self.name}_id"

    @property
    def join_key(self) -> str:
        """The same in Feast."""
        return f"{self.name}id"

    @property
    def view(self) -> str:
        """The name of its feature view."""
        return f"{self.name}_fv"

    @property
    def file(self) -> str:
        """The name of its file in a partition of `feast_offline`."""
        return f"{self.name}.parquet"


SIDES = USER, ITEM = Side("user"), Side("item")


def known_from(profile: Profile, bizdate: str) -> dt.datetime:
    """The moment from which the snapshots of a day are known: the end of the day in the profile's time zone."""
    following = dt.date.fromisoformat(bizdate) + dt.timedelta(days=1)
    return dt.datetime.combine(following, dt.time(), profile.files.zone).astimezone(dt.UTC)


def to_feast(table: pa.Table, side: Side, moment: dt.datetime) -> pa.Table:
    """The rows (N) of a snapshot as Feast reads them.

    Raises:
        Unrepresentable: a column has a name that Feast needs, a type that it does not have, or a null in a list.
    """
    if taken := {side.join_key, EVENT_TIME, CREATED_TIME, side.name} & set(table.column_names):
        raise Unrepresentable(f"column {min(taken)} of {side.snapshot}: Feast needs this name, so rename it")
    columns = {side.join_key: table[side.key]}
    for name in features_of(table.schema, side):
        feast_type(name, table.schema.field(name).type)
        columns[name] = table[name].cast(stored_type(table.schema.field(name).type)).combine_chunks()
        _refuse_nulls(name, columns[name], table[side.key])
        columns[name] = _replace_numbers(columns[name], pc.is_nan, NO_NUMBER)
    times = pa.repeat(pa.scalar(moment, _TIME), table.num_rows)
    return pa.table({**columns, EVENT_TIME: times, CREATED_TIME: times})


def from_feast(values: Mapping[str, Sequence[Any]], schema: pa.Schema, side: Side) -> pa.Table:
    """The rows (N) of a snapshot from the values (N) of each column that Feast gave back.

    Raises:
        KeyError: a column is missing.
        pa.ArrowException: a value is not of the column's type.
    """
    names = {side.key: side.join_key}
    columns = [pa.array(values[names.get(field.name, field.name)], stored_type(field.type)) for field in schema]
    found = [_replace_numbers(each, lambda numbers: pc.equal(numbers, NO_NUMBER), math.nan) for each in columns]
    return pa.table([each.cast(kind) for each, kind in zip(found, schema.types, strict=True)], schema=schema)


def features_of(schema: pa.Schema, side: Side) -> list[str]:
    """The columns of a snapshot besides its key."""
    return [name for name in schema.names if name != side.key]


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type in which Feast holds the values of a type."""
    if is_list(kind):
        return pa.list_(stored_type(kind.value_type))
    return _STORED_AS.get(kind, kind)


def feast_type(name: str, kind: pa.DataType) -> str:
    """Feast's name of the type of a column.

    Raises:
        Unrepresentable: it has none.
    """
    stored = stored_type(kind)
    single = FEAST_TYPES.get(stored.value_type if is_list(stored) else stored)
    if single is None:
        raise Unrepresentable(f"column {name}: Feast has no type for {kind}")
    return f"Array({single})" if is_list(stored) else single


def _replace_numbers(column: pa.Array, which: Callable[[pa.Array], pa.Array], number: float) -> pa.Array:
    """The column; in lists of floats, those numbers that `which` finds are replaced."""
    if not is_list(column.type) or not pa.types.is_floating(column.type.value_type):
        return column
    numbers = pc.if_else(which(column.values), pa.scalar(number, column.type.value_type), column.values)
    return pa.ListArray.from_arrays(column.offsets, numbers, mask=column.is_null())


def _refuse_nulls(name: str, column: pa.Array, keys: pa.ChunkedArray) -> None:
    """Refuse a list with a null in it, which Feast cannot hold."""
    if is_list(column.type) and pc.list_flatten(column).null_count:
        rows = pc.list_parent_indices(column).filter(pc.is_null(pc.list_flatten(column)))
        raise Unrepresentable(f"column {name} of row {keys[rows[0].as_py()]}: Feast cannot hold a null in a list")
