"""`make ui` with its real servers: who may access them, what they are, and how they end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from recsys_assets.guard import is_taken
from recsys_assets.ui.webserver import HOST
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.dagster_dev import REPOSITORY, free_port, heed_interrupts
from recsys_assets_tests.helpers.leftovers import Family, command, until

TOKEN, PASSWORD = "open-sesame", "canary-of-the-database"  # noqa: S105 -- invented secrets
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SHUTDOWN = 'mutation { shutdownRepositoryLocation(repositoryLocationName: "recsys_assets") { __typename } }'
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
LOGS = "subscription ($id: ID!) { pipelineRunLogs(runId: $id) { __typename } }"
SENSOR = "query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {\
    sensorState { status } } } }"


@dataclass(frozen=True)
class Started:
    """`make ui` in its own home."""

    family: Family
    process: "subprocess.Popen[bytes]"
    home: Path
    dagster: str
    mlflow: str

    def ask(self, query: str, **variables: Any) -> Any:
        """The value of the only field that the query requests, asked as the UI's own page does."""
        headers = {**BEARER, "Origin": self.dagster}
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{self.dagster}/graphql", json=body, headers=headers, timeout=60).json()
        assert not answer.get("errors"), answer
        (content,) = answer["data"].values()
        return content

    def said(self) -> str:
        """The output on the terminal."""
        return (self.home / "terminal").read_text(encoding="utf-8")


def start(home: Path, dagster: int, mlflow: int) -> Started:
    """Start it in a shell in which no variable of ours is set, but those of a different Dagster project are."""
    shutil.copy(PROJECT / "dagster.yaml", home)
    family = Family(DAGSTER_HOME=str(home), RECSYS_DATA=str(home / "data"))
    for name in ("RECSYS_HOME", "RECSYS_PROFILE", "RECSYS_DAGSTER_UI", "RECSYS_MLFLOW_UI"):
        family.environment.pop(name, None)
    family.environment |= {
        "SERVE_PORT": str(free_port()),
        "DAGSTER_PORT": str(dagster),
        "MLFLOW_PORT": str(mlflow),
        "DAGSTER_MODULE_NAME": "another.project",
        "RECSYS_UI_TOKEN": TOKEN,
        # SQLite accepts any option in a URI; this one stands for another database's password.
        "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db?password={PASSWORD}",
    }
    with (home / "terminal").open("wb") as terminal:
        process = subprocess.Popen(
            [sys.executable, "-m", "recsys_assets.ui"],
            env=family.environment,
            stdout=terminal,
            stderr=terminal,
            preexec_fn=heed_interrupts,  # noqa: PLW1509 -- it acquires no lock that a thread could hold
        )
    return Started(family, process, home, f"http://{HOST}:{dagster}", f"http://{HOST}:{mlflow}")


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    started = start(tmp_path_factory.mktemp("ui"), free_port(), free_port())
    try:
        until(lambda: started.process.poll() is not None or is_up(started), 300)
        assert started.process.poll() is None, started.said()
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        assert started.family.left() == []


def is_up(started: Started) -> bool:
    try:
        return requests.get(f"{started.dagster}/server_info", headers=BEARER, timeout=5).ok and (
            requests.get(f"{started.mlflow}/health", timeout=5).ok
        )
    except requests.RequestException:
        return False


def test_the_page_and_a_question_are_answered_at_the_address_on_the_terminal(ui: Started) -> None:
    assert f"Dagster   {ui.dagster}\nMLflow    {ui.mlflow}\n" in ui.said()
    (lists,) = re.findall(r"^Lists     (\S+)", ui.said(), re.MULTILINE)
    until(lambda: not_ready(lists))  # it answers before there is a release
    assert "<title>Recommendations" in requests.get(lists, timeout=30).text
    page = requests.get(ui.dagster, headers=BEARER, timeout=30)
    assert page.ok and "<html" in page.text and page.headers["x-frame-options"] == "SAMEORIGIN"
    assert ui.ask("{ version }")
    assert requests.get(f"{ui.dagster}/graphql?query={{version}}", headers=BEARER, timeout=30).json()["data"]
    local = requests.get(f"{ui.dagster.replace(HOST, 'localhost')}/server_info", headers=BEARER, timeout=30)
    assert local.ok


def not_ready(address: str) -> bool:
    try:
        return requests.get(f"{address}/health/ready", timeout=5).status_code == 503
    except requests.RequestException:
        return False


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}], ids=str
)
def test_foreign_hosts_and_pages_reach_neither_ui(ui: Started, headers: dict[str, str]) -> None:
    for content in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
        sent = {**headers, **BEARER, "Content-Type": content}
        attack = requests.post(f"{ui.dagster}/graphql", json.dumps({"query": SHUTDOWN}), headers=sent, timeout=30)
        assert attack.status_code == 403
        attack = requests.post(f"{ui.dagster}/graphql", params={"query": SHUTDOWN}, headers=sent, timeout=30)
        assert attack.status_code == 403
        made = f"{ui.mlflow}/api/2.0/mlflow/experiments/create"
        attack = requests.post(made, json.dumps({"name": str(headers)}), headers=sent, timeout=30)
        assert attack.status_code == 403
    with pytest.raises(InvalidStatus, match="403"), websocket(ui, **headers):
        pass


def test_no_address_changes_anything(ui: Started) -> None:
    for method in ("GET", "POST"):
        address = f"{ui.dagster}/graphql"
        attack = requests.request(method, address, params={"query": SHUTDOWN}, headers=BEARER, timeout=30)
        assert attack.status_code == 405
    assert ui.ask("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }") == {
        "locationEntries": [{"loadStatus": "LOADED"}]
    }


def test_nobody_gets_in_without_the_token(ui: Started) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert requests.get(ui.dagster, headers=headers, timeout=30).status_code == 401
        with pytest.raises(InvalidStatus, match="403"), websocket(ui, **{"Authorization": "", **headers}):
            pass
    assert requests.get(ui.dagster, auth=("anybody", TOKEN), timeout=30).ok  # in the way that browsers send it


def test_no_argument_and_no_log_holds_a_password(ui: Started) -> None:
    arguments = [command(process) for process in ui.family.alive()]
    logs = [log.read_text(encoding="utf-8") for log in (ui.home / ".dagster" / "ui").glob("*.log")]
    assert len(arguments) >= 7 and len(logs) == 5
    assert not [text for text in [*arguments, *logs, ui.said()] if TOKEN in text or PASSWORD in text]
    assert (ui.home / "mlflow.db").is_file()


def test_a_sensor_that_the_activated_shell_starts_runs_in_the_ui(ui: Started) -> None:
    selector = {**REPOSITORY, "sensorName": "new_data_sensor"}
    assert ui.ask(SENSOR, selector=selector) == {"sensorState": {"status": "STOPPED"}}
    typed = '. "$0/activate"; export DAGSTER_HOME="$1"; cd /; dagster sensor start new_data_sensor'
    environment = {**os.environ, "RECSYS_DATA": str(ui.home / "data")}
    subprocess.run(["bash", "-c", typed, PROJECT, ui.home], env=environment, check=True, capture_output=True)
    assert ui.ask(SENSOR, selector=selector) == {"sensorState": {"status": "RUNNING"}}


def test_a_run_is_launched_and_followed_and_ends_with_the_ui_that_is_killed(ui: Started) -> None:
    job = {**REPOSITORY, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": ["users"]}]}
    tags = [{"key": "dagster/partition", "value": "2026-01-02"}]
    launched = ui.ask(LAUNCH, params={"selector": job, "executionMetadata": {"tags": tags}})
    assert launched["__typename"] == "LaunchRunSuccess", launched
    with websocket(ui, Origin=ui.dagster) as socket_:
        payload = {"query": LOGS, "variables": {"id": launched["run"]["runId"]}}
        socket_.send(json.dumps({"type": "start", "id": "1", "payload": payload}))
        answer = json.loads(socket_.recv(timeout=30))
    assert answer["payload"]["data"]["pipelineRunLogs"]["__typename"] == "PipelineRunLogsSubscriptionSuccess"
    until(lambda: any("multiprocessing.spawn" in command(each) for each in ui.family.alive()))  # the run is executing
    ui.process.kill()
    ui.process.wait()
    assert ui.family.left() == []
    ports = [int(address.rpartition(":")[2]) for address in (ui.dagster, ui.mlflow)]
    # For a moment the last threads of a killed process hold its sockets.
    until(lambda: not any(map(is_taken, ports)), 10)


def websocket(ui: Started, **headers: str) -> Any:
    """A connection as a page opens it; `headers` can imitate a different host or origin."""
    sent, port = {**BEARER, **headers}, int(ui.dagster.rpartition(":")[2])
    address = f"ws://{sent.pop('Host', HOST)}:{port}/graphql"
    return connect(
        address, address=(HOST, port), proxy=None, additional_headers=sent, subprotocols=[Subprotocol("graphql-ws")]
    )


@pytest.mark.parametrize("variable", ["DAGSTER_PORT", "MLFLOW_PORT"])
def test_a_port_in_use_is_named_with_the_variable_that_moves_it(tmp_path: Path, variable: str) -> None:
    with socket.create_server((HOST, 0)) as server:
        busy, idle = server.getsockname()[1], free_port()
        started = start(tmp_path, *((busy, idle) if variable == "DAGSTER_PORT" else (idle, busy)))
        assert started.process.wait(60) == 1
    assert f"port {busy} is in use" in started.said() and f"{variable}=" in started.said()


def test_ctrl_c_ends_everything_with_status_0(tmp_path: Path) -> None:
    started = start(tmp_path, free_port(), free_port())
    until(lambda: any("code-server" in command(process) for process in started.family.alive()))
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(60) == 0, started.said()
    assert started.family.left() == []
