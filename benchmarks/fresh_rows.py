"""Measures fresh items in bulk: vectors and rows a second, upserts into PostgreSQL, and what SIGKILL loses.

    python benchmarks/fresh_rows.py [--items 100000] [--kills 20]

Items are generated in the columns of the profile `sample`, and encoded by the newest `onnx_<model>` of its lake, the
model being that of fresh items. After every SIGKILL of a process that takes new items and changes of them, each item
that it acknowledged must be there, as often as once, and with the vector of its newest row; then all rows land, and the
ingested table must hold each once. The rows are kept in a temporary folder. PostgreSQL is that of RECSYS_POSTGRES_URI,
or else the tests' own server in a temporary folder.
"""

import argparse
import contextlib
import datetime as dt
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import IO, cast
from unittest import mock
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Vectors
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.ingest import ROWS, ingest_entities
from recsys_assets.datasets.profile import load_profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.landing import land
from recsys_assets.fresh.step import FreshRow, Step, read_vectors, vectors_of
from recsys_assets.fresh.towers import towers_of
from recsys_assets.lake import Lake
from recsys_assets.processes import end_with
from recsys_assets.settings import settings
from recsys_assets.stores.fresh import push
from recsys_assets.stores.postgres.store import PostgresStore
from recsys_assets.stores.registry import open_store
from recsys_assets.stores.store import KEY
from recsys_assets_tests.helpers.postgres_server import PASSWORD, postgres

GENRES = ("Action", "Comedy", "Drama", "Horror", "Romance", "War")
BLOCK = 5_000
VERSION, COLLECTION = "2026-01-01.aaaaaaaaaaaa", "bench_item"


def line_of(number: int, year: int) -> str:
    """The row of an item."""
    genres = [GENRES[number % 6], GENRES[number // 6 % 6]]
    return json.dumps({"item_id": number, "title": f"New {number}", "genres": genres, "year": year})


def copy_towers(lake: str) -> None:
    """Copy the newest towers of the model of fresh items into another lake."""
    profile = load_profile()
    asset, made_of = f"onnx_{profile.fresh.model}", Lake.of(settings().lake, profile)
    made = made_of.read_sound(asset, made_of.bizdates(asset)[-1])
    shutil.copytree(made.folder, f"{lake}/{profile.name}/{asset}/{made.folder.name}")


@contextlib.contextmanager
def opened() -> Iterator[Step]:
    """The step with the towers of the newest bizdate."""
    profile = load_profile()
    lake, asset = Lake(settings().lake, profile.name), f"onnx_{profile.fresh.model}"
    towers = towers_of(lake.read(asset, lake.bizdates(asset)[-1]))
    with connect_without_lake() as duck:
        yield Step(profile, Database(profile.name), duck, towers)


def bulk(step: Step, count: int) -> str:
    """Rates of the vectors alone, and of rows to vectors on the disk."""
    lines = [line_of(number, 1990 + number % 36) for number in range(count)]
    tables = [step.judge.typed("items", lines[first : first + BLOCK]) for first in range(0, count, BLOCK)]
    began = time.perf_counter()
    for table in tables:
        vectors_of(step.towers["items"].encode, table)
    encoded = time.perf_counter() - began
    began = time.perf_counter()
    for first in range(0, count, BLOCK):
        taken = step.take([FreshRow("items", line) for line in lines[first : first + BLOCK]], dt.datetime.now(dt.UTC))
        if refused := [each for each in taken.reasons if each]:
            raise SystemExit(refused[0])
    kept = time.perf_counter() - began
    return f"{count:,} items: {count / encoded:,.0f} vectors a second, {count / kept:,.0f} rows a second to the disk"


def pushed(step: Step, store: PostgresStore) -> str:
    """The rate of upserts into PostgreSQL."""
    width = vectors_of(step.towers["items"].encode, step.judge.typed("items", [line_of(0, 2000)])).shape[1]
    write(store, np.eye(1, width, dtype=np.float32))
    began = time.perf_counter()
    typed, tower = step.judge.typed, step.towers["items"]
    done = push(store, COLLECTION, VERSION, step.database, "items", tower, lambda lines: typed("items", lines))
    return f"{done / (time.perf_counter() - began):,.0f} upserts a second into PostgreSQL, of {done:,}"


def take_until_killed(first: int) -> None:
    """Take new items and changes of them, a few at a time, and print those that were acknowledged."""
    end_with(os.getppid())
    chance = random.Random(first)
    with opened() as step:
        for block in itertools.count():
            items = range(first + 10 * block, first + 10 * (block + 1))
            for year in sorted(chance.sample(range(1990, 2026), 3)):
                step.take([FreshRow("items", line_of(each, year)) for each in items], dt.datetime.now(dt.UTC))
                os.write(1, f"{items.start} {items.stop} {year}\n".encode())


def kill_and_count(kills: int) -> str:
    """Kill so many times, and compare what is kept and what lands with what was acknowledged."""
    chance, years = random.Random(1), dict[int, int]()
    for number in range(kills):
        command = [sys.executable, __file__, "--take", str((number + 1) * 10_000_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            said = cast("IO[str]", process.stdout)
            remember(years, [said.readline()])
            time.sleep(chance.uniform(0, 1))
            process.kill()
            remember(years, list(said))
    with opened() as step:
        lost, stale = missing(step, years)
        landed = landed_items(step)
    absent, doubled = len({*years} - {*landed}), len(landed) - len({*landed})
    return (
        f"{kills} kills: {len(years):,} items acknowledged, {lost} lost, {doubled} doubled, {stale} stale, "
        f"{absent} missing where they landed"
    )


def remember(years: dict[int, int], lines: Sequence[str]) -> None:
    """Remember the newest acknowledged year of every item."""
    for line in lines:
        if line.endswith("\n"):
            first, last, year = map(int, line.split())
            years |= dict.fromkeys(range(first, last), year)


def missing(step: Step, years: dict[int, int]) -> tuple[int, int]:
    """How many items are not there, and how many have an older row than the acknowledged one, or another's vector."""
    with contextlib.closing(step.database.connect()) as connection:
        rows = connection.execute("SELECT key, line, vector FROM entities WHERE side = 'items'").fetchall()
    keys, lines, blobs = zip(*rows, strict=True)
    kept = {int(key): json.loads(line)["year"] for key, line in zip(keys, lines, strict=True)}
    wanted = vectors_of(step.towers["items"].encode, step.judge.typed("items", lines))
    others = int((np.abs(read_vectors(blobs) - wanted).max(1) > 1e-6).sum())
    return len(years.keys() - kept.keys()), sum(kept.get(each, year) < year for each, year in years.items()) + others


def landed_items(step: Step) -> list[int]:
    """The items of the table that the landed rows make."""
    now, out = dt.datetime.now(dt.UTC), step.database.place.folder
    with contextlib.closing(step.database.connect()) as connection, connect_without_lake(out) as duck:
        land(step.profile, step.database, duck, connection, now, everything=True)
        ingest_entities(duck, step.profile, "items", now.date().isoformat(), out)
    found: list[int] = pq.read_table(out / ROWS, columns=["item_id"])["item_id"].to_pylist()
    return found


def write(store: PostgresStore, vectors: Vectors) -> None:
    """Make vectors the live version of the collection."""
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1]).cast(
        pa.list_(pa.float32())
    )
    if VERSION in store.versions(COLLECTION):
        store.drop(COLLECTION, VERSION)
    keys = pa.array([f"v{number}" for number in range(len(vectors))])
    store.write(COLLECTION, VERSION, pa.table({KEY: keys, "vector": lists}))
    store.go_live(COLLECTION, VERSION)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of PostgreSQL."""
    if uri := settings().stores.get("RECSYS_POSTGRES_URI"):
        yield uri
        return
    with postgres("") as own:
        yield own.address(quote(PASSWORD, safe=""))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--take", type=int, help="the number of the first item: take items until killed")
    given = parser.parse_args()
    if given.take is not None:
        take_until_killed(given.take)
    with tempfile.TemporaryDirectory() as home, server() as uri:
        copy_towers(f"{home}/lake")
        places = {"DATA": home, "LAKE": f"{home}/lake", "LANDING": f"{home}/landing", "POSTGRES_URI": uri}
        with mock.patch.dict(os.environ, {f"RECSYS_{name}": place for name, place in places.items()}):
            print(kill_and_count(given.kills), flush=True)
            profile = load_profile()
            with opened() as step, open_store("postgres", profile.name) as made:
                store = cast("PostgresStore", made)
                print(bulk(step, given.items), flush=True)
                print(pushed(step, store), flush=True)
                store.drop(COLLECTION, VERSION)


if __name__ == "__main__":
    main()
