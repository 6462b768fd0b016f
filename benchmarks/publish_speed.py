"""Measures documents per second: publishing MongoDB's collections, compared with bare pymongo writing the same ones.

    python benchmarks/publish_speed.py --bizdate 2003-02-28                    # the lake of the settings
    python benchmarks/publish_speed.py --bizdate 2003-02-28 --lake LAKE --profile movielens-1m
    python benchmarks/publish_speed.py --rows 10000                            # generated rows, without a lake

The tables are built from the lake's partitions as the assets build them. Four contenders take turns on each collection:

* insert: `insert_many` of the documents, Python dicts made beforehand, into a new collection, without index or reading;
* indexed: the same, then the index on `queryid`, without which a service would scan;
* upsert: `bulk_write` with one `ReplaceOne(upsert=True)` per document, as MetaSpore's loader would do;
* publish: all of `publish()`, starting from the table: encode, write, index `queryid`, count, compare a sample, switch.

The server is that of `MONGO_URI`, or else the project's own in a temporary folder.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pyarrow as pa
from pymongo import MongoClient, ReplaceOne
from pymongo.collection import Collection

from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.settings import settings
from recsys_assets.stores.mongo.documents import encode_rows
from recsys_assets.stores.mongo.embedded import run_server
from recsys_assets.stores.mongo.store import MongoStore
from recsys_assets.stores.publish import version_name
from recsys_assets.stores.registry import STORES
from recsys_assets.stores.store import KEY
from recsys_assets_tests.helpers.publishing import publish

DATABASE = "publish_speed"  # dropped before each turn and at the end
CONTENDERS = ("insert", "indexed", "upsert", "publish")
Documents = list[dict[str, Any]]


def tables(lake: str, profile_name: str, bizdate: str) -> dict[str, pa.Table]:
    """The collections' tables of a bizdate."""
    profile = load_profile(profile_name)
    made_of = Lake(lake, profile.name)
    collections = STORES["mongo"].collections(list(TOWERS), profile.publishing.vectors)
    return {
        name: collection.table(profile, {asset: made_of.read(asset, bizdate) for asset in collection.reads})
        for name, collection in collections.items()
    }


def generated(rows: int, seed: int = 1) -> dict[str, pa.Table]:
    """One collection of vectors and one of neighbours, each with that many rows."""
    rng = np.random.default_rng(seed)
    key = pa.array(map(str, range(rows)), pa.string())
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.random(rows * 64, np.float32)), 64)
    near = pa.StructArray.from_arrays(
        [pa.array(rng.integers(0, rows, rows * 20)), pa.array(rng.random(rows * 20, np.float32))], ["item_id", "score"]
    )
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * 20), near)
    numbers = pa.array(range(rows), pa.int64())
    return {
        "emb_user": pa.table({KEY: key, "user_id": numbers, "vector": vectors.cast(pa.list_(pa.float32()))}),
        "itemcf": pa.table({KEY: key, "value": lists}),
    }


def measure(
    uri: str, name: str, version: str, table: pa.Table, dicts: Documents, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; every round begins with a different contender."""
    seconds: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    with MongoClient[dict[str, Any]](uri) as client, MongoStore(uri, DATABASE) as store:
        bare = client[DATABASE][name]
        work: dict[str, Callable[[], object]] = {
            "insert": lambda: bare.insert_many(dicts),
            "indexed": lambda: (bare.insert_many(dicts), bare.create_index(KEY)),
            "upsert": lambda: upsert(bare, dicts),
            "publish": lambda: publish(store, name, version, table, lambda: None, keep=3),
        }
        for number in range(rounds):
            for contender in CONTENDERS[number % 4 :] + CONTENDERS[: number % 4]:
                client.drop_database(DATABASE)
                start = time.perf_counter()
                work[contender]()
                seconds[contender].append(time.perf_counter() - start)
        client.drop_database(DATABASE)
    return seconds


def upsert(bare: Collection[dict[str, Any]], dicts: Documents) -> None:
    """Replace the documents with the same `_id`, or insert new ones."""
    bare.bulk_write([ReplaceOne({"_id": each["_id"]}, each, upsert=True) for each in dicts], ordered=False)


def line(name: str, count: int, size: int, seconds: dict[str, list[float]]) -> str:
    """A line of the table: the median speeds and the median ratios over the rounds."""
    speeds = "".join(f"{count / statistics.median(seconds[each]):11,.0f}" for each in CONTENDERS)
    ratios = "".join(
        f"{statistics.median(bare / ours for bare, ours in zip(seconds[each], seconds['publish'], strict=True)):14.2f}"
        for each in CONTENDERS[:-1]
    )
    return f"{name:18}{count:10,}{size / 1e6:8.1f}{speeds}{ratios}"


def compare(uri: str, made: dict[str, pa.Table], bizdate: str, rounds: int) -> None:
    """Measure each collection and print the table."""
    print(f"{'':18}{'documents':>10}{'MB':>8}" + "".join(f"{each + ' /s':>11}" for each in CONTENDERS), end="")
    print("".join(f"{'over ' + each:>14}" for each in CONTENDERS[:-1]))
    count, size = 0, 0
    total = {contender: [0.0] * rounds for contender in CONTENDERS}
    for name, table in made.items():
        encoded = [each.raw for block in encode_rows(name, bizdate, table) for each in block]
        seconds = measure(uri, name, version_name(bizdate), table, [bson.decode(each) for each in encoded], rounds)
        print(line(name, len(encoded), sum(map(len, encoded)), seconds), flush=True)
        count, size = count + len(encoded), size + sum(map(len, encoded))
        total = {each: [a + b for a, b in zip(total[each], seconds[each], strict=True)] for each in CONTENDERS}
    print(line("total", count, size, total))


def main() -> None:
    """Read the command line and run the comparison."""
    place = settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lake", default=place.lake)
    parser.add_argument("--profile", default=place.profile)
    made_of = parser.add_mutually_exclusive_group(required=True)
    made_of.add_argument("--bizdate", help="of the lake's partitions")
    made_of.add_argument("--rows", type=int, help="generated rows in each of two collections, without a lake")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    bizdate = given.bizdate or "2026-01-01"
    made = generated(given.rows) if given.rows else tables(given.lake, given.profile, bizdate)
    if uri := os.environ.get("MONGO_URI"):
        compare(uri, made, bizdate, given.rounds)
        return
    with tempfile.TemporaryDirectory() as folder, run_server(Path(folder)) as own:
        compare(own, made, bizdate, given.rounds)


if __name__ == "__main__":
    main()
