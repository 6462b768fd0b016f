"""Text to values of another type, with the place of the first that is none."""

import pyarrow as pa


class Uncastable(ValueError):
    """A value that does not stand for one of the type; `row` is its place in the array, from 0."""

    def __init__(self, row: int, value: object, kind: pa.DataType) -> None:
        super().__init__(f"{value!r} is no {kind}")
        self.row, self.value = row, value


def cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as another type.

    Raises:
        Uncastable: one of them is none; found by halving.
    """
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            values[low:middle].cast(kind)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    raise Uncastable(low, values[low].as_py(), kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether the type is one of lists: of offsets of either size, or of lists of one size."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
