"""The one partition axis of the platform: the business date, a UTC day of the profile.

Every asset and every check uses `bizdate` itself: a Dagster job cannot mix partition definitions.
"""

import datetime as dt
import warnings
from collections.abc import Sequence
from itertools import pairwise

import dagster as dg

from recsys_assets.datasets.profile import Profile, load_profile


def daily(profile: Profile) -> dg.DailyPartitionsDefinition:
    """Days from the profile's first bizdate to its last, or for a living feed to yesterday."""
    last = profile.last_bizdate
    end = (last + dt.timedelta(days=1)).isoformat() if last else None
    return dg.DailyPartitionsDefinition(start_date=profile.first_bizdate.isoformat(), end_date=end)


bizdate = daily(load_profile())
# Assets that take a range of days in one run say so; Dagster calls the argument beta.
warnings.filterwarnings("ignore", "Parameter `backfill_policy` of function `asset`", dg.BetaWarning)


def stretches(days: Sequence[dt.date]) -> list[tuple[dt.date, dt.date]]:
    """First and last day of each unbroken stretch of sorted days."""
    if not days:
        return []
    gaps = [(one, other) for one, other in pairwise(days) if (other - one).days > 1]
    return list(zip([days[0], *(other for _, other in gaps)], [*(one for one, _ in gaps), days[-1]], strict=True))


def span_tags(first: str, last: str) -> dict[str, str]:
    """The partition of a run, or the range of them, as Dagster's tags."""
    if first == last:
        return {"dagster/partition": first}
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
