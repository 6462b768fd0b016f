"""Casts of text to values of another type, with the position of the first value that cannot be cast."""

import pyarrow as pa


class Uncastable(ValueError):
    """A value that cannot be cast to the type; `row` is its position in the array, from 0."""

    def __init__(self, row: int, value: object, kind: pa.DataType) -> None:
        super().__init__(f"{value!r} is not {kind}")
        self.row, self.value = row, value


def cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as another type.

    Raises:
        Uncastable: one of them cannot be cast; it is found by bisection.
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
