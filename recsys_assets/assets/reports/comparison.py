"""Comparison of figures in reports: with the day before, and with intervals."""

import contextlib
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, PartitionMissing
from recsys_assets.ranking.bootstrap import Interval

Figures = dict[str, dict[str, float]]  # by method or model, then metric


def day_before(output: Output, lake: Lake, assets: Iterable[str]) -> dict[str, Manifest]:
    """The manifests of those of the assets' partitions of the day before that exist and passed their checks.

    They become inputs of the report, but Dagster does not know: with a partition mapping for it, a backfill of one day
    would run all later days.
    """
    yesterday = (dt.date.fromisoformat(output.manifest.bizdate) - dt.timedelta(days=1)).isoformat()
    found = {}
    for asset in assets:
        with contextlib.suppress(PartitionMissing):
            found[asset] = lake.manifest(asset, yesterday)
    passed = {asset: manifest for asset, manifest in found.items() if manifest.is_usable}
    output.add_inputs(passed.values())
    return passed


def cell(name: str, metric: str, today: Figures, yesterday: Figures) -> str:
    """A figure, and in brackets that of the day before."""
    if metric not in today[name]:
        return ""
    before = yesterday.get(name, {}).get(metric)
    return f"{today[name][metric]:.4f}" + (f" ({before:.4f})" if before is not None else "")


def span(interval: Interval, sign: str = "") -> str:
    """The ends of an interval."""
    return f"{interval.low:{sign}.4f} to {interval.high:{sign}.4f}"


def difference_rows(differences: Mapping[str, Mapping[str, Interval]], metrics: Sequence[str]) -> list[tuple[str, ...]]:
    """One row per name: the intervals of its differences, with a star if one excludes 0."""
    return [
        (name, *(span(found[metric], "+") + ("" if 0.0 in found[metric] else " *") for metric in metrics))
        for name, found in differences.items()
    ]
