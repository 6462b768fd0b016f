"""The language of the project: habits that make a newcomer read a sentence twice."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_assets_tests.conftest import PROJECT

HABITS = {
    r"(^|[.;:] )[Oo]f (each|every) \w+(,| the| its| his)": "say: the Y of each X",
    r"\ba row a (version|day|user|item)\b": "say: one row per …",
    r"\bbeside\b": "say: next to, compared with, as well as",
    r"\b[Mm]end(s|ed|ing)?\b": "say: fix",
    r"\banew\b": "say: again",
    r"\bof late\b": "say: recently",
    r"\b(stands|stand|lies|lie) (in|at|beside|behind)\b": "say: is in",
    r"(?<![Tt]here )\b(is|are) no (number|text|list|integer|file|folder|pattern|change)\b": "say: is not a …",
    r"\bwould else\b": "say: would otherwise",
    r"\bwho (is|was|are) killed\b": "say: a process that is killed",
    r"^What ": "begin with a verb or a noun",
    r"\b(heed|heeds|deaf)\b": "say: respects, ignores",
}
TEXTS = sorted(
    path
    for place in ("recsys_assets", "recsys_assets_tests", "benchmarks", "deploy", "docs", "README.md", "data/README.md")
    for path in ((PROJECT / place).rglob("*") if (PROJECT / place).is_dir() else [PROJECT / place])
    if path.suffix in (".py", ".md", ".sql", ".yaml") and path != Path(__file__)
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_no_sentence_has_to_be_read_twice(path: Path) -> None:
    found = [
        f"line {line}: {match.group()!r}: {advice}"
        for line, text in passages(path)
        for habit, advice in HABITS.items()
        for match in [re.search(habit, text)]
        if match
    ]
    assert found == []


def passages(path: Path) -> Iterator[tuple[int, str]]:
    """Each line that people read, with its number: of a Python file the comments and strings, else all."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(content.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                yield number, line.strip().lstrip("#rbf").strip("\"' ")


def test_a_habit_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text('beside = 1\n"""What it is: of each user the rows are kept anew."""\n', encoding="utf-8")
    (line,) = [text for _, text in passages(file)]
    assert [habit for habit in HABITS if re.search(habit, line)] == [
        r"(^|[.;:] )[Oo]f (each|every) \w+(,| the| its| his)",
        r"\banew\b",
        r"^What ",
    ]
