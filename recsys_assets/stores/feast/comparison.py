"""Compare what Feast's online store gives back with the snapshot that was written to it."""

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.stores.compare import count_differing
from recsys_assets.stores.consistency import draw_keys
from recsys_assets.stores.feast.repository import Repository
from recsys_assets.stores.feast.snapshots import USER, Side
from recsys_assets.stores.store import KEY


def compare(repository: Repository, side: Side, snapshot: pa.Table) -> tuple[int, int]:
    """The rows that were compared, `COMPARED_USERS` users or all items, and those that differ in any bit."""
    if side == USER:
        snapshot = snapshot.filter(pc.is_in(snapshot[side.key], draw_keys(snapshot[side.key])))
    found = repository.read(side, snapshot[side.key].to_pylist(), snapshot.schema)
    return snapshot.num_rows, count_differing(_with_key(snapshot, side), _with_key(found, side))


def _with_key(table: pa.Table, side: Side) -> pa.Table:
    return table.append_column(KEY, table[side.key].cast(pa.string()))
