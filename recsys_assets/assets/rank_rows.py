"""The inputs of `rank_report`: the models' figures and scores, the test rows, and baselines that need no model."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Doubles, Ints, number_values
from recsys_assets.assets.day_before import Figures
from recsys_assets.assets.rank import PREDICTIONS
from recsys_assets.datasets.profile import Profile
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.metrics import auc, log_loss
from recsys_assets.ranking.slices import COUNTS


def figures(rankers: Mapping[str, Manifest]) -> Figures:
    """The models' figures, the highest validation AUC first, ties by name."""
    metrics = {name.removeprefix("rank_"): dict(manifest.metrics) for name, manifest in rankers.items()}
    # A different version of the code may have had fewer figures.
    order = sorted(metrics, key=lambda name: (-metrics[name].get("validation_auc", 0.0), name))
    return {name: metrics[name] for name in order}


def test_rows(profile: Profile, rank_samples: Partition) -> pa.Table:
    """The columns of the test rows that the report needs, if the profile has them."""
    file, term = rank_samples.path("test.parquet"), profile.features.terms
    # Labelled rows may have a user_id too, which is a feature like any other.
    of_entities = ["user_id", *COUNTS, *([term.column] if term else [])] if profile.has_entities else []
    return pq.read_table(file, columns=["label", *of_entities, *([profile.oracle] if profile.oracle else [])])


def scores(rankers: Mapping[str, Partition]) -> dict[str, Doubles]:
    """(N,) scores of each model, in the order of the test rows."""
    files = {name.removeprefix("rank_"): partition.path(PREDICTIONS) for name, partition in rankers.items()}
    return {model: pq.read_table(file, columns=["score"])["score"].to_numpy() for model, file in files.items()}


def users(test: pa.Table) -> Ints | None:
    """(N,) the number of each row's user, from 0 on; None if rows have no user."""
    return number_values(test["user_id"])[1] if "user_id" in test.column_names else None


def baselines(rank_samples: Partition, test: pa.Table, oracle: str | None) -> Figures:
    """Metrics of baselines that need no model, on the same test rows."""
    train = pq.read_table(rank_samples.path("train.parquet"), columns=["label"])["label"].to_numpy()
    labels = test["label"].to_numpy()
    found = {"base_rate": {"test_auc": 0.5, "test_logloss": log_loss(labels, np.full(len(labels), train.mean()))}}
    if "item_count" in test.column_names:
        found["popularity"] = {"test_auc": auc(labels, test["item_count"].to_numpy())}
    if oracle:
        truth = test[oracle].to_numpy()
        found["best_reachable"] = {"test_auc": auc(labels, truth), "test_logloss": log_loss(labels, truth)}
    return found
