"""The model that serves fresh and cold items: the one that the profile names, or the winner of the day's comparison."""

import json
from dataclasses import dataclass

from recsys_assets.datasets.profile import Profile
from recsys_assets.lake import Lake
from recsys_assets.manifest import GateNotPassed, PartitionDamaged, PartitionMissing, PartitionOutdated

REPORT, CHOICE_FILE = "cold_start_report", "cold_start.json"
SERVES, BECAUSE = "serves", "because"  # keys of the file: the best model that has towers, and a sentence
WITHOUT = "dropoutnet"  # where nothing was compared


@dataclass(frozen=True)
class Serving:
    """The model whose towers encode fresh and cold items, and why it does."""

    model: str
    because: str


def serving_model(profile: Profile, lake: Lake, bizdate: str) -> Serving:
    """The model of a release of this bizdate: `fresh.model` of the profile, or else the winner of its report."""
    if profile.fresh.model:
        return Serving(profile.fresh.model, "`fresh.model` of the profile names it")
    try:
        report = lake.read_sound(REPORT, bizdate)
    except (PartitionMissing, PartitionDamaged, PartitionOutdated, GateNotPassed) as error:
        return Serving(WITHOUT, f"{REPORT} of {bizdate} cannot be used: {error}")
    if reason := report.manifest.why_not:
        return Serving(WITHOUT, f"{REPORT} of {bizdate} was declined: {reason}")
    found = json.loads(report.path(CHOICE_FILE).read_text(encoding="utf-8"))
    if SERVES not in found:
        return Serving(WITHOUT, f"{REPORT} of {bizdate} is of an older version")
    return Serving(found[SERVES], found[BECAUSE])


def newest_serving_model(profile: Profile, lake: Lake) -> Serving:
    """The same of the newest bizdate that has a report."""
    days = [] if profile.fresh.model else lake.bizdates(REPORT)
    return serving_model(profile, lake, days[-1] if days else "any day")
