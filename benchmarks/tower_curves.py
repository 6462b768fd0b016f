"""Validation NDCG@20 of two-tower models against the seconds that they have trained, on the samples of a lake.

    RECSYS_PROFILE=… RECSYS_DATA=… python benchmarks/tower_curves.py BIZDATE [--models sasrec …] [--set batch=64 …]

Each epoch is a line: the seconds of all cores (processor time) and of the clock since the training began, evaluation
included, and the figure of the weights so far. `--set` changes settings of the training. The partitions that
`recall_<model>` reads must be there.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

import yaml

from recsys_assets.assets.recall.towers import features_of, inputs_of, source
from recsys_assets.datasets.profile import load_profile
from recsys_assets.models.catalogue import TRAINED_TOWERS, configure
from recsys_assets.resources import LakeStore
from recsys_assets.settings import settings
from recsys_assets.training import recall


def curve(model: str, day: str, training: Mapping[str, Any], seed: int) -> None:
    """Train one model, and print a line per epoch."""
    profile, lake = load_profile(), LakeStore(profile=settings().profile).lake
    inputs = {name: lake.read(name, day) for name in inputs_of(model)}
    data, schema, made = source(model, profile, inputs), features_of(inputs), configure(model, {}, training)
    clock, cores = time.perf_counter(), time.process_time()

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        spent, passed = time.process_time() - cores, time.perf_counter() - clock
        judged = next(value for name, value in metrics.items() if name.startswith("validation_ndcg"))
        print(f"{model:12} {epoch + 1:5} {spent:10.1f} {passed:10.1f} {judged:10.4f}", flush=True)

    recall.fit(model, schema, data, *made, seed, on_epoch)


def main() -> None:
    """Train the models one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bizdate")
    parser.add_argument("--models", nargs="+", choices=TRAINED_TOWERS, default=["sasrec", "dssm", "simplex"])
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING=VALUE", help="of the training, for all models")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    pairs = (setting.split("=", 1) for setting in given.set)
    training = {name: yaml.safe_load(value) for name, value in pairs}
    print(f"{'model':12} {'epoch':>5} {'core s':>10} {'clock s':>10} {'NDCG@20':>10}")
    for model in given.models:
        curve(model, given.bizdate, training, given.seed)


if __name__ == "__main__":
    main()
