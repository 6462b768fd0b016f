"""The code blocks of all pages: a test runs each, or it is excused; and parsers accept what they hold."""

import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

import click
import pytest
import yaml

from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.command_lines import parse, programs
from recsys_assets_tests.helpers.page_blocks import (
    BLOCKS_EXCUSED,
    BLOCKS_RUN_BY,
    EXCUSED,
    PAGES,
    RUN_BY,
    SHELL,
    Block,
    all_commands,
    blocks,
    commands_of,
)
from recsys_assets_tests.readme import commands

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
    for page, text in PAGES.items():
        shell = re.sub(r"^```sh$", "```", text, flags=re.MULTILINE)
        for line in commands(shell):
            words = BEFORE.sub("", line)
            if words.split(" ")[0] in {*programs(), "python", "make"} and "…" not in words and " -c " not in words:
                found.append((page, [STANDS_FOR.get(word, word) for word in shlex.split(words)]))
    return found


def parts() -> list[tuple[str, str]]:
    """The YAML blocks that are a profile or a part of one, but for those of the page that has tests of its own."""
    found = [(block.page, block.text) for block in blocks("yaml") if block.page != "files.md"]
    return [(page, text) for page, text in found if set(yaml.safe_load(text)) <= FIELDS]


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


def matched(name: str, *tables: dict[str, str]) -> list[str]:
    """The patterns of the tables that are of a command or block."""
    return [pattern for table in tables for pattern in table if re.fullmatch(pattern, name, re.DOTALL)]


def test_every_command_is_run_or_excused_and_no_entry_is_left_over() -> None:
    commands, used = {command for _, command in all_commands()}, set()
    for command in commands:
        found = matched(command, RUN_BY, EXCUSED)
        assert len(found) <= 1, (command, found)
        assert found or re.match(r"recsys |curl '?127\.0\.0\.1:8000/", command), f"nothing runs {command}"
        used.update(found)
    assert used == {*RUN_BY, *EXCUSED}


def test_every_other_block_is_run_or_excused_and_no_entry_is_left_over() -> None:
    used = set()
    for block in blocks():
        if block.language not in SHELL:
            found = matched(block.name, BLOCKS_RUN_BY, BLOCKS_EXCUSED)
            assert len(found) == 1, (block.name, found)
            used.update(found)
    assert used == {*BLOCKS_RUN_BY, *BLOCKS_EXCUSED}


@pytest.mark.parametrize("file", sorted({*RUN_BY.values(), *BLOCKS_RUN_BY.values()}))
def test_the_files_that_run_them_name_them(file: str) -> None:
    text = (PROJECT / "recsys_assets_tests" / file).read_text(encoding="utf-8")
    for pattern in [each for each, where in RUN_BY.items() if where == file]:
        command = next(command for _, command in all_commands() if re.fullmatch(pattern, command, re.DOTALL))
        assert "page_blocks" in text or named(command) in text, (file, command)
    for pattern in [each for each, where in BLOCKS_RUN_BY.items() if where == file]:
        block = next(block for block in blocks() if re.fullmatch(pattern, block.name))
        assert block.page in text or "page_blocks" in text or '"docs"' in text, (file, block.name)


def named(command: str) -> str:
    """The word by which a test must name a command."""
    words = [word for word in shlex.split(command) if word not in ("recsys", "make", "python", "-m")]
    return words[0].rpartition(".")[2]


@pytest.mark.parametrize("block", blocks(*SHELL), ids=lambda block: block.name[:60])
def test_a_shell_reads_every_block_of_commands(block: Block) -> None:
    script = "\n".join(commands_of(block.text))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
