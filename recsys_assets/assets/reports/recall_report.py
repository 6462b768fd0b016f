"""Evaluation of recall: the methods of a bizdate, compared with each other and with the day before."""

from collections.abc import Mapping, Sequence

import dagster as dg
import numpy as np

from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.assets.reports.comparison import Figures, cell, day_before
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.funnel.methods import BASELINES, RECALL_METHODS
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Manifest, Partition
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval.details import DETAILS, read_items
from recsys_assets.retrieval.interactions import BLOCK, Interactions, judged_queries, read
from recsys_assets.retrieval.lists import additions
from recsys_assets.retrieval.order import Order, order_of

RECALL_METRICS = (
    *("recall@20", "recall@50", "recall@200", "hitrate@200", "ndcg@20", "coverage@20"),
    *("debiased_recall@20", "debiased_ndcg@20", "diversity@20", "novelty@20"),
)
FEW_USERS = 100  # with fewer, most leads are chance
FEW_ROWS = 20  # train rows of a user in the middle: with fewer, little is known of tastes
FEW_EVENTS = 10  # of an item in the middle: with fewer, little is known of items
# Reasons that come from the method itself.
OF_METHODS = {
    "fm": "FM learns what people like among the items that they touch, not which of all items they touch next.",
    "term": "Terms tell items that share them apart by their number of positives alone.",
}


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

    The first lines say what was left out, and which methods are below popularity. `adds@50`: how much the recall@50
    of all methods together (without random lists and last week's popularity) would fall without the method.
    `retrieval/qualities.py` explains the figures besides hits.
    """
    if not hitrates:
        show.write_report(output, "Recall", [])
        output.check("best_beats_popularity", True, note="there is no method")
        return
    before = day_before(output, lake.lake, hitrates)
    interactions = read(recall_samples.path(ROWS))
    asked = judged_queries(interactions, dataset.load())
    methods = {name.removeprefix("hitrate_"): partition for name, partition in hitrates.items()}
    joined = {name: each.path(DETAILS) for name, each in methods.items() if name not in BASELINES}
    lists = [read_items(path, interactions, asked, 50) for path in joined.values()]
    union, added = additions(list(joined), (([next(each) for each in lists], block) for block in asked.blocks(BLOCK)))
    figures = _figures({name: partition.manifest for name, partition in hitrates.items()})
    for name, share in added.items():
        figures[name]["adds@50"] = share
    figures["union"] = {"recall@50": union}
    output.manifest.metrics = {f"{name}.{metric}": v for name in figures for metric, v in figures[name].items()}
    _check(output, figures)
    notes = below_popularity(figures, interactions, order_of(recall_samples.path(ROWS)))
    _show(output, figures, _figures(before), notes)


def _figures(hitrates: Mapping[str, Manifest]) -> Figures:
    """The figures that the report shows, by method, best first; a different version of the code may have had fewer."""
    metrics = {name.removeprefix("hitrate_"): manifest.metrics for name, manifest in hitrates.items()}
    order = sorted(metrics, key=lambda name: (-metrics[name].get("recall@50", 0), name))
    return {
        name: {metric: metrics[name][metric] for metric in RECALL_METRICS if metric in metrics[name]} for name in order
    }


def below_popularity(figures: Figures, interactions: Interactions, order: Order) -> list[str]:
    """A sentence on the methods whose recall@20 is below that of the better popularity, and why, as far as is known."""
    rivals = {name: figures[name]["recall@20"] for name in ("popularity", "popularity_week") if name in figures}
    best = max(rivals, key=lambda name: rivals[name])
    judged = {name: each["recall@20"] for name, each in figures.items() if "recall@20" in each}
    below = {
        name: recall - rivals[best]
        for name, recall in judged.items()
        if name not in (*rivals, *BASELINES) and recall < rivals[best]
    }
    reasons = [f"{order.describe()}."] if not order.is_real else []
    rows = np.bincount(interactions.before("test").users, minlength=len(interactions.user_ids))
    rows = rows[~interactions.anonymous]
    if (count := int((rows > 0).sum())) < FEW_USERS:
        reasons.append(f"There are only {count} users to learn from.")
    if np.median(rows) < FEW_ROWS:
        reasons.append(f"Half of the users have at most {np.median(rows):.0f} rows to learn from.")
    counts = interactions.before("test").item_counts
    if counts.any() and (middle := np.median(counts[counts > 0])) < FEW_EVENTS:
        reasons.append(f"Half of the touched items have at most {middle:.0f} events: little can be learned of each.")
    if not below:
        return reasons if not order.is_real else []
    listed = ", ".join(f"{name} by {-lead:.4f}" for name, lead in sorted(below.items(), key=lambda each: each[1]))
    reasons += [OF_METHODS[name] for name in below if name in OF_METHODS]
    why = " ".join(reasons) or "No reason is known from the data."
    return [f"**Below {best} (recall@20 {rivals[best]:.4f}): {listed}.** {why}"]


def _check(output: Output, figures: Figures) -> None:
    popularity = figures["popularity"]["recall@20"]
    best = max(figures[name]["recall@20"] for name in figures.keys() - {"popularity", "union", *BASELINES})
    output.check("best_beats_popularity", best > popularity, best=best, popularity=popularity)


def _show(output: Output, today: Figures, yesterday: Figures, notes: Sequence[str]) -> None:
    """Show the table as metadata and as a file, and a plot."""
    columns = [*RECALL_METRICS, "adds@50"]
    rows = [(name, *(cell(name, metric, today, yesterday) for metric in columns)) for name in today]
    table = show.table(["", *columns], rows)
    show.write_report(output, "Recall", [*notes, str(table.md_str)])
    if notes:
        output.metadata["popularity"] = dg.MetadataValue.md("\n\n".join(notes))
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
