"""Measures rows per second and memory of training the ranking models, FuxiCTR's and plain PyTorch loops.

    python benchmarks/train_speed.py --fuxictr PYTHON                    # generated rows in MovieLens 1M's sizes
    python benchmarks/train_speed.py --fuxictr PYTHON --source FOLDER    # train.parquet and schema.json of a lake

Batch 4,096, embeddings of 16, layers of 256 and 128 units, 2 threads; the features are ids, side fields and genres, so
that both sides build the same network. The contenders take turns; each run is its own process, so that peak memory is
measured per run, and one unmeasured pass precedes the measured ones. `--fuxictr` is the interpreter of the environment
that `beside_fuxictr` describes; without it FuxiCTR is left out.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from beside_fuxictr import ask, sparse_only, write
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models import layers
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.deepfm import DeepFmConfig
from recsys_assets.models.final import FinalConfig
from recsys_assets.models.widedeep import WideDeepConfig
from recsys_assets.training import loop, trainer
from recsys_assets.training.data import Rows, load

GENRES = [f"genre {number:02}" for number in range(18)]
TRAINING = TrainingConfig(batch=4096)


class Same(NamedTuple):
    """One network on both sides: our configuration, FuxiCTR's class and its settings."""

    config: Any
    fuxictr: str
    settings: dict[str, object]


NETWORKS = {
    "widedeep": Same(WideDeepConfig(id_dropout=0.0), "WideDeep", {"hidden_units": [256, 128]}),
    "deepfm": Same(DeepFmConfig(id_dropout=0.0), "DeepFM", {"hidden_units": [256, 128]}),
    "final": Same(
        FinalConfig(dropout1=0.0, dropout2=0.0, gating=False, id_dropout=0.0),
        "FinalNet",
        {"block1_hidden_units": [256, 128], "block2_hidden_units": [256, 128]},
    ),
}


def generated_schema() -> FeatureSchema:
    """The features of MovieLens 1M that both sides use: ids, side fields and genres."""
    sizes = {"user_id": 6040, "item_id": 3706, "gender": 2, "age": 7, "occupation": 21}
    ids = ("user_id", "item_id")
    categorical = [
        Feature(name, "categorical", "user", "int64", "id" if name in ids else "side", list(range(size)))
        for name, size in sizes.items()
    ]
    return FeatureSchema([*categorical, Feature("genres", "multi_valued", "item", "string", "side", GENRES, length=6)])


def generated_rows(schema: FeatureSchema, rows: int, seed: int = 1) -> pa.Table:
    """Rows with popular and rare ids and one to six genres."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        f.name: np.minimum(rng.pareto(1.0, rows) * len(f.vocabulary) / 10, len(f.vocabulary) - 1).astype(np.int64)
        for f in schema.of_kind("categorical")
    }
    number = rng.integers(1, 7, rows)
    values = pa.array(np.asarray(GENRES)[rng.integers(0, 18, number.sum())])
    columns["genres"] = pa.ListArray.from_arrays(np.append(0, np.cumsum(number)).astype(np.int32), values)
    columns["label"] = rng.integers(0, 2, rows).astype(np.int8)
    return pa.table(columns)


def ours(model: nn.Module, rows: Rows) -> Callable[[int], object]:
    """The project's own epoch."""
    adam, steps = loop.optimiser(model, TRAINING), count(1)
    return lambda epoch: loop.train_epoch(
        model, adam, trainer.losses(model, rows, TRAINING.batch, epoch), TRAINING, steps
    )


def plain(model: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]]) -> Callable[[int], object]:
    """The loop of PyTorch's tutorials: a loader, float32, plain Adam."""
    layers.bfloat16_is_fast = lambda device: False  # noqa: ARG005
    adam = torch.optim.Adam(model.parameters(), lr=TRAINING.learning_rate)
    loss_of = getattr(model, "loss", nn.functional.binary_cross_entropy_with_logits)

    def epoch(_: int) -> None:
        model.train()
        for indices, numeric, labels in loader:
            loss = loss_of(model(indices, numeric), labels)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()

    return epoch


def row_loader(model: nn.Module, rows: Rows) -> Callable[[int], object]:
    """A plain loop over a DataLoader with its defaults, which takes rows one by one and stacks them."""
    data = TensorDataset(rows.indices, rows.numeric, rows.labels)
    return plain(model, DataLoader(data, batch_size=TRAINING.batch, shuffle=True))


def batch_loader(model: nn.Module, rows: Rows) -> Callable[[int], object]:
    """A plain loop over a DataLoader that takes whole batches by index."""
    data = TensorDataset(rows.indices, rows.numeric, rows.labels)
    sampler = BatchSampler(RandomSampler(data), TRAINING.batch, drop_last=False)
    return plain(model, DataLoader(data, sampler=sampler, batch_size=None))


CONTENDERS = {"recsys_assets": ours, "DataLoader, batches": batch_loader, "DataLoader, rows": row_loader}
FUXICTR = {"FuxiCTR, rows in memory": "handed", "FuxiCTR, its own loader": "own"}


def measure(network: str, contender: str, folder: Path, passes: int) -> dict[str, Any]:
    """Parameters, rows per second of each measured pass, and peak memory in MB of one contender."""
    torch.set_num_threads(2)
    schema = sparse_only(FeatureSchema.read(folder / "schema.json"))
    rows = load(schema, folder / "train.parquet", torch.device("cpu"))
    torch.manual_seed(1)
    model = RANKERS[network].build(schema, NETWORKS[network].config)
    epoch = CONTENDERS[contender](model, rows)
    speeds = []
    for number in range(passes + 1):
        start = time.perf_counter()
        epoch(number)
        speeds.append(len(rows) / (time.perf_counter() - start))
    parameters = sum(weight.numel() for weight in model.parameters())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"parameters": parameters, "speeds": speeds[1:], "memory": memory}


def asked(network: str, contender: str, folder: Path, passes: int, python: Path | None) -> dict[str, Any]:
    """Measure one contender in its own process."""
    # The same for all contenders, as recsys_assets.training sets it.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    environment["PYTHONWARNINGS"] = (
        "ignore:Initializing zero-element"  # without numeric features, their weights are empty
    )
    if contender in FUXICTR and python:
        same = NETWORKS[network]
        settings = {"embedding_dim": 16, **same.settings}
        job = {"task": "speed", "model": same.fuxictr, "settings": settings, "loader": FUXICTR[contender]}
        return ask(python, environment, folder=folder, seed=1, passes=passes, **job)
    options = ["--only", network, contender, "--source", str(folder), "--passes", str(passes)]
    found: dict[str, Any] = json.loads(
        subprocess.check_output([sys.executable, __file__, *options], text=True, env=environment)
    )
    return found


def compare(folder: Path, networks: list[str], rounds: int, passes: int, python: Path | None) -> None:
    """Let the contenders take turns; print one table per network."""
    contenders = [*CONTENDERS, *(FUXICTR if python else ())]
    for network in networks:
        runs: dict[str, list[dict[str, Any]]] = {contender: [] for contender in contenders}
        for _ in range(rounds):
            for contender, done in runs.items():
                done.append(asked(network, contender, folder, passes, python))
        print(f"{network:24}{'parameters':>11}{'rows/s (median)':>16}{'least':>10}{'most':>10}{'memory MB':>11}")
        for contender, done in runs.items():
            speeds = [speed for run in done for speed in run["speeds"]]
            memory, parameters = max(run["memory"] for run in done), done[0]["parameters"]
            figures = f"{statistics.median(speeds):16,.0f}{min(speeds):10,.0f}{max(speeds):10,.0f}{memory:11,.0f}"
            print(f"{contender:24}{parameters:11,}{figures}", flush=True)


def main() -> None:
    """Read the command line and run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder with train.parquet and schema.json")
    parser.add_argument("--fuxictr", type=Path, metavar="PYTHON", help="interpreter of FuxiCTR's environment")
    parser.add_argument("--rows", type=int, default=400_000, help="generated rows")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2, help="measured passes over the rows in a round")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(*args.only, args.source, args.passes)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema = FeatureSchema.read(args.source / "schema.json") if args.source else generated_schema()
        (folder / "schema.json").write_text(schema.to_json(), encoding="utf-8")
        if args.source:
            (folder / "train.parquet").symlink_to((args.source / "train.parquet").resolve())
        else:
            pq.write_table(generated_rows(schema, args.rows), folder / "train.parquet")
        write(sparse_only(schema), folder / "train.parquet", folder)
        compare(folder, args.networks, args.rounds, args.passes, args.fuxictr)


if __name__ == "__main__":
    main()
