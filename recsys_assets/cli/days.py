"""The bizdate that a command works on: reading it, checking that it has landed, and the default."""

import datetime as dt
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.lake import Lake


class Day(click.ParamType[dt.date]):
    """A calendar day as YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: str | dt.date, param: click.Parameter | None, ctx: click.Context | None) -> dt.date:
        """Parse the day."""
        if isinstance(value, dt.date):
            return value
        try:
            return dt.datetime.strptime(value, "%Y-%m-%d").date()  # noqa: DTZ007  a day has no zone
        except ValueError:
            self.fail(f"'{value}' is not a day: write it as YYYY-MM-DD", param, ctx)


class NothingLanded(RuntimeError):
    """The profile has no complete day, or not the one that was named; the message says how to get one."""


def complete_bizdates(profile: "Profile", today: dt.date | None = None) -> list[str]:
    """Landed days of the profile that have ended in its time zone, in order."""
    from recsys_assets.datasets.landing import landed_bizdates

    now = today or profile.files.now().date()
    return [day for day in landed_bizdates(profile) if day < now.isoformat()]


def check_landed(profile: "Profile", lake: "Lake", bizdate: str) -> None:
    """Check that a day has landed or that its events are in the lake, before a run that would fail without them.

    Raises:
        NothingLanded: neither is so; the message says which days there are, and how to land this one.
    """
    landed = complete_bizdates(profile)
    if bizdate in landed or bizdate in lake.bizdates("interactions"):
        return
    there = f"{landed[0]} to {landed[-1]} have" if landed else "nothing has"
    raise NothingLanded(f"no events of {bizdate} have landed ({there}): {_how_to_land(profile, bizdate, landed)}")


def _how_to_land(profile: "Profile", bizdate: str, landed: list[str]) -> str:
    """How to land a day: the generated data can have any day, a finished data set only its own days."""
    if profile.source == "sample":
        return f"`recsys land {profile.name} --from {bizdate} --to {bizdate}`"
    if profile.source:
        return f"pick another day with --bizdate, such as {landed[-1]}" if landed else f"`recsys land {profile.name}`"
    from recsys_assets.datasets.landing import day_place

    return f"put its files under {day_place(profile, 'interactions', bizdate)}/"


def latest_bizdate(profile: "Profile", today: dt.date | None = None) -> str:
    """The last landed day that has ended.

    Raises:
        NothingLanded: there is none.
    """
    days = complete_bizdates(profile, today)
    if not days:
        own = f"`recsys land PROFILE --source FILE`, or put its files under {profile.landing_place}"
        how = f"`recsys land {profile.name}`" if profile.source else own
        raise NothingLanded(f"no complete day of '{profile.name}' has landed in {profile.landing_place}: {how}")
    return days[-1]


def newest_built(lake: "Lake") -> str:
    """The newest bizdate of which the lake has more than events; empty if there is none."""
    return max((day for asset, day in lake.partitions() if asset != "interactions"), default="")
