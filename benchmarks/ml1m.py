"""Shared code of the MovieLens 1M benchmarks: ordered ratings, samples split at the end of histories, tables."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Ints
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.movielens import feed
from recsys_assets.datasets.profile import load_profile
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.retrieval.interactions import Interactions, from_table

GENDERS, AGES, OCCUPATIONS = ["F", "M"], [1, 18, 25, 35, 45, 50, 56], list(range(21))


@dataclass(frozen=True)
class Ratings:
    """All ratings ordered by user and time (ties in the order of `ratings.dat`), and the user and item tables."""

    table: pa.Table
    users: pa.Table
    items: pa.Table

    @property
    def from_end(self) -> Ints:
        """(M,) 1 for a user's last rating, 2 for the one before, and so on."""
        users = self.table["user_id"].to_numpy()
        ends = np.searchsorted(users, users, side="right")
        return ends - np.arange(len(users))

    def samples(self, validation: int, test: int, least_rating: int) -> Interactions:
        """Samples: each user's last `test` ratings test, the `validation` before them validate, the others train.

        A rating of at least `least_rating` is positive.
        """
        from_end, ratings = self.from_end, self.table["rating"].to_numpy()
        parts = np.where(from_end <= test, "test", np.where(from_end <= test + validation, "validation", "train"))
        labels = ratings >= least_rating
        columns = {"label": pa.array(labels.astype(np.int8)), "part": pa.array(parts)}
        return from_table(pa.table({**{name: self.table[name] for name in ("user_id", "item_id")}, **columns}))


def read(source: Path) -> Ratings:
    """Read the data set from an unpacked folder."""
    try:
        opened = feed(load_profile("movielens-1m"), source)
    except LandingError as error:
        raise SystemExit(f"--source: {error}") from error
    events = pa.concat_tables(table for day in opened.bizdates for _, table in opened.day(day))
    users, times = events["user_id"].to_numpy(), events["timestamp"].to_numpy()
    order = np.lexsort((times, users))  # stable: ties keep the order of the file
    return Ratings(events.take(pa.array(order)), opened.undated["users"], opened.undated["items"])


def schema_of(interactions: Interactions, ratings: Ratings) -> FeatureSchema:
    """The schema: ids of the train rows, and all values of the side features."""
    train = interactions.before("validation")
    ids = {
        "user": interactions.user_ids[np.unique(train.users)].tolist(),
        "item": interactions.item_ids[np.unique(train.items)].tolist(),
    }
    genres = ratings.items["genres"].combine_chunks().flatten()
    return FeatureSchema(
        [
            Feature("user_id", "categorical", "user", "int64", "id", ids["user"]),
            Feature("gender", "categorical", "user", "string", "side", GENDERS),
            Feature("age", "categorical", "user", "int64", "side", AGES),
            Feature("occupation", "categorical", "user", "int64", "side", OCCUPATIONS),
            Feature("item_id", "categorical", "item", "int64", "id", ids["item"]),
            Feature("genres", "multi_valued", "item", "string", "side", sorted(set(genres.to_pylist())), length=6),
        ]
    )


def show(title: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table with one row per method."""
    columns = list(dict.fromkeys(name for row in figures.values() for name in row))
    print(f"\n{title}\n" + "".ljust(42) + "".join(column.rjust(14) for column in columns))
    for method, row in figures.items():
        cells = "".join((f"{row[column]:.4f}" if column in row else "").rjust(14) for column in columns)
        print(method.ljust(42) + cells, flush=True)


def arguments(description: str) -> argparse.ArgumentParser:
    """The command line that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="unpacked MovieLens 1M folder")
    parser.add_argument("--epochs", type=int, help="upper limit for every training; a short run prints what it reached")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    return parser


def finish(figures: Mapping[str, Mapping[str, float]], *, as_json: bool, metrics: Sequence[str] | None = None) -> None:
    """Print the last line if it was requested: the given metrics of each method, or all of them."""
    if as_json:
        chosen = {method: {name: row[name] for name in metrics or row} for method, row in figures.items()}
        print(json.dumps(chosen))
