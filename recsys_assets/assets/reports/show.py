"""Tables and plots that the UI shows of an artefact, as Markdown metadata.

Plots are small PNGs inside the Markdown: Dagster keeps every plot in its event log, so they stay under 100 KB.
"""

import base64
import io
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb
import numpy as np

from recsys_assets.io_managers import Output
from recsys_assets.retrieval.choice import Chosen
from recsys_assets.retrieval.order import Order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """A Markdown table; floats are shown with four digits."""
    lines = [columns, ["---"] * len(columns), *rows]
    return dg.MetadataValue.md("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))


def report(output: Output, title: str, tables: Mapping[str, dg.MarkdownMetadataValue]) -> None:
    """Write all tables of a report to `report.md`, and add each as metadata."""
    write_report(output, title, [f"## {name}\n\n{each.md_str}" for name, each in tables.items()])
    output.metadata |= {f"table: {name}": each for name, each in tables.items()}


def write_report(output: Output, title: str, sections: Sequence[str]) -> None:
    """Write `report.md`: the title with the bizdate, then the inputs that were left out, and the sections."""
    missing = left_out(output.without)
    text = "\n\n".join([f"# {title}, {output.manifest.bizdate}", *missing, *sections])
    if missing:
        output.metadata["left out"] = dg.MetadataValue.md("\n\n".join(missing))
    output.path("report.md").write_text(text + "\n", encoding="utf-8")


def left_out(without: Mapping[str, str]) -> list[str]:
    """A sentence for each reason for which assets (by name) were left out, with all that share it."""
    reasons = dict.fromkeys(without.values())
    named = {reason: sorted(asset for asset in without if without[asset] == reason) for reason in reasons}
    return [f"**Left out: {', '.join(assets)}.** {reason}." for reason, assets in named.items()]


def choice(output: Output, order: Order, chosen: Chosen) -> None:
    """Record how much of the order is real, and the settings that were tried on validation rows."""
    output.manifest.metrics["tied_events"] = order.tied
    if chosen.trials:
        output.manifest.metrics["validation_recall@20_of_trials"] = max(trial.recall for trial in chosen.trials)
        rows = [(each.setting, each.value, each.recall, "taken" if each.taken else "") for each in chosen.trials]
        output.metadata["settings tried"] = table(["setting", "value", "validation recall@20", ""], rows)
    if not order.is_real:
        output.metadata["order"] = f"{order.describe()}."


def preview(connection: duckdb.DuckDBPyConnection, query: str, rows: int = 8) -> dg.MarkdownMetadataValue:
    """The first rows of a query."""
    found = connection.execute(f"SELECT * FROM ({query}) LIMIT {rows}")
    return table([column[0] for column in found.description or []], found.fetchall())


def axes(title: str, x: str, y: str) -> "tuple[Figure, Axes]":
    """An empty plot in the size and style that all plots share."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), dpi=90, layout="constrained")
    plot = figure.add_subplot()
    plot.set(title=title, xlabel=x, ylabel=y)
    plot.grid(alpha=0.3)
    return figure, plot


def lines(title: str, x: str, steps: Sequence[Mapping[str, float]]) -> dg.MarkdownMetadataValue:
    """One line for each metric over the steps, through those that have it."""
    figure, plot = axes(title, x, "")
    for metric in dict.fromkeys(metric for step in steps for metric in step):
        places = [place for place, step in enumerate(steps) if metric in step]
        plot.plot([place + 1 for place in places], [steps[place][metric] for place in places], marker="o", label=metric)
    plot.legend()
    return picture(figure)


def bars(title: str, what: str, names: Sequence[str], values: Sequence[float]) -> "Figure":
    """Plot one bar per name, the first on top, so that the order shows even where a value is too small to see."""
    figure, plot = axes(title, what, "")
    plot.barh(range(len(names)), values)
    plot.set_yticks(range(len(names)), names, fontsize=6)
    plot.invert_yaxis()
    return figure


def calibration(bins: Mapping[str, Any]) -> "Figure":
    """Plot the observed over the predicted rate in bins of equal size; on the diagonal a prediction is right."""
    figure, plot = axes("calibration on test rows", "predicted rate", "observed rate")
    plot.plot([0, 1], [0, 1], color="grey", linewidth=1)
    plot.plot(bins["predicted"], bins["observed"], marker="o")
    return figure


def parallel_lines(title: str, columns: Mapping[str, Sequence[Any]], log: Container[str] = ()) -> "Figure":
    """Plot one line per row across the columns; each column has its own scale, logarithmic for those in `log`.

    The last column, of numbers, gives the lines their colours: yellow is the highest, and drawn on top.
    """
    from matplotlib import colormaps

    figure, plot = axes(title, "", "")
    scales = [_scale(values, name in log) for name, values in columns.items()]
    rows = np.array([positions for positions, _, _ in scales]).T
    for row in rows[np.argsort(rows[:, -1], kind="stable")]:
        plot.plot(range(len(scales)), row, color=colormaps["viridis"](row[-1]))
    for place, (_, low, high) in enumerate(scales):
        plot.text(place, -0.03, low, ha="center", va="top")
        plot.text(place, 1.03, high, ha="center", va="bottom")
    plot.set(xticks=range(len(scales)), yticks=[], ylim=(-0.15, 1.15))
    plot.set_xticklabels(list(columns), rotation=20, ha="right")
    return figure


def picture(figure: "Figure") -> dg.MarkdownMetadataValue:
    """A figure as a PNG inside Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return (text if len(text) <= 60 else text[:57] + "…").replace("|", "\\|").replace("\n", " ")


def _scale(values: Sequence[Any], log: bool) -> "tuple[np.ndarray, str, str]":
    """Values scaled to [0, 1], with labels for the lowest and the highest; texts are ordered alphabetically."""
    if all(isinstance(value, int | float) for value in values):
        numbers = np.log(values) if log else np.array(values, np.float64)
        low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    else:
        texts = sorted({str(value) for value in values})
        numbers, low, high = np.array([float(texts.index(str(value))) for value in values]), texts[0], texts[-1]
    return (numbers - numbers.min()) / (np.ptp(numbers) or 1.0), low, high
