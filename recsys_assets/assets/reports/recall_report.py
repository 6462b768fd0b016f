"""Evaluation of recall: the methods of a bizdate, compared with each other and with the day before."""

from collections.abc import Mapping

import dagster as dg

from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.assets.reports.comparison import Figures, cell, day_before
from recsys_assets.assets.reports.hitrate import RECALL_METHODS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.details import DETAILS, read_items
from recsys_assets.retrieval.interactions import queries, read
from recsys_assets.retrieval.lists import additions

RECALL_METRICS = ("recall@20", "recall@50", "recall@200", "hitrate@200", "ndcg@20", "coverage@20")


@lake_asset(
    ins={f"hitrate_{method}": dg.AssetIn() for method in RECALL_METHODS},
    kinds={"markdown"},
    checks=[Check("best_beats_popularity", "the best method's recall@20 is above popularity's", blocking=False)],
    tolerates_declined=True,
)
def recall_report(
    output: Output, lake: LakeStore, dataset: Dataset, recall_samples: Partition, **hitrates: Partition
) -> None:
    """Every recall method on the same test rows; figures in brackets are of the day before, if the lake has them.

    `adds@50`: how much the recall@50 of all methods together (without random lists) would fall without the method.
    """
    if not hitrates:
        show.write_report(output, "Recall", [])
        output.check("best_beats_popularity", True, note="there is no method")
        return
    before = day_before(output, lake.lake, hitrates)
    interactions = read(recall_samples.path(ROWS))
    asked = queries(interactions, "test", dataset.load().recall.filter_seen)
    items = {
        name.removeprefix("hitrate_"): read_items(partition.path(DETAILS), interactions, asked, 50)
        for name, partition in hitrates.items()
        if name != "hitrate_random"
    }
    union, added = additions(items, asked)
    figures = _figures({name: partition.manifest for name, partition in hitrates.items()})
    for name, share in added.items():
        figures[name]["adds@50"] = share
    figures["union"] = {"recall@50": union}
    output.manifest.metrics = {f"{name}.{metric}": v for name in figures for metric, v in figures[name].items()}
    _check(output, figures)
    _show(output, figures, _figures(before))


def _figures(hitrates: Mapping[str, Manifest]) -> Figures:
    """The figures that the report shows, by method, best first; a different version of the code may have had fewer."""
    metrics = {name.removeprefix("hitrate_"): manifest.metrics for name, manifest in hitrates.items()}
    order = sorted(metrics, key=lambda name: (-metrics[name].get("recall@50", 0), name))
    return {
        name: {metric: metrics[name][metric] for metric in RECALL_METRICS if metric in metrics[name]} for name in order
    }


def _check(output: Output, figures: Figures) -> None:
    popularity = figures["popularity"]["recall@20"]
    best = max(figures[name]["recall@20"] for name in figures.keys() - {"popularity", "union"})
    output.check("best_beats_popularity", best > popularity, best=best, popularity=popularity)


def _show(output: Output, today: Figures, yesterday: Figures) -> None:
    """Show the table as metadata and as a file, and a plot."""
    columns = [*RECALL_METRICS, "adds@50"]
    rows = [(name, *(cell(name, metric, today, yesterday) for metric in columns)) for name in today]
    table = show.table(["", *columns], rows)
    show.write_report(output, "Recall", [str(table.md_str)])
    output.metadata["report"] = table
    figure, plot = show.axes("recall@50 on test rows", "", "")
    bars = plot.bar(list(today), [figures["recall@50"] for figures in today.values()])
    plot.bar_label(bars, fmt="%.3f")
    known = [name for name in today if "recall@50" in yesterday.get(name, {})]
    if known:
        values = [yesterday[name]["recall@50"] for name in known]
        plot.plot(known, values, "_", color="black", markersize=20, label="the day before")
        plot.legend()
    plot.margins(y=0.1)
    output.metadata["recall@50"] = show.picture(figure)
