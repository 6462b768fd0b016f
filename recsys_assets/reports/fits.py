"""The models and choices of a day that are not wholly its own: kept from an earlier day, or continued from one."""

from recsys_assets.manifest import Manifest
from recsys_assets.reports.day import Day
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import table

EVENTS = "splits"  # its rows are all events up to the day
TITLE = "Kept fits"


def keeps_fits(day: Day) -> bool:
    """Whether the profile lets a day keep a fit, or continue from one."""
    return day.profile.refit.days > 1 or bool(day.profile.warm_start.models)


def fits(day: Day) -> Section:
    """The day of each kept fit with the share of events that it does not know, and where trainings continued from."""
    section, events = Section(TITLE), day.sound(EVENTS).rows or 0
    rows = []
    for name, made in sorted(day.of_day.items()):
        if made.fitted:
            share = events / max(made.fitted["events"], 1) - 1
            section.add(name, "age of the fit in days", made.age_of_fit)
            section.add(name, "share of newer events", share)
            rows.append((name, made.fitted_on, made.age_of_fit, f"{share:.2%}"))
    section.html.append(table("Fits of earlier days", ["", "fitted on", "age in days", "events since"], rows))
    continued = [(name, start) for name, made in sorted(day.of_day.items()) if (start := _start(made))]
    section.html.append(table("Trainings that continued", ["", "from"], continued))
    if (rule := day.profile.refit).days > 1:
        section.notes.append(
            f"A fit is made again at an age of {rule.days} days, or when {rule.share:.1%} more events have come. "
            "Figures of a kept fit on validation rows are of the day of the fit, and those on test rows of this day."
        )
    return section


def _start(made: Manifest) -> str:
    """The checkpoint that the day's own training continued from; empty if it began with random weights."""
    start = str(made.config.get("warm_start") or "")
    return "" if made.fitted or start.startswith("nothing") else start
