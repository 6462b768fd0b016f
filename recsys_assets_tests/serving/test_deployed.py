"""Deployed towers: created, updated and rolled back by commands, on a service that really runs."""

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import psutil
import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.features.raw import INPUTS, raw_columns, read_inputs
from recsys_assets.serving.background import Background
from recsys_assets_tests.helpers.dagster_dev import free_port
from recsys_assets_tests.helpers.page_blocks import answers_of, commands_of, only_block
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World
from recsys_assets_tests.serving.running import until

ROW = {"item_id": 3, "genres": ["Drama"]}
CREATE, UPDATE, ROLLBACK, DESCRIBE, DELETE = commands_of(only_block("fresh.md", "recsys deploy update"))
ASKED = only_block("fresh.md", "/vectors")


def recsys(*arguments: str, fails: bool = False) -> str:
    """The output of a command, or its error output if it is to fail."""
    command = [sys.executable, "-m", "recsys_assets.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@pytest.fixture(scope="module")
def own(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The world with towers of two days; those of the day before have another seed."""
    with pytest.MonkeyPatch.context() as patch:
        own = world.copy(tmp_path_factory.mktemp("deployed"), patch)
        own.run(["negative_items", "recall_dssm", "onnx_dssm"], config={"recall_dssm": {"training": {"epochs": 1}}})
        made = own.read("onnx_dssm")
        with own.lake.draft("onnx_dssm", YESTERDAY) as draft:
            for file in made.manifest.files:
                draft.path(file).write_bytes(made.path(file).read_bytes())
        yield own


@pytest.fixture
def config(own: World, tmp_path: Path) -> Iterator[Path]:  # noqa: ARG001 (its environment holds)
    file = tmp_path / "deploy.yaml"
    file.write_text(f"name: items\nmodel: dssm\nprocesses: 2\nmemory: 1500\nport: {free_port()}\n", encoding="utf-8")
    yield file
    with contextlib.suppress(AssertionError):
        typed(DELETE)


def typed(command: str, config: Path = Path()) -> str:
    """The output of a command of the page, for the days of this world."""
    words = {"2026-01-31": YESTERDAY, "2026-02-01": DAY, "deploy.yaml": str(config)}
    return recsys(*(words.get(word, word) for word in shlex.split(command)[1:]))


def described() -> dict[str, Any]:
    return dict(json.loads(typed(DESCRIBE)))


class Load(Background):
    """Batches of rows one after another, and the status, version and distinct vectors of each answer."""

    def __init__(self, url: str) -> None:
        super().__init__("load")
        self._url, self.answers = url, list[tuple[int, int, int]]()

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.wait(0.005):
                found = client.post("/vectors", json={"rows": [ROW] * 20})
                content = found.json()
                distinct = {tuple(vector) for vector in content.get("vectors", ())}
                self.answers.append((found.status_code, content.get("version", 0), len(distinct)))


def test_update_and_rollback_under_load_fail_no_request_and_mix_no_versions(own: World, config: Path) -> None:
    said = typed(CREATE, config)
    assert f"version 1 (dssm of {YESTERDAY}) answers at http://127.0.0.1:" in said
    url = described()["address"]
    table = pq.read_table(own.read("items").path(ROWS)).slice(0, 50)
    with Load(url) as load:
        until("answers", lambda: len(load.answers) > 5)
        typed(UPDATE)
        check_the_request_of_the_page(url)
        seen = len(load.answers)
        until("it goes on", lambda: len(load.answers) > seen + 20)
        now = described()
        assert (now["answers"], now["current"]) == ({"version": 2, "bizdate": DAY}, 2)
        typed(ROLLBACK)
        seen = len(load.answers)
        until("it goes on", lambda: len(load.answers) > seen + 20)
    assert {(status, count) for status, _, count in load.answers} == {(200, 1)}
    assert [number for number, before in zip(*_pairs(load.answers), strict=True) if number != before][:1] == [2]
    assert load.answers[-1][1] == 1
    path = own.read("onnx_dssm").path("item.onnx")
    inputs = _inputs(path)
    rows = table.select([each.name for each in inputs]).to_pylist()
    got = httpx.post(f"{url}/vectors", json={"rows": rows}).json()["vectors"]
    (wanted,) = onnxruntime.InferenceSession(path).run(["vector"], raw_columns(inputs, table))
    np.testing.assert_allclose(np.array(got, np.float32), wanted, atol=1e-6, rtol=0)


def check_the_request_of_the_page(url: str) -> None:
    """Check that curl gets what the page shows, but for the model and the numbers."""
    (command,), (shown,) = commands_of(ASKED), answers_of(ASKED)
    words = [word.replace("127.0.0.1:8100", url) for word in shlex.split(command)]
    answer = json.loads(subprocess.check_output([*words, "--silent", "--fail-with-body"]))
    expected = json.loads(shown.replace(", …", ""))
    assert answer.keys() == expected.keys()
    assert (answer["deployment"], answer["version"]) == (expected["deployment"], expected["version"])
    assert answer["bizdate"] == DAY
    assert len(answer["vectors"]) == len(expected["vectors"])


def _pairs(answers: list[tuple[int, int, int]]) -> tuple[list[int], list[int]]:
    numbers = [number for _, number, _ in answers]
    return numbers[1:], numbers[:-1]


def _inputs(path: Path) -> Any:
    session = onnxruntime.InferenceSession(path)
    return read_inputs(session.get_modelmeta().custom_metadata_map[INPUTS])


def test_a_deployment_survives_a_restart_without_the_lake_and_a_wrong_update(own: World, config: Path) -> None:
    recsys("deploy", "create", "items", "--bizdate", YESTERDAY, "--config", str(config))
    assert "there is a deployment 'items' already" in recsys("deploy", "create", "items", "--bizdate", DAY, fails=True)
    assert "runs already" in recsys("deploy", "run", "items", fails=True)
    assert "2026-01-01" in recsys("deploy", "update", "items", "--bizdate", "2026-01-01", fails=True)
    config.write_text("memory: 12\n", encoding="utf-8")
    wrong = recsys("deploy", "update", "items", "--bizdate", DAY, "--config", str(config), fails=True)
    assert "deploy.yaml, line 1: memory: " in wrong
    assert described()["current"] == 1
    service = psutil.Process(int(Path(described()["log"]).with_name("service.pid").read_text(encoding="ascii")))
    service.kill()
    until("nothing answers", lambda: not described()["runs"])
    moved = (own.home / "lake").rename(own.home / "away")
    try:
        log = (own.home / "again.log").open("wb")
        command = [sys.executable, "-m", "recsys_assets.cli", "deploy", "run", "items"]
        with log, subprocess.Popen(command, stdout=log, stderr=log) as again:
            until("it answers again", lambda: (described()["answers"] or {}).get("version") == 1)
            again.terminate()
    finally:
        moved.rename(own.home / "lake")


def test_features_are_refused_by_name_and_requests_are_counted(own: World, config: Path) -> None:
    recsys("deploy", "create", "items", "--bizdate", DAY, "--config", str(config))
    with httpx.Client(base_url=described()["address"]) as client:
        for rows, said in (
            ([ROW, {"colour": 1}], "rows.1: there is no feature 'colour'; there are genres, item_id"),
            ([{"item_id": "x"}], "rows.0: item_id is a whole number, and not 'x'"),
            ([{"genres": "Drama"}], "rows.0: genres is a list of texts, and not 'Drama'"),
        ):
            answer = client.post("/vectors", json={"rows": rows})
            assert (answer.status_code, answer.json()["detail"]) == (422, said)
        items = own.table("items")["item_id"].to_pylist()
        user = client.post("/vectors", json={"side": "user", "rows": [{"history": items}, {}]}).json()
        assert (user["version"], user["bizdate"], user["model"]) == (1, DAY, "dssm")
        assert user["vectors"][0] != user["vectors"][1]
        assert client.get("/inputs").json()["inputs"]["item"] == {"item_id": "int64", "genres": "list<item: string>"}
        assert "recsys_requests_total" in client.get("/metrics").text
        assert "/vectors" in client.get("/openapi.json").json()["paths"]
