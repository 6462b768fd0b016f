"""A server of Spark Connect whose cluster has two executors of their own, for tests; it ends with the block."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_assets_tests.helpers.dagster_dev import free_port

CLUSTER = "local-cluster[2,1,1024]"
SECONDS = 180
needs_spark = pytest.mark.skipif(
    not (importlib.util.find_spec("pyspark") and shutil.which("java")),
    reason="needs Spark and Java: pip install 'recsys-assets[spark]'",
)


def spark_home() -> Path:
    """The folder of Spark's programs, in the Python package."""
    found = importlib.util.find_spec("pyspark")
    assert found and found.origin
    return Path(found.origin).parent


@contextlib.contextmanager
def spark_connect(folder: Path) -> Iterator[str]:
    """A server that writes its log to a folder; gives its address."""
    port, home = free_port(), spark_home()
    settings = {"spark.ui.enabled": "false", "spark.connect.grpc.binding.address": "127.0.0.1"}
    options = [
        f"--conf={name}={value}" for name, value in {**settings, "spark.connect.grpc.binding.port": port}.items()
    ]
    server = "org.apache.spark.sql.connect.service.SparkConnectServer"
    command = [str(home / "bin" / "spark-submit"), "--master", CLUSTER, *options, "--class", server, "spark-internal"]
    places = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    with (folder / "spark.log").open("wb") as log:
        running = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **places}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(port, running, folder / "spark.log")
        yield f"sc://127.0.0.1:{port}"
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(60)


def _wait_for(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server listens."""
    until = time.monotonic() + SECONDS
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        assert running.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8")[-2000:]
        time.sleep(0.2)
