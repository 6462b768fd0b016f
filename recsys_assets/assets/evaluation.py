"""Evaluation: the models of a bizdate side by side, and beside what needs no model."""

import dagster as dg
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.assets import show
from recsys_assets.assets.rank import RANKERS
from recsys_assets.checks import Check, lake_asset
from recsys_assets.io_managers import Output, writing
from recsys_assets.lake import Partition
from recsys_assets.metrics import auc, log_loss
from recsys_assets.resources import Dataset, LakeStore

SHOWN = ("test_auc", "test_gauc", "test_logloss", "test_calibration_error", "validation_auc")


@lake_asset(
    ins={f"rank_{model}": dg.AssetIn() for model in RANKERS},
    kinds={"markdown"},
    checks=[Check("models_beat_popularity", "every model's test AUC is above popularity's", blocking=False)],
)
def rank_report(
    context: dg.AssetExecutionContext,
    lake: LakeStore,
    dataset: Dataset,
    rank_samples: Partition,
    **rankers: Partition,
) -> dg.MaterializeResult:
    """Every ranking model on the test rows, beside the base rate, popularity and the best AUC there can be.

    Popularity scores an item by its number of earlier events, where there are items; the base rate gives every
    row the rate of train. Where the data is generated, its true probabilities show what no model can exceed.
    """
    with writing(context, lake, [rank_samples, *rankers.values()]) as output:
        figures = {name.removeprefix("rank_"): dict(model.manifest.metrics) for name, model in rankers.items()}
        baselines = _baselines(rank_samples, dataset.load().oracle)
        output.manifest.metrics = {
            f"{name}.{metric}": value
            for name, metrics in {**figures, **baselines}.items()
            for metric, value in metrics.items()
        }
        best = min(metrics["test_auc"] for metrics in figures.values())
        popularity = baselines.get("popularity", baselines["base_rate"])["test_auc"]
        output.check("models_beat_popularity", best > popularity, lowest_model=best, popularity=popularity)
        _show(output, {**figures, **baselines})
    return output.result()


def _baselines(rank_samples: Partition, oracle: str | None) -> dict[str, dict[str, float]]:
    """Metrics of what needs no model, on the same test rows."""
    train = pq.read_table(rank_samples.path("train.parquet"), columns=["label"])["label"].to_numpy()
    file = rank_samples.path("test.parquet")
    columns = [name for name in ("label", "item_count", oracle) if name in pq.read_schema(file).names]
    test = pq.read_table(file, columns=columns)
    labels = test["label"].to_numpy()
    found = {"base_rate": {"test_auc": 0.5, "test_logloss": log_loss(labels, np.full(len(labels), train.mean()))}}
    if "item_count" in columns:
        found["popularity"] = {"test_auc": auc(labels, test["item_count"].to_numpy())}
    if oracle:
        truth = test[oracle].to_numpy()
        found["best_reachable"] = {"test_auc": auc(labels, truth), "test_logloss": log_loss(labels, truth)}
    return found


def _show(output: Output, figures: dict[str, dict[str, float]]) -> None:
    """The table and a plot as metadata, and the table as a file."""
    rows = [(name, *(metrics.get(metric, "") for metric in SHOWN)) for name, metrics in figures.items()]
    table = show.table(["", *SHOWN], rows)
    output.path("report.md").write_text(f"# Ranking, {output.manifest.bizdate}\n\n{table.md_str}\n", encoding="utf-8")
    output.metadata["report"] = table
    figure, plot = show.axes("test AUC", "", "AUC")
    names = [name for name, metrics in figures.items() if "test_auc" in metrics]
    bars = plot.bar(names, [figures[name]["test_auc"] for name in names])
    plot.bar_label(bars, fmt="%.4f")
    plot.set_ylim(0.45, 1.0)
    output.metadata["test AUC"] = show.picture(figure)
