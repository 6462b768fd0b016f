"""Scenes on a served world: whatever the rules and the request are, every rule holds, for every kind of user."""

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from starlette.testclient import TestClient

from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.helpers.worlds import DAY, World

Answer = dict[str, Any]
CHANNELS = ("popularity", "itemcf", "swing", "term", "fm")
FILTERS: dict[str, Callable[[Answer], bool]] = {
    "year >= 2010": lambda item: item["year"] >= 2010,
    "not 'Comedy' in genres": lambda item: "Comedy" not in item["genres"],
    "length(genres) > 1 or year between 1990 and 2000": lambda item: (
        len(item["genres"]) > 1 or 1990 <= item["year"] <= 2000
    ),
}
FIXED = {
    "plain": {"size": 7},
    "merged": {"order": "merged"},
    "unranked": {"ranker": "none"},
    "alone": {"channels": dict.fromkeys(CHANNELS[1:], 0)},
    "nothing": {"filter": "year < 0"},
    "vectors": {"diversity": {"lambda": 0.2, "vectors": "fm"}, "size": 10},
    "genres": {"diversity": {"lambda": 0.2, "column": "genres"}, "size": 10},
}
LAYERS = {"size": {"keys": ["size"], "variants": {"short": {"share": 0, "size": 3}, "one": {"share": 1, "size": 1}}}}


@dataclass
class Truth:
    """The world as its tables say, without the service."""

    world: World

    @cached_property
    def items(self) -> dict[int, Answer]:
        return {row["item_id"]: row for row in self.world.table("items").to_pylist()}

    @cached_property
    def events(self) -> list[Answer]:
        rows: list[Answer] = self.world.table("splits").to_pylist()
        return rows

    @cached_property
    def seen(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for row in self.events:
            found.setdefault(row["user_id"], set()).add(row["item_id"])
        return found

    @cached_property
    def ages(self) -> dict[int, int]:
        first: dict[int, dt.datetime] = {}
        for row in self.events:
            first[row["item_id"]] = min(row["timestamp"], first.get(row["item_id"], row["timestamp"]))
        return {item: (dt.date.fromisoformat(DAY) - moment.date()).days for item, moment in first.items()}


@pytest.fixture(scope="module")
def truth(world: World) -> Truth:
    return Truth(world)


def random_scene(rng: np.random.Generator, items: Sequence[int]) -> Answer:
    """A scene with each kind of rule in half of the cases."""
    pins = [{"item": item, "place": place + 1} for place, item in zip((0, 4, 11), rng.permutation(items), strict=False)]
    parts: Answer = {
        "filter": str(rng.choice(list(FILTERS))),
        "channels": {str(name): float(rng.choice([0, 0.5, 3])) for name in rng.choice(CHANNELS[1:], 2, replace=False)},
        "diversity": {
            "lambda": float(rng.random()),
            **({"column": "genres"} if rng.random() < 0.5 else {"vectors": "fm"}),
        },
        "at_most": [{"column": "genres", "count": int(rng.integers(1, 4)), "window": int(rng.integers(4, 9))}],
        "new_items": {"share": float(rng.choice([0.1, 0.29, 0.5])), "days": int(rng.integers(2, 6))},
        "pinned": [{"item": int(pin["item"]), "place": pin["place"]} for pin in pins],
        "order": "merged",
    }
    kept = {key: value for key, value in parts.items() if rng.random() < 0.5}
    pinned = {pin["item"] for pin in kept.get("pinned", [])}
    blocked = [int(item) for item in rng.choice(items, 15, replace=False) if item not in pinned]
    return {"size": int(rng.integers(1, 41)), "blocked": blocked, **kept}


@pytest.fixture(scope="module")
def rules(engine: Engine) -> Answer:
    rng, items = np.random.default_rng(5), engine.log.item_ids.tolist()
    scenes = {f"random{number}": random_scene(rng, items) for number in range(30)}
    return {"filters": ["genres", "year"], "scenes": scenes | FIXED, "layers": LAYERS}


@pytest.fixture(scope="module")
def file(rules: Answer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "own.scenes.yaml"
    path.write_text(yaml.safe_dump(rules), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def served(engine: Engine, file: Path) -> Iterator[TestClient]:
    said: list[str] = []
    book = Book(file, engine.profile, said.append)
    book.prepare(engine)
    service = Service(Opened(7, engine, book))
    assert said == []
    yield TestClient(create_app(service))


def random_request(rng: np.random.Generator, truth: Truth, scene: str) -> Answer:
    """A request of a user of the log, or of somebody new with or without a history, with some limits."""
    items = list(truth.items)
    told = [int(each) for each in rng.choice(items, 3, replace=False)]
    restrictions = [None, [int(each) for each in rng.choice(items, 60)], str(rng.choice(list(FILTERS)))]
    users: list[Answer] = [{"user_id": int(rng.choice(list(truth.seen)))}, {"user_id": 10**9}, {"visitor": "v"}]
    return {
        **users[int(rng.integers(3))],
        "scene": scene,
        "variants": {"size": "control"},
        "exclude": [int(each) for each in rng.choice(items, 20)],
        "history": [{"item_id": each} for each in told] if rng.random() < 0.5 else [],
        "restrict": restrictions[int(rng.integers(3))],
    }


def allowed(truth: Truth, scene: Answer, request: Answer) -> set[int]:
    """The items that may be listed."""
    passes = [FILTERS[text] for text in (scene.get("filter"), request["restrict"]) if isinstance(text, str)]
    found = {item for item, row in truth.items.items() if all(each(row) for each in passes)}
    if isinstance(request["restrict"], list):
        found &= set(request["restrict"])
    seen = truth.seen.get(request.get("user_id", -1), set()) | {event["item_id"] for event in request["history"]}
    return found - set(scene["blocked"]) - set(request["exclude"]) - seen


def test_every_rule_holds_for_random_scenes_and_requests(truth: Truth, rules: Answer, served: TestClient) -> None:
    rng, kinds, lengths = np.random.default_rng(6), set[str](), 0
    for number in range(180):
        name = f"random{number % 30}"
        scene, request = rules["scenes"][name], random_request(rng, truth, name)
        answer = served.post("/recommend", json=request).json()
        kinds.add(answer["served_by"])
        lengths += len(answer["items"])
        check(truth, scene, request, answer)
    assert kinds == {"full", "history", "popular"}
    assert lengths > 180


def check(truth: Truth, scene: Answer, request: Answer, answer: Answer) -> None:
    """Look at every rule of the scene and of the request in the answer."""
    listed, may = [row["item_id"] for row in answer["items"]], allowed(truth, scene, request)
    assert len(listed) == len(set(listed)) <= scene["size"]
    assert set(listed) <= may
    pins = {pin["place"]: pin["item"] for pin in scene.get("pinned", []) if pin["item"] in may}
    for place, item in pins.items():
        assert listed[place - 1 : place] in ([item], [])
    off = {name for name, factor in scene.get("channels", {}).items() if not factor}
    if answer["served_by"] != "popular":
        assert not off & {channel for row in answer["items"] for channel in row["channels"]}
    for rule in scene.get("at_most", []):
        for first in range(len(listed)):
            window = listed[first : first + rule["window"]]
            for genre in {genre for item in window for genre in truth.items[item]["genres"]}:
                held = [item for item in window if genre in truth.items[item]["genres"]]
                assert len(held) <= max(rule["count"], sum(item in pins.values() for item in held))
    if (new := scene.get("new_items")) and "at_most" not in scene:
        fresh = [item for item in may if truth.ages[item] <= new["days"]]
        count = sum(item in fresh for item in listed)
        # Popularity lists all items that had an event before the online days.
        old = {row["item_id"] for row in truth.events if row["part"] != "online"}
        assert count >= min(math.floor(new["share"] * len(listed)), len(set(fresh) & old))


def test_a_condition_restricts_as_the_ids_that_meet_it_do(truth: Truth, served: TestClient) -> None:
    user = next(iter(truth.seen))
    for text, passes in FILTERS.items():
        chosen = [item for item, row in truth.items.items() if passes(row)]
        lists = [
            served.post("/recommend", json={"user_id": user, "restrict": restrict}).json()["items"]
            for restrict in (text, chosen)
        ]
        assert lists[0] == lists[1] != []


@pytest.mark.parametrize(
    ("restrict", "said"),
    [
        (
            "sleep(3)",
            "restrict: it uses what is not allowed: the function sleep; use comparisons and plain functions; giv",
        ),
        ("(select 1) = 1", "it uses what is not allowed: a query"),
        ("read_text('/etc/passwd') = 'x'", "it uses what is not allowed"),
        ("title = 'x'", "it names a column that does not exist: title; the columns are genres, year"),
        ("year > 'x'", "its values do not fit together"),
        ("year + 1", "it gives BIGINT, not true or false"),
        ("year > 3; drop table items", "restrict: it is"),
        ("(" * 100 + "year > 3" + ")" * 100, "it is nested too deeply"),
        ("year > 3 or " * 50 + "year > 3", "restrict.condition: String should have at most 500 characters"),
        ("", "restrict.condition: String should have at least 1 character"),
        (3, "restrict.ids: Input should be a valid list"),
    ],
)
def test_what_is_not_a_condition_over_the_filters_is_refused(served: TestClient, restrict: object, said: str) -> None:
    found = served.post("/recommend", json={"restrict": restrict})
    assert found.status_code == 422
    assert said in found.json()["detail"]


def test_without_filters_in_the_file_a_condition_is_refused(client: TestClient) -> None:
    found = client.post("/recommend", json={"restrict": "year > 2000"})
    assert (found.status_code, found.json()["detail"].split(";")[0]) == (422, "restrict: give a list of ids")


def test_a_scene_says_how_long_a_list_is_unless_the_request_does(truth: Truth, served: TestClient) -> None:
    user = next(iter(truth.seen))
    plain = served.get(f"/recommend/{user}").json()
    assert (len(plain["items"]), plain["scene"], plain["variants"]) == (50, None, {})
    for request, size, variant in (
        ({"variants": {"size": "control"}}, 7, "control"),
        ({"variants": {"size": "short"}}, 3, "short"),
        ({}, 1, "one"),
        ({"size": 9}, 9, "one"),
    ):
        found = served.post("/recommend", json={"user_id": user, "scene": "plain", **request}).json()
        assert [row["item_id"] for row in found["items"]] == [row["item_id"] for row in plain["items"]][:size]
        assert (found["scene"], found["variants"]) == ("plain", {"size": variant})
    assert len(served.get(f"/recommend/{user}?scene=plain").json()["items"]) == 1
    assert served.get(f"/recommend/{user}?scene=none").status_code == 422
    assert served.post("/recommend", json={"scene": "plain"}).json()["variants"] == {"size": "control"}


def test_order_ranker_channels_and_diversity_change_the_list(truth: Truth, served: TestClient) -> None:
    def ask(scene: str) -> Answer:
        request = {"user_id": next(iter(truth.seen)), "scene": scene, "variants": {"size": "control"}}
        found: Answer = served.post("/recommend", json={**request, "fields": ["genres"]}).json()
        return found

    scores = [row["score"] for row in ask("merged")["items"]]
    assert scores == sorted(scores, reverse=True)
    assert ask("unranked")["model"] is None
    assert {channel for row in ask("alone")["items"] for channel in row["channels"]} == {"popularity"}
    assert ask("nothing")["items"] == []
    first = ask("plain")["items"][:1]
    for scene in ("vectors", "genres"):
        assert ask(scene)["items"][:1] == first
    assert repeats(ask("genres")) < repeats(ask("merged"))


def repeats(answer: Answer) -> int:
    """Pairs of successive items, among the first ten, that share a genre."""
    rows = [set(row["genres"]) for row in answer["items"][:10]]
    return sum(bool(one & two) for one, two in zip(rows, rows[1:], strict=False))


def test_scenes_are_listed_as_the_file_has_them(served: TestClient, rules: Answer) -> None:
    assert served.get("/scenes").json() == rules


def test_new_items_that_are_no_candidates_are_looked_for(
    truth: Truth, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(engine.funnel.model.sizes, channel=12, candidates=12)
    monkeypatch.setattr(engine.funnel, "model", replace(engine.funnel.model, sizes=few))
    file = tmp_path / "own.scenes.yaml"
    file.write_text("scenes: {old: {size: 10}, new: {size: 10, new_items: {share: 0.3, days: 6}}}", encoding="utf-8")
    service = Service(Opened(7, engine, Book(file, engine.profile)))
    client, counts = TestClient(create_app(service)), {"old": 0, "new": 0}
    for user in list(truth.seen)[:5]:
        for scene in counts:
            listed = client.get(f"/recommend/{user}?scene={scene}").json()["items"]
            counts[scene] += sum(truth.ages[row["item_id"]] <= 6 for row in listed)
    assert counts["old"] < counts["new"] >= 15, counts
