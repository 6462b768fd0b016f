"""What people see of an artefact in the UI: tables and plots as Markdown metadata.

Plots are small PNGs inside the Markdown: Dagster keeps each in its event log, so they stay under 100 KB.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import duckdb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """A Markdown table; floats are shown with four digits."""
    lines = [columns, ["---"] * len(columns), *rows]
    return dg.MetadataValue.md("\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines))


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
    """One line for each metric over the steps."""
    figure, plot = axes(title, x, "")
    for metric in steps[0] if steps else ():
        plot.plot(range(1, len(steps) + 1), [step[metric] for step in steps], marker="o", label=metric)
    plot.legend()
    return picture(figure)


def calibration(bins: Mapping[str, Any]) -> "Figure":
    """Observed over predicted rate in bins of equal size; on the diagonal a prediction is right."""
    figure, plot = axes("calibration on test rows", "predicted rate", "observed rate")
    plot.plot([0, 1], [0, 1], color="grey", linewidth=1)
    plot.plot(bins["predicted"], bins["observed"], marker="o")
    return figure


def picture(figure: "Figure") -> dg.MarkdownMetadataValue:
    """A figure as a PNG inside Markdown."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})")


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return (text if len(text) <= 60 else text[:57] + "…").replace("|", "\\|").replace("\n", " ")
