"""Rules of a profile on impressions, the table of what was shown."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys_assets.datasets.profile_yaml import Fault

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.datasets.profile_parts import Impressions

REQUEST, POSITION = "request_id", "position"  # columns of tables.impressions


def faults(profile: "Profile") -> Iterator[Fault]:
    """The rules on impressions that the profile breaks."""
    rule, landed = profile.impressions, "impressions" in profile.tables
    drawn = profile.negatives.draw if profile.negatives else "impressions"
    if not rule:
        if landed:
            yield Fault(("tables", "impressions"), "needs the key `impressions`, which says how they are matched")
        if profile.negatives and drawn == "impressions":
            yield Fault(("negatives", "draw"), "impressions needs the key `impressions` and tables.impressions")
        return
    if not landed or not profile.has_entities:
        yield Fault(("impressions",), "needs tables.impressions, and user_id, item_id and timestamp in both tables")
        return
    if drawn != "impressions":
        yield Fault(("negatives", "draw"), "with impressions, the negatives are shown items: write `draw: impressions`")
    if profile.split.strategy == "given" or (profile.session and profile.session.split):
        yield Fault(
            ("impressions",), "their part follows from the time, so no column of the log and no session can name it"
        )
    yield from _column_faults(profile, rule)


def _column_faults(profile: "Profile", rule: "Impressions") -> Iterator[Fault]:
    shown, log = profile.tables["impressions"], profile.tables["interactions"]
    if shown["timestamp"].type != "timestamp":
        yield Fault(("tables", "impressions", "timestamp"), f"is {shown['timestamp'].type}, not timestamp")
    for key in ("user_id", "item_id", *([REQUEST] if rule.match == "request" else [])):
        types = {columns[key].type if key in columns else None for columns in (shown, log)}
        if len(types) > 1 or not types <= {"int64", "string"}:
            what = "must be int64, or string, in both tables.interactions and tables.impressions"
            yield Fault(("tables", "impressions", key), what)
    if POSITION in shown and shown[POSITION].type != "int64":
        yield Fault(("tables", "impressions", POSITION), f"is {shown[POSITION].type}, not int64")
