"""Shared by the reports: the figures of the day before, for comparison with the day's own."""

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence

from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, PartitionMissing

Figures = dict[str, dict[str, float]]  # by method or model, then metric


def day_before(lake: Lake, assets: Sequence[str], day: str) -> dict[str, Manifest]:
    """The manifests of those of the assets' partitions of the day before that exist and passed their checks.

    They are upstream of the report too, but Dagster does not know: with a partition mapping for it, a backfill of one
    day would run all later days.
    """
    yesterday = (dt.date.fromisoformat(day) - dt.timedelta(days=1)).isoformat()
    found = {}
    for asset in assets:
        with contextlib.suppress(PartitionMissing):
            found[asset] = lake.manifest(asset, yesterday)
    return {asset: manifest for asset, manifest in found.items() if not manifest.failed_checks}


def upstream(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The partitions' fingerprints, for the report's own manifest."""
    return {f"{each.asset}/{each.bizdate}": each.fingerprint for each in manifests.values()}


def cell(name: str, metric: str, today: Figures, yesterday: Figures) -> str:
    """A figure, and in brackets that of the day before."""
    if metric not in today[name]:
        return ""
    before = yesterday.get(name, {}).get(metric)
    return f"{today[name][metric]:.4f}" + (f" ({before:.4f})" if before is not None else "")
