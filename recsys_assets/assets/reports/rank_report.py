"""Evaluation: the ranking models of a bizdate, compared with each other and with baselines that need no model."""

from collections.abc import Mapping

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Doubles, Ints, number_values
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.rank import IMPORTANCE, PREDICTIONS
from recsys_assets.assets.reports import rank_tables, show
from recsys_assets.assets.reports.comparison import Figures, day_before
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.row_files import read_columns
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.metrics import auc, calibration, log_loss
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.ranking.bootstrap import SEED, Comparison, compare
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.ranking.slices import COUNTS, slice_aucs, slices
from recsys_assets.resources import Dataset, LakeStore

Sections = dict[str, dg.MarkdownMetadataValue]


@lake_asset(
    ins={f"rank_{model}": dg.AssetIn() for model in RANKERS},
    kinds={"markdown"},
    code_version="2",
    checks=[Check("models_beat_baselines", "every model's test AUC is above each baseline's", blocking=False)],
    tolerates_declined=True,
)
def rank_report(
    output: Output, lake: LakeStore, dataset: Dataset, rank_samples: Partition, **rankers: Partition
) -> None:
    """Every ranking model on the test rows, compared with the base rate, popularity and the best AUC there can be.

    Popularity scores an item by its number of earlier events, if there are items; the base rate gives every row the
    rate of train. If the data is generated and no negative is drawn, its true probabilities show what no model can
    exceed.

    The 95 % intervals come from 200 draws of users (of rows, if they have no user); differences are to the model with
    the highest validation AUC, on the same draws. Figures in brackets are of the day before.
    """
    profile = dataset.load()
    output.manifest.seed = SEED
    if not rankers:
        show.report(output, "Ranking", {})
        output.check("models_beat_baselines", True, note="there is no model")
        return
    before = day_before(output, lake.lake, rankers)
    test = _test_rows(profile, rank_samples)
    models = _figures({name: partition.manifest for name, partition in rankers.items()})
    baselines = _baselines(rank_samples, test, None if profile.draws else profile.oracle)
    by_model = _scores(rankers)
    scores = {model: by_model[model] for model in models}
    figures, labels = {**models, **baselines}, test["label"].to_numpy()
    comparison = compare(labels, scores, next(iter(models)), _users(test))
    _measure(output, figures, comparison)
    _check(output, models, baselines)
    tables = {"negatives": dg.MetadataValue.md(f"Negatives of all figures: {profile.negatives_text}.")}
    tables |= {"figures": rank_tables.figures(figures, _figures(before))}
    tables |= rank_tables.intervals(comparison)
    tables |= _slice_table(output, profile, test, scores) | _importance_tables(output, rankers)
    show.report(output, "Ranking", tables)
    curves = {model: calibration(labels, each) for model, each in scores.items()}
    output.metadata["calibration"] = show.picture(rank_tables.calibrations(curves))
    output.metadata["test AUC"] = show.picture(rank_tables.aucs(figures, comparison.intervals))


def _figures(rankers: Mapping[str, Manifest]) -> Figures:
    """The models' figures, the highest validation AUC first, ties by name."""
    metrics = {name.removeprefix("rank_"): dict(manifest.metrics) for name, manifest in rankers.items()}
    # A different version of the code may have had fewer figures.
    order = sorted(metrics, key=lambda name: (-metrics[name].get("validation_auc", 0.0), name))
    return {name: metrics[name] for name in order}


def _test_rows(profile: Profile, rank_samples: Partition) -> pa.Table:
    """The columns of the test rows that the report needs, if the profile has them."""
    files, term = part_files(rank_samples, "test"), profile.features.terms
    # Labelled rows may have a user_id too, which is a feature like any other.
    of_entities = ["user_id", *COUNTS, *([term.column] if term else [])] if profile.has_entities else []
    return read_columns(files, ["label", *of_entities, *([profile.oracle] if profile.oracle else [])])


def _scores(rankers: Mapping[str, Partition]) -> dict[str, Doubles]:
    """(N,) scores of each model, in the order of the test rows."""
    files = {name.removeprefix("rank_"): partition.path(PREDICTIONS) for name, partition in rankers.items()}
    return {model: pq.read_table(file, columns=["score"])["score"].to_numpy() for model, file in files.items()}


def _users(test: pa.Table) -> Ints | None:
    """(N,) the number of each row's user, from 0 on; None if rows have no user."""
    return number_values(test["user_id"])[1] if "user_id" in test.column_names else None


def _baselines(rank_samples: Partition, test: pa.Table, oracle: str | None) -> Figures:
    """Metrics of baselines that need no model, on the same test rows."""
    train = read_columns(part_files(rank_samples, "train"), ["label"])["label"].to_numpy()
    labels = test["label"].to_numpy()
    found = {"base_rate": {"test_auc": 0.5, "test_logloss": log_loss(labels, np.full(len(labels), train.mean()))}}
    if "item_count" in test.column_names:
        found["popularity"] = {"test_auc": auc(labels, test["item_count"].to_numpy())}
    if oracle:
        truth = test[oracle].to_numpy()
        found["best_reachable"] = {"test_auc": auc(labels, truth), "test_logloss": log_loss(labels, truth)}
    return found


def _measure(output: Output, figures: Figures, comparison: Comparison) -> None:
    """The figures as `<model>.<metric>`, and the ends of their intervals as `…_low` and `…_high`."""
    named = output.manifest.metrics
    for name, metrics in figures.items():
        named |= {f"{name}.{metric}": value for metric, value in metrics.items()}
    for name, intervals in comparison.intervals.items():
        for metric, found in intervals.items():
            named |= {f"{name}.{metric}_low": found.low, f"{name}.{metric}_high": found.high}


def _check(output: Output, models: Figures, baselines: Figures) -> None:
    lowest = min(metrics["test_auc"] for metrics in models.values())
    known = {name: metrics["test_auc"] for name, metrics in baselines.items() if name != "best_reachable"}
    output.check("models_beat_baselines", lowest > max(known.values()), lowest_model=lowest, **known)


def _slice_table(output: Output, profile: Profile, test: pa.Table, scores: Mapping[str, Doubles]) -> Sections:
    """The table of slices, and its plot as metadata; empty if there are no slices."""
    term = profile.features.terms
    chosen = slices(test, term.column if term else None)
    if not chosen:
        return {}
    aucs = slice_aucs(chosen, test["label"].to_numpy(), scores)
    output.metadata["AUC by slice"] = show.picture(rank_tables.heat_map("test AUC by slice", aucs))
    return {"slices (test AUC)": rank_tables.slices(aucs, {name: int(rows.sum()) for name, rows in chosen.items()})}


def _importance_tables(output: Output, rankers: Mapping[str, Partition]) -> Sections:
    """The importance table of each model that has one, and its plot as metadata."""
    tables = {}
    for name, partition in rankers.items():
        if IMPORTANCE in partition.manifest.files:
            title = f"importance of columns, {name.removeprefix('rank_')}"
            found = pq.read_table(partition.path(IMPORTANCE)).slice(0, rank_tables.COLUMNS_SHOWN)
            plot = show.bars(title, "gain", found["column"].to_pylist(), found["gain"].to_pylist())
            output.metadata[title] = show.picture(plot)
            tables[title] = rank_tables.importance(found)
    return tables
