"""Methods for items that nobody has touched on MovieLens 1M, by ColdRec's protocol and by first appearance.

    python benchmarks/cold_start.py --source FOLDER [--split groups|appearance] [--seeds 1] [--networks] [--towers]

`groups` (ColdRec's protocol): 80 % of the items, drawn by a seed, are warm, and their ratings are split 8:1:1 at
random; all ratings of the other items are held out, those of half of them for validation, the others for the test.
`appearance`: the newest 20 % of the ratings are held out, the older half of them for validation; cold are the items
without an earlier rating. (Of MovieLens 1M's length in time, the newest tenth has no new item.) Every rating is a
positive. The content of an item is its genres, year and title (64 hashed numbers). Settings, the winner and how methods
are merged are chosen on validation ratings alone; `--rates` adds the sweep of DropoutNet's dropout rate, and `--towers`
the two-tower model `ridge`, as its asset fits it, on test ratings.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ml1m import Ratings, arguments, read, schema_of, show

from recsys_assets.coldstart import network
from recsys_assets.coldstart.content import content_of
from recsys_assets.coldstart.stages import Drawn, Stage, stage_of
from recsys_assets.coldstart.trial import Figures, Outcome, compare, figures
from recsys_assets.datasets.splits import PARTS
from recsys_assets.datasets.text_vectors import text_vectors
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.catalogue import configure
from recsys_assets.retrieval.interactions import Interactions, from_table
from recsys_assets.training import recall
from recsys_assets.training.recall import Source

TITLE = 64  # numbers of a title
METRICS = [f"{name}_{metric}" for name in ("cold", "warm", "all") for metric in ("recall@20", "ndcg@20", "recall@100")]


def events(ratings: Ratings, parts: np.ndarray) -> Interactions:
    """All ratings as positives, with their parts, ordered by user, part and time."""
    table, place = ratings.table, np.array([PARTS.index(part) for part in ("train", "validation", "test")])[parts]
    order = pa.array(np.lexsort((np.arange(len(place)), place, table["user_id"].to_numpy())))
    columns = {"label": pa.array(np.ones(len(place), np.int8)), "part": pa.array(PARTS).take(pa.array(place))}
    return from_table(pa.table({**{n: table[n] for n in ("user_id", "item_id")}, **columns}).take(order))


def by_groups(ratings: Ratings, seed: int) -> tuple[Interactions, Drawn]:
    """ColdRec's protocol; a rating of a user without train ratings trains."""
    rng = np.random.default_rng(seed)
    users, items = (ratings.table[name].to_numpy() for name in ("user_id", "item_id"))
    parts = rng.choice(3, len(items), p=[0.8, 0.1, 0.1])
    log = events(ratings, parts)
    drawn = Drawn.of(log, 0.2, seed)
    warm = drawn.stage[np.searchsorted(log.item_ids, items)] == 0
    trained = np.isin(users, users[warm & (parts == 0)])
    return events(ratings, np.where(trained, parts, 0)), drawn


def by_appearance(ratings: Ratings) -> tuple[Interactions, Drawn]:
    """The newest fifth of the ratings is held out."""
    moments = ratings.table["timestamp"].to_numpy().astype(np.int64)
    log = events(ratings, np.searchsorted(np.quantile(moments, [0.8, 0.9]), moments))
    return log, Drawn.nothing(log)


def with_titles(ratings: Ratings) -> pa.Table:
    """The items' table with the titles as vectors."""
    place = ratings.items.schema.get_field_index("title")
    vectors = text_vectors(ratings.items["title"].combine_chunks(), TITLE)
    return ratings.items.set_column(place, "title", vectors)


def features(log: Interactions, ratings: Ratings, items: pa.Table) -> FeatureSchema:
    """The schema, with the year in ten bins and the title."""
    years = items["year"].to_numpy().astype(np.float64)
    edges = sorted(set(np.quantile(years, np.arange(1, 10) / 10, method="lower").tolist()))
    titles = pc.list_flatten(items["title"].combine_chunks()).to_numpy().reshape(-1, TITLE)
    numbers = [
        Feature("year", "numeric", "item", "float32", mean=[years.mean()], std=[years.std()], boundaries=edges),
        Feature(
            "title",
            "numeric",
            "item",
            "float32",
            length=TITLE,
            mean=titles.mean(0).tolist(),
            std=titles.std(0).tolist(),
        ),
    ]
    return FeatureSchema([*schema_of(log, ratings).features, *numbers])


class Protocol:
    """One split of the ratings, and what is trained on it."""

    def __init__(self, ratings: Ratings, split: str, seed: int, training: Mapping[str, Any]) -> None:
        log, drawn = by_groups(ratings, seed) if split == "groups" else by_appearance(ratings)
        items = with_titles(ratings)
        self.schema, self.seed, self.training = features(log, ratings, items), seed, training
        self.source = Source(log, ratings.users, items)
        self.content = content_of(self.schema, items, log.item_ids)
        self.validation, self.test = (stage_of(log, drawn, part, True) for part in ("validation", "test"))

    def compare(self, network_too: bool) -> Outcome:
        """All methods."""
        fitted = [self.train({})] if network_too else []

        def networks(stage: Stage) -> dict[str, Any]:
            return {network.MODEL: network.score_of(fitted[0], self.source, stage)} if fitted else {}

        return compare(self.validation, self.test, self.content, networks, True)

    def train(self, settings: Mapping[str, Any]) -> Any:
        """DropoutNet."""
        return network.train(self.schema, self.source, self.validation, settings, self.training, self.seed)

    def towers(self) -> Figures:
        """Test figures of the two-tower model `ridge`, and the seconds that its training takes."""
        given = replace(self.source, interactions=self.test.log)
        started = time.perf_counter()
        schema = network.of_warm_items(self.schema, self.test)
        fitted = recall.fit("ridge", schema, given, *configure("ridge", {}, {}), 1)
        taken = time.perf_counter() - started
        return {**figures(self.test, network.score_of(fitted, self.source, self.test), True), "seconds": taken}

    def sweep(self, rate: float) -> Figures:
        """DropoutNet's figures on validation ratings with a dropout rate of items."""
        fitted = self.train({"item_dropout": rate})
        return figures(self.validation, network.score_of(fitted, self.source, self.validation), True)


def spread(found: list[Outcome]) -> dict[str, Figures]:
    """The mean of each figure over the seeds, and its deviation as `±`."""
    names = list(found[0].test)
    made = {}
    for name in names:
        values = {metric: [each.test[name].get(metric, 0.0) for each in found] for metric in METRICS}
        made[name] = {metric: float(np.mean(each)) for metric, each in values.items()}
        made[name]["± cold_ndcg"] = float(np.std(values["cold_ndcg@20"]))
    return made


def main() -> None:
    """Run the seeds and print the tables."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--split", choices=["groups", "appearance"], default="groups")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--networks", action="store_true", help="train DropoutNet too")
    parser.add_argument("--towers", action="store_true", help="fit the two-tower model ridge too")
    parser.add_argument("--rates", nargs="*", type=float, default=[])
    given = parser.parse_args()
    ratings, training = read(given.source), {"epochs": given.epochs} if given.epochs else {}
    found = []
    for seed in range(42, 42 + given.seeds):
        started = time.perf_counter()
        protocol = Protocol(ratings, given.split, seed, training)
        found.append(protocol.compare(given.networks))
        last = found[-1]
        took = time.perf_counter() - started
        print(f"\nseed {seed}: {took:.0f} s; {last.winner} wins on cold items, {last.settings}", flush=True)
        show("validation", last.validation)
        show("test", last.test)
    towers = {"ridge_towers": protocol.towers()} if given.towers else {}
    if towers:
        show("test, two-tower models of the last seed", towers)
    show(f"test, mean of {given.seeds} seeds", spread(found))
    if given.rates:
        protocol = Protocol(ratings, given.split, 42, training)
        show("validation, by DropoutNet's dropout rate", {f"{rate:g}": protocol.sweep(rate) for rate in given.rates})
    if given.json:
        print(json.dumps(spread(found) | towers))


if __name__ == "__main__":
    main()
