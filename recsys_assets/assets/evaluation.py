"""Evaluation: the ranking models of a bizdate, compared with each other and with baselines that need no model."""

from collections.abc import Mapping

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Doubles
from recsys_assets.assets import rank_plots, rank_rows, rank_tables, show
from recsys_assets.assets.day_before import Figures, day_before
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.rank import IMPORTANCE
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.metrics import calibration
from recsys_assets.models.catalogue import RANKERS
from recsys_assets.ranking.bootstrap import Comparison, compare
from recsys_assets.ranking.slices import slice_aucs, slices
from recsys_assets.resources import Dataset, LakeStore

SEED = 1
Sections = dict[str, dg.MarkdownMetadataValue]


@lake_asset(
    ins={f"rank_{model}": dg.AssetIn() for model in RANKERS},
    kinds={"markdown"},
    checks=[Check("models_beat_baselines", "every model's test AUC is above each baseline's", blocking=False)],
)
def rank_report(
    output: Output, lake: LakeStore, dataset: Dataset, rank_samples: Partition, **rankers: Partition
) -> None:
    """Every ranking model on the test rows, compared with the base rate, popularity and the best AUC there can be.

    Popularity scores an item by its number of earlier events, if there are items; the base rate gives every row the
    rate of train. If the data is generated, its true probabilities show what no model can exceed.

    The 95 % intervals come from 200 draws of users (of rows, if they have no user); differences are to the model with
    the highest validation AUC, on the same draws. Figures in brackets are of the day before.
    """
    profile = dataset.load()
    output.manifest.seed = SEED
    before = day_before(output, lake.lake, rankers)
    test = rank_rows.test_rows(profile, rank_samples)
    models = rank_rows.figures({name: partition.manifest for name, partition in rankers.items()})
    baselines = rank_rows.baselines(rank_samples, test, profile.oracle)
    by_model = rank_rows.scores(rankers)
    scores = {model: by_model[model] for model in models}
    figures, labels = {**models, **baselines}, test["label"].to_numpy()
    compared = compare(labels, scores, next(iter(models)), rank_rows.users(test), seed=SEED)
    _measure(output, figures, compared)
    _check(output, models, baselines)
    tables = {"figures": rank_tables.figures(figures, rank_rows.figures(before))}
    tables |= rank_tables.compared(compared)
    tables |= _sliced(output, profile, test, scores) | _important(output, rankers)
    show.report(output, "Ranking", tables)
    curves = {model: calibration(labels, each) for model, each in scores.items()}
    output.metadata["calibration"] = show.picture(rank_plots.calibrations(curves))
    output.metadata["test AUC"] = show.picture(rank_plots.aucs(figures, compared.figures))


def _measure(output: Output, figures: Figures, compared: Comparison) -> None:
    """The figures as `<model>.<metric>`, and the ends of their intervals as `…_low` and `…_high`."""
    named = output.manifest.metrics
    for name, metrics in figures.items():
        named |= {f"{name}.{metric}": value for metric, value in metrics.items()}
    for name, intervals in compared.figures.items():
        for metric, found in intervals.items():
            named |= {f"{name}.{metric}_low": found.low, f"{name}.{metric}_high": found.high}


def _check(output: Output, models: Figures, baselines: Figures) -> None:
    lowest = min(metrics["test_auc"] for metrics in models.values())
    known = {name: metrics["test_auc"] for name, metrics in baselines.items() if name != "best_reachable"}
    output.check("models_beat_baselines", lowest > max(known.values()), lowest_model=lowest, **known)


def _sliced(output: Output, profile: Profile, test: pa.Table, scores: Mapping[str, Doubles]) -> Sections:
    """The table of slices, and its plot as metadata; empty if there are no slices."""
    term = profile.features.terms
    chosen = slices(test, term.column if term else None)
    if not chosen:
        return {}
    aucs = slice_aucs(chosen, test["label"].to_numpy(), scores)
    output.metadata["AUC by slice"] = show.picture(rank_plots.heat("test AUC by slice", aucs))
    return {"slices (test AUC)": rank_tables.slices(aucs, {name: int(rows.sum()) for name, rows in chosen.items()})}


def _important(output: Output, rankers: Mapping[str, Partition]) -> Sections:
    """The importance table of each model that has one, and its plot as metadata."""
    tables = {}
    for name, partition in rankers.items():
        if IMPORTANCE in partition.manifest.files:
            title = f"importance of columns, {name.removeprefix('rank_')}"
            found = pq.read_table(partition.path(IMPORTANCE)).slice(0, rank_tables.COLUMNS)
            plot = show.bars(title, "gain", found["column"].to_pylist(), found["gain"].to_pylist())
            output.metadata[title] = show.picture(plot)
            tables[title] = rank_tables.importance(found)
    return tables
