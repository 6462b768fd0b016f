"""One tower of a two-tower model, from its ONNX file: rows of raw features become vectors.

The rows are those of the users' or the items' table, as JSON or as Arrow columns. What a row leaves out is missing, as
in training. The same file gives the same vectors in the daily run, in a deployed service and for fresh items.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Vectors, slices
from recsys_assets.datasets.names import HISTORY
from recsys_assets.features.raw import INPUTS, raw_columns, read_inputs
from recsys_assets.features.schema import Feature
from recsys_assets.funnel.network import open_session

OUTPUT = "vector"
ROWS_AT_ONCE = 1024  # bounds the memory of the feed: 100 columns of 64 texts are 50 MB of references
_TYPES = {"int64": pa.int64(), "string": pa.string(), "float32": pa.float32()}
FEATURE_TYPES = {str(each): each for kind in _TYPES.values() for each in (kind, pa.list_(kind))}  # by their words


class TowerTooOld(RuntimeError):
    """The ONNX file of a tower does not say what its inputs are; the message says how to renew it."""


class UnfitRow(ValueError):
    """A row that is not one of the tower's features; `row` is its position, from 0."""

    def __init__(self, row: int, reason: str) -> None:
        super().__init__(f"row {row}: {reason}")
        self.row, self.reason = row, reason


class TowerFile:
    """A tower, on one thread of the CPU.

    Attributes:
        inputs: the features that it reads.

    Args:
        path: `user.onnx` or `item.onnx` of a partition of `onnx_<model>`.

    Raises:
        TowerTooOld: the file was made by an older version.
    """

    def __init__(self, path: Path) -> None:
        self._session = open_session(path)
        about = self._session.get_modelmeta().custom_metadata_map
        if INPUTS not in about:
            raise TowerTooOld(f"{path} is of an older version: materialize the `onnx_` asset of its model again")
        self.inputs = read_inputs(about[INPUTS])

    def __call__(self, table: pa.Table) -> Vectors:
        """(N, D) the vectors of the rows of a table, which has a column for every input."""
        blocks = [self._vectors(table.slice(each.start, ROWS_AT_ONCE)) for each in slices(len(table), ROWS_AT_ONCE)]
        return np.concatenate(blocks) if blocks else self._vectors(table)

    def _vectors(self, table: pa.Table) -> Vectors:
        (vectors,) = self._session.run([OUTPUT], raw_columns(self.inputs, table))
        return np.asarray(vectors, np.float32)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each input."""
        return {each.name: column_type(each) for each in self.inputs}

    def table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        """The columns of rows of JSON; a feature that a row does not have is missing.

        Raises:
            UnfitRow: a row has another column, or a value of another type.
        """
        names = {each.name for each in self.inputs}
        for place, row in enumerate(rows):
            if unknown := sorted(row.keys() - names):
                raise UnfitRow(place, f"there is no feature {unknown[0]!r}; there are {', '.join(sorted(names))}")
        return pa.table({each.name: _column(each, [_value(each, row) for row in rows]) for each in self.inputs})


def column_type(feature: Feature) -> pa.DataType:
    """The Arrow type of a feature's raw column."""
    kind = _TYPES[feature.type]
    is_flat = feature.kind == "categorical" or (feature.kind == "numeric" and feature.length == 1)
    return kind if is_flat else pa.list_(kind)


def _value(feature: Feature, row: Mapping[str, Any]) -> Any:
    """The value of a feature in a row; a history that is too long is cut to the newest items."""
    value = row.get(feature.name)
    return value[-feature.length :] if feature.name == HISTORY and isinstance(value, list) else value


def _column(feature: Feature, values: Sequence[Any]) -> pa.Array:
    """The column of a feature.

    Raises:
        UnfitRow: a value is not of its type.
    """
    if (wrong := next((place for place, each in enumerate(values) if not _fits(feature, each)), None)) is not None:
        kind = "number" if feature.type == "float32" else "whole number" if feature.type == "int64" else "text"
        form = kind if not pa.types.is_list(column_type(feature)) else f"list of {kind}s"
        if feature.kind == "numeric" and feature.length > 1:
            form = f"list of {feature.length} numbers"
        raise UnfitRow(wrong, f"{feature.name} is a {form}, and not {str(values[wrong])[:100]!r}")
    return pa.array(values, column_type(feature))


def _fits(feature: Feature, value: Any) -> bool:
    if value is None:
        return True
    if not pa.types.is_list(column_type(feature)):
        return _is_value(feature.type, value)
    has_length = feature.kind != "numeric" or (isinstance(value, list) and len(value) == feature.length)
    return isinstance(value, list) and has_length and all(_is_value(feature.type, each) for each in value)


def _is_value(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if kind == "string":
        return isinstance(value, str) and _is_text(value)
    if kind == "int64":
        return isinstance(value, int) and -(2**63) < value < 2**63
    return isinstance(value, int | float) and abs(value) < 3.4e38


def _is_text(value: str) -> bool:
    """Whether UTF-8 can hold it: JSON also allows half of a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
