"""`recsys doctor` on the newest bizdate: which of its partitions were built from something that has changed since."""

from recsys_assets.cli.finding import Finding
from recsys_assets.settings import Settings

SHOWN = 3  # names, at most


def outdated(place: Settings) -> Finding:
    """No partition of the newest bizdate in the lake is older than other partitions or landing files that it needs."""
    from recsys_assets.datasets.feed import LandingError
    from recsys_assets.datasets.identity import OtherDataset
    from recsys_assets.datasets.profile import ProfileError, load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.lake_place import LakeUnavailable
    from recsys_assets.lineage import Lineage

    try:
        profile = load_profile(place=place)
        lake = Lake.of(place.lake, profile)
        newest = max((day for _, day in lake.partitions()), default=None)
        found = Lineage(lake).outdated_of(newest) if newest else []
    except OtherDataset as error:
        return Finding("freshness", "fix", str(error))
    except (ProfileError, LandingError, LakeUnavailable):
        return Finding("freshness", "note", "not checked, because the profile, landing files or lake cannot be read")
    if not newest:
        return Finding("freshness", "ok", "nothing has been built yet")
    if found:
        names = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
        what = f"{names} of {newest} are outdated: what they were built from has changed"
        return Finding("freshness", "fix", what, f"recsys refresh --bizdate {newest}")
    return Finding("freshness", "ok", f"all partitions of {newest}, the newest bizdate, are up to date")
