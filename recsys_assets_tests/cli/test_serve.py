"""The remarks of `recsys serve` at its start."""

import datetime as dt

from recsys_assets.cli.serve import too_late
from recsys_assets.datasets.profile import load_profile


def test_events_after_the_last_day_of_a_profile_are_remarked_on() -> None:
    finished, growing = load_profile("movielens-1m"), load_profile("sample")
    last = finished.last_bizdate
    assert last is not None
    assert too_late(finished, last) == too_late(growing, dt.date(2100, 1, 1)) == ""
    assert f"after {last}, the profile's last_bizdate" in too_late(finished, last + dt.timedelta(days=1))
