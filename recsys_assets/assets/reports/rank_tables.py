"""Tables and plots of `rank_report`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pyarrow as pa

from recsys_assets.assets.reports import show
from recsys_assets.assets.reports.comparison import Figures, cell, difference_rows, span
from recsys_assets.ranking.bootstrap import Comparison, Intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANKER_METRICS = ("test_auc", "test_gauc", "test_logloss", "test_calibration_error", "validation_auc")
COLUMNS_SHOWN = 25  # of a model, by importance


def figures(today: Figures, yesterday: Figures) -> dg.MarkdownMetadataValue:
    """One row per model or baseline; figures in brackets are of the day before."""
    return show.table(
        ["", *RANKER_METRICS],
        [(name, *(cell(name, metric, today, yesterday) for metric in RANKER_METRICS)) for name in today],
    )


def intervals(comparison: Comparison) -> dict[str, dg.MarkdownMetadataValue]:
    """The intervals of the models' figures and of their differences, with a star if one excludes 0."""
    reference = comparison.reference
    metrics = list(comparison.intervals[reference])
    figures = [(model, *(span(found[each]) for each in metrics)) for model, found in comparison.intervals.items()]
    return {
        "95 % intervals": show.table(["", *metrics], figures),
        f"differences to {reference}, 95 % intervals (* without 0)": show.table(
            ["", *metrics], difference_rows(comparison.differences, metrics)
        ),
    }


def slices(aucs: Figures, rows: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """The AUC of each model in each slice."""
    models = list(next(iter(aucs.values())))
    return show.table(["", "rows", *models], [(name, rows[name], *aucs[name].values()) for name in aucs])


def importance(table: pa.Table) -> dg.MarkdownMetadataValue:
    """The importance of a model's columns."""
    return show.table(table.column_names, [tuple(row.values()) for row in table.to_pylist()])


def aucs(figures: Figures, intervals: Intervals) -> "Figure":
    """Plot the test AUC of each model and baseline, with its interval if it has one."""
    figure, plot = show.axes("test AUC, with its 95 % interval", "", "AUC")
    names = [name for name in figures if "test_auc" in figures[name]]
    values = [figures[name]["test_auc"] for name in names]
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        found = intervals.get(name, {}).get("test_auc")
        if found:
            errors = [[max(value - found.low, 0)], [max(found.high - value, 0)]]
            plot.errorbar(place, value, errors, color="black", capsize=4)
        above = max(value, found.high if found else 0)
        plot.annotate(f"{value:.4f}", (place, above), (0, 3), textcoords="offset points", ha="center")
    plot.bar(range(len(names)), values, color=["C0" if name in intervals else "silver" for name in names])
    plot.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    plot.set_ylim(0.45, max(values) + 0.08)
    return figure


def calibrations(bins: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """Plot the calibration curves of all models; on the diagonal a prediction is right."""
    figure, plot = show.axes("calibration on test rows", "predicted rate", "observed rate")
    plot.plot([0, 1], [0, 1], color="grey", linewidth=1)
    for model, curve in bins.items():
        plot.plot(curve["predicted"], curve["observed"], marker="o", markersize=4, label=model)
    plot.legend()
    return figure


def heat_map(title: str, figures: Figures) -> "Figure":
    """Plot one row per slice and one column per model, with the figure in each cell; darker is higher."""
    rows, columns = list(figures), list(next(iter(figures.values())))
    values = np.array([[figures[row][column] for column in columns] for row in rows])
    figure, plot = show.axes(title, "", "")
    figure.set_size_inches(7, 1.2 + 0.24 * len(rows))
    plot.grid(visible=False)
    plot.imshow(values, cmap="Blues", aspect="auto")
    middle = (values.min() + values.max()) / 2
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > middle else "black"
        plot.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=8, color=colour)
    plot.set_xticks(range(len(columns)), columns)
    plot.set_yticks(range(len(rows)), rows, fontsize=8)
    return figure
