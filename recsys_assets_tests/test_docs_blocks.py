"""The code blocks of all pages are accepted by what reads them: parsers of commands, profiles, Python and JSON."""

import json
import re
import shlex
from contextlib import suppress
from pathlib import Path

import click
import pytest
import yaml

from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.command_lines import parse, programs
from recsys_assets_tests.readme import commands

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
FIELDS = set(Profile.model_fields)
TARGETS = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
# A profile whose tables have the columns that parts of profiles speak of.
SHOP = """
name: shop
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/shop
tables:
  interactions: {user_id: int64, item_id: int64, timestamp: timestamp, bought: bool, fold: int64}
  items: {item_id: int64, author_id: int64, category: string, author_level: int64, author_days: int64,
          click_rate: float32}
label: bought
split: {strategy: leave_last_n}
"""
# Words for placeholders of the pages, and for files of their readers.
STANDS_FOR = {
    **{"D": "2026-11-19", "N": "2", "deploy.yaml": str(PROJECT / "workspace.yaml")},
    **{"/backups/monday": str(PROJECT / "docs"), "data/serving/sample/requests": str(PROJECT / "docs")},
}
BEFORE = re.compile(r"^((\w+=\S*|sudo|-u \w+) )*(\.venv/bin/)?")


def lines() -> list[tuple[str, list[str]]]:
    """The words of all commands of our programs, with the page that they stand on."""
    found = []
    for page, text in TEXTS.items():
        shell = re.sub(r"^```sh$", "```", text, flags=re.MULTILINE)
        for line in commands(shell):
            words = BEFORE.sub("", line)
            if words.split(" ")[0] in {*programs(), "python", "make"} and "…" not in words and " -c " not in words:
                found.append((page, [STANDS_FOR.get(word, word) for word in shlex.split(words)]))
    return found


def blocks(language: str) -> list[tuple[str, str]]:
    """The blocks of a language, with the page that they stand on."""
    return [(page, block) for page, text in TEXTS.items() for block in _of(text, language)]


def _of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def parts() -> list[tuple[str, str]]:
    """The YAML blocks that are a profile or a part of one, but for those of the page that has tests of its own."""
    found = [(page, block) for page, block in blocks("yaml") if page != "files.md"]
    return [(page, block) for page, block in found if set(yaml.safe_load(block)) <= FIELDS]


def test_every_command_of_a_page_is_one_that_its_program_accepts() -> None:
    found = lines()
    assert len(found) > 100
    for page, (program, *arguments) in found:
        if program == "make":
            assert arguments[0] in TARGETS, page
        else:
            with suppress(click.MissingParameter):  # a sentence may name a command without its arguments
                parse([program, *arguments])


@pytest.mark.parametrize(("page", "block"), parts())
def test_every_part_of_a_profile_is_read(page: str, block: str, tmp_path: Path) -> None:
    part = yaml.safe_load(block)
    content = part if "name" in part else {**yaml.safe_load(SHOP), **part}
    if "name" not in part and "tables" in part:  # columns of a table
        content["tables"] = {**yaml.safe_load(SHOP)["tables"], "items": {"item_id": "int64", **part["tables"]["items"]}}
    if content["split"]["strategy"] == "random":  # for rows without users and items
        content["tables"] = {"interactions": {"age": "int64", "bought": "bool"}}
        content["features"] = {"numeric": ["age"]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    assert load_profile(str(tmp_path / "own.yaml")), page


@pytest.mark.parametrize(("page", "block"), blocks("json"))
def test_every_json_block_is_json(page: str, block: str) -> None:
    try:
        json.loads(block)
    except json.JSONDecodeError:
        assert [json.loads(line) for line in block.splitlines()], page


@pytest.mark.parametrize(("page", "block"), blocks("python"))
def test_every_python_block_is_python(page: str, block: str) -> None:
    compile(block, page, "exec")
