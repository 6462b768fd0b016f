"""The models and choices of a day that were kept from an earlier one, with their age."""

from recsys_assets.reports.day import Day
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import table

EVENTS = "splits"  # its rows are all events up to the day


def fits(day: Day) -> Section:
    """The day of each kept fit, and the share of events that it does not know."""
    section = Section("Kept fits")
    kept = {name: made for name, made in sorted(day.of_day.items()) if made.fitted}
    events = day.sound(EVENTS).rows or 0
    rows = []
    for name, made in kept.items():
        share = events / max(made.fitted["events"], 1) - 1
        section.add(name, "age of the fit in days", made.age_of_fit)
        section.add(name, "share of newer events", share)
        rows.append((name, made.fitted_on, made.age_of_fit, f"{share:.2%}"))
    section.html.append(table("Fits of earlier days", ["", "fitted on", "age in days", "events since"], rows))
    rule = day.profile.refit
    section.notes.append(
        f"A fit is made again at an age of {rule.days} days, or when {rule.share:.1%} more events have come. Its "
        "figures on validation rows are of the day of the fit, and those on test rows of this day."
    )
    return section
