"""Rows a second in training Wide & Deep, beside plain PyTorch loops over the same rows and model.

    python benchmarks/train_speed.py                    # generated rows in MovieLens 1M's sizes
    python benchmarks/train_speed.py --source FOLDER    # train.parquet and schema.json of a lake, in one folder

Batch 4,096, embeddings of 16, hidden layers 256 and 128. The contenders take turns; each run is a process of
its own, so that its peak memory is its own, and one unmeasured pass comes before the measured ones.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models import layers
from recsys_assets.models.widedeep import WideDeep, WideDeepConfig
from recsys_assets.training import loop, trainer
from recsys_assets.training.config import TrainingConfig
from recsys_assets.training.data import Rows, load

GENRES = [f"genre {number:02}" for number in range(18)]
TRAINING = TrainingConfig(batch=4096)


def generated_schema() -> FeatureSchema:
    """The features of MovieLens 1M: ids, sides, genres, and 2 x 18 counts by genre."""
    sizes = {"user_id": 6040, "item_id": 3706, "gender": 2, "age": 7, "occupation": 21}
    ids = ("user_id", "item_id")
    categorical = [
        Feature(name, "categorical", "user", "int64", "id" if name in ids else "side", list(range(size)))
        for name, size in sizes.items()
    ]
    genres = Feature("genres", "multi_valued", "item", "string", "side", GENRES, length=6)
    counts = [
        Feature(name, "numeric", "user", "float32", length=18, mean=[0.5] * 18, std=[1.0] * 18, terms_of="genres")
        for name in ("seen", "liked")
    ]
    crosses = [["gender", "genres"], ["age", "genres"], ["occupation", "genres"], ["user_id", "genres"]]
    return FeatureSchema([*categorical, genres, *counts], [*crosses, ["gender", "item_id"], ["age", "item_id"]])


def generated_rows(schema: FeatureSchema, rows: int, seed: int = 1) -> pa.Table:
    """Rows with popular and rare ids, one to six genres an item."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        f.name: np.minimum(rng.pareto(1.0, rows) * len(f.vocabulary) / 10, len(f.vocabulary) - 1).astype(np.int64)
        for f in schema.of_kind("categorical")
    }
    number = rng.integers(1, 7, rows)
    values = pa.array(np.asarray(GENRES)[rng.integers(0, 18, number.sum())])
    columns["genres"] = pa.ListArray.from_arrays(np.append(0, np.cumsum(number)).astype(np.int32), values)
    for feature in schema.of_kind("numeric"):
        floats = rng.poisson(0.5, rows * feature.length).astype(np.float32)
        columns[feature.name] = pa.FixedSizeListArray.from_arrays(floats, feature.length)
    columns["label"] = rng.integers(0, 2, rows).astype(np.int8)
    return pa.table(columns)


def ours(model: nn.Module, rows: Rows) -> Callable[[int], object]:
    """The project's own epoch."""
    adam, steps = loop.optimiser(model, TRAINING), count(1)
    return lambda epoch: loop.train_epoch(
        model, adam, trainer.losses(model, rows, TRAINING.batch, epoch), TRAINING, steps
    )


def plain(model: nn.Module, loader: DataLoader[tuple[torch.Tensor, ...]]) -> Callable[[int], object]:
    """The loop of PyTorch's tutorials: a loader, float32, Adam as it is."""
    layers.bfloat16_is_fast = lambda device: False  # noqa: ARG005
    adam = torch.optim.Adam(model.parameters(), lr=TRAINING.learning_rate)

    def epoch(_: int) -> None:
        model.train()
        for indices, numeric, labels in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(model(indices, numeric), labels)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()

    return epoch


def row_loader(model: nn.Module, rows: Rows) -> Callable[[int], object]:
    """A DataLoader that takes rows one by one and stacks them: its default."""
    data = TensorDataset(rows.indices, rows.numeric, rows.labels)
    return plain(model, DataLoader(data, batch_size=TRAINING.batch, shuffle=True))


def batch_loader(model: nn.Module, rows: Rows) -> Callable[[int], object]:
    """A DataLoader that takes whole batches by index."""
    data = TensorDataset(rows.indices, rows.numeric, rows.labels)
    sampler = BatchSampler(RandomSampler(data), TRAINING.batch, drop_last=False)
    return plain(model, DataLoader(data, sampler=sampler, batch_size=None))


CONTENDERS = {"recsys_assets": ours, "DataLoader, batches": batch_loader, "DataLoader, rows": row_loader}


def measure(contender: str, folder: Path, passes: int) -> dict[str, float]:
    """Rows a second (median of the passes) and peak memory in MB of one contender."""
    schema = FeatureSchema.read(folder / "schema.json")
    rows = load(schema, folder / "train.parquet", torch.device("cpu"))
    torch.manual_seed(1)
    epoch = CONTENDERS[contender](WideDeep(schema, WideDeepConfig()), rows)
    speeds = []
    for number in range(passes + 1):
        start = time.perf_counter()
        epoch(number)
        speeds.append(len(rows) / (time.perf_counter() - start))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows_per_second": statistics.median(speeds[1:]), "memory": memory}


def compare(folder: Path, rounds: int, passes: int) -> None:
    """Let the contenders take turns and print the table."""
    runs: dict[str, list[dict[str, float]]] = {contender: [] for contender in CONTENDERS}
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # as recsys_assets.training sets it: for all alike
    for _ in range(rounds):
        for contender, done in runs.items():
            command = [sys.executable, __file__, "--only", contender, "--source", str(folder), "--passes", str(passes)]
            done.append(json.loads(subprocess.check_output(command, text=True, env=environment)))
    print(f"{'':24}{'rows/s (median)':>16}{'least':>10}{'most':>10}{'memory MB':>11}")
    for contender, done in runs.items():
        speeds = [run["rows_per_second"] for run in done]
        memory = max(run["memory"] for run in done)
        print(
            f"{contender:24}{statistics.median(speeds):16,.0f}{min(speeds):10,.0f}{max(speeds):10,.0f}{memory:11,.0f}"
        )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder with train.parquet and schema.json")
    parser.add_argument("--rows", type=int, default=400_000, help="generated rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2, help="measured passes over the rows in a round")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.source, args.passes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if args.source is None:
            schema = generated_schema()
            (Path(folder) / "schema.json").write_text(schema.to_json(), encoding="utf-8")
            pq.write_table(generated_rows(schema, args.rows), Path(folder) / "train.parquet")
        compare(args.source or Path(folder), args.rounds, args.passes)


if __name__ == "__main__":
    main()
