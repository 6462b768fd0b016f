"""Plots of `rank_report`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_assets.assets import show
from recsys_assets.assets.day_before import Figures
from recsys_assets.ranking.bootstrap import Intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def heat(title: str, figures: Figures) -> "Figure":
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
