"""A page of a report: one HTML file with its style and charts inside, without scripts and without any request."""

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

from recsys_assets.reports.figures import Section
from recsys_assets.reports.svg import short

Cell = str | float | int | None


def page(title: str, subtitle: str, sections: Sequence[Section], alarms: Sequence[str], well: str) -> str:
    """The HTML of a page.

    Args:
        title: of the page.
        subtitle: what it is about, in a line.
        sections: its parts.
        alarms: what to look at, the most important first.
        well: the first line if there is nothing to look at.
    """
    links = "".join(f'<a href="#{_anchor(each.title)}">{escape(each.title)}</a>' for each in sections)
    body = [
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></header><main>',
        verdict(alarms, well),
        f'<nav aria-label="Sections">{links}</nav>' if len(sections) > 1 else "",
        *(_section(each) for each in sections),
        "</main>",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{escape(title)}</title><style>{_style()}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def verdict(alarms: Sequence[str], well: str) -> str:
    """The first line of a page: all is well, or what to look at."""
    if not alarms:
        return f'<div class="verdict well"><p>{escape(well)}</p></div>'
    things = "1 thing to look at" if len(alarms) == 1 else f"{len(alarms)} things to look at"
    listed = "".join(f"<li>{escape(each)}</li>" for each in alarms)
    return f'<div class="verdict look"><p>{things}:</p><ul>{listed}</ul></div>'


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], alarms: Iterable[int] = ()) -> str:
    """A table with a heading, without the columns that have no value; nothing if there are no rows.

    `alarms` are the numbers of rows to look at, whose first cell says so too.
    """
    rows, marked = list(rows), set(alarms)
    if not rows:
        return ""
    shown = [place for place in range(len(columns)) if not place or any(row[place] not in (None, "") for row in rows)]
    head = "".join(_heading(columns[place], [row[place] for row in rows]) for place in shown)
    body = [_row([row[place] for place in shown], number in marked) for number, row in enumerate(rows)]
    label = escape(title, quote=True)
    return (
        f'<h3>{escape(title)}</h3><div class="wide" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def charts(drawn: Iterable[str]) -> str:
    """Charts next to each other, as far as there is room; empty ones are left out."""
    found = [each for each in drawn if each]
    return f'<div class="charts">{"".join(found)}</div>' if found else ""


def text(sentence: str) -> str:
    """A paragraph."""
    return f"<p>{escape(sentence)}</p>"


def folded(title: str, names: Sequence[str]) -> str:
    """Names that a click shows; nothing if there are none."""
    return f"<details><summary>{escape(title)}</summary><p>{escape(', '.join(names))}</p></details>" if names else ""


def _section(section: Section) -> str:
    notes = "".join(f'<p class="note">{escape(each)}</p>' for each in section.notes)
    heading = f'<h2 id="{_anchor(section.title)}">{escape(section.title)}</h2>'
    return f"<section>{heading}{notes}{''.join(section.html)}</section>"


def _heading(name: str, values: Sequence[Cell]) -> str:
    """The heading of a column, aligned as its values are."""
    kind = ' class="text"' if any(isinstance(value, str) for value in values) else ""
    return f'<th scope="col"{kind}>{escape(name or "name")}</th>'


def _row(values: Sequence[Cell], is_alarm: bool) -> str:
    if not is_alarm:
        return f"<tr>{''.join(map(_cell, values))}</tr>"
    first, *others = values
    return f'<tr class="alarm">{_cell(f"▲ {first}")}{"".join(map(_cell, others))}</tr>'


def _cell(value: Cell) -> str:
    if value is None:
        return "<td></td>"
    return f'<td class="text">{escape(value)}</td>' if isinstance(value, str) else f"<td>{short(value)}</td>"


def _anchor(title: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in title.lower())


@cache
def _style() -> str:
    lines = Path(__file__).with_name("page.css").read_text(encoding="utf-8").splitlines()
    return " ".join(line.strip() for line in lines)
