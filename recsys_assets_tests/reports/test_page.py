"""The page: one file that asks for nothing, and that anybody can use, in light, dark and narrow."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from recsys_assets.reports.figures import Section, to_table
from recsys_assets.reports.page import charts, folded, page, table, text
from recsys_assets.reports.svg import bars, lines, short
from recsys_assets_tests.helpers.chromium import chromium

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
EVIL = "<script>alert('x')</script>&\"quoted\""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def sections() -> list[Section]:
    """Two sections with everything that a page can hold."""
    one, other = Section("Ranking models", notes=["A note."]), Section("Drift & more")
    series = {f"model {n}": [(float(x), 0.7 + 0.01 * n * x) for x in range(5)] for n in range(10)}
    band = {"model 0": [(float(x), 0.6, 0.8) for x in range(5)]}
    one.html.append(table("Figures", ["", "AUC", "a text"], [("din", 0.7612345, EVIL), (EVIL, None, "b")], [1]))
    one.html.append(
        charts([lines("AUC by day", series, band, ("2026-01-01", "2026-01-05")), "", bars(EVIL, {EVIL: 0.5})])
    )
    other.html += [text(EVIL), folded("3 names", ["a", "b", EVIL])]
    other.add("items.price", "distance", 0.25, high=0.1)
    one.add("din", "test_auc", 0.76, 0.75, 0.77, "2026-01-04")
    return [one, other]


def made(alarms: list[str]) -> str:
    return page(f"A title {EVIL}", "of a test", sections(), alarms, "All is well.")


class Tags(HTMLParser):
    """Collects the tags of a page and the addresses that they name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.addresses = list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_a_page_has_no_script_and_no_address_but_its_own_sections() -> None:
    html = made(["one", EVIL])
    found = Tags(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(found.tags)
    assert found.addresses == ["#ranking-models", "#drift---more"]
    assert not re.search(r"url\(|@import|https?:", html)
    assert EVIL not in html


def test_the_first_line_says_whether_all_is_well() -> None:
    assert "All is well." in made([])
    assert "1 thing to look at" in made(["price"])
    assert "2 things to look at" in made(["price", "rows"])
    assert "All is well." not in made(["price"])


def test_a_table_leaves_out_columns_without_a_value_and_aligns_texts_with_their_heading() -> None:
    made = table("t", ["", "some", "none", "text"], [("a", 1.5, None, "x"), ("b", None, "", "y")], [1])
    root = ElementTree.fromstring(f"<div>{made}</div>")  # noqa: S314
    assert [each.text for each in root.iter("th")][1:] == ["some", "text"]
    assert [each.get("class") for each in root.iter("th")] == ["text", None, "text"]
    assert [each.text for each in root.iter("td")] == ["a", "1.50", "x", "▲ b", None, "y"]
    assert table("t", ["a"], []) == ""


def test_charts_are_well_formed_and_leave_out_what_has_no_points() -> None:
    drawn = lines("a", {"none": [], "some": [(0.0, 1.0), (1.0, 1.0)]}, None, ("l", "r"))
    figure = ElementTree.fromstring(drawn)  # noqa: S314 -- our own text
    assert [each.get("class") for each in figure.iter("polyline")] == ["line c1"]
    assert [each.text for each in figure.iter("span") if each.text] == ["some"]
    assert lines("a", {"none": []}) == ""
    assert bars("a", {}) == ""


def test_lines_are_drawn_where_their_values_are() -> None:
    svg = ElementTree.fromstring(lines("a", {"s": [(0.0, 0.0), (1.0, 0.5), (2.0, 1.0)]}))  # noqa: S314
    (line,) = svg.iter("polyline")
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.attrib["points"].split())
    assert x0 < x1 < x2
    assert y0 > y1 > y2  # up is towards 0
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.11)


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (12345.6, "12,346"), (3.14159, "3.14"), (0.5, "0.500"), (0.00123, "0.0012"), (7, "7")]
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert short(value) == said


def test_the_table_has_one_row_for_each_figure_and_the_day_of_its_own() -> None:
    rows = to_table(sections(), "2026-01-05").to_pylist()
    assert [(row["section"], row["bizdate"], row["value"]) for row in rows] == [
        ("Ranking models", "2026-01-04", 0.76),
        ("Drift & more", "2026-01-05", 0.25),
    ]
    assert to_table([], "2026-01-05").num_rows == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anybody_can_use_the_page_on_a_phone_and_it_asks_for_nothing(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    file = tmp_path / "report.html"
    file.write_text(made(["price", EVIL]), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark" if scheme == "dark" else "light")
    asked = list[str]()
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    found = Axe().run(tab, options=RULES).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
    assert asked == [file.as_uri()]
    tab.close()
