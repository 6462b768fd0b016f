"""Runs some lines of the README in a new shell; `python -m recsys_assets_tests.readme` types all of them."""

import shutil
from pathlib import Path

import pytest

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.readme import commands, copy_checkout, documents, run, typed

README = commands(documents(PROJECT))
# Commands that finish within seconds on a small log.
QUICK = {"zsh": [". ./activate", "recsys land sample", "recsys bizdate", ". ./activate"]}
QUICK["bash"] = [*QUICK["zsh"], "make ui"]


def test_the_commands_of_a_text_are_found_in_their_order() -> None:
    text = (
        "Say `make one`, or `a word`.\n```\nrecsys two  # why\n\npython three \\\n    --four\ndata/five\n```\n"
        "```mermaid\nsix --> seven\n```\n| `dg eight` | `recsys nine …` | `X= dagster ten 'a b'` |\n"
    )
    assert commands(text) == ["make one", "recsys two", "python three --four", "dg eight", "X= dagster ten 'a b'"]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_lines_of_the_readme_work_in_one_shell(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    lines = QUICK[shell]
    assert set(lines) <= set(README)
    copy_checkout(tmp_path / "checkout")
    outcomes = run(tmp_path / "checkout", shell, [typed(line) for line in lines])
    assert [each for each in outcomes if each.status != 0] == []
    assert outcomes[3].said.startswith("recsys_assets: profile sample, bizdate ")
