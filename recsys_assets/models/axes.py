"""Axes of weights and the meaning of their places, so that a training can continue when a vocabulary has changed.

An axis is a tuple of blocks in the order of its places. `places_in` finds for each place of an axis the place of an
earlier axis that stands for the same value: a value that is new has none, and one that is gone is not asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Ints
from recsys_assets.features.schema import Feature, FeatureSchema


class AxisMisfit(ValueError):
    """Two axes do not stand for the same things; the message says how they differ."""


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring places of an axis that belong together, such as the rows of a feature.

    Attributes:
        size: the number of places.
        keys: the values that the last places stand for; the places before them, and without keys all places, stand
            for the same in every training.
    """

    size: int
    keys: pa.Array | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> "Block":
        """The block itself: a copy of a model need not copy its vocabularies."""
        return self

    def places_in(self, before: "Block | Pairs") -> Ints:
        """(size,) for each place that of the earlier block, or -1.

        Raises:
            AxisMisfit: the places without keys are not as many as before.
        """
        if (
            not isinstance(before, Block)
            or self._fixed != before._fixed
            or (self.keys is None) != (before.keys is None)
        ):
            raise AxisMisfit(f"its {self.size} places are not the {before.size} places of the checkpoint")
        fixed = np.arange(self._fixed)
        if self.keys is None or before.keys is None:
            return fixed
        found = pc.index_in(self.keys, value_set=before.keys.cast(self.keys.type))
        known = pc.fill_null(pc.add(found, self._fixed), -1).to_numpy(zero_copy_only=False)
        return np.concatenate([fixed, known.astype(np.int64)])

    @property
    def _fixed(self) -> int:
        return self.size - (0 if self.keys is None else len(self.keys))


@dataclass(frozen=True, eq=False)
class Pairs:
    """The pairs of the places of two blocks, the second one's fastest; hashed if there are more than `size`.

    Where a pair is hashed to depends on the sizes of both vocabularies. So if one of them has changed, a hashed cross
    begins again.
    """

    one: Block
    other: Block
    size: int

    def places_in(self, before: "Block | Pairs") -> Ints:
        """(size,) for each place that of the earlier pairs, or -1.

        Raises:
            AxisMisfit: they were not pairs of such blocks.
        """
        if not isinstance(before, Pairs):
            raise AxisMisfit(f"its {self.size} pairs are not the {before.size} places of the checkpoint")
        one, other = self.one.places_in(before.one), self.other.places_in(before.other)
        if self._hashed or before._hashed:
            same = self.size == before.size and _is_same(one, before.one) and _is_same(other, before.other)
            return np.arange(self.size) if same else np.full(self.size, -1)
        pairs = one[:, None] * before.other.size + other
        return np.where((one < 0)[:, None] | (other < 0), -1, pairs).ravel()

    @property
    def _hashed(self) -> bool:
        return self.size < self.one.size * self.other.size


Axis = tuple[Block | Pairs, ...]


def as_axis(places: int | Axis) -> Axis:
    """The axis; a number is that of places which no vocabulary decides."""
    return (Block(places),) if isinstance(places, int) else places


def size_of(axis: Axis) -> int:
    """The number of places."""
    return sum(block.size for block in axis)


def places_in(axis: Axis, before: Axis) -> Ints:
    """(places,) for each place that of the earlier axis, or -1.

    Raises:
        AxisMisfit: the blocks are others.
    """
    if len(axis) != len(before):
        raise AxisMisfit(f"its places are in {len(axis)} blocks, those of the checkpoint in {len(before)}")
    starts = np.cumsum([0, *(block.size for block in before)])
    found = [block.places_in(old) for block, old in zip(axis, before, strict=True)]
    return np.concatenate(
        [np.where(places < 0, -1, places + start) for places, start in zip(found, starts[:-1], strict=True)]
    )


def rows_of_values(features: Iterable[Feature]) -> Axis:
    """The rows of a table for the values of sparse features: padding, then each feature's, its unknown value first."""
    return (Block(1), *(Block(feature.index_rows, feature.keys) for feature in features))


def columns_of_floats(schema: FeatureSchema) -> Axis:
    """The floats of the numeric features; those with `terms_of` stand for the values of that feature."""
    terms = {feature.name: feature.keys for feature in schema.sparse}
    return tuple(Block(feature.length, terms.get(feature.terms_of)) for feature in schema.of_kind("numeric"))


def _is_same(places: Ints, before: Block) -> bool:
    return len(places) == before.size and bool((places == np.arange(before.size)).all())
