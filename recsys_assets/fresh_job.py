"""The job `fresh_items` and its sensor: new rows of items and users become vectors, and reach the stores.

Files are taken here unless a service of this machine takes them already. Stores get whatever changed, from wherever
it came.
"""

import contextlib
import datetime as dt
import hashlib
import warnings

import dagster as dg
import duckdb
from filelock import FileLock, Timeout

from recsys_assets.coldstart.choice import newest_serving_model
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.files import FilesTaken, new_files, take_files
from recsys_assets.fresh.landing import land
from recsys_assets.fresh.step import Step
from recsys_assets.fresh.towers import towers_of
from recsys_assets.jobs import PRIORITY, SECOND, priority
from recsys_assets.lake import Lake
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.stores.fresh_push import Pusher, fresh_stores

ASSET = "fresh_items"
# Dagster copies the sensor when it gives resources to the job, and warns of an argument that it fills in itself.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)


@dg.op(description="Takes new files of rows, and puts what changed into the stores.")
def take_fresh_rows(context: dg.OpExecutionContext, dataset: Dataset, lake: LakeStore) -> None:
    """Take new files, land what is due, and push to every store in use that takes fresh rows."""
    profile = dataset.load()
    database = Database(profile.name)
    with connect_without_lake() as duck:
        taken = _take_files(profile, lake.lake, database, duck)
    with connect_without_lake() as duck:  # a judge prepares its statements once for each connection
        pushed = Pusher(profile, lake.lake, database, duck).push()
    metadata = {"files": taken.files, "rows": taken.rows, "rejected": taken.rejected, "changed": taken.changed}
    context.log_event(dg.AssetMaterialization(ASSET, metadata={**metadata, **pushed}))


@dg.job(
    name=ASSET,
    description="Fresh items and users: files become rows, rows become vectors in the stores.",
    tags={PRIORITY: priority(SECOND)},
)
def fresh_items() -> None:
    """See `take_fresh_rows`."""
    take_fresh_rows()


@dg.sensor(
    job=fresh_items,
    minimum_interval_seconds=5,
    description="Starts `fresh_items` when there are new files of rows, or changes that no store has seen.",
)
def fresh_items_sensor(_: dg.SensorEvaluationContext, dataset: Dataset) -> dg.RunRequest | dg.SkipReason:
    """Request a run for each new state of files and rows."""
    profile = dataset.load()
    if "items" not in profile.tables:
        return dg.SkipReason("the items of this data set do not land")
    with contextlib.closing(Database(profile.name).connect()) as connection:
        files = new_files(profile, connection)
        ((number,),) = connection.execute("SELECT value FROM about WHERE name = 'seq'").fetchall()
    if not files and not (number and fresh_stores()):
        return dg.SkipReason("there is no new file of fresh rows")
    named = "\n".join(f"{each.name} {each.state}" for each in files)
    return dg.RunRequest(run_key=f"{number}:{hashlib.sha256(named.encode()).hexdigest()[:16]}")


def _take_files(profile: Profile, lake: Lake, database: Database, duck: duckdb.DuckDBPyConnection) -> FilesTaken:
    """Take new files, unless a service does."""
    asset = f"onnx_{newest_serving_model(profile, lake).model}"
    days = lake.bizdates(asset)
    towers = towers_of(lake.read_sound(asset, days[-1])) if days else {}
    now = dt.datetime.now(dt.UTC)
    with (
        contextlib.suppress(Timeout),
        FileLock(database.watch_lock, timeout=0),
        contextlib.closing(database.connect()) as connection,
    ):
        taken = take_files(Step(profile, database, duck, towers), duck, connection, now)
        land(profile, database, duck, connection, now)
        return taken
    return FilesTaken()
