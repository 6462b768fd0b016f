"""The supervisor: starts a generation of processes for each release, and ends the one before when the new one answers.

It opens nothing itself, and asks the store in a thread of its own, so that it always finds a process that ended.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from recsys_assets.datasets.disk import private_folder
from recsys_assets.datasets.folders import clear_leftovers, new_folder
from recsys_assets.guard import listening_address
from recsys_assets.serving.log import say
from recsys_assets.serving.order import FINISH, LEAVE, LOOK, RECOMMENDER, Order, Release, Status
from recsys_assets.serving.releases import ANSWERS

STATUS = "status.json"
WAITING = 2048  # connections that wait to be taken
RETRY = 15.0  # seconds before a release that was refused is opened again: its files may have come back
ENDS = LEAVE + FINISH + 4.0  # seconds that a generation has to end
# One thread for each process: there are as many processes as cores.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}


class Newest(Protocol):
    """Knows the newest release: a store of releases is asked, or the record of a deployment is read.

    Attributes:
        store: `ANSWERS`, or why what keeps the releases does not.
    """

    store: str

    @property
    def newest(self) -> Release | None:
        """The release that shall be served; None if there is none."""


class Started:
    """A generation's first process, and what it reports."""

    def __init__(self, order: Order, listener: socket.socket, counters: Path) -> None:
        self.release, self.began = order.release, time.monotonic()
        self._report, report = os.pipe()
        os.set_blocking(self._report, False)
        numbers = (listener.fileno(), report)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "recsys_assets.serving.generation", *map(str, numbers)],
            stdin=subprocess.PIPE,
            pass_fds=numbers,
            env={**ENVIRONMENT, **os.environ, "PROMETHEUS_MULTIPROC_DIR": str(counters)},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone
        )
        os.close(report)
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as said:
                said.write(order.line().encode())

    def reported(self) -> str | None:
        """Why the release is refused, or nothing if its processes answer; None: neither is known yet."""
        with contextlib.suppress(BlockingIOError):
            if said := os.read(self._report, 1 << 16):
                return str(json.loads(said)["refusal"])
        return None if self.is_alive else f"its process ended with status {self._process.returncode}"

    @property
    def is_alive(self) -> bool:
        """Whether its first process runs."""
        return self._process.poll() is None

    def leave(self) -> None:
        """Ask its processes to end when their requests are answered, also those that outlived the first one."""
        self._left = time.monotonic()
        self._signal(signal.SIGTERM)

    def is_gone(self) -> bool:
        """Whether all of them ended; those that take too long are killed."""
        if time.monotonic() - self._left > ENDS:
            self._signal(signal.SIGKILL)
            return not self.is_alive
        return not self.is_alive and not self._signal(0)

    def _signal(self, sign: int) -> bool:
        """Send a signal to all of them; whether there are any."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, sign)
            return True
        return False

    def close(self) -> None:
        """Kill what is left of it."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        os.close(self._report)


@dataclass
class Supervisor:
    """Keeps the newest release answering on a socket; leaving the context ends all processes.

    Attributes:
        lookout: knows the newest release.
        listener: the socket, which listens.
        processes: how many processes answer.
        copies: folder of the copies of releases.
        folder: for the files that the processes share as long as they run.
        kind: of the service.
        memory: the most MiB of each process; None: as many as it likes.
    """

    lookout: Newest
    listener: socket.socket
    processes: int
    copies: Path
    folder: Path
    kind: str = RECOMMENDER
    memory: int | None = None
    _serving: Started | None = None
    _coming: Started | None = None
    _leaving: list[Started] = field(default_factory=list)
    _refused: tuple[Release, float] | None = None
    _said: str = ""
    _status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Let all processes finish their requests, then kill what is left."""
        left = [each for each in (self._coming, self._serving) if each]
        for each in left:
            each.leave()
        left += self._leaving
        while not all([each.is_gone() for each in left]):
            time.sleep(LOOK)
        for each in left:
            each.close()

    def look(self) -> None:
        """Do what is to be done now: start, switch over, replace, or end a generation."""
        self._tell()
        for each in [each for each in self._leaving if each.is_gone()]:
            each.close()
            self._leaving.remove(each)
        if self._coming and (refusal := self._coming.reported()) is not None:
            self._take_over(self._coming, refusal)
        elif not self._coming and not self._leaving and (order := self._due()):
            if self._serving and not self._serving.is_alive:
                say("the process that looks after the others ended; a new one is started")
            self._coming = Started(order, self.listener, self.folder)

    def _tell(self) -> None:
        """Say to the processes how the store is, and whether the newest release was refused."""
        refused = self._refused[0].number if self._refused and self._refused[0] == self.lookout.newest else None
        if (status := Status(self.lookout.store == ANSWERS, refused)) != self._status:
            coming = self.folder / f".{STATUS}"
            coming.write_text(json.dumps(asdict(status)), encoding="utf-8")
            coming.replace(self.folder / STATUS)
            self._status = status

    def _due(self) -> Order | None:
        """The generation that is to be started now, if any: of the newest release, or of none if nobody answers."""
        serving = self._serving
        wanted = self.lookout.newest or (serving.release if serving else None)
        if self._refused and self._refused[0] == wanted and time.monotonic() - self._refused[1] < RETRY:
            if serving:
                return None
            wanted = None
        if serving and serving.is_alive and wanted == serving.release:
            return None  # when its first process ended, the others go on, but nobody replaces them
        nobody = serving is None or wanted is None
        places = str(self.copies), str(self.folder / STATUS)
        return Order(wanted, self.processes, nobody, *places, self.kind, self.memory)

    def _take_over(self, coming: Started, refusal: str) -> None:
        """Go over to the generation that was started, or stay with the one before."""
        self._coming = None
        if refusal and coming.release:
            self._refuse(coming.release, refusal)
            coming.release = None
            if self._serving or not coming.is_alive:
                return coming.close()
        if self._serving:
            self._serving.leave()
            self._leaving.append(self._serving)
        self._serving = coming
        if not refusal:
            self._refused, self._said = None, ""
        return None

    def _refuse(self, release: Release, refusal: str) -> None:
        stays = ", the one before stays" if self._serving and self._serving.release else ""
        sentence = f"release {release.number} of {release.bizdate} cannot be served{stays}: {refusal}"
        if sentence != self._said:
            say(sentence)
        self._said, self._refused = sentence, (release, time.monotonic())


def listen(port: int) -> socket.socket:
    """A socket that listens on the port of this machine, for all processes.

    They share it, because a connection that waits on a socket of its own is lost with the process that owns it.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((listening_address(), port))
    listener.listen(WAITING)
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def shared_folder(home: Path) -> Iterator[Path]:
    """A folder for the files that processes share, which is removed after the block, or by the next service."""
    private_folder(home)
    clear_leftovers(home, "")
    folder = new_folder(home, "", "shared")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
