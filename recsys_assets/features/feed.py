"""The encoded features of pairs, as a ranking model computes with them, without a table of pairs.

A feature of an item, of a user or of a moment is encoded once for each of these, and each pair then takes its rows.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Floats, Ids, Ints, list_array
from recsys_assets.features.schema import Encoded, Feature, FeatureSchema, encode_feature

Inputs = dict[str, Ints | Floats]  # of a network: `indices` (N, K) and `numeric` (N, F), if any


class Feed:
    """Gives what `encode` gives for the rows of `candidate_rows`.

    Args:
        schema: of the model.
        items: `item_features` of all items.
    """

    def __init__(self, schema: FeatureSchema, items: pa.Table) -> None:
        self._schema, self._widths = schema, (schema.index_columns, schema.floats)
        of_item = [each for each in schema.features if each.name in items.column_names]
        rest = [each for each in schema.features if each.name not in items.column_names]
        self._pairs = [each for each in rest if each.side == "pair"]
        self._user = _Part(schema, [each for each in rest if each.side not in ("pair", "moment")])
        self._moment = _Part(schema, [each for each in rest if each.side == "moment"])
        self._item = _Part(schema, of_item)
        self._items = self._item.encode(items)

    def users(self, table: pa.Table) -> Encoded:
        """The features of U users, from `user_features`."""
        return self._user.encode(table)

    def sequence(self, name: str, values: Ids) -> tuple[Ints, Ints]:
        """The columns of `users` that hold a sequence, and (N,) what they hold for each of N values.

        A model that does not read the sequence has no such columns.
        """
        wanted = [each for each in self._user.sparse if each.name == name]
        if not wanted:
            return np.zeros(0, np.int64), np.zeros(len(values), np.int64)
        alone = pa.table({name: list_array(pa.array(values), np.ones(len(values), np.int64))})
        places = np.flatnonzero(np.isin(self._user.indices, self._user.columns(wanted)))
        return places, encode_feature(self._schema, wanted[0], alone)[:, 0].astype(np.int64)

    def moments(self, moments: Mapping[str, pa.Array], rows: int) -> Encoded:
        """The features of the moments of some requests, (N,) each; one that is not named is unknown."""
        if not self._moment.sparse and not self._moment.floats:
            return nothing_encoded(rows)
        return self._moment.encode(pa.table({**moments, "": pa.nulls(rows)}))

    def __call__(self, users: Encoded, item: Ints, numbers: Mapping[str, Floats], moments: Encoded) -> Inputs:
        """The inputs of the network for N pairs.

        Args:
            users: (N,) rows of `users`, or one for all pairs.
            item: (N,) places among the rows of `items`.
            numbers: the features that need both sides, from `pair_numbers`.
            moments: (N,) rows of `moments`, or one for all pairs.
        """
        shares_all = len(users) == len(moments) == 1
        made = self._nothing(1 if shares_all else len(item))
        self._user.put(users, made)
        self._moment.put(moments, made)
        if shares_all:
            made = made[np.zeros(len(item), np.int64)]
        self._item.put(self._items[item], made)
        for feature in self._pairs:
            made.numeric[:, self._schema.columns[feature.name]] = numbers[feature.name]
        return network_inputs(made)

    def _nothing(self, rows: int) -> Encoded:
        """Rows that are yet to be filled."""
        indices, floats = self._widths
        return Encoded(np.empty((rows, indices), np.int64), np.empty((rows, floats), np.float32))


def network_inputs(rows: Encoded) -> Inputs:
    """Encoded rows as the inputs of a network, which lacks `numeric` if its model reads no numbers."""
    indices = rows.indices.astype(np.int64, copy=False)
    return {"indices": indices, "numeric": rows.numeric} if rows.numeric.shape[1] else {"indices": indices}


def encoded(inputs: Inputs) -> Encoded:
    """The rows that `network_inputs` made these inputs of."""
    none = np.empty((len(inputs["indices"]), 0), np.float32)
    return Encoded(np.asarray(inputs["indices"], np.int64), np.asarray(inputs.get("numeric", none), np.float32))


def nothing_encoded(rows: int) -> Encoded:
    """Rows for a funnel without a ranker: no columns."""
    return Encoded(np.empty((rows, 0), np.int32), np.empty((rows, 0), np.float32))


class _Part:
    """Some features of a schema: their columns in `Encoded`, and these columns for the rows of a table."""

    def __init__(self, schema: FeatureSchema, features: Sequence[Feature]) -> None:
        self.schema = schema
        self.sparse = [each for each in features if each.kind != "numeric"]
        self.floats = [each for each in features if each.kind == "numeric"]
        self.indices, self.numeric = self.columns(self.sparse), self.columns(self.floats)

    def columns(self, features: Sequence[Feature]) -> Ints:
        """The columns of some features in `Encoded`."""
        width = max(self.schema.index_columns, self.schema.floats)
        places = [np.arange(width)[self.schema.columns[each.name]] for each in features]
        return np.concatenate([np.zeros(0, np.int64), *places])

    def put(self, rows: Encoded, made: Encoded) -> None:
        """Write the part's columns, for each row or one for all, into rows of the schema."""
        made.indices[:, self.indices], made.numeric[:, self.numeric] = rows.indices, rows.numeric

    def encode(self, table: pa.Table) -> Encoded:
        """The columns of the part for every row of a table."""
        indices = [encode_feature(self.schema, each, table) for each in self.sparse]
        numeric = [encode_feature(self.schema, each, table) for each in self.floats]
        rows = table.num_rows
        return Encoded(
            np.concatenate([np.empty((rows, 0), np.int32), *indices], 1, dtype=np.int32),
            np.concatenate([np.empty((rows, 0), np.float32), *numeric], 1, dtype=np.float32),
        )
