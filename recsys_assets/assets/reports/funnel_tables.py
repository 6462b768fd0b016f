"""Tables and plots of `funnel_report`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np

from recsys_assets.assets.reports import show
from recsys_assets.assets.reports.comparison import Figures, difference_rows, span
from recsys_assets.funnel.evaluation import MADE, MAIN, NAMES
from recsys_assets.ranking.bootstrap import Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tables = dict[str, dg.MarkdownMetadataValue]


def intervals(figures: Figures, found: Comparison) -> Tables:
    """The figures with intervals, and the final list's lead over each other list, with a star if it excludes 0."""
    rows = [
        (name, *(f"{values[each]:.4f} ({span(found.intervals[name][each])})" for each in NAMES))
        for name, values in figures.items()
    ]
    return {
        "figures, with 95 % intervals": show.table(["", *NAMES], rows),
        "final list less each other, 95 % intervals (* without 0)": show.table(
            ["", *NAMES], difference_rows(found.differences, NAMES)
        ),
    }


def losses(lost: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """The number of right answers that are lost at each step."""
    total = sum(lost.values())
    rows = [(step, f"{count:,}", f"{count / total:.1%}") for step, count in lost.items()]
    return show.table(["", "right answers", "share"], [*rows, ("all", f"{total:,}", "")])


def qualities(found: Figures) -> dg.MarkdownMetadataValue:
    """One row per list: debiased figures, diversity and novelty (`retrieval/qualities.py`)."""
    return show.table(["", *next(iter(found.values()))], [(name, *values.values()) for name, values in found.items()])


def slices(sliced: Mapping[str, Mapping[str, float]], sizes: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """One row per slice, one column per list."""
    rows = [(part, f"{sizes[part]:,}", *figures.values()) for part, figures in sliced.items()]
    return show.table(["", "right answers", *next(iter(sliced.values()))], rows)


def seconds(taken: Mapping[str, float]) -> dg.MarkdownMetadataValue:
    """Seconds by step."""
    total = sum(taken.values())
    rows = [(step, f"{each:.1f}", f"{each / total:.0%}") for step, each in taken.items()]
    return show.table(["", "seconds", "share"], [*rows, ("all", f"{total:.1f}", "")])


def ndcg_plot(figures: Figures, found: Comparison) -> "Figure":
    """Plot the NDCG@50 of each list with its interval."""
    figure, plot = show.axes("NDCG@50 on online rows, with its 95 % interval", "", "")
    names, values = list(figures), np.array([each[MAIN] for each in figures.values()])
    ends = np.array([(each.low, each.high) for each in (found.intervals[name][MAIN] for name in names)])
    colours = ["C0" if name in MADE else "silver" for name in names]
    bars = plot.bar(names, values, yerr=np.abs(ends.T - values), capsize=4, color=colours)
    plot.bar_label(bars, fmt="%.3f")
    plot.tick_params(axis="x", rotation=20)
    plot.margins(y=0.1)
    return figure


def losses_plot(lost: Mapping[str, int]) -> "Figure":
    """Plot the right answers by the step at which they are lost."""
    return show.bars("where the right answers of the online rows end", "right answers", list(lost), list(lost.values()))
