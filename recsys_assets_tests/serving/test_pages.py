"""The requests and commands of the pages on the served world: curl really asks, and `recsys` runs in this process."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from recsys_assets import definitions
from recsys_assets.cli import main
from recsys_assets.cli.selection import select
from recsys_assets.definitions import build_defs
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.fresh.opening import open_fresh, open_layer
from recsys_assets.serving.request_log import RequestLog
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.told import open_told
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.fresh_world import fresh_engine
from recsys_assets_tests.helpers.page_blocks import (
    SHELL,
    Block,
    all_commands,
    answers_of,
    blocks,
    commands_of,
    only_block,
    typed_commands,
)
from recsys_assets_tests.helpers.served import serving
from recsys_assets_tests.helpers.worlds import DAY, World
from recsys_assets_tests.serving.running import release

ADDRESS, FIRST, SCENES = "127.0.0.1:8000", "2026-03-24", "tail.scenes.yaml"
COMMANDS = [command for command in typed_commands() if not command.startswith("curl ")]
REQUESTS = [block for block in blocks(*SHELL) if set(commands_of(block.text)) & set(typed_commands("curl "))]
BODIES = [block for block in blocks("json") if block.page in ("serving.md", "scenes.md")]


@dataclass
class Place:
    """A service of the world, in a folder with its data, and what is typed there."""

    engine: Engine
    address: str
    number: int

    def here(self, text: str) -> str:
        """A text of the pages with the user, item, days, release and address of this world."""
        log = self.engine.log
        words = {
            **{"42": log.user_ids[0], "USER": log.user_ids[0], "17": log.item_ids[0], "serving/sample": "serving/tail"},
            **{"2026-01-01": FIRST, "2026-01-31": DAY, "--release 3": f"--release {self.number}"},
            **{f"http://{ADDRESS}": self.address, ADDRESS: self.address, "/backups": "backups"},
        }
        known = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        return re.sub(rf"(?<![\w.-])({known})(?![\w-])", lambda found: str(words[found[1]]), text)

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request for a list."""
        answer = httpx.post(f"{self.address}/recommend", json=body, timeout=60)
        assert answer.status_code == httpx.codes.OK, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pages")
    with fresh_engine(world, tmp_path_factory) as engine, contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("DAGSTER_HOME", str(folder))
        patch.setenv("RECSYS_SCENES", str(folder / SCENES))
        patch.chdir(folder)
        shutil.copy(PROJECT / "dagster.yaml", folder)
        Path("data").symlink_to(os.environ["RECSYS_DATA"])
        log, number = RequestLog(Path("data/serving/tail/requests"), print), release()
        service = stack.enter_context(served(engine, number))
        place = Place(engine, stack.enter_context(serving(service, log=log)), number)
        place.ask({"user_id": int(engine.log.user_ids[0])})
        log.close()  # its file is whole then; later answers are not kept
        yield place


@contextlib.contextmanager
def served(engine: Engine, number: int) -> Iterator[Service]:
    """A service with the scenes of their page, which takes events and fresh rows."""
    Path(SCENES).write_text(only_block("scenes.md", "scenes:"), encoding="utf-8")
    layer, profile = open_layer(engine), engine.profile
    assert layer
    with open_fresh(profile, layer) as fresh, open_told(profile) as told:
        yield Service(Opened(number, engine, Book(Path(SCENES), profile)), told, None, fresh)


def curl(command: str) -> Any:
    """The answer to a request, which must not be a refusal."""
    words = [*shlex.split(command), "--silent", "--show-error", "--fail-with-body"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("block", REQUESTS, ids=lambda block: block.name[:60])
def test_requests_are_answered_as_their_page_shows(place: Place, block: Block) -> None:
    answers = [curl(place.here(each)) for each in commands_of(block.text) if each in typed_commands("curl ")]
    shown = [json.loads(place.here(each)) for each in answers_of(block.text)]
    assert answers[: len(shown)] == shown
    assert all([] not in answer.values() for answer in answers[len(shown) :])


@pytest.mark.parametrize("block", BODIES, ids=lambda block: block.name[:60])
def test_a_body_is_answered_as_its_page_says(place: Place, block: Block) -> None:
    body = json.loads(place.here(block.text))
    user = {"user_id": int(place.engine.log.user_ids[0])}
    answer = place.ask(user | {name: said for name, said in body.items() if name != "served_by"})
    same = {"user_id", "scene", "served_by", "left_out"} & body.keys()
    assert {name: answer[name] for name in same} == {name: body[name] for name in same}


@pytest.mark.parametrize("more", [{"scene": "home"}, {"context": {"device": "ios"}}], ids=["scene", "context"])
def test_what_the_data_set_lacks_is_refused_as_the_page_says(client: TestClient, more: dict[str, Any]) -> None:
    refused = client.post("/recommend", json={"user_id": 42, **more})
    assert refused.status_code == httpx.codes.UNPROCESSABLE_ENTITY
    assert refused.json()["detail"].startswith(next(iter(more)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_succeeds(place: Place, command: str) -> None:
    words = shlex.split(place.here(command))
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0, done.output
    if words[1] == "replay" and "--release" not in words:
        assert "1 of 1 answers are the same" in done.output


def test_the_statement_reads_the_request_log(place: Place) -> None:
    found = duckdb.connect().execute(place.here(only_block("request_log.md", "SELECT"))).fetchall()
    listed = place.ask({"user_id": int(place.engine.log.user_ids[0])})["items"]
    assert len(found) == len(listed) > 10


def test_every_selection_and_the_drawing_of_the_graph_name_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_PROFILE", "sample")
    monkeypatch.setenv("RECSYS_FEAST_URI", "data/feast")
    monkeypatch.setenv("RECSYS_TRITON_URI", "http://127.0.0.1:8500")
    monkeypatch.setattr(definitions, "defs", build_defs())
    said = [shlex.split(command) for _, command in all_commands() if " materialize " in command]
    expressions = {words[words.index("materialize") + 1] for words in said if words[0] == "recsys"}
    assert len(expressions) > 10
    drawn = re.findall(r"\b[a-z0-9]+_\w+\b(?!…)", only_block("README.md", "flowchart"))
    assert len(drawn) > 30
    assert all(map(select, {*expressions, *drawn}))
