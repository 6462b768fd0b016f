"""The platform's only partition axis: the business date, a day of the profile's time zone (UTC by default).

All assets and checks of a code location share one definition: a Dagster job cannot mix them.
"""

import datetime as dt
import warnings
from collections.abc import Sequence
from itertools import pairwise

import dagster as dg

from recsys_assets.datasets.profile import Profile


def daily_partitions(profile: Profile) -> dg.DailyPartitionsDefinition:
    """Days from the profile's first bizdate to its last one, or to yesterday if it has no last one."""
    last = profile.last_bizdate
    end = (last + dt.timedelta(days=1)).isoformat() if last else None
    zone = profile.files.timezone
    return dg.DailyPartitionsDefinition(start_date=profile.first_bizdate.isoformat(), end_date=end, timezone=zone)


def days(first: dt.date, last: dt.date) -> list[str]:
    """The bizdates from `first` to `last`, both included."""
    return [(first + dt.timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def own_earlier_days(asset: str, count: int) -> dg.AssetDep:
    """The dependency of an asset on its own partitions of so many days before, as far as there are such days."""
    with warnings.catch_warnings():
        # Without the argument, which Dagster calls beta, the first days could not be built.
        warnings.simplefilter("ignore", dg.BetaWarning)
        earlier = dg.TimeWindowPartitionMapping(
            start_offset=-count, end_offset=-1, allow_nonexistent_upstream_partitions=True
        )
    return dg.AssetDep(asset, partition_mapping=earlier)


def stretches(days: Sequence[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """The first and last day of each unbroken stretch of sorted days."""
    if not days:
        return []
    gaps = [(one, other) for one, other in pairwise(days) if (other - one).days > 1]
    return list(zip([days[0], *(other for _, other in gaps)], [*(one for one, _ in gaps), days[-1]], strict=True))


def span_tags(first: str, last: str) -> dict[str, str]:
    """Dagster's tags for a run of one partition or of a range of them."""
    if first == last:
        return {"dagster/partition": first}
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
