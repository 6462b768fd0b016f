"""Measures the online service on a large catalogue: the release of a small lake, with many times its users and items.

    RECSYS_PROFILE=sample RECSYS_DATA=… python benchmarks/large_catalogue.py 2026-03-31 /tmp/large --items 1000000

The copies of a user differ in what they touched and a little in their vectors, and so do those of an item. Neighbours
of items and indexes are made for the whole catalogue; the models are those of the small lake. The script prints how
long the release takes to open, and, over HTTP in an open loop, the percentiles at a rate and the memory of every
process; then the time of each step of an answer in process.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from open_loop import Load, answers, begin
from serving_latency import measure, table_of
from serving_load import memory, row, service

from recsys_assets.arrays import Ids, Ints, find, spread
from recsys_assets.assets.recall.index import QUERIED_USERS, SHARE_ASKED, IndexConfig
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.funnel.by_vector import AFTER_ALL
from recsys_assets.funnel.methods import RECALL_METHODS
from recsys_assets.funnel.model import FunnelModel
from recsys_assets.funnel.served import served_partitions
from recsys_assets.i2i import neighbours
from recsys_assets.lake import Lake
from recsys_assets.manifest import Draft, Partition
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.retrieval import embeddings, index
from recsys_assets.retrieval.index import IndexSettings
from recsys_assets.retrieval.lists import CUTOFFS, Lists
from recsys_assets.serving.engine import Engine
from recsys_assets.settings import settings

EVENTS = 20  # that a user keeps, the newest ones
NEIGHBOURS = 50  # that an item keeps
NOISE = 0.3  # of a vector's floats, in standard deviations of the floats


@dataclass(frozen=True)
class Copies:
    """Copies of the rows of a table: copy c of row r has the id of the row plus c times `step`.

    Attributes:
        ids: (R,) of the rows, ascending.
        times: number of copies.
    """

    ids: Ids
    times: int

    @property
    def step(self) -> int:
        """Between the ids of two copies."""
        return int(self.ids[-1]) + 1

    @property
    def all_ids(self) -> Ints:
        """(R * times,) the ids of all copies, ascending."""
        return (self.ids[None].astype(np.int64) + self.step * np.arange(self.times)[:, None]).ravel()

    def table(self, table: pa.Table, key: str) -> pa.Table:
        """The rows of a table for all copies, ordered by id."""
        rows = find(np.sort(table[key].to_numpy()), self.ids)
        ordered = table.sort_by(key).take(pa.array(np.tile(rows, self.times)))
        return ordered.set_column(ordered.schema.get_field_index(key), key, pa.array(self.all_ids))

    def vectors(self, vectors: np.ndarray, seed: int) -> np.ndarray:
        """(R * times, D) the vectors (R, D) of all copies, each a little different."""
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((len(vectors) * self.times, vectors.shape[1]), np.float32)
        found: np.ndarray = np.tile(vectors, (self.times, 1)) + np.float32(NOISE * vectors.std()) * noise
        return found


class Enlarger:
    """Writes the partitions of a large release into another lake."""

    def __init__(self, source: Lake, target: Lake, day: str, users: int, items: int) -> None:
        self.source, self.target, self.day = source, target, day
        ids = {key: np.sort(self._table(f"{key}s")[f"{key}_id"].to_numpy()) for key in ("user", "item")}
        self.users, self.items = (
            Copies(each, -(-count // len(each))) for each, count in zip(ids.values(), (users, items), strict=True)
        )

    def run(self) -> None:
        """Write what the service reads for the served channels; partitions that do not grow are copied."""
        served = FunnelModel.read(self.source.read("funnel_model", self.day).folder).channels
        others = {each for name in RECALL_METHODS.keys() - set(served) for each in RECALL_METHODS[name].reads} - {
            "items"
        }
        for manifest in served_partitions(self.source, self.day):
            asset, bizdate = manifest.asset, manifest.bizdate
            if manifest.why_not or asset in others or asset.startswith("index_"):
                continue
            partition = self.source.read(asset, bizdate)
            with seconds_of(asset), self.target.draft(asset, bizdate) as draft:
                draft.manifest.config = manifest.config
                self._makers.get(asset, self._copy)(partition, draft)
        for model in TOWERS.keys() & set(served):
            with seconds_of(f"index_{model}"):
                self._index(model)

    @property
    def _makers(self) -> dict[str, Callable[[Partition, Draft], None]]:
        of = {"users": self.users, "user_features": self.users, "items": self.items, "item_features": self.items}
        tables = {
            asset: self._repeated(copies, asset.removesuffix("s").partition("_")[0]) for asset, copies in of.items()
        }
        alike = {name: self._neighbours for name in ("i2i_itemcf", "i2i_swing")}
        vectors = {f"emb_{model}_{side}": self._vectors for model in TOWERS for side in ("user", "item")}
        return {**tables, **alike, **vectors, "splits": self._splits}

    def _table(self, asset: str) -> pa.Table:
        return pq.read_table(self.source.read(asset, self.day).path(ROWS))

    def _repeated(self, copies: Copies, key: str) -> Callable[[Partition, Draft], None]:
        def make(partition: Partition, draft: Draft) -> None:
            table = copies.table(pq.read_table(partition.path(ROWS)), f"{key}_id")
            pq.write_table(table, draft.path(ROWS), compression="zstd")

        return make

    def _copy(self, partition: Partition, draft: Draft) -> None:
        for file in partition.manifest.files:
            draft.path(file).write_bytes(partition.path(file).read_bytes())

    def _splits(self, partition: Partition, draft: Draft) -> None:
        """The newest events of each user; the item of each event is one of its copies."""
        table, rng = pq.read_table(partition.path(ROWS)), np.random.default_rng(1)
        ends = np.cumsum(np.bincount(find(self.users.ids, table["user_id"].to_numpy()), minlength=len(self.users.ids)))
        starts = np.maximum(np.append(0, ends[:-1]), ends - EVENTS)
        _, kept = spread(starts, ends)
        copy = np.repeat(np.arange(self.users.times), len(kept))
        found = table.take(pa.array(np.tile(kept, self.users.times)))
        moved = {
            "user_id": found["user_id"].to_numpy() + copy * self.users.step,
            "item_id": found["item_id"].to_numpy() + rng.integers(self.items.times, size=len(copy)) * self.items.step,
        }
        for key, ids in moved.items():
            found = found.set_column(found.schema.get_field_index(key), key, pa.array(ids))
        pq.write_table(found, draft.path(ROWS), compression="zstd")

    def _neighbours(self, partition: Partition, draft: Draft) -> None:
        """The neighbours of every copy of an item are copies of the item's neighbours."""
        lists = neighbours.read(partition.path(ROWS), self.items.ids)
        items, rng, count = lists.items[:, :NEIGHBOURS], np.random.default_rng(2), len(self.items.ids)
        tiled = np.tile(items, (self.items.times, 1))
        moved = tiled + count * rng.integers(self.items.times, size=tiled.shape)
        scores = np.tile(lists.scores[:, :NEIGHBOURS], (self.items.times, 1))
        neighbours.write(draft.path(ROWS), self.items.all_ids, Lists(np.where(tiled < 0, -1, moved), scores))

    def _vectors(self, partition: Partition, draft: Draft) -> None:
        side = partition.manifest.asset.rpartition("_")[2]
        copies, (ids, vectors) = (self.users if side == "user" else self.items), embeddings.read(partition.path(ROWS))
        known = Copies(ids.to_numpy(zero_copy_only=False), copies.times)
        spaced = (known.ids[None] + copies.step * np.arange(copies.times)[:, None]).ravel()
        found = known.vectors(vectors, 3)
        draft.manifest.rows = len(found)
        embeddings.write(draft.path(ROWS), f"{side}_id", spaced, found)
        if side == "user":
            np.save(draft.path(AFTER_ALL), known.vectors(vectors, 4))

    def _index(self, model: str) -> None:
        ids, vectors = embeddings.read(self.target.read(f"emb_{model}_item", self.day).path(ROWS))
        users = embeddings.read(self.target.read(f"emb_{model}_user", self.day).path(ROWS))[1][:QUERIED_USERS]
        built = index.build(vectors, ids, IndexConfig().settings(len(ids)))
        flat = index.build(vectors, ids, IndexSettings("FlatIP"))
        built.probe_for(SHARE_ASKED, users, flat.search(users, max(CUTOFFS)).items)
        print(f"index_{model}: {built.index.nlist:,} clusters, of which a search looks into {built.index.nprobe:,}")
        with self.target.draft(f"index_{model}", self.day) as draft:
            built.write(draft.folder)


@contextmanager
def seconds_of(what: str) -> Iterator[None]:
    """Print how long the block takes."""
    begun = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begun:.1f} s", flush=True)


def main() -> None:
    """Make the release if it is not there, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bizdate", help="of the small release")
    parser.add_argument("folder", type=Path, help="of the large one, which is made if it is not there")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=500, help="in process")
    parser.add_argument("--rate", type=float, default=100, help="requests a second over HTTP; 0: none")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    profile, day = load_profile(), given.bizdate
    target = Lake(str(given.folder / "lake"), profile.name)
    if not target.bizdates("splits"):
        with seconds_of("the release is made"):
            Enlarger(Lake.of(settings().lake, profile), target, day, given.users, given.items).run()
    ids = pq.read_table(target.read("users", day).path(ROWS), columns=["user_id"])["user_id"].to_numpy()
    drawn = np.random.default_rng(0).choice(ids, given.requests).tolist()
    # The service comes first: afterwards this process keeps a release in memory, and two large ones may not fit.
    if given.rate:
        serve(given.folder, profile.name, day, drawn, given)
    answer(target, day, drawn)


def answer(lake: Lake, day: str, drawn: list[Any]) -> None:
    """Print what the release holds and the time of each step of the answers for some users."""
    with seconds_of("the release is opened"):
        engine = Engine(load_profile(), lake, day)
    engine.warm_up()
    print(
        f"{len(engine.log.user_ids):,} users, {len(engine.log.item_ids):,} items, {len(engine.log):,} events; "
        f"channels: {', '.join(engine.funnel.served)}"
    )
    print(f"memory, MB: {psutil.Process().memory_info().rss / 2**20:,.0f}")
    print(table_of(measure(engine, drawn, 0, judged=False)))


def serve(folder: Path, profile: str, day: str, users: list[Any], given: argparse.Namespace) -> None:
    """Print what a service of the release does at a rate. It finds the release as the one that was served last."""
    releases = folder / "serving" / profile / "releases"
    releases.mkdir(parents=True, exist_ok=True)
    (releases / "served.json").write_text(json.dumps([{"number": 1, "bizdate": day, "served": None}]))
    os.environ |= {"RECSYS_DATA": str(folder), "MONGO_URI": "mongodb://127.0.0.1:1"}  # no store answers there
    paths = [f"/recommend/{each}" for each in users]
    with service(given.processes) as (url, process):
        answers(begin(Load(url, paths, min(given.rate, 20), 3)))
        print("| a second | answered | p50 | p90 | p99 | p99.9 | max, ms | failed | sent late, ms |")
        print(row(f"{given.rate:g}", answers(begin(Load(url, paths, given.rate, given.seconds))), given.seconds))
        print(f"memory, MB: {memory(process)}")


if __name__ == "__main__":
    main()
