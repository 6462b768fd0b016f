"""A service that runs as long as a block, on a free port: `recsys serve`, for those who ask it something."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import IO

from recsys_assets.client import Client, ServiceError
from recsys_assets.guard import LOCAL

PATIENCE = 120.0  # seconds until the first answer; on an idle machine it comes after about ten
PAUSE = 0.2  # seconds between two questions whether the service is ready
ENDS = 20.0  # seconds that it has to end, before it is killed
TOKEN = "RECSYS_SERVE_TOKEN"  # noqa: S105 (a variable's name)


class NotServed(RuntimeError):
    """The service does not answer; the message has the last line of its log."""


@contextlib.contextmanager
def service_running(settings: Mapping[str, str] | None = None, processes: int = 1) -> Iterator[str]:
    """The address of a service, which answers from the current release.

    Args:
        settings: variables of its environment that differ from those of this process.
        processes: how many answer.

    Raises:
        NotServed: it ended, or has no release after `PATIENCE` seconds.
    """
    port, environment = _free_port(), {**os.environ, **(settings or {})}
    tied = [sys.executable, "-W", "ignore", "-m", "recsys_assets.processes", str(os.getpid())]
    command = [*tied, "recsys_assets.cli", "serve", "--port", str(port), "--processes", str(processes)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            address = f"http://{LOCAL[0]}:{port}"
            _wait_until_ready(address, environment.get(TOKEN), process, log)
            yield address
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL[0], 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(address: str, token: str | None, process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    with Client(address, token) as service:
        while True:
            with contextlib.suppress(ServiceError):
                service.ready()
                return
            if process.poll() is not None or time.monotonic() > end:
                log.seek(0)
                said = log.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise NotServed(f"the service does not answer, and says: {said or 'nothing'}")
            time.sleep(PAUSE)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(ENDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
