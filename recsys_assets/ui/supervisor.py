"""Keeps servers running: starts them, restarts one that ended, and stops them all together."""

import contextlib
import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from recsys_assets.processes import is_alive
from recsys_assets.ui.servers import Server

LOOK = 0.5  # seconds between two checks of the servers
STEADY = 30.0  # a server that ran for this many seconds is restarted; one that ended sooner would end again
PATIENCE = 15.0  # seconds that a server has to stop before it is killed; Dagster takes 1 to 5
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TAIL = 4096  # bytes at the end of a log that are searched for its last line


class ServerEnded(RuntimeError):
    """A server ended, and a restart would not help."""


@dataclass
class Running:
    """A server's process, which leads its own process group, and its start time."""

    server: Server
    process: "subprocess.Popen[bytes]"
    began: float

    def has_ended(self) -> bool:
        """Whether the server ended or, for one with a socket (Dagster's code server), the child that holds the code."""
        if self.process.poll() is not None:
            return True
        is_up = self.server.socket is not None and self.server.socket.exists()
        return is_up and not any(map(is_alive, psutil.Process(self.process.pid).children()))


class Supervisor:
    """Servers that share an environment, a working folder and a folder of logs; leaving the context stops them."""

    def __init__(self, logs: Path, folder: Path, environment: dict[str, str]) -> None:
        """Prepare the folder of logs without starting a server; the previous logs are kept once, as `.log.1`."""
        self.logs, self.folder, self.environment = logs, folder, environment
        self.running: list[Running] = []
        logs.mkdir(parents=True, exist_ok=True)
        for log in logs.glob("*.log"):
            log.replace(log.with_suffix(".log.1"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ask all servers to stop, then kill what is left of them."""
        for each in self.running:
            each.process.send_signal(signal.SIGINT)
        for each in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(PATIENCE)
            _kill(each)

    def start(self, server: Server) -> None:
        """Start a server; if it has a socket, wait until it listens."""
        self.running.append(self._launch(server))
        while server.socket is not None and not server.socket.exists():
            self.look_after()

    def keep_running(self) -> None:
        """Look after the servers until one ends whose restart would not help.

        Raises:
            ServerEnded: names the server, the reason and its log.
        """
        while True:
            self.look_after()

    def look_after(self) -> None:
        """Wait a moment, then restart servers that have ended.

        Raises:
            ServerEnded: a server ended within `STEADY` seconds of its start.
        """
        time.sleep(LOOK)
        for number, each in enumerate(self.running):
            if each.has_ended():
                _kill(each)
                if time.monotonic() - each.began < STEADY:
                    raise ServerEnded(self._why(each))
                say(f"{time.strftime('%H:%M:%S')} {self._why(each)}; it is started again")
                self.running[number] = self._launch(each.server)

    def _launch(self, server: Server) -> Running:
        """Start the process in its own session, so that only `__exit__` interrupts it and not Ctrl-C as well."""
        if server.socket is not None:
            server.socket.unlink(missing_ok=True)  # a killed server leaves it
        with self._log(server).open("ab") as log:
            process = subprocess.Popen(
                server.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Running(server, process, time.monotonic())

    def _log(self, server: Server) -> Path:
        return self.logs / f"{server.name.replace(' ', '-')}.log"

    def _why(self, ended: Running) -> str:
        """One line: the server that ended, how it ended, the last line of its log if any, and the log's path."""
        status, log = ended.process.returncode, self._log(ended.server)
        if status == -signal.SIGKILL:
            return f"{ended.server.name} was killed by SIGKILL (log: {log})"
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        lines = COLOURS.sub("", log.read_bytes()[-TAIL:].decode(errors="replace")).split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"{ended.server.name} {how}" + (f", saying: {said[-1][:300]}" if said else "") + f" (log: {log})"


def say(text: str) -> None:
    """Print to the terminal without buffering."""
    print(text, flush=True)  # noqa: T201


def _kill(ended: Running) -> None:
    """Kill what is left of a server's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(ended.process.pid, signal.SIGKILL)
    ended.process.wait()
