"""Measures milliseconds per training step on an embedding table, updating all rows or only those the batch touched.

    python benchmarks/table_updates.py             # 10^4 to 10^7 rows: a minute, 3 GB

A step is what `training.loop` does for 4,096 rows of 26 values (as in Criteo): look up, gradient, clipping, Adam,
average of the weights. Values follow Zipf's law. Both ways take turns on tables with 16 numbers per row.
"""

import argparse
import statistics
import time
from itertools import count

import torch

from recsys_assets.models.config import TrainingConfig
from recsys_assets.models.layers import LARGE, Table
from recsys_assets.training import loop
from recsys_assets.training.average import Average
from recsys_assets.training.optimiser import optimiser

TRAINING = TrainingConfig()
BATCH, VALUES, WIDTH = 4096, 26, 16


class Contender:
    """A table with the optimiser and the average that train it."""

    def __init__(self, rows: int, by_rows: bool) -> None:
        self.table = Table(rows, WIDTH, std=0.01)
        self.table.by_rows = by_rows
        self.adam, self.average = optimiser(self.table, TRAINING), Average(self.table, TRAINING.recency)
        self.steps = count(1)
        self.milliseconds: list[float] = []

    def train(self, batches: list[torch.Tensor]) -> None:
        """Take one step per batch and record the time of every step but the first."""
        loop.train_epoch(self.table, self.adam, self.losses(batches), TRAINING, self.steps, self.average)

    def losses(self, batches: list[torch.Tensor]) -> loop.Losses:
        """Yield the loss of each batch; a step ends when the next loss is requested."""
        for number, indices in enumerate(batches):
            start = time.perf_counter()
            yield self.table(indices).sum(1).square().mean(), BATCH
            if number:
                self.milliseconds.append(1000 * (time.perf_counter() - start))


def measure(rows: int, rounds: int) -> tuple[float, float, int]:
    """Median milliseconds of a step over all rows and by rows, and the number of rows that a step touches."""
    contenders = [Contender(rows, by_rows) for by_rows in (False, True)]
    for _ in range(rounds):
        spread = (rows ** torch.rand(BATCH, VALUES, dtype=torch.float64) for _ in range(5))
        batches = [values.int().clamp(max=rows - 1) for values in spread]
        for contender in contenders:
            contender.train(batches)
    dense, by_rows = (statistics.median(contender.milliseconds) for contender in contenders)
    return dense, by_rows, len(batches[0].unique())


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [10**4, 10**5, LARGE // WIDTH, 10**6, 10**7]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes, help="sizes of the tables")
    parser.add_argument(
        "--rounds", type=int, default=5, help="each has five steps per contender; the first step does not count"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    print(f"{'rows':>12}{'touched per step':>17}{'all rows, ms':>14}{'by rows, ms':>13}   chosen")
    for rows in args.rows:
        dense, by_rows, touched = measure(rows, args.rounds)
        chosen = "by rows" if rows * WIDTH >= LARGE else "all rows"
        print(f"{rows:12,}{touched:17,}{dense:14.1f}{by_rows:13.1f}   {chosen}")


if __name__ == "__main__":
    main()
