"""A Triton server that really runs: `recsys triton serve` as a process, over the repository of the environment."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from recsys_assets.stores.triton import server
from recsys_assets_tests.conftest import PROJECT

PATIENCE = 120.0  # seconds: the machine may be busy
needs_triton = pytest.mark.skipif(
    not server.is_installed(server.environment(PROJECT)),
    reason="needs Triton's environment: `recsys triton install` (0.4 GB)",
)


@dataclass
class Triton:
    """A server that runs, at an address, with its log."""

    url: str
    process: psutil.Process
    log: Path

    def kill(self) -> None:
        """Kill the server, and then the processes of its models, which outlive it."""
        models = self.process.children(recursive=True)
        for each in (self.process, *models):
            each.kill()
        self.process.wait()

    def scored(self, model: str, version: int) -> int:
        """The requests that a version of a model has answered."""
        (found,) = httpx.get(f"{self.url}/v2/models/{model}/versions/{version}/stats").json()["model_stats"]
        return int(found["inference_stats"]["success"]["count"])

    def versions(self, model: str) -> set[int]:
        """The versions of a model that are loaded."""
        index = httpx.post(f"{self.url}/v2/repository/index", json={}).json()
        return {int(each["version"]) for each in index if each["name"] == model and each.get("state") == "READY"}


@contextlib.contextmanager
def triton_server(log: Path) -> Iterator[Triton]:
    """A server at a free port, which RECSYS_TRITON_URI names until the block ends."""
    with pytest.MonkeyPatch.context() as patch, log.open("wb") as said:
        url = f"http://127.0.0.1:{_three_free_ports()}"
        patch.setenv("RECSYS_TRITON_URI", url)
        process = subprocess.Popen(
            [sys.executable, "-m", "recsys_assets.cli", "triton", "serve"],
            stdout=said,
            stderr=said,
            env={**os.environ, "RECSYS_HOME": str(PROJECT)},
        )
        try:
            wait_for(url, process, log)
            yield Triton(url, psutil.Process(process.pid), log)
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/v2/health/live").status_code == httpx.codes.OK:
                return
        time.sleep(0.05)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace"))


def _three_free_ports() -> int:
    """The first of three free ports in a row, below those that the system gives to clients."""
    for first in range(18500 + os.getpid() % 4000, 32000, 3):
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            for port in range(first, first + 3):
                probe = opened.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            return first
    raise AssertionError("there are no three free ports in a row")
