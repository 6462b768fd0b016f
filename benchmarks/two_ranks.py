"""Compares training by one process and by two that share every batch (DDP over gloo, on CPUs), on MovieLens 1M.

    python benchmarks/two_ranks.py --source FOLDER [--epochs 2] [--seeds 1 2 3] [--models widedeep dssm] [--work FOLDER]

Each process has one thread. One process trains with every seed, which shows how far a seed alone moves the validation
metric; two processes train with the first seed. Rankers have the rows of recsys_pipeline's protocol (`ml1m_rows.py`)
and their validation AUC; towers have MetaSpore's protocol of recall (`recall_ml1m.py`) and NDCG@20. The metric is the
best of the epochs. `rows/s` is the median over the epochs but the first, each with its validation, which the first
process computes while the other one waits. `CPU s` are the processor seconds of all processes for 10^6 rows: where
others compute on the same cores, compare these.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from ml1m import Ratings, arguments, read, schema_of
from ml1m_rows import prepared

from recsys_assets.datasets.splits import PARTS
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.catalogue import RANKERS, TRAINED_TOWERS, configure
from recsys_assets.training import recall, trainer
from recsys_assets.training.distributed import mean_of_all, process_group, processes, rank
from recsys_assets.training.loop import Fitted

PROTOCOL = "recsys_pipeline"
OnEpoch = Callable[[int, dict[str, float]], None]


def rank_rows(model: str, settings: tuple[Any, Any], work: Path, seed: int, on_epoch: OnEpoch) -> tuple[Fitted, int]:
    """Train a ranker on prepared rows; the number of its train rows is the second result."""
    import pyarrow.parquet as pq

    folder = work / PROTOCOL
    train, validation = (folder / f"{part}.parquet" for part in ("train", "validation"))
    schema = FeatureSchema.read(folder / "schema.json")
    fitted = trainer.fit(model, schema, train, validation, *settings, seed, on_epoch)
    return fitted, pq.read_metadata(train).num_rows


def recall_rows(
    model: str, settings: tuple[Any, Any], source: Path, seed: int, on_epoch: OnEpoch
) -> tuple[Fitted, int]:
    """Train a two-tower model on the ratings; the number of its train rows is the second result."""
    ratings: Ratings = read(source)
    samples = ratings.samples(validation=1, test=3, least_rating=3)
    events = recall.Source(samples, ratings.users, ratings.items)
    fitted = recall.fit(model, schema_of(samples, ratings), events, *settings, seed, on_epoch)
    return fitted, int((samples.parts == PARTS.index("train")).sum())


def train(model: str, given: argparse.Namespace, seed: int) -> None:
    """Train, in each of the processes; the first one prints the figures."""
    torch.set_num_threads(1)
    clock, processor = list[float](), list[float]()
    settings = configure(model, {}, {"epochs": given.epochs})

    def on_epoch(_: int, __: dict[str, float]) -> None:
        clock.append(time.perf_counter())
        processor.append(time.process_time())

    with process_group():
        way, place = (recall_rows, given.source) if model in TRAINED_TOWERS else (rank_rows, given.work)
        fitted, rows = way(model, settings, place, seed, on_epoch)
        seconds = statistics.median(after - before for before, after in pairwise(clock))
        spent = (processor[-1] - processor[0]) / (len(processor) - 1)
        spent = processes() * float(mean_of_all(torch.tensor(spent, dtype=torch.float64)))
        if rank() == 0:
            metric, cpu = fitted.metric, spent / rows * 1e6
            print(json.dumps({"metric": metric, "value": fitted.best[metric], "rows/s": rows / seconds, "CPU s": cpu}))


def trained(model: str, processes: int, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train in new processes, and return the figures."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), __file__, "--only", model, str(seed)]
    command += ["--source", str(given.source), "--work", str(given.work), "--epochs", str(given.epochs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def compare(model: str, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The figures of one model, of which two rows of the table are printed."""
    alone = [trained(model, 1, seed, given) for seed in given.seeds]
    together = trained(model, 2, given.seeds[0], given)
    values = [run["value"] for run in alone]
    one = {name: statistics.median(run[name] for run in alone) for name in ("rows/s", "CPU s")}
    rows = {
        "1": {"value": values[0], "least": min(values), "most": max(values), **one},
        "2": {name: together[name] for name in ("value", "rows/s", "CPU s")},
    }
    for number, row in rows.items():
        cells = "".join(f"{row[name]:10.4f}" if name in row else f"{'':10}" for name in ("value", "least", "most"))
        print(
            f"{model:10}{together['metric']:20}{number:>9}{cells}{row['rows/s']:10,.0f}{row['CPU s']:8.2f}", flush=True
        )
    return rows


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = arguments(__doc__ or "")
    parser.set_defaults(epochs=2)
    parser.add_argument("--models", nargs="+", choices=[*RANKERS, *TRAINED_TOWERS], default=["widedeep", "dssm"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--work", type=Path, help="folder that keeps the prepared rows for another run")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.epochs < 2:
        parser.error("--epochs: at least 2, as the first one is not timed")
    return given


def main() -> None:
    """Prepare the rows, train, and print the table."""
    given = parsed()
    if given.only:
        train(given.only[0], given, int(given.only[1]))
        return
    with tempfile.TemporaryDirectory() as temporary:
        given.work = given.work or Path(temporary)
        if any(model in RANKERS for model in given.models):
            prepared(PROTOCOL, read(given.source), given.work)
        heads = f"{'first seed':>10}{'least':>10}{'most':>10}{'rows/s':>10}{'CPU s':>8}"
        print(f"{'':10}{'metric':20}{'processes':>9}{heads}", flush=True)
        figures = {model: compare(model, given) for model in given.models}
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
