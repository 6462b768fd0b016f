"""The raw features of pairs as the inputs of an ONNX file, without a table of pairs."""

from collections.abc import Mapping

import pyarrow as pa

from recsys_assets.arrays import Array, Floats
from recsys_assets.features.pair_data import ItemSnapshot, Pairs
from recsys_assets.features.raw import raw_columns, widths
from recsys_assets.features.schema import Feature, FeatureSchema


class Feed:
    """Gives what `raw_inputs` gives for the rows of `candidate_rows`.

    The items are prepared once for all pairs, and the users of a call once for all of theirs.
    """

    def __init__(self, schema: FeatureSchema, items: ItemSnapshot) -> None:
        self._features = schema.features
        self._items = raw_columns(
            [each for each in schema.features if each.name in items.table.column_names], items.table
        )

    def __call__(self, pairs: Pairs, numbers: Mapping[str, Floats], moment: Mapping[str, pa.Array]) -> dict[str, Array]:
        """The inputs of N pairs.

        Args:
            pairs: the pairs.
            numbers: their own features, from `pair_numbers`.
            moment: features of the moment of their requests, (N,) each.
        """
        made: dict[str, Array] = {
            each.name: _shape(each, numbers[each.name]) for each in self._features if each.name in numbers
        }
        rest = [each for each in self._features if each.name not in self._items and each.name not in made]
        of_user = raw_columns([each for each in rest if each.side != "moment"], pairs.users)
        made |= {name: values[pairs.item] for name, values in self._items.items()}
        made |= {name: values[pairs.user] for name, values in of_user.items()}
        if of_moment := [each for each in rest if each.side == "moment"]:
            made |= raw_columns(of_moment, pa.table({**moment, "": pa.nulls(len(pairs.user))}))
        return made


def _shape(feature: Feature, numbers: Floats) -> Floats:
    return numbers.reshape(len(numbers), *widths(feature))
