"""Compares Feast's historical join with our own SQL, and with the features that `rank_samples` has.

    python benchmarks/feast_history.py [--days 30] [--events 10000] [--log 20000] [--json]

It generates a log, builds the snapshots of each day, and joins drawn events with them through Feast, and by DuckDB's
ASOF join: all values must be equal. `rank_samples` also knows the earlier rows of the event's own day, which the
newest snapshot before it does not. The table has, for each feature of one number, on how many of the rows that have a
snapshot, and by how much, that differs.
"""

import argparse
import datetime as dt
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.assets.publish.feast import sources
from recsys_assets.datasets.duck import quote, quote_name, scan
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.stores.compare import count_differing
from recsys_assets.stores.feast.place import needed_place
from recsys_assets.stores.feast.repository import Repository
from recsys_assets.stores.feast.snapshots import EVENT_TIME, SIDES, Side, features_of
from recsys_assets.stores.store import KEY
from recsys_assets_tests.helpers.worlds import DAY, World, open_world

PARTS = ("train", "validation", "test")
SNAPSHOTS = [
    "users",
    "items",
    "splits",
    "factors",
    "event_features",
    "rank_samples",
    "feature_schema",
    "user_features",
    "item_features",
]
BEFORE = 7  # days before the first snapshot: without them no part of the split would have rows
SAME = 1e-6  # floats that differ by less count as equal in the comparison with `rank_samples`


def build(world: World, days: int) -> None:
    """The snapshots of every day up to `DAY`, and the newest one in Feast."""
    last = dt.date.fromisoformat(DAY)
    for before in reversed(range(days)):
        world.run([*SNAPSHOTS, "feast_offline"], str(last - dt.timedelta(days=before)))
    world.run(["feast_online"])


def draw(world: World, events: int) -> pa.Table:
    """Rows of the newest `rank_samples` of all parts, with a number; the order of drawing is a hash of the keys."""
    files = [file for part in PARTS for file in part_files(world.read("rank_samples"), part)]
    keys = ", ".join(world.profile.event_keys)
    return duckdb.sql(
        f"SELECT row_number() OVER (ORDER BY hash({keys}), {keys}) AS number, * FROM {scan(files)} "
        f"QUALIFY number <= {events} ORDER BY number"
    ).to_arrow_table()


def by_feast(world: World, rows: pa.Table, columns: dict[Side, list[str]]) -> tuple[pa.Table, float]:
    """The features of both sides for each row through Feast, in the rows' order, and the seconds that it takes."""
    store = Repository(needed_place(world.profile)).open()
    asked = rows.select(["number", "user_id", "item_id", "timestamp"]).rename_columns(
        ["number", "userid", "itemid", EVENT_TIME]
    )
    asked = asked.set_column(3, EVENT_TIME, asked[EVENT_TIME].cast(pa.timestamp("us", "UTC")))
    begun = time.perf_counter()
    features = [f"{side.view}:{name}" for side, names in columns.items() for name in names]
    found = store.get_historical_features(asked.to_pandas(), features).to_arrow().sort_by("number")
    return found, time.perf_counter() - begun


def by_sql(world: World, rows: pa.Table, columns: dict[Side, list[str]]) -> tuple[pa.Table, float]:
    """The same by DuckDB's ASOF joins of the snapshots' files."""
    begun, connection = time.perf_counter(), duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("rows", rows.select(["number", "user_id", "item_id", "timestamp"]))
    joins, chosen = "", ["number"]
    for side, pattern in sources(world.lake).items():
        joins += (
            f" ASOF LEFT JOIN read_parquet({quote(pattern)}) AS {side.name} ON {side.name}.{side.join_key} = "
            f"rows.{side.key} AND rows.timestamp::TIMESTAMP >= {side.name}.{EVENT_TIME}::TIMESTAMP"
        )
        chosen += [f"{side.name}.{quote_name(name)}" for name in columns[side]]
    found = connection.execute(f"SELECT {', '.join(chosen)} FROM rows{joins} ORDER BY number").to_arrow_table()
    return found, time.perf_counter() - begun


def compared(rows: pa.Table, found: pa.Table) -> list[dict[str, Any]]:
    """For each feature of one number, on how many rows and by how much the snapshot differs from `rank_samples`."""
    figures = []
    for name in found.column_names:
        if name not in rows.column_names or not pa.types.is_floating(rows.schema.field(name).type):
            continue
        ours, theirs = (each[name].to_numpy().astype(np.float64) for each in (rows, found))
        gap = np.abs(ours - theirs)
        differ = ~((np.isnan(ours) & np.isnan(theirs)) | (gap <= SAME))
        both = gap[~np.isnan(gap)]
        figures.append(
            {"feature": name, "rows": int(differ.sum()), "mean": float(both.mean()), "max": float(both.max())}
        )
    return figures


def report(world: World, events: int) -> dict[str, Any]:
    """The comparison of all values, and that with `rank_samples`."""
    rows = draw(world, events)
    columns = {side: features_of(world.table(side.snapshot).schema, side) for side in SIDES}
    found, seconds = by_feast(world, rows, columns)
    expected, own_seconds = by_sql(world, rows, columns)
    found = found.select(expected.column_names).cast(expected.schema)
    keyed = [each.append_column(KEY, each["number"].cast(pa.string())) for each in (expected, found)]
    known = pc.is_valid(expected["user_count"])
    return {
        "events": len(rows),
        "before the first snapshot": len(rows) - pc.sum(known).as_py(),
        "rows differing": count_differing(*keyed),
        "seconds of Feast": round(seconds, 2),
        "seconds of our SQL": round(own_seconds, 2),
        "rank_samples": compared(rows.filter(known), expected.filter(known)),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--events", type=int, default=10_000, help="that are joined")
    parser.add_argument("--log", type=int, default=20_000, help="events that are generated")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON too, on the last line")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["RECSYS_FEAST_URI"] = str(home / "feast")
        days = given.days + BEFORE
        with open_world(home / "data", users=given.log // 50, items=200, events=given.log, days=days) as world:
            build(world, given.days)
            found = report(world, given.events)
    for name, figure in found.items():
        if name != "rank_samples":
            print(f"{name}: {figure}")
    print("| feature | rows that differ from rank_samples | mean difference | largest |")
    for each in found["rank_samples"]:
        print(f"| {each['feature']} | {each['rows']} | {each['mean']:.4f} | {each['max']:.4f} |")
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
