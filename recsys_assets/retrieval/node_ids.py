"""Ids as 64-bit integers, for formats that take no others."""

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Ints
from recsys_assets.datasets.duck import connect


class TextIds(ValueError):
    """Ids are text where integers are needed, and hashing is off."""


def integers(ids: pa.Array, hash_text: bool) -> Ints:
    """(N,) ids as integers: integers unchanged, text hashed.

    Raises:
        TextIds: the ids are text, and `hash_text` is off.
    """
    if pa.types.is_integer(ids.type):
        numbers: Ints = ids.cast(pa.int64()).to_numpy()
        return numbers
    if not hash_text:
        raise TextIds(f"ids such as {ids[0].as_py()!r} are text, and 64-bit integers are needed: turn hash_ids on")
    return hashed(ids)


def hashed(ids: pa.Array) -> Ints:
    """(N,) text as 64 bits: the last eight bytes of its MD5, the first of them the lowest, as a signed integer.

    It is the same on every machine and in every version. (With USE_HASH_NODE_ID=1 of TorchEasyRec, GraphLearn hashes
    in a different way; a table with these integers does not need that.)
    """
    given = pa.table({"id": ids, "place": np.arange(len(ids))})
    with connect() as connection:
        connection.register("given", given)
        found = connection.sql("SELECT md5_number_lower(id) AS hash FROM given ORDER BY place").to_arrow_table()
    hashes: Ints = found["hash"].to_numpy().view(np.int64)
    return hashes
