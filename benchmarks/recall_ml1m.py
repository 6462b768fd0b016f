"""Evaluates recall methods on MovieLens 1M under MetaSpore's protocol, compared with the table that it publishes.

    python benchmarks/recall_ml1m.py --source FOLDER [--methods itemcf swing sasrec …] [--json]

Among the last 3 ratings of each user, those above 2 test. Each of them is its own query: the item before it is the only
trigger of item-to-item methods, and all items before it are the history of two-tower models. Lists have 20 items and
may contain seen ones. `itemcf` and `swing` are MetaSpore's formulas on all other ratings, `…_ours` our best settings,
chosen on the 3 ratings before the last 3. Two-tower models learn from the ratings above 2; each user's newest of these
decides which epoch is kept, and the models then learn from it too.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
from ml1m import Ratings, arguments, finish, read, schema_of, show

from recsys_assets.arrays import Scores
from recsys_assets.datasets.splits import PARTS
from recsys_assets.i2i import itemcf, swing
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.i2i.triggers import trigger_scores
from recsys_assets.models.catalogue import TRAINED_TOWERS, configure
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists, evaluate, recommend
from recsys_assets.training import recall
from recsys_assets.training.tower_data import load

TOP, SEED = 20, 1
METRICS = [f"{name}@{TOP}" for name in ("precision", "recall", "map", "ndcg")]
PUBLISHED = {
    "Global Hot (MetaSpore)": (0.002477, 0.049533, 0.008923, 0.017346),
    "Spark ALS (MetaSpore)": (0.002472, 0.049444, 0.015736, 0.017743),
    "Swing I2I (MetaSpore)": (0.006334, 0.126674, 0.029579, 0.050461),
    "Item CF I2I (MetaSpore)": (0.009383, 0.187667, 0.050912, 0.080504),
    "DSSM BCE, 10 negatives (MetaSpore)": (0.010776, 0.215533, 0.043305, 0.080013),
    "DSSM BCE, 100 negatives (MetaSpore)": (0.011313, 0.226264, 0.047736, 0.085856),
    "DSSM SSM, batch 256 (MetaSpore)": (0.015079, 0.301592, 0.077961, 0.126095),
}
# ItemCF for the very next items after one trigger. Recall@20 on the three ratings before the test ratings is 0.2897,
# with the defaults 0.2513, with MetaSpore's formula 0.1996. On the test ratings: 0.2753, 0.2424 and 0.1920.
NEXT_ITEM = itemcf.ItemCF(activity=0, popularity=0.1, decay=1.5, backward=0.1, top_n=TOP)
Method = Callable[[Ratings, Mapping[str, int]], tuple[Interactions, Lists]]


def questions(interactions: Interactions) -> Queries:
    """One query per test rating above 2: its history is all the user's events before it, its item the answer."""
    rows = np.flatnonzero((interactions.parts == PARTS.index("test")) & (interactions.labels > 0))
    users = interactions.users[rows]
    starts = np.searchsorted(interactions.users, users)
    return Queries(users, starts, rows, interactions.items[rows], np.arange(len(rows) + 1))


def popularity(ratings: Ratings, _: Mapping[str, int]) -> tuple[Interactions, Lists]:
    """The most rated items, the same for everyone."""
    samples = ratings.samples(validation=0, test=3, least_rating=3)
    counts = samples.before("test").item_counts.astype(np.float32)

    def score(block: slice) -> Scores:
        return np.tile(counts, (block.stop - block.start, 1))

    return samples, recommend(score, samples, questions(samples), TOP, filter_seen=False)


def item_to_item(find: Callable[[Interactions], Neighbours]) -> Method:
    """A method that recommends the neighbours of each history's newest item."""

    def method(ratings: Ratings, _: Mapping[str, int]) -> tuple[Interactions, Lists]:
        samples = ratings.samples(validation=0, test=3, least_rating=3)
        asked = questions(samples)
        score = trigger_scores(find(samples.before("test")).lists, samples, asked, triggers=1)
        return samples, recommend(score, samples, asked, TOP, filter_seen=False)

    return method


def two_tower(name: str) -> Method:
    """A method that trains a two-tower model with its default settings, except for the given training settings."""

    def method(ratings: Ratings, training: Mapping[str, int]) -> tuple[Interactions, Lists]:
        samples = ratings.samples(validation=1, test=3, least_rating=3)
        source = recall.Source(samples, ratings.users, ratings.items)
        fitted = recall.fit(name, schema_of(samples, ratings), source, *configure(name, {}, training), SEED)
        model = recall.two_tower(fitted)
        data = load(model, samples, ratings.users, ratings.items)
        return samples, recall.lists(model, data, questions(samples), TOP, filter_seen=False)

    return method


METHODS: dict[str, Method] = {
    "popularity": popularity,
    "itemcf": item_to_item(lambda events: itemcf.itemcf(events, itemcf.ItemCF(activity=0.5, window=0, top_n=20))),
    "itemcf_ours": item_to_item(lambda events: itemcf.itemcf(events, NEXT_ITEM)),
    "swing": item_to_item(lambda events: swing.swing(events, swing.Swing(activity=0.5, popularity=0, top_n=20))),
    "swing_ours": item_to_item(lambda events: swing.swing(events, swing.Swing(popularity=1.2, top_n=TOP))),
    **{name: two_tower(name) for name in TRAINED_TOWERS},
}


def main() -> None:
    """Run the methods and print the table."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    given = parser.parse_args()
    ratings, training = read(given.source), {"epochs": given.epochs} if given.epochs else {}
    figures = {}
    for name in given.methods:
        started = time.perf_counter()
        samples, lists = METHODS[name](ratings, training)
        metrics = evaluate(lists.items, questions(samples), [TOP])
        figures[name] = {metric: metrics[metric] for metric in METRICS} | {"seconds": time.perf_counter() - started}
        show(name, {name: figures[name]})
    published = {name: dict(zip(METRICS, row, strict=True)) for name, row in PUBLISHED.items()}
    show("MetaSpore's protocol: the published table, and ours", {**published, **figures})
    finish(figures, as_json=given.json, metrics=METRICS)


if __name__ == "__main__":
    main()
