"""The page in Chromium: what a person sees, does by keyboard, and is told; without an error, at two widths.

Screenshots, of each test's last moment among them, are kept in `test_artefacts/`, which git ignores, or in the folder
that `RECSYS_TEST_ARTEFACTS` names.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

from recsys_assets.serving.engine import Engine
from recsys_assets.serving.page import FILES, KINDS
from recsys_assets.serving.place import Place
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.chromium import chromium
from recsys_assets_tests.helpers.served import serving
from recsys_assets_tests.helpers.told_events import telling
from recsys_assets_tests.helpers.worlds import DAY, World
from recsys_assets_tests.serving.test_kept import keep

SHOTS = Path(os.environ.get("RECSYS_TEST_ARTEFACTS") or PROJECT / "test_artefacts")
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
TOKEN = "open-sesame"  # noqa: S105 -- an invented token


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with serving(service) as address:
        yield address


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new tab, of which a screenshot is kept; its errors, and what its console says against it, fail the test."""
    tab, wrong = browser.new_page(viewport=WIDE), list[str]()
    tab.set_default_timeout(30_000)
    tab.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    yield tab
    SHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SHOTS / f"{re.sub(r'[^a-z0-9]+', '-', request.node.name)}.png", full_page=True)
    tab.close()
    assert wrong == []


def listed(page: Page, side: str = "this") -> list[int]:
    expect(page.locator(f"#{side}-items li").first).to_be_visible()
    ids = page.locator(f"#{side}-items li").evaluate_all("rows => rows.map(row => row.dataset.item)")
    return [int(each) for each in ids]


def ask(page: Page, address: str, user: int) -> list[int]:
    page.goto(f"{address}/?user={user}")
    return listed(page)


def of(world: World, table: str, column: str) -> dict[int, Any]:
    return {row["item_id"]: row[column] for row in world.table(table).to_pylist()}


def test_a_user_is_chosen_and_sees_what_the_service_answers(
    world: World, page: Page, address: str, client: Any
) -> None:
    page.goto(address)
    expect(page.locator("#release")).to_contain_text("Release 7 of")
    page.locator("#offered button").first.click()
    found = listed(page)
    user = page.locator("#user").input_value()
    answer = client.get(f"/recommend/{user}?size=20").json()["items"]
    assert found == [each["item_id"] for each in answer]
    first, titles = page.locator("#this-items li").first, of(world, "items", "title")
    expect(first.locator(".title")).to_have_text(titles[found[0]])
    assert first.locator(".mark > span").all_text_contents() == answer[0]["channels"]
    assert float(first.locator(".score").text_content() or "") == pytest.approx(answer[0]["score"], rel=1e-3)
    rows = sorted(
        (row for row in world.table("splits").to_pylist() if row["user_id"] == int(user)),
        key=lambda row: -row["position"],
    )
    expect(page.locator("#touched-items .title")).to_have_text([titles[row["item_id"]] for row in rows[:30]])
    assert page.url.endswith(f"?user={user}")


def test_a_like_changes_the_list_before_one_s_eyes_by_keyboard_alone(page: Page, address: str, engine: Engine) -> None:
    before = ask(page, address, engine.log.user_ids[[3]].tolist()[0])
    button = page.locator("#this-items li").nth(1).get_by_role("button", name="Like: ", exact=False).first
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("The list has changed")
    after = listed(page)
    assert before[1] not in after
    assert after != [each for each in before if each != before[1]]
    expect(page.locator("#touched-items li").first).to_contain_text("liked, told now")
    assert page.locator("#this-items li.changed .change").count() > 0
    assert page.evaluate("document.activeElement.closest('li').dataset.item") == str(after[1])  # the next one's button
    page.get_by_role("button", name="Forget what was told").press("Enter")
    expect(page.locator("#forget")).to_be_hidden()
    expect(page.locator("#this-items li").first).to_have_attribute(
        "data-item", str(before[0])
    )  # the new answer is there
    assert listed(page) == before


def test_two_requests_are_compared_and_similar_items_are_shown(page: Page, address: str, engine: Engine) -> None:
    user = engine.log.user_ids[[3]].tolist()[0]
    this = ask(page, address, user)
    page.get_by_label("Compare with").select_option("Before the online rows")
    other = listed(page, "other")
    new = page.locator("#other-items li", has_text="only here")
    assert new.count() == len(set(other) - set(this)) > 0
    page.locator("#this-items li").first.get_by_role("button", name="Similar: ", exact=False).click()
    expect(page.get_by_role("dialog")).to_contain_text("Similar to")
    expect(page.locator("#alike-items li").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_same_request_is_shown_under_another_kept_release(
    world: World, engine: Engine, service: Service, page: Page, tmp_path: Path
) -> None:
    copies = keep(world.lake, engine.profile.name, tmp_path / "releases")
    user = engine.log.user_ids[[3]].tolist()[0]
    with serving(service, place=Place(copies=copies)) as address:
        this = ask(page, address, user)
        page.get_by_label("Compare with").select_option(f"Release 6 of {DAY}")
        expect(page.locator("#other-items li").first).to_be_visible(timeout=120_000)  # a process opens it first
        other = listed(page, "other")
        answer = httpx.post(f"{address}/releases/6/recommend", json={"user_id": user, "size": 20}, timeout=60).json()
    assert (answer["release"], [each["item_id"] for each in answer["items"]]) == (6, other)
    expect(page.locator("#other-title")).to_have_text(f"Release 6 of {DAY}")
    assert page.locator("#other-items li", has_text="only here").count() == len(set(other) - set(this))


def test_a_history_is_pasted_as_ids_and_titles(world: World, page: Page, address: str) -> None:
    titles = of(world, "items", "title")
    one, two = list(titles)[:2]
    page.goto(address)
    page.get_by_text("Paste a history instead").click()
    page.locator("#history").fill("\n".join([str(one), f"- {titles[two].upper()}", "no such item"]))
    page.locator("#by-history button").click()
    found = listed(page)
    assert not {one, two} & set(found)
    expect(page.locator("#touched-about")).to_have_text("Not found: no such item")
    expect(page.locator("#touched-items li")).to_contain_text(["not liked", "liked"])
    expect(page.locator("#this-about")).to_contain_text("served by: history")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1280", "360"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_screen(
    page: Page, address: str, engine: Engine, size: Any, scheme: Any
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    ask(page, address, engine.log.user_ids[[3]].tolist()[0])
    page.locator("#this-items li button").first.click()
    expect(page.get_by_role("status")).to_contain_text("The list has changed")
    page.get_by_label("Compare with").select_option("Before the online rows")
    listed(page, "other")
    found = Axe().run(page, options=RULES).response
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_clicks_are_kept_only_if_a_person_wants_that(world: World, engine: Engine, page: Page, address: str) -> None:
    user = engine.log.user_ids[[9]].tolist()[0]  # of whom no other test tells anything
    ask(page, address, user)
    expect(page.locator("#keeps")).to_be_hidden()  # this service keeps no events
    with telling(world.profile) as tell:
        service = Service(Opened(7, engine, Book()), tell.told)
        with serving(service) as keeping:
            before = ask(page, keeping, user)
            expect(page.get_by_label("Keep what I click")).not_to_be_checked()
            page.get_by_role("button", name="Like: ").first.click()
            expect(page.locator("#touched-items li").first).to_contain_text("liked, told now")
            assert tell.told.of(user, DAY).items == []
            page.get_by_role("button", name="Forget what was told").click()
            expect(page.locator("#forget")).to_be_hidden()
            page.get_by_label("Keep what I click").check()
            for button, row in (("Like", 0), ("Dislike", 1)):
                page.locator(f"#this-items li[data-item='{before[row]}']").get_by_text(button, exact=True).click()
                expect(page.locator("#touched-items li", has_text="kept")).to_have_count(row + 1)
            kept = tell.told.of(user, DAY)
            assert (kept.items, kept.labels) == (before[:2], [1, 0])
            expect(page.locator("#forget")).to_be_hidden()
            page.reload()  # the service itself knows them now
            assert not set(before[:2]) & set(listed(page))


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1280", "360"])
def test_the_interface_is_described_without_the_internet(page: Page, address: str, client: Any, size: Any) -> None:
    page.set_viewport_size(size)
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/docs")
    paths = client.get("/openapi.json").json()["paths"]
    expect(page.locator("details.who")).to_have_count(sum(map(len, paths.values())))
    assert all(url.startswith(address) for url in asked)
    one = page.locator("#recommend")
    one.locator("summary").first.press("Enter")
    expect(one.locator("pre").first).to_contain_text('"served_by": "full"')
    one.get_by_text("Keys", exact=True).first.click()
    expect(one).to_contain_text("how long the answer may take")
    found = Axe().run(page, options=RULES).response
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def test_the_page_asks_for_the_token_once(browser: Browser, service: Service) -> None:
    context = browser.new_context()
    page = context.new_page()
    with serving(service, TOKEN) as locked:
        page.goto(locked)
        for given in ("wrong", TOKEN):
            expect(page.get_by_role("dialog")).to_be_visible()
            page.locator("#token").fill(given)
            page.keyboard.press("Enter")
        expect(page.locator("#offered button")).to_have_count(5)
        page.reload()
        expect(page.locator("#offered button")).to_have_count(5)
        expect(page.get_by_role("dialog")).to_be_hidden()
    context.close()


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_text(client: Any) -> None:
    index = client.get("/")
    policy = index.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
    for name, content in FILES.items():
        got = client.get(f"/page/{name}")
        assert (got.content, got.headers["content-type"].split(";")[0]) == (content, KINDS[f".{name.split('.')[1]}"])
        outside = re.findall(rb"(?:https?:)?//[a-z][\w.]+", content.replace(b"http://www.w3.org/2000/svg", b""))
        assert outside == [], name
    assert client.get("/page/nothing.js").status_code == client.get("/page/..%2f__init__.py").status_code == 404
