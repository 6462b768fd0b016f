"""The column `vector` of a table, as stores that search by vector need it: of one width, without missing values."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets import names
from recsys_assets.stores.store import KEY, Unrepresentable

VECTOR = names.VECTOR


def with_fixed_vectors(table: pa.Table) -> pa.Table:
    """The table with its vectors as Arrow's lists of a fixed size, of float32.

    Raises:
        Unrepresentable: there is no such column, or no row; or a vector is missing, differs in width from the first, or
            holds a number that is not finite.
    """
    if VECTOR not in table.column_names or not len(table):
        raise Unrepresentable(f"a store of vectors needs a table with a column `{VECTOR}` and at least one row")
    column = table[VECTOR].combine_chunks()
    widths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    if wrong := np.flatnonzero((widths != widths[0]) | (widths == 0)).tolist():
        raise Unrepresentable(
            f"column {VECTOR} of row {table[KEY][wrong[0]]}: {widths[wrong[0]]} numbers, the first row has {widths[0]}"
        )
    numbers = pc.list_flatten(column).cast(pa.float32())
    finite = np.isfinite(numbers.to_numpy(zero_copy_only=False)).reshape(len(table), -1).all(axis=1)
    if not finite.all():
        raise Unrepresentable(f"column {VECTOR} of row {table[KEY][int(np.argmin(finite))]}: not all finite numbers")
    place = table.column_names.index(VECTOR)
    return table.set_column(place, VECTOR, pa.FixedSizeListArray.from_arrays(numbers, int(widths[0])))
