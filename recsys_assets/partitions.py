"""The one partition axis of the platform: the business date, a UTC day of the profile.

Every asset and every check uses `bizdate` itself: a Dagster job cannot mix partition definitions.
"""

import datetime as dt
import warnings

import dagster as dg

from recsys_assets.datasets.profile import Profile, load_profile

# Longer than any log: "every day up to this one".
_ALL_DAYS = 100_000


def daily(profile: Profile) -> dg.DailyPartitionsDefinition:
    """Days from the profile's first bizdate to its last, or for a living feed to yesterday."""
    last = profile.last_bizdate
    end = (last + dt.timedelta(days=1)).isoformat() if last else None
    return dg.DailyPartitionsDefinition(start_date=profile.first_bizdate.isoformat(), end_date=end)


bizdate = daily(load_profile())
# Assets that take a range of days in one run say so; Dagster calls the argument beta.
warnings.filterwarnings("ignore", "Parameter `backfill_policy` of function `asset`", dg.BetaWarning)
with warnings.catch_warnings():
    # The flag lets the window begin before the first day; Dagster calls it beta since 1.6.
    warnings.simplefilter("ignore", dg.BetaWarning)
    up_to_bizdate = dg.TimeWindowPartitionMapping(start_offset=-_ALL_DAYS, allow_nonexistent_upstream_partitions=True)
yesterday = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)
