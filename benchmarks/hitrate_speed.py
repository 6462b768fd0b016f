"""Measures seconds from Parquet to the hit rate: exact search, faiss's exact index, TorchEasyRec's default index.

    python benchmarks/hitrate_speed.py                                         # 60,400 users, 10^6 items: 10 minutes
    python benchmarks/hitrate_speed.py --users 6040 --items 100000             # a few seconds
    python benchmarks/hitrate_speed.py --json                                  # the last line is one JSON object

The tables are generated: normal vectors and four right items per user, one of them in the direction of the user's
vector. The contenders run in turn, each in its own process, so that peak memory is measured per contender. All read the
same tables and count hits with the same code; IVFFlatIP has TorchEasyRec's nlist 1000 and nprobe 800.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Vectors
from recsys_assets.retrieval import index
from recsys_assets.tzrec import evaluation as hit_rate
from recsys_assets.tzrec import exact_search, input_tables

CONTENDERS = {"recsys_assets, exact": "", "faiss FlatIP": "FlatIP", "faiss IVFFlatIP": "IVFFlatIP"}
ROWS = {"": 1 << 14}  # rows searched at once; faiss gets 1024, as in TorchEasyRec


def generate(folder: Path, users: int, items: int, dims: int, seed: int = 1) -> None:
    """Write items.parquet and users.parquet."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((items, dims), dtype=np.float32)
    truth = rng.integers(0, items, (users, 4))
    asked = rng.standard_normal((users, dims), dtype=np.float32) + vectors[truth[:, 0]] / 2
    pq.write_table(pa.table({"item_id": np.arange(items), "item_tower_emb": lists(vectors)}), folder / "items.parquet")
    columns = {"request_id": np.arange(users), "gt_items": lists(truth), "user_tower_emb": lists(asked)}
    pq.write_table(pa.table(columns), folder / "users.parquet")


def lists(rows: np.ndarray) -> pa.ListArray:
    """A column with one list per row of a matrix."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def searcher(kind: str, ids: pa.Array, vectors: Vectors) -> hit_rate.Searcher:
    """The exact search or faiss index of a contender."""
    if not kind:
        return exact_search.Flat(vectors)
    return index.build(vectors, ids, index.IndexSettings(kind).trainable_by(len(vectors)))  # type: ignore[arg-type]


def measure(contender: str, folder: Path, k: int) -> dict[str, float]:
    """Seconds, CPU seconds (including start and imports), hit rate and peak memory in MB of one contender."""
    kind, start = CONTENDERS[contender], time.perf_counter()
    columns = "request_id", "gt_items", "user_tower_emb"
    requests = input_tables.requests(str(folder / "users.parquet"), None, columns, 1, None, "IP")
    ids, vectors = input_tables.items(str(folder / "items.parquet"), None, "item_id", "item_tower_emb")
    evaluation, found = hit_rate.Evaluation(requests, ids), searcher(kind, ids, vectors)
    if isinstance(found, exact_search.Flat):
        evaluation = evaluation.within_reach(found, k)
    hits = sum(int(part.hits.sum()) for part in evaluation.search(found, k, ROWS.get(kind, 1024)))
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "hitrate": hits / len(evaluation.truth_codes),
        "memory_mb": used.ru_maxrss / 1024,
    }


def compare(folder: Path, k: int) -> dict[str, dict[str, float]]:
    """Run the contenders in turn and print the table."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # for all contenders: waiting threads sleep
    done: dict[str, dict[str, float]] = {}
    print(f"{'':24}{'seconds':>10}{'times ours':>12}{'CPU seconds':>13}{'hit rate':>11}{'memory MB':>11}")
    for contender in CONTENDERS:
        command = [sys.executable, __file__, "--only", contender, "--source", str(folder), "--top-k", str(k)]
        done[contender] = run = json.loads(subprocess.check_output(command, text=True, env=environment))
        times = run["seconds"] / next(iter(done.values()))["seconds"]
        figures = f"{run['cpu_seconds']:13.1f}{run['hitrate']:11.6f}{run['memory_mb']:11,.0f}"
        print(f"{contender:24}{run['seconds']:10.1f}{times:12.1f}{figures}", flush=True)
    return done


def main() -> None:
    """Read the command line and run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=60_400)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dims", type=int, default=32)
    parser.add_argument("--top-k", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.source, args.top_k)))
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), args.users, args.items, args.dims)
        done = compare(Path(folder), args.top_k)
    if args.json:
        print(json.dumps(done))


if __name__ == "__main__":
    main()
