"""The code blocks of the README and of `docs/`, and the commands in their shell blocks and sentences."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.readme import COMMAND

# Commands of the pages that other tests run, with the file that these are in. `serving/test_pages.py` types everything
# else, but for what is in `EXCUSED`.
RUN_BY = {
    r"(RECSYS_PROFILE=\S+ )?\. \./activate": "cli/test_cli.py",
    r"make ui": "test_readme.py",
    r"make docs": "test_docs.py",
    r"python -c .*|export RECSYS_PROFILE=mine.yaml": "datasets/test_first_steps.py",
    r"recsys (init log.csv|land mine|check).*": "datasets/test_first_steps.py",
    r"recsys land shop.yaml --source log.csv --items-file .*": "datasets/test_first_steps.py",
    r"curl .*\bi3\b.*|curl .*/u7\b.*": "datasets/test_first_steps.py",
    r"recsys land shop.yaml --source (train|valid|test).csv": "datasets/test_landed_parts.py",
    r"recsys land shop.yaml --source (sqlite|'export|log.csv --users-file).*": "datasets/test_files_page.py",
    r"recsys land shop.yaml --source postgresql:.*": "datasets/test_log_postgres.py",
    r"recsys (--profile \S+ )?materialize .+": "serving/test_pages.py",  # its selection
    r"recsys (show \w+|report( \S+ \S+[0-9])?)": "assets/test_daily_job.py",
    r"recsys backfill .*(--missing|'\+rank_report')": "cli/test_backfill.py",
    r"recsys restore .*": "cli/test_backup.py",
    r"recsys refresh": "test_lineage.py",
    r"recsys doctor": "cli/test_cli.py",
    r"recsys rollback .*": "cli/test_published.py",
    r"recsys forget USER --yes": "forget/test_forget.py",
    r"recsys verify.*": "verify/test_verify.py",
    r"recsys serve( --processes N)?": "serving/test_processes.py",
    r"recsys_as(\(\).*| doctor| land sample| backup .*)": "test_deploy.py",
    r"recsys deploy \w+ items.*|curl 127.0.0.1:8100/.*": "serving/test_deployed.py",
    r"recsys stream spark items": "serving/test_stream.py",
    r"curl .*:6566/.*|export RECSYS_FEAST_URI=.*|recsys feast serve|RECSYS_SERVE_FEAST=.*": "serving/test_feast.py",
    r"mlflow models serve .*|export MLFLOW_TRACKING_URI=.*|curl .*/invocations .*": "assets/test_mlflow_model.py",
    r"python -m recsys_assets\.tzrec\..*": "tzrec/test_tutorial.py",
    r"python -m recsys_assets\.training( --help)?": "training/test_processes.py",
    r"(\w+= )?(dagster asset materialize|dg launch) .*|dagster asset list|dg list defs": "cli/test_cli.py",
    r"dagster sensor start new_data_sensor": "ui/test_ui.py",
}
# Commands that no test can run, with the reason.
EXCUSED = {
    r"recsys (show|materialize|recommend|init|clean|land|restore|backfill|backup|rollback|replay|deploy create)": (
        "names in sentences, without what they need"
    ),
    r"make (demo|setup|format|test.*)": "they install, build, test or write the whole project: minutes",
    r"recsys (demo|ui)": "the same without a checkout",
    r"\.venv/bin/pre-commit install": "it writes into the checkout's own .git",
    r"pip install .*": "it downloads packages",
    r"(sudo|cd /opt|docker|export POSTGRES_PASSWORD=).*": "they need root, systemd or Docker",
    r"recsys_as (materialize|restore) .*": "minutes, and a machine that is empty",
    r"export RECSYS_ENGINE=.*": "Spark is no part of `dev`: `make test-engines` sets it, with a server of its own",
    r"recsys triton .*|.*RECSYS_TRITON_URI=.*": "Triton has an environment of its own: `make test-engines`",
    r"recsys land (movielens-1m|criteo .*|sample .*|sample)": "they download, or land more rows than a test needs",
    r"recsys report \S+ --build": "a run of Dagster: 20 seconds",
    r"recsys init ratings.csv .*": "it needs MovieLens's files",
    r"python (benchmarks/|-m recsys_assets_tests\.).*": "they measure for minutes",
    r"(dagster|dg) dev|dagster instance migrate|dagster api .*": "servers, and what changes a server's database",
    r"dagster schedule start daily_schedule": "like `dagster sensor start`, which is run",
}

# The blocks of other languages than a shell's, by page, language and first line, and the file that runs or loads them.
BLOCKS_RUN_BY = {
    r"README.md mermaid: .*": "serving/test_pages.py",
    r"(scenes|serving).md json: .*|request_log.md sql: .*": "serving/test_pages.py",
    r"serving.md python: .*": "serving/test_client.py",
    r"scenes.md yaml: .*": "serving/test_scenes_file.py",
    r"fresh.md sql: .*": "stores/test_postgres.py",
    r"cold_start.md json: .*": "coldstart/test_template.py",
    r"columns.md yaml: name: shop": "assets/test_log_alone.py",
    r"columns.md yaml: name: app": "features/test_moments.py",
    r"implicit.md yaml: .*": "assets/test_implicit.py",
    r"sessions.md yaml: name: visits": "assets/test_sessions.py",
    r"sessions.md yaml: name: shelf": "assets/test_impressions.py",
    r"files.md (csv|json|yaml: files): .*|files.md yaml: files:": "datasets/test_files_page.py",
    r"files.md yaml: landing: .*": "datasets/test_landing_store.py",
    r"datasets.md yaml: split: {strategy: given, parts: .*": "datasets/test_landed_parts.py",
    r"datasets.md yaml: split: {strategy: successive, .*": "assets/test_successive.py",
    r"datasets.md yaml: split: {strategy: (given, column|random|by_day).*": "test_docs_blocks.py",
    r"(columns|daily|fresh|models).md yaml: (tables|daily|fresh|refit|warm_start):.*": "test_docs_blocks.py",
    r"torcheasyrec.md yaml: .*": "helpers/taobao.py",  # of which `tzrec/test_tutorial.py` runs the training
    r"index.md {toctree}: .*": "test_docs.py",
}
BLOCKS_EXCUSED = {r"\S+ text: .*": "a listing of files, which nothing reads"}

PAGES = {
    page.name: page.read_text(encoding="utf-8")
    for page in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
}
SHELL = ("", "sh")


@dataclass(frozen=True)
class Block:
    """A code block: the page that it is on, its language (none: a shell's lines) and its text."""

    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """A name for tests and their messages: page, language and first line."""
        return f"{self.page} {self.language or 'sh'}: {self.text.strip().splitlines()[0]}"


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages, of some languages if these are named."""
    found = [
        Block(page, language, text)
        for page, content in PAGES.items()
        for language, text in re.findall(r"^```(\S*)\n(.*?)^```$", content, re.DOTALL | re.MULTILINE)
    ]
    return [block for block in found if not languages or block.language in languages]


def only_block(page: str, part: str) -> str:
    """The text of the one block of a page that holds a part."""
    (found,) = [block.text for block in blocks() if block.page == page and part in block.text]
    return found


def commands_of(text: str) -> list[str]:
    """The commands of a shell block, without comments and the answers that it shows; one may have several lines."""
    found, begun = list[str](), ""
    for line in text.splitlines():
        begun += re.sub(r"\s+#\s.*", "", line)
        if _is_whole(begun):
            found.append(begun)
            begun = ""
        else:
            begun = begun.removesuffix("\\") if begun.endswith("\\") else f"{begun}\n"
    assert not begun, f"a command does not end: {begun}"
    return [command.strip() for command in found if command.strip() and not command.startswith("{")]


def answers_of(text: str) -> list[str]:
    """The lines of a shell block that show an answer in JSON."""
    return [line for line in text.splitlines() if line.startswith("{")]


def _is_whole(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:  # a quotation or an escape goes on in the next line
        return False
    return not command.endswith("\\")


def all_commands() -> list[tuple[str, str]]:
    """The commands of shell blocks and, without an ellipsis, of sentences and tables; each with its page."""
    found = [(block.page, command) for block in blocks(*SHELL) for command in commands_of(block.text)]
    return [*found, *_in_sentences()]


def _in_sentences() -> Iterator[tuple[str, str]]:
    for page, content in PAGES.items():
        prose = re.sub(r"^```.*?^```$", "", content, flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`([^`\n]+)`", prose):
            if COMMAND.fullmatch(span):
                yield page, span


def typed_commands(begin: str = "") -> list[str]:
    """The commands that `serving/test_pages.py` types: all that no other test runs and nothing excuses."""
    elsewhere = re.compile("|".join(f"(?:{pattern})" for pattern in [*RUN_BY, *EXCUSED]), re.DOTALL)
    found = dict.fromkeys(command for _, command in all_commands() if not elsewhere.fullmatch(command))
    return [command for command in found if command.startswith(begin)]
