import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from recsys_assets.ui import HOST, taken
from recsys_assets_tests.conftest import PROJECT

PATIENCE = 120.0  # seconds; both are up in about 20 on two busy cores


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def started(home: Path, dagster: int, mlflow: int) -> "subprocess.Popen[bytes]":
    shutil.copy(PROJECT / "dagster.yaml", home)
    own = {"DAGSTER_HOME": str(home), "RECSYS_DATA": str(home / "data")}
    ports = {"DAGSTER_PORT": str(dagster), "MLFLOW_PORT": str(mlflow)}
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("RECSYS_", "DAGSTER_", "MLFLOW_"))
    }
    command = [sys.executable, "-m", "recsys_assets.ui"]
    with (home / "log").open("wb") as log:
        return subprocess.Popen(command, env={**clean, **own, **ports}, stdout=log, stderr=log)


def wait_for(urls: list[str], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while urls:
        assert process.poll() is None, "the servers ended by themselves"
        assert time.monotonic() < deadline, f"{urls} never answered"
        time.sleep(0.5)
        urls = [url for url in urls if not answers(url)]


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_both_uis_answer_on_this_machine_and_end_together(tmp_path: Path) -> None:
    dagster, mlflow = free_port(), free_port()
    process = started(tmp_path, dagster, mlflow)
    try:
        wait_for([f"http://{HOST}:{dagster}/server_info", f"http://{HOST}:{mlflow}/health"], process)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        assert not taken(dagster) and not taken(mlflow)
        assert f"http://{HOST}:{dagster}" in (tmp_path / "log").read_text(encoding="utf-8")
        assert (tmp_path / "data" / "mlflow.db").is_file()
    finally:
        process.kill()


@pytest.mark.parametrize("variable", ["DAGSTER_PORT", "MLFLOW_PORT"])
def test_a_port_in_use_is_named_with_the_variable_that_moves_it(tmp_path: Path, variable: str) -> None:
    with socket.create_server((HOST, 0)) as server:
        busy, idle = server.getsockname()[1], free_port()
        process = started(tmp_path, *((busy, idle) if variable == "DAGSTER_PORT" else (idle, busy)))
        assert process.wait(PATIENCE) == 1
    said = (tmp_path / "log").read_text(encoding="utf-8")
    assert f"port {busy} is in use" in said and f"{variable}=" in said
