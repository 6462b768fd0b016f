"""The daily report: its sections in their order, the page, and the table of the same figures."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from recsys_assets.reports import completeness, data, drift_section, features, fits, lists, models, served
from recsys_assets.reports.day import Absent, Day
from recsys_assets.reports.figures import Section, to_table
from recsys_assets.reports.page import page

KEPT = (drift_section.SHIFT,)


@dataclass(frozen=True)
class Report:
    """A day's report.

    Attributes:
        html: the page.
        figures: the table of its figures.
        attention: what to look at; empty if all is well.
        kept: figures that later reports compare theirs with.
        errors: what went wrong in making a section, by its title; the page says so too.
    """

    html: str
    figures: pa.Table
    attention: list[str]
    kept: dict[str, float]
    errors: dict[str, Exception]


def make_report(day: Day) -> Report:
    """The report of a day, whatever of it there is: a section that lacks its input, or fails, says so in a line."""
    errors = dict[str, Exception]()
    sections = [_guarded(title, make, errors) for title, make in _sections(day).items()]
    attention = [sentence for section in sections for sentence in section.attention]
    attention += [f"the section {title} could not be made: {error}." for title, error in errors.items()]
    html = page(
        f"{day.profile.title or day.profile.name}, {day.bizdate}",
        f"Daily report of the profile {day.profile.name}",
        sections,
        attention,
        f"All is well: {len(day.of_day)} partitions are there, and no figure of the day is unusual.",
    )
    kept = {each.metric: each.value for section in sections for each in section.figures if each.metric in KEPT}
    return Report(html, to_table(sections, day.bizdate), attention, kept, errors)


def _sections(day: Day) -> dict[str, Callable[[], Section]]:
    makers: dict[str, Callable[[Day], Section]] = {
        "Partitions": completeness.completeness,
        "Data": data.volumes,
        "Drift": drift_section.drift,
        "Features of models": features.features,
        "Ranking models": models.ranking,
        "Recall methods": models.recall,
        fits.TITLE: fits.fits,
        "Final lists": lists.funnel,
        "Published": served.published,
        "Requests": served.requests,
    }
    if not fits.keeps_fits(day):
        del makers[fits.TITLE]
    return {title: partial(make, day) for title, make in makers.items()}


def _guarded(title: str, make: Callable[[], Section], errors: dict[str, Exception]) -> Section:
    """The section; one with a note if its input is absent, or if it fails: a report must not fail its day."""
    try:
        return make()
    except Absent as reason:
        return Section(title, notes=[f"Not shown: {reason}"])
    except Exception as error:  # the asset logs it, and its check fails
        errors[title] = error
        return Section(title, notes=[f"Not shown, as it could not be made: {error}"])
