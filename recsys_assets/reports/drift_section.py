"""The section on drift: what differs from last week, column by column and altogether, and which of it is unusual."""

import pyarrow as pa

from recsys_assets.metrics import UndefinedMetric
from recsys_assets.reports.alarms import FEWEST, Judged, Statistic, judge
from recsys_assets.reports.data import known_bins, reader, volume_of
from recsys_assets.reports.day import Absent, Day
from recsys_assets.reports.drift import HISTORY, WEEK, Drift, measure
from recsys_assets.reports.figures import Section
from recsys_assets.reports.page import charts, table, text
from recsys_assets.reports.shift import Shift, tell_apart
from recsys_assets.reports.svg import bars, short
from recsys_assets.reports.volumes import EVENTS, statistics

CHARTED = 6
SHIFT = "AUC of today against last week"
_SHARES = {
    "largest share": "the most frequent value has",
    "rejected": "rejected are",
    "unknown": "unknown values are",
    "missing": "missing values are",
}


def drift(day: Day) -> Section:
    """The drift of every column of the day's events, their users and their items, and of all columns together."""
    section, known = Section("Drift"), known_bins(day)
    earlier = [each for each in day.lake.bizdates(EVENTS) if each < day.bizdate][-HISTORY:]
    if not earlier:
        raise Absent("there is no day before to compare with.")
    with reader(day) as read:
        volumes = {each: volume_of(day, each) for each in (*earlier, day.bizdate)}
        found = measure(read, day.bizdate, earlier, known, statistics(volumes, day.bizdate))
        week = pa.concat_tables([read(each) for each in earlier[-WEEK:]], promote_options="permissive")
        try:
            shift = tell_apart(read(day.bizdate), week, found.bins)
        except UndefinedMetric as reason:
            section.notes.append(f"No classifier was trained: {reason}.")
            shift = None
    section.notes.append(
        "The day is compared with the 7 days before it, in bins that are fixed by the features' schema, or else by "
        "those days. The last 28 days say what is usual."
    )
    section.attention += [describe(each) for each in found.alarms]
    show_drift(section, found)
    if shift:
        _show_shift(section, day, shift)
    return section


def _show_shift(section: Section, day: Day, shift: Shift) -> None:
    """Add how well the day can be told from last week; it is an alarm if that is unusual among earlier reports."""
    history = [each[SHIFT] for each in day.reports() if SHIFT in each]
    (judged,) = judge([Statistic("the whole day", SHIFT, "distance", shift.auc, history)])
    section.add("the whole day", SHIFT, shift.auc, shift.interval.low, shift.interval.high)
    names = ", ".join(f"{name} {share:.0%}" for name, share in list(shift.columns.items())[:5])
    usual = "too early to tell what is usual" if judged.high is None else f"at most {judged.high:.3f} is usual"
    said = (
        f"LightGBM tells the rows of the day from those of last week with an AUC of {shift.auc:.3f} "
        f"({shift.interval.low:.3f} to {shift.interval.high:.3f}; {usual}). It looks at {names}."
    )
    section.html.append(text(said))
    if judged.is_alarm:
        section.attention.append(said)


def describe(judged: Judged) -> str:
    """A sentence on a statistic that is an alarm."""
    one, high = judged.statistic, judged.high or 0.0
    if one.kind == "count":
        return f"{one.column}: {one.value:,.0f} rows, where {judged.low or 0:,.0f} to {high:,.0f} are usual."
    if one.kind == "distance":
        return f"{one.column} is not distributed as last week: distance {one.value:.3f}, usually at most {high:.3f}."
    return f"{one.column}: {_SHARES[one.name]} {one.value:.1%}, usually at most {high:.1%}."


def show_drift(section: Section, found: Drift) -> None:
    """Add the figures, a table with one row per column, and charts of what differs most."""
    if found.too_early:
        most = max(found.history[each] for each in found.too_early)
        section.notes.append(
            f"Too early to tell what is usual (fewer than {FEWEST} days of history, at most {most}): "
            f"{', '.join(found.too_early)}."
        )
    if found.without:
        section.notes.append(f"Not compared, as no day of last week has them: {', '.join(found.without)}.")
    by_column: dict[str, dict[str, Judged]] = {}
    for each in found.judged:
        by_column.setdefault(each.statistic.column, {})[each.statistic.name] = each
        section.add(each.statistic.column, each.statistic.name, each.statistic.value, each.low, each.high)
    for name, value in found.stability.items():
        section.add(name, "stability index", value)
    order = sorted(by_column, key=lambda name: (-max(each.excess for each in by_column[name].values()), name))
    rows = [(name, *_cells(by_column[name], found.stability.get(name))) for name in order]
    marked = [place for place, name in enumerate(order) if any(each.is_alarm for each in by_column[name].values())]
    columns = ["", "distance (JS)", "usual, at most", "PSI", "other figures, usual at most"]
    section.html.append(table("Columns, the most unusual first", columns, rows, marked))
    charted = [name for name in order if name in found.today][:CHARTED]
    section.html.append(charts(_chart(name, found) for name in charted))


def _cells(
    statistics: dict[str, Judged], stability: float | None
) -> tuple[float | None, float | None, float | None, str]:
    distance = statistics.get("distance")
    others = []
    for name, each in statistics.items():
        if name == "distance" or (name in ("unknown", "missing") and each.statistic.value == 0):
            continue
        allowed = "" if each.high is None else f" ({short(each.low) + ' to ' if each.low else ''}{short(each.high)})"
        others.append(f"{name} {short(each.statistic.value)}{allowed}")
    return (
        distance.statistic.value if distance else None,
        distance.high if distance else None,
        stability,
        ", ".join(others),
    )


def _chart(name: str, found: Drift) -> str:
    """The shares of a column's bins: today's, and thinner those of last week."""
    today, week = (each / max(each.sum(), 1) for each in (found.today[name], found.reference[name]))
    labels = found.bins[name].labels
    chosen = [place for place in range(len(labels)) if max(today[place], week[place]) > 0]
    if len(chosen) > 12 and found.bins[name].edges is None:
        chosen = sorted(sorted(chosen, key=lambda place: -max(today[place], week[place]))[:12])
    shares = {labels[place]: float(today[place]) for place in chosen}
    return bars(f"{name}: today, and last week (thin)", shares, {labels[p]: float(week[p]) for p in chosen}, share=True)
