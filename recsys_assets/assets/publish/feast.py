"""Feast: the snapshots of users and items in its offline store, and those of the newest bizdate in its online store.

The assets are there if `RECSYS_FEAST_URI` names the folder of the feature repository.
"""

import datetime as dt
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.stores.consistency import COMPARED_USERS
from recsys_assets.stores.feast.comparison import compare
from recsys_assets.stores.feast.place import FeastFailed, feast_place, needed_place
from recsys_assets.stores.feast.repository import Repository
from recsys_assets.stores.feast.snapshots import EVENT_TIME, ITEM, SIDES, USER, Side, known_from, to_feast
from recsys_assets.uris import is_folder

SCHEMA, PUBLICATION = "schema.json", "publication.json"
MATCHES = Check(
    "store_matches_lake", f"for {COMPARED_USERS} users and all items, Feast gives back the same values as the snapshot"
)


@lake_asset(kinds={"feast", "parquet"})
def feast_offline(output: Output, dataset: Dataset, user_features: Partition, item_features: Partition) -> None:
    """The snapshots of users and items as Feast's sources, with the time from which they are known.

    A row has the features that a service reads, the join key, and as its event time the end of the bizdate: Feast joins
    an event with the newest snapshot that does not know it yet.
    """
    moment, rows = known_from(dataset.load(), output.manifest.bizdate), {}
    for side, partition in ((USER, user_features), (ITEM, item_features)):
        table = to_feast(pq.read_table(partition.path(ROWS)), side, moment)
        pq.write_table(table, output.path(side.file))
        rows[side.view] = table.num_rows
    output.manifest.rows = sum(rows.values())
    output.metadata |= {
        EVENT_TIME: moment.isoformat(),
        "rows of the views": show.table(["view", "rows"], list(rows.items())),
    }


@lake_asset(kinds={"feast"}, checks=[MATCHES])
def feast_online(
    output: Output,
    dataset: Dataset,
    lake: LakeStore,
    feature_schema: Partition,
    user_features: Partition,
    item_features: Partition,
    feast_offline: Partition,  # noqa: ARG001 -- Feast reads it by its path
) -> None:
    """The feature repository, applied, and the bizdate's snapshots in Feast's online store.

    The repository is generated from `feature_schema`, with one view and one service for users and one for items. The
    online store is an SQLite file in its folder, or the Redis of `RECSYS_REDIS_URI`. An earlier bizdate than the one in
    it is not written over it.
    """
    profile = dataset.load()
    place, moment = needed_place(profile), known_from(profile, output.manifest.bizdate)
    repository, schema = Repository(place), FeatureSchema.read(feature_schema.path(SCHEMA))
    snapshots = {
        side: pq.read_table(each.path(ROWS)) for side, each in zip(SIDES, (user_features, item_features), strict=True)
    }
    with repository.lock():
        repository.claim(lake.lake.owner)
        columns = {side: table.schema for side, table in snapshots.items()}
        repository.apply(schema, columns, sources(lake.lake))
        if is_newest := _is_newest(repository, moment):
            repository.materialize(moment)
        _check(output, repository, snapshots if is_newest else {})
    output.metadata["live"] = "yes" if is_newest else "no: a later bizdate is"
    services = {place.service(side): table.num_rows for side, table in snapshots.items()}
    output.write_json(PUBLICATION, {"project": place.project, "services": services, EVENT_TIME: moment.isoformat()})
    output.manifest.rows = sum(services.values())


def feast_assets(profile: Profile) -> list[LakeAsset]:
    """The assets of Feast, if its setting is given."""
    return [feast_offline, feast_online] if feast_place(profile) else []


def sources(lake: Lake) -> dict[Side, str]:
    """The pattern of the files of all days for each side.

    Raises:
        FeastFailed: the lake is not a folder.
    """
    if not is_folder(lake.folder):
        raise FeastFailed(
            f"Feast reads the snapshots from the lake, which must be a folder of this machine: {lake.folder}"
        )
    return {side: f"{lake.folder}/{feast_offline.key}/bizdate=*/{side.file}" for side in SIDES}


def _is_newest(repository: Repository, moment: dt.datetime) -> bool:
    there = repository.materialized()
    return there is None or there <= moment


def _check(output: Output, repository: Repository, snapshots: Mapping[Side, pa.Table]) -> None:
    """Record the check, and one row per view for the UI; an earlier bizdate has nothing to compare."""
    counts = {side.view: compare(repository, side, table) for side, table in snapshots.items()}
    compared, differing = (sum(each) for each in zip(*counts.values(), strict=True)) if counts else (0, 0)
    output.manifest.metrics = {"rows_compared": float(compared), "rows_differing": float(differing)}
    output.check(MATCHES.name, differing == 0, rows=compared, differing=differing)
    rows = [(view, *each) for view, each in counts.items()]
    output.metadata["compared with the lake"] = show.table(["view", "rows", "differing"], rows)
