"""Files of scenes: each fault is named with its line and key, and a changed file is taken whole or not at all."""

import re
from pathlib import Path

import pytest

from recsys_assets.datasets.profile import bundled_profiles, load_profile
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.scenes.file import ScenesError, read_scenes, scenes_path
from recsys_assets.settings import settings
from recsys_assets_tests.conftest import PROJECT

LAYER = "layers:\n  x:\n    keys: [size]\n    variants:\n      {}"


def page_example() -> str:
    """The example of docs/scenes.md."""
    text = (PROJECT / "docs" / "scenes.md").read_text(encoding="utf-8")
    return next(re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL))[1]


def test_the_example_of_the_page_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "sample.scenes.yaml"
    file.write_text(page_example(), encoding="utf-8")
    rules = read_scenes(file, load_profile("sample"))
    assert set(rules.scenes) == {"default", "home"}
    assert set(rules.layers) == {"recall", "order"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "is not a mapping of keys to values"),
        ("scene: {}", ", line 1: scene: is not a key that files of scenes have here"),
        ("scenes: {Home: {}}", "scenes.Home: String should match pattern"),
        ("filters: [prize]", "filters.0: 'prize' is not a column of items that can be used here: these are item_id"),
        ("scenes:\n  home: {size: 201}", ", line 2: scenes.home.size: Input should be less than or equal to 200"),
        ("scenes:\n  home:\n    filter: year >", ", line 3: scenes.home.filter: it is not one SQL expression"),
        (
            "scenes: {home: {filter: years > 3}}",
            "it names a column that does not exist: years; the columns are item_id",
        ),
        ("scenes: {home: {filter: year + 3}}", "it gives BIGINT, not true or false"),
        ("scenes: {home: {filter: \"'a' in year\"}}", "its values do not fit together"),
        ("scenes: {home: {filter: \"read_text('/etc/passwd') = 'x'\"}}", "it uses what is not allowed"),
        ("scenes: {home: {blocked: [x]}}", "scenes.home.blocked: 'x' is not an id of an item, which is a whole number"),
        ("scenes: {home: {blocked: [3], pinned: [{item: 3, place: 1}]}}", "3 is pinned and blocked"),
        ("scenes: {home: {pinned: [{item: 3, place: 1}, {item: 3, place: 2}]}}", "item 3 is named 2 times: keep one"),
        ("scenes: {home: {pinned: [{item: 3, place: 1}, {item: 4, place: 1}]}}", "place 1 is named 2 times: keep one"),
        ("scenes: {home: {pinned: [{item: 3}]}}", "scenes.home.pinned.0.place: Field required"),
        ("scenes: {home: {channels: {dsm: 1}}}", "channels.dsm: is not a channel: did you mean dssm? the channels are"),
        ("scenes: {home: {channels: {dssm: -1}}}", "channels.dssm: Input should be greater than or equal to 0"),
        ("scenes: {home: {diversity: {lambda: 2, column: year}}}", "lambda: Input should be less than or equal to 1"),
        ("scenes: {home: {diversity: {}}}", "needs either column, a column of items, or vectors, a two-tower model"),
        ("scenes: {home: {diversity: {column: genre}}}", "'genre' is not a column of items that can be used here: did"),
        ("scenes: {home: {diversity: {vectors: itemcf}}}", "'itemcf' is not a two-tower model: one of"),
        ("scenes: {home: {at_most: [{column: x, window: 3}]}}", "at_most.0.column: 'x' is not a column of items"),
        ("scenes: {home: {at_most: [{column: year, count: 4, window: 3}]}}", "count 4 is above window 3"),
        ("scenes: {home: {new_items: {share: 1.5, days: 3}}}", "new_items.share: Input should be less than"),
        ("scenes: {home: {ranker: lgb}}", "scenes.home.ranker: 'lgb' is no ranking model: did you mean lgbm? one of"),
        ("scenes: {home: {ranker: lgbm/today}}", "scenes.home.ranker: String should match pattern"),
        (LAYER.format("a: {share: 0.6}\n      b: {share: 0.6}"), "their shares sum to 1.2: at most 1"),
        (LAYER.format("control: {share: 0.6}"), "is the name of those without a variant: choose another"),
        (LAYER.format("a: {share: 0.6, order: merged}"), "line 5: layers.x.variants.a.order: is not among the layer's"),
        (LAYER.format("a: {share: 0.6, blocked: [1]}"), "a.blocked: is not a key that files of scenes have here"),
        (LAYER.format("a: {size: 3}"), "layers.x.variants.a.share: Field required"),
        (LAYER.format("a: {share: 1}").replace("size", "filter"), "no experiment may change 'filter': one of size"),
        (
            LAYER.format("a: {share: 1}") + "\n  y: {keys: [size], variants: {a: {share: 1}}}",
            "layers: x and y change the same key, size: a key belongs to one layer",
        ),
    ],
)
def test_a_fault_is_named_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "own.scenes.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ScenesError) as error:
        read_scenes(file, load_profile("sample"))
    assert str(error.value).startswith(f"{file}")
    assert said in str(error.value)


def test_a_changed_file_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    file, said = tmp_path / "own.scenes.yaml", list[str]()
    book = Book(file, load_profile("sample"), said.append)
    assert not book.rules.scenes
    for text, there in (("{a: {}}", {"a"}), ("{b: {}, c: {size: x}}", {"a"}), ("{b: {}}", {"b"})):
        file.write_text(f"scenes: {text}", encoding="utf-8")
        for _ in range(2):
            book.look(None)
        assert set(book.rules.scenes) == there
    file.unlink()
    book.look(None)
    assert set(book.rules.scenes) == {"b"}
    assert said[0] == f"the rules of {file} hold now"
    assert "the rules before stay" in said[1]
    assert "scenes.c.size" in said[1]
    assert len(said) == 4


def test_a_faulty_file_stops_a_service_that_starts(tmp_path: Path) -> None:
    file = tmp_path / "own.scenes.yaml"
    file.write_text("scenes: []", encoding="utf-8")
    with pytest.raises(ScenesError, match="scenes: Input should be a valid dictionary"):
        Book(file, load_profile("sample"), print)


def test_the_file_is_next_to_the_profile_unless_the_environment_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_SCENES", raising=False)
    assert scenes_path(settings(), "sample") == bundled_profiles()["sample"].with_name("sample.scenes.yaml")
    assert "sample.scenes" not in bundled_profiles()
    monkeypatch.setenv("RECSYS_SCENES", "/etc/mine.yaml")
    assert scenes_path(settings(), "sample") == Path("/etc/mine.yaml")
