"""The final lists of a day: where right answers are lost, what the lists show, and how many users' lists changed."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Ids, Ints, find
from recsys_assets.funnel.channels import catalogue
from recsys_assets.funnel.funnel import events_of
from recsys_assets.reports.day import REPORT, TABLE, Absent, Day
from recsys_assets.reports.exposure import TOP, changed_share, exposure, padded
from recsys_assets.reports.figures import Section
from recsys_assets.reports.models import courses, ends, names_of
from recsys_assets.reports.page import charts, table
from recsys_assets.reports.svg import bars, lines

FUNNEL, RECOMMENDATIONS = "funnel_report", "recommendations.parquet"
MAIN = "ndcg@50"
LOST = "truths_"
STEPS = (  # in the order of the funnel, as in `funnel/evaluation.py`
    *("seen before", "not in the catalogue", "in no channel", "cut in the merge", "cut by the ranking"),
    "recommended",
)


def funnel(day: Day) -> Section:
    """The figures of each list on the online rows, and the right answers that each step loses."""
    section, now = Section("Final lists"), day.metrics(FUNNEL)
    names = sorted((name for name in names_of(now, MAIN) if "." not in name), key=lambda name: -now[f"{name}.{MAIN}"])
    for name in names:
        section.add(name, MAIN, now[f"{name}.{MAIN}"], now.get(f"{name}.{MAIN}_low"), now.get(f"{name}.{MAIN}_high"))
    lost = {step: now[key] for step in STEPS if (key := LOST + step.replace(" ", "_")) in now}
    for step, count in lost.items():
        section.add("right answers", step, count)
    total = sum(lost.values()) or 1.0
    drawn = [
        bars("Where right answers end", {step: count / total for step, count in lost.items()}, share=True),
        bars("NDCG@50 of each list, online rows", {name: now[f"{name}.{MAIN}"] for name in names}),
        lines("NDCG@50 of the final list by day", *courses(day.history(FUNNEL), ["final"], MAIN), ends(day, FUNNEL)),
    ]
    _show_exposure(section, day)
    section.html.append(charts(drawn))
    return section


def _show_exposure(section: Section, day: Day) -> None:
    """Add figures of the first items of the lists, and the share of users whose list changed since the day before."""
    users, items, sizes = _lists(day, day.bizdate)
    log = events_of(day.open("splits"), day.open("users"))
    found = exposure(padded(find(log.item_ids, items), sizes), log, catalogue(log, "online"))
    try:
        before = _lists(day, day.yesterday)
    except Absent:
        section.notes.append(
            f"There are no lists of {day.yesterday}: the share of users whose list changed is unknown."
        )
    else:
        found["changed lists"], both = changed_share(users, items, sizes, before)
        section.notes.append(f"The first {TOP} items are compared with those of {day.yesterday} for {both:,} users.")
    for name, value in found.items():
        section.add(f"first {TOP}", name, value)
    earlier = _figures_before(day)
    rows = [(name, value, earlier.get(name)) for name, value in found.items()]
    section.html.append(table(f"First {TOP} items of all users", ["", "today", "report of the day before"], rows))


def _figures_before(day: Day) -> dict[str, float]:
    """These figures in the report of the day before, if it was made."""
    with contextlib.suppress(Absent):
        rows = pq.read_table(day.open(REPORT, day.yesterday).path(TABLE)).to_pylist()
        return {each["metric"]: each["value"] for each in rows if each["name"] == f"first {TOP}"}
    return {}


def _lists(day: Day, bizdate: str) -> tuple[Ids, Ids, Ints]:
    """The users of a day's lists in ascending order, the items of their lists, and the lists' lengths."""
    rows = pq.read_table(day.open(FUNNEL, bizdate).path(RECOMMENDATIONS)).sort_by("user_id")
    items: pa.Array = rows["items"].combine_chunks()
    sizes = pc.list_value_length(items).to_numpy().astype(np.int64)
    ids = pc.struct_field(pc.list_flatten(items), "item_id")
    return rows["user_id"].to_numpy(), ids.to_numpy(zero_copy_only=False), sizes
