"""Which partitions of a day are there, which are not as they should be, and how long they took."""

from recsys_assets.reports.day import Day
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import folded, table

SLOWEST, NAMED = 12, 5


def completeness(day: Day) -> Section:
    """Missing, failed, declined and outdated partitions, and the run times of the slowest ones."""
    section, made = Section("Partitions"), day.of_day
    missing = sorted(set(day.wanted) - made.keys())
    failed = {name: each.failed_checks for name, each in made.items() if each.failed_checks}
    below = {name: each.below_floor for name, each in made.items() if each.below_floor}
    if missing:
        section.attention.append(
            f"{day.bizdate} is not finished: {len(missing)} of {len(day.wanted)} partitions are "
            f"missing ({_some(missing)})."
        )
    section.attention += [
        f"{name} failed {', '.join(checks)}: nothing is built on it." for name, checks in failed.items()
    ]
    section.attention += [f"{name}: {reason}." for name, reason in below.items()]
    if day.outdated:
        section.attention.append(
            f"{len(day.outdated)} partitions are outdated ({_some(day.outdated)}): "
            f"recsys refresh --bizdate {day.bizdate}."
        )
    section.notes += [f"{name} cannot be built: {each.declined}." for name, each in made.items() if each.declined]
    for name, count in (
        ("present", len(made)),
        ("missing", len(missing)),
        ("failed", len(failed)),
        ("outdated", len(day.outdated)),
    ):
        section.add("partitions", name, count)
    section.html.append(folded(f"{len(missing)} missing partitions", missing))
    _run_times(section, day)
    return section


def _run_times(section: Section, day: Day) -> None:
    """The slowest partitions; a partition of an older version has no time."""
    seconds = {name: each.seconds for name, each in day.of_day.items() if each.seconds is not None}
    before = {each.asset: each.seconds for each in day.manifests.values() if each.bizdate == day.yesterday}
    for name, value in seconds.items():
        section.add(name, "seconds", value)
    if not seconds:
        section.notes.append("The partitions say nothing of their run times.")
        return
    order = sorted(seconds, key=lambda name: (-seconds[name], name))[:SLOWEST]
    rows = [(name, seconds[name], before.get(name)) for name in order]
    rows.append(("all", sum(seconds.values()), None))
    section.html.append(table(f"Seconds of the slowest {len(order)}", ["", "seconds", "the day before"], rows))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
