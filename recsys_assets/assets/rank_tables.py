"""Tables of `rank_report`, the same in the metadata and in `report.md`."""

from collections.abc import Mapping

import dagster as dg
import pyarrow as pa

from recsys_assets.assets import show
from recsys_assets.assets.day_before import Figures, cell
from recsys_assets.ranking.bootstrap import Comparison, Interval

SHOWN = ("test_auc", "test_gauc", "test_logloss", "test_calibration_error", "validation_auc")
COLUMNS = 25  # of a model, by importance


def figures(today: Figures, yesterday: Figures) -> dg.MarkdownMetadataValue:
    """One row per model or baseline; figures in brackets are of the day before."""
    return show.table(
        ["", *SHOWN], [(name, *(cell(name, metric, today, yesterday) for metric in SHOWN)) for name in today]
    )


def compared(comparison: Comparison) -> dict[str, dg.MarkdownMetadataValue]:
    """The intervals of the models' figures and of their differences, with a star if one excludes 0."""
    reference = comparison.reference
    metrics = list(comparison.figures[reference])
    figures = [(model, *(_range(found[each], "") for each in metrics)) for model, found in comparison.figures.items()]
    differences = [
        (model, *(_range(found[each], "+") + ("" if 0.0 in found[each] else " *") for each in metrics))
        for model, found in comparison.differences.items()
    ]
    return {
        "95 % intervals": show.table(["", *metrics], figures),
        f"differences to {reference}, 95 % intervals (* without 0)": show.table(["", *metrics], differences),
    }


def slices(aucs: Figures, rows: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """The AUC of each model in each slice."""
    models = list(next(iter(aucs.values())))
    return show.table(["", "rows", *models], [(name, rows[name], *aucs[name].values()) for name in aucs])


def importance(table: pa.Table) -> dg.MarkdownMetadataValue:
    """The importance of a model's columns."""
    return show.table(table.column_names, [tuple(row.values()) for row in table.to_pylist()])


def _range(interval: Interval, sign: str) -> str:
    return f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"
