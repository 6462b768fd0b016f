"""A service that really runs: `recsys serve` as a process, over the tests' small world and releases of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from recsys_assets.datasets.profile import load_profile
from recsys_assets.funnel.served import describe_served, served_partitions
from recsys_assets.lake import Lake
from recsys_assets.serving.releases import release_store
from recsys_assets.settings import settings
from recsys_assets_tests.helpers.worlds import DAY

PATIENCE = 120.0  # seconds: the machine may be busy


def until(what: str, holds: Callable[[], Any]) -> Any:
    """Wait until something holds; returns what it gives."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


def release(bizdate: str = DAY, **changes: Any) -> int:
    """Make a release of the world's partitions the current one; returns its number."""
    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    served = describe_served(served_partitions(lake, DAY)) | changes
    with release_store(profile, lake) as store:
        content = {"bizdate": bizdate, "collections": {}, "champion": None, "served": served}
        number = store.put_release(content, store.release())
    assert number
    return number


@dataclass
class Running:
    """A service that runs."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)

    def status(self) -> dict[str, Any]:
        """Its own words on its state; nothing while it is not ready."""
        with contextlib.suppress(httpx.TransportError):
            if (found := self.get("/health/ready")).status_code == 200:
                return dict(found.json())
        return {}

    def family(self) -> list[psutil.Process]:
        """All of its processes, without the store."""
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            return [own, *(each for each in own.children(recursive=True) if "generation" in " ".join(each.cmdline()))]
        return []

    def workers(self) -> list[psutil.Process]:
        """The processes that answer."""
        return [each for each in self.family() if each.ppid() not in (self.process.pid, os.getpid())]

    def metric(self, name: str) -> float:
        """The sum of a metric's numbers."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@contextlib.contextmanager
def running(log: Path, processes: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A service over the world that the environment names."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "recsys_assets.cli", "serve", f"--port={port}", f"--processes={processes}"]
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, **(environment or {})})
    try:
        yield Running(process, f"http://127.0.0.1:{port}", log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
