"""Runs the commands of the README and of `docs/` in order in one shell.

Usage: `python -m recsys_assets_tests.readme FOLDER bash [FIRST]`.

The shell works on small data in a copy of the checkout at FOLDER, which is created if it does not exist. FIRST is typed
before the first line, `. ./activate` for example. A command that runs until Ctrl-C is stopped when its pages answer.
"""

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers import taobao
from recsys_assets_tests.helpers.dagster_dev import free_port

PAGES = ["README.md", *(f"docs/{name}.md" for name in ("daily", "models", "stores", "datasets", "torcheasyrec"))]
SMALL = "--users 200 --items 150 --events 12000 --days 12"
STOPPED = f"{sys.executable} -m recsys_assets_tests.readme until-up"
# Replacements for lines that are too large, need the network or hold a placeholder; other lines are typed unchanged.
INSTEAD = {
    r"^make ui$": f"{STOPPED} make ui",
    r"^(dagster|dg) dev$": rf"{STOPPED} \1 dev -p $DAGSTER_PORT",
    r"^recsys serve$": f"{STOPPED} recsys serve --port $SERVE_PORT",
    # names in sentences, and what needs a setting
    r"^recsys (materialize|rollback --all|backfill|clean|backup|restore)( /.*)?$": r"recsys \1 --help",
    r"^recsys (demo|ui|feast serve)$": r"recsys \1 --help",
    r"^RECSYS_PROFILE=movielens-1m \. \./activate$": r"\g<0> && RECSYS_PROFILE=sample . ./activate",
    r"^recsys land sample$": f"recsys land sample {SMALL}",
    r"--events 1000000 --days 60": SMALL,
    r"^recsys land movielens-1m$": "recsys land movielens-1m --source ml-1m",
    r"'interactions\+'": "interactions",  # the lines before have built everything downstream
    r"^recsys backfill .*--from.*$": "recsys backfill splits --from 2026-11-19 --to 2026-11-19 --dry-run",
    r"^make test$": "make test PYTEST_ARGS='-k comparison'",
    r"-k splits": "-k floors",
    r"2026-11-19|\bD$": "$(date -u -d '3 days ago' +%F)",
    r"A\.\.\.B": "$(date -u -d '5 days ago' +%F)...$(date -u -d '4 days ago' +%F)",
    r"\bUSER$": "$(python -m recsys_assets_tests.readme a-user)",
}
COMMAND = re.compile(r"(\w+=\S* )*(\. \./activate|(recsys|dagster|dg|python|make) [^…]+)")


@dataclass(frozen=True)
class Outcome:
    """The result of a line."""

    line: str
    status: int
    seconds: float
    said: str


def commands(text: str) -> list[str]:
    """The lines of code blocks and the commands within sentences and tables, in the order of the text."""
    found: list[str] = []
    fence = None
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = line if fence is None else None
        elif fence is None:
            found += [span for span in re.findall(r"`([^`]+)`", line) if COMMAND.fullmatch(span)]
        elif fence == "```":  # a block with a language does not hold shell commands
            found.append(re.sub(r"\s+#\s.*", "", line).strip())
    return [" ".join(line.split()) for line in found if line and not line.startswith("data/")]


def documents(folder: Path) -> str:
    """The text of all pages that a user follows, in the order in which the README names them."""
    return "\n".join((folder / page).read_text(encoding="utf-8") for page in PAGES)


def typed(line: str) -> str:
    """The line with its replacements."""
    for pattern, instead in INSTEAD.items():
        line = re.sub(pattern, instead, line)
    return line


def copy_checkout(folder: Path) -> None:
    """Copy the checkout, link its installed environment, and write the files that the lines name."""
    made = shutil.ignore_patterns(".git", ".venv", ".dagster", "__pycache__", ".*_cache", "build", "dist")

    def left(place: str, names: list[str]) -> set[str]:
        return made(place, names) | ({"data"} if Path(place) == PROJECT else set())

    shutil.copytree(PROJECT, folder, ignore=left)
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    for file in ("pyproject.toml", "constraints.txt"):
        os.utime(folder / file, (0, 0))  # make would install into the environment again
    subprocess.run(["git", "init", "-q", str(folder)], check=True)  # for pre-commit
    chance = random.Random(20261128)
    _write_movielens(folder / "ml-1m", chance)
    with (folder / "train.txt").open("w") as criteo:
        for _ in range(700):
            numbers = [str(chance.randrange(20)) for _ in range(13)]
            values = [f"{chance.randrange(9):08x}" for _ in range(26)]
            criteo.write("\t".join([str(chance.randrange(2)), *numbers, *values]) + "\n")
    taobao.write_tables(folder / "data")
    (folder / "dssm_taobao_local.config").write_text(yaml.safe_dump(taobao.pipeline()))


def _write_movielens(folder: Path, chance: random.Random) -> None:
    """Write ratings of sixty users and eighty films on twenty days, in MovieLens 1M's files."""
    start, genres = 956_707_200, ["Comedy", "Drama", "Thriller", "Action"]  # 2000-04-26, the data set's second day
    ratings = [
        f"{user}::{item}::{chance.randint(1, 5)}::{start + chance.randrange(20 * 86_400)}\n"
        for user in range(1, 61)
        for item in chance.sample(range(1, 81), 60)
    ]
    users = [f"{user}::{chance.choice('FM')}::25::{user % 20}::48067\n" for user in range(1, 61)]
    films = [f"{item}::Film {item} ({1950 + item % 50})::{chance.choice(genres)}\n" for item in range(1, 81)]
    folder.mkdir()
    for name, lines in {"ratings.dat": ratings, "users.dat": users, "movies.dat": films}.items():
        (folder / name).write_text("".join(lines))


def run(folder: Path, shell: str, lines: Sequence[str]) -> list[Outcome]:
    """Type the lines into one shell; returns the result of each."""
    script = "".join(
        f"{{ {line}; }} >.said.{n} 2>&1 </dev/null; echo {n} $? $SECONDS\n" for n, line in enumerate(lines)
    )
    told = subprocess.run(
        [shell, "-c", script], cwd=folder, env=_clean(folder), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()
    found, before = [], 0
    for line, (number, status, seconds) in zip(lines, map(str.split, told), strict=True):
        said = (folder / f".said.{number}").read_text(encoding="utf-8", errors="replace").strip()
        found.append(Outcome(line, int(status), int(seconds) - before, said))
        before = int(seconds)
    return found


def _clean(folder: Path) -> dict[str, str]:
    """The environment of a newly opened terminal; the code is that of the copy."""
    ours = ("RECSYS_", "DAGSTER_", "MLFLOW_", "MONGO_URI", "VIRTUAL_ENV", "PYTEST_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    paths = [place for place in kept["PATH"].split(os.pathsep) if ".venv" not in place]
    ports = {each: str(free_port()) for each in ("SERVE_PORT", "DAGSTER_PORT", "MLFLOW_PORT")}
    return {**kept, **ports, "PATH": os.pathsep.join(paths), "PYTHONPATH": str(folder)}


def until_up(words: Sequence[str]) -> None:
    """Run a command until its pages answer, then press Ctrl-C."""
    lists, dagster, mlflow = (os.environ[each] for each in ("SERVE_PORT", "DAGSTER_PORT", "MLFLOW_PORT"))
    pages = [f"http://127.0.0.1:{dagster}/server_info"]
    if words[0] == "make":
        pages.append(f"http://127.0.0.1:{mlflow}/health")
    if words[0] == "recsys":
        pages = [f"http://127.0.0.1:{lists}/health/ready"]
    started = subprocess.Popen(words, start_new_session=True)
    while not all(map(_answers, pages)):
        if started.poll() is not None:
            sys.exit(f"{shlex.join(words)} ended with status {started.returncode} before its pages answered")
        time.sleep(1)
    os.killpg(started.pid, signal.SIGTERM)  # background commands of a shell ignore SIGINT
    started.wait(120)


def first_user() -> int:
    """The lowest id of a user in the landed sample of the current folder."""
    import duckdb

    files = "data/landing/sample/interactions/*/*.parquet"
    return int(duckdb.connect().execute(f"SELECT min(user_id) FROM '{files}'").fetchall()[0][0])


def _answers(page: str) -> bool:
    try:
        return requests.get(page, timeout=5).ok
    except requests.RequestException:
        return False


def main() -> None:
    """Type all lines and print their results."""
    if sys.argv[1] == "until-up":
        until_up(sys.argv[2:])
        return
    if sys.argv[1] == "a-user":
        print(first_user())  # noqa: T201
        return
    folder, shell, first = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3:]
    if not folder.exists():
        copy_checkout(folder)
        small = f"{PROJECT}/.venv/bin/recsys land sample {SMALL}"  # so that `make demo` is small
        first = [small, *first]
    outcomes = run(folder, shell, [*first, *map(typed, commands((folder / "README.md").read_text(encoding="utf-8")))])
    for each in outcomes:
        last = each.said.rpartition("\n")[2] if each.status else ""
        print(f"{'ok  ' if each.status == 0 else 'FAIL'} {each.seconds:5.0f} s  {each.line}  {last}")  # noqa: T201
    sys.exit(any(each.status for each in outcomes))


if __name__ == "__main__":
    main()
