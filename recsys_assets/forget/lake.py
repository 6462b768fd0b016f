"""The partitions of a lake that have rows of a user."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.datasets.landed_user import USER
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest
from recsys_assets.retrieval.details import DETAILS
from recsys_assets.stores.feast.snapshots import USER as FEAST_USER

_AT_ONCE = 1_000_000  # rows


def find(lake: Lake, user: int | str) -> dict[tuple[str, str], int]:
    """The number of rows of a user in each partition that has some, by asset and bizdate."""
    names = [f"{asset}/{day}" for asset, day in lake.partitions()]
    found = {(each.asset, each.bizdate): count_rows(lake, each, user) for each in lake.manifests(names).values()}
    return {place: count for place, count in sorted(found.items()) if count}


def count_rows(lake: Lake, manifest: Manifest, user: int | str) -> int:
    """The number of rows of a user in the tables of a partition that have a column of users."""
    found = {file: _column(file, columns) for file, columns in manifest.schema.items()}
    return sum(_count(lake, manifest, file, column, user) for file, column in found.items() if column)


def _column(file: str, columns: Mapping[str, str]) -> str | None:
    """The column of a file that has ids of users."""
    names = (USER, FEAST_USER.join_key, *(("id",) if file == DETAILS else ()))
    return next((name for name in names if name in columns), None)


def _count(lake: Lake, manifest: Manifest, file: str, column: str, user: int | str) -> int:
    with lake.open_file(manifest, file) as opened, pq.ParquetFile(opened) as source:
        return sum(_equal(batch.column(0), user) for batch in source.iter_batches(_AT_ONCE, columns=[column]))


def _equal(ids: pa.Array, user: int | str) -> int:
    """How many ids are the user's; a table of rejected rows has them as texts."""
    return int(pc.sum(pc.equal(pc.cast(ids, pa.string()), str(user))).as_py() or 0)
