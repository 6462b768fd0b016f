"""Evaluates rankers on MovieLens 1M under three published protocols; one table each, with the published figures.

    python benchmarks/rank_ml1m.py --source FOLDER [--protocols …] [--models …] [--seeds 1 2 3] [--work FOLDER] [--json]

* recsys_pipeline: all ratings, positive from 4 up; each user's last 10 stay unseen, the last 20 % of the rest test.
  Its DeepFM was stopped on the test rows. `deepfm_own` is our DeepFM on that system's own features alone.
* metaspore_ctr: each user's last rating tests; ratings of 3 are dropped. There are 4,627 test rows, where MetaSpore had
  4,640 or 4,646: among a user's ratings of the same second it takes any as the last, here it is the last in the file.
* easyrec_random: ratings of 3 are dropped; a random 665,110 of the others train, 73,902 test. Its script draws without
  a seed, so its rows differ from ours.

In all three, ratings of 3 stay in the histories behind the features. Our models are selected on the last 10 % of each
user's train rows (random ones in easyrec_random) and never on test rows, which each fit scores once. `AUC` is the mean
over the seeds and `deviation` their standard deviation; `from` and `to` are the 95 % bootstrap interval over test
users: figures of one table that differ by less than that cannot be distinguished with its test rows.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from ml1m import arguments, finish, read, show
from ml1m_rows import PROTOCOLS, prepared

from recsys_assets.arrays import Doubles, Ints
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.metrics import auc
from recsys_assets.models.catalogue import RANKERS, configure, entry
from recsys_assets.ranking.bootstrap import DRAWS, Interval, WeightedAuc, draws, interval
from recsys_assets.training import data, rankers

METRICS = ["AUC", "from", "to", "validation"]
PUBLISHED = {
    "recsys_pipeline": {"DeepFM (recsys_pipeline, best on test)": 0.8206, "FM (recsys_pipeline)": 0.8081},
    "metaspore_ctr": {
        "DIEN (MetaSpore)": 0.8828,
        "DIN (MetaSpore)": 0.8755,
        "DCN (MetaSpore)": 0.8746,
        "AutoInt (MetaSpore)": 0.8741,
        "FFM (MetaSpore)": 0.8698,
        "Wide & Deep (MetaSpore)": 0.8682,
        "FwFM (MetaSpore)": 0.8660,
        "DeepFM (MetaSpore)": 0.8658,
        "iPNN (MetaSpore)": 0.8649,
        "xDeepFM (MetaSpore)": 0.8641,
        "oPNN (MetaSpore)": 0.8633,
        "DCN V2 (MetaSpore)": 0.8611,
    },
    "easyrec_random": {
        "FiBiNet (EasyRec)": 0.8879,
        "MaskNet (EasyRec)": 0.8872,
        "DeepFM (EasyRec)": 0.8688,
        "DCN (EasyRec)": 0.8576,
        "Wide & Deep (EasyRec)": 0.8558,
        "AutoInt (EasyRec)": 0.8513,
    },
}
OWN = "deepfm_own"
OWN_FEATURES = ["user_id", "item_id", "gender", "age", "occupation", "genres", "recent_term_imp", "recent_term_clk"]


def own_features(schema: FeatureSchema) -> FeatureSchema:
    """The schema of the features that recsys_pipeline's DeepFM reads."""
    features = [feature for feature in schema.features if feature.name in OWN_FEATURES]
    return replace(schema, features=features, crosses=[])


def tried(name: str, folder: Path, seed: int, epochs: int | None) -> dict[str, float]:
    """Train a model with its default settings on a protocol's rows and score the test rows."""
    schema = FeatureSchema.read(folder / "schema.json")
    model, schema = ("deepfm", own_features(schema)) if name == OWN else (name, schema)
    limit = {"epochs": epochs} if epochs else {}
    network, training = configure(model, *((limit, {}) if entry(model).library == "lightgbm" else ({}, limit)))
    train, validation, test = (folder / f"{part}.parquet" for part in ("train", "validation", "test"))
    started = time.perf_counter()
    ranker = rankers.fit(model, schema, train, validation, network, training, seed, printed(f"{name}, seed {seed}"))
    rows, labels = data.encode_rows(ranker.fitted.schema, test)
    scores = ranker.predict(rows).astype(np.float64)
    bounds = certain(labels.astype(np.float64), scores, pq.read_table(test, columns=["user_id"])["user_id"].to_numpy())
    return {
        "AUC": auc(labels, scores),
        "from": bounds.low,
        "to": bounds.high,
        "validation": ranker.fitted.best["validation_auc"],
        "seconds": time.perf_counter() - started,
    }


def certain(labels: Doubles, scores: Doubles, users: Ints) -> Interval:
    """The 95 % interval of the AUC when users (N,) are drawn with replacement, each with all their rows."""
    weighted, (ids, places) = WeightedAuc(labels, scores), np.unique(users, return_inverse=True)
    return interval(np.array([weighted(weights[places]) for weights in draws(len(ids), DRAWS, seed=1)]))


def printed(title: str) -> Callable[[int, dict[str, float]], None]:
    """A callback that prints every epoch."""

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"  {title}, epoch {epoch}: {figures}", flush=True)

    return on_epoch


def over_seeds(fits: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over the seeds, and the standard deviation of the AUC."""
    means = {name: statistics.mean(fit[name] for fit in fits) for name in fits[0]}
    return {**means, "deviation": statistics.stdev(fit["AUC"] for fit in fits)} if len(fits) > 1 else means


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--models", nargs="+", choices=[*RANKERS, OWN], default=[*RANKERS, OWN])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--work", type=Path, help="folder that keeps the prepared rows for another run")
    return parser.parse_args()


def main() -> None:
    """Run the protocols one after another and print a table for each."""
    given = parsed()
    ratings, figures = read(given.source), dict[str, dict[str, float]]()
    with tempfile.TemporaryDirectory() as temporary:
        for protocol in given.protocols:
            folder = prepared(protocol, ratings, given.work or Path(temporary))
            ours = {}
            for model in given.models:
                if model == OWN and protocol != "recsys_pipeline":
                    continue
                ours[model] = over_seeds([tried(model, folder, seed, given.epochs) for seed in given.seeds])
                show(protocol, {model: ours[model]})
            published = {method: {"AUC": figure} for method, figure in PUBLISHED[protocol].items()}
            show(f"{protocol}: what was published, and ours", {**published, **ours})
            figures |= {f"{protocol}.{model}": row for model, row in ours.items()}
    finish(figures, as_json=given.json, metrics=METRICS)


if __name__ == "__main__":
    main()
