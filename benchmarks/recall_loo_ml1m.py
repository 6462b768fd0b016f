"""Evaluates SASRec leave-one-out on MovieLens 1M, compared with published figures.

    python benchmarks/recall_loo_ml1m.py --source FOLDER [--seeds 1 2 3] [--epochs 24] [--json]

All ratings are positives. Each user's last rating tests, the one before it decides which epoch is kept, all others
train. Every item (3,706) outside the history is a candidate. The kept model does not learn from the validation ratings,
as in the published protocols; it reads them as history.
"""

import statistics
import time

import numpy as np
from ml1m import arguments, finish, read, schema_of, show

from recsys_assets.models.catalogue import configure
from recsys_assets.retrieval.interactions import Interactions, queries
from recsys_assets.retrieval.lists import evaluate, recommend
from recsys_assets.training import recall
from recsys_assets.training.tower_data import load

METRICS = ("hr@10", "ndcg@10")
PUBLISHED = {
    "SASRec, cross-entropy (published)": {"hr@10": 0.3207, "ndcg@10": 0.1858},
    "eSASRec (published)": {"hr@10": 0.3133, "ndcg@10": 0.1772},
    "gSASRec (published)": {"hr@10": 0.3003, "ndcg@10": 0.1726},
}


def popularity(interactions: Interactions) -> dict[str, float]:
    """Metrics of the most rated items outside the history."""
    asked, counts = queries(interactions, "test", True), interactions.before("test").item_counts.astype(np.float32)
    found = recommend(
        lambda block: np.tile(counts, (block.stop - block.start, 1)), interactions, asked, 10, filter_seen=True
    )
    return named(evaluate(found.items, asked, [10]))


def named(metrics: dict[str, float]) -> dict[str, float]:
    """The metrics under the published names: with one right answer per query, the hit rate is the recall."""
    return {"hr@10": metrics["recall@10"], "ndcg@10": metrics["ndcg@10"]}


def sasrec(source: recall.Source, ratings: object, seed: int, training: dict[str, float]) -> dict[str, float]:
    """Train with one seed and evaluate on the test ratings."""
    started = time.perf_counter()

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        print(f"seed {seed}, epoch {epoch + 1}: {figures}, {time.perf_counter() - started:.0f} s", flush=True)

    schema = schema_of(source.interactions, ratings)
    network, settings = configure("sasrec", {}, {**training, "last_rate": 0.0})
    fitted = recall.fit("sasrec", schema, source, network, settings, seed, on_epoch)
    asked = queries(source.interactions, "test", True)
    model = recall.two_tower(fitted)
    data = load(model, source.interactions, source.users, source.items)
    found = named(evaluate(recall.lists(model, data, asked, 10, filter_seen=True).items, asked, [10]))
    return {
        **found,
        "validation ndcg@20": fitted.best["validation_ndcg@20"],
        "minutes": (time.perf_counter() - started) / 60,
    }


def main() -> None:
    """Train with every seed and print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    ratings = read(given.source)
    interactions = ratings.samples(validation=1, test=1, least_rating=1)
    source = recall.Source(interactions, ratings.users, ratings.items)
    training = {"epochs": given.epochs} if given.epochs else {}
    runs = {}
    for seed in given.seeds:
        runs[f"sasrec, seed {seed}"] = sasrec(source, ratings, seed, training)
        show(f"seed {seed}", {"sasrec": runs[f"sasrec, seed {seed}"]})
    mean = {name: statistics.mean(run[name] for run in runs.values()) for name in METRICS}
    figures = {"popularity": popularity(interactions), **PUBLISHED, **runs, "sasrec": mean}
    show("leave-one-out, full ranking over all items", figures)
    finish(figures, as_json=given.json, metrics=METRICS)


if __name__ == "__main__":
    main()
