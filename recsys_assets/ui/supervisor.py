"""Keeps servers running: starts them, starts again one that ended, and stops them all together."""

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

LOOK = 0.5  # seconds between two looks at the servers
STEADY = 30.0  # seconds after which a server that ended is started again; one that ended sooner would end again
PATIENCE = 15.0  # seconds that a server has to stop by itself; Dagster takes 1 to 5
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TAIL = 4096  # bytes at the end of a log in which its last line lies


class ServerEnded(RuntimeError):
    """A server ended that it does not help to start again."""


@dataclass
class Running:
    """A server's process, which leads a process group of its own, and when it was started."""

    server: Server
    process: "subprocess.Popen[bytes]"
    began: float

    def has_ended(self) -> bool:
        """Whether it ended, or the process with a code server's code did, without which it answers nothing."""
        if self.process.poll() is not None:
            return True
        is_up = self.server.socket is not None and self.server.socket.exists()
        return is_up and not any(map(is_alive, psutil.Process(self.process.pid).children()))


class Supervisor:
    """Servers with a common environment, a folder to run in and a folder of logs; a context that stops them."""

    def __init__(self, logs: Path, folder: Path, environment: dict[str, str]) -> None:
        """Nothing is started yet; the logs of the time before are kept once, as `.log.1`."""
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
        """Tell all to stop, and make sure of all their processes."""
        for each in self.running:
            each.process.send_signal(signal.SIGINT)
        for each in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(PATIENCE)
            _kill(each)

    def start(self, server: Server) -> None:
        """Start a server; one that others need is waited for."""
        self.running.append(self._launch(server))
        while server.socket is not None and not server.socket.exists():
            self.look_after()

    def keep_running(self) -> None:
        """Look after the servers until one ends that it does not help to start again.

        Raises:
            ServerEnded: which, why, and where its log is.
        """
        while True:
            self.look_after()

    def look_after(self) -> None:
        """Wait a moment, then start again what has ended.

        Raises:
            ServerEnded: one that was started only just now.
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
        """A session of its own, so that Ctrl-C reaches it once: from here."""
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
        """One line: which server ended, how, its last words where it had time for them, and where to read the rest."""
        status, log = ended.process.returncode, self._log(ended.server)
        if status == -signal.SIGKILL:
            return f"{ended.server.name} was killed by SIGKILL (log: {log})"
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        lines = COLOURS.sub("", log.read_bytes()[-TAIL:].decode(errors="replace")).split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f"{ended.server.name} {how}" + (f", saying: {said[-1][:300]}" if said else "") + f" (log: {log})"


def say(text: str) -> None:
    """Tell the person at the terminal, at once."""
    print(text, flush=True)  # noqa: T201


def _kill(ended: Running) -> None:
    """Make sure that nothing is left of a server's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(ended.process.pid, signal.SIGKILL)
    ended.process.wait()
