"""The one partition axis of the platform: the business date, a UTC day of the profile.

Every asset and every check uses `bizdate` itself: a Dagster job cannot mix partition definitions.
"""

import datetime as dt
import warnings

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
