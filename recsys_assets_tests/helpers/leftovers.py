"""Finds the processes that a test started, and all that these started, by a variable that they inherit."""

import os
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

import psutil

from recsys_assets.processes import is_alive

VARIABLE = "RECSYS_TESTS_MARK"
OWN_RULE = "recsys_assets.stores.mongo.embedded"  # the MongoDB server ends on its own, 10 s after its last user
T = TypeVar("T")


class Family:
    """All processes that were started with its environment."""

    def __init__(self, **environment: str) -> None:
        """Prepare the environment: this process's, extended by `environment`; nothing is started yet."""
        self.mark = uuid.uuid4().hex
        self.environment = {**os.environ, **environment, VARIABLE: self.mark}

    def alive(self) -> list[psutil.Process]:
        """The processes that are running, in whatever session or group they are."""
        return [process for process in psutil.process_iter() if self._is_member(process)]

    def left(self, seconds: float = 10.0) -> list[str]:
        """The command lines of processes that are still running after the seconds; returns at once if none is."""
        end = time.monotonic() + seconds
        while (alive := self.alive()) and time.monotonic() < end:
            time.sleep(0.2)
        return [f"{process.pid}: {command(process)}" for process in alive]

    def steps(self) -> list[psutil.Process]:
        """The processes of Dagster's steps, forked from a fork server that has the same command line."""
        forks = [process for process in self.alive() if "multiprocessing.forkserver" in command(process)]
        return [process for process in forks if process.ppid() in {each.pid for each in forks}]

    def _is_member(self, process: psutil.Process) -> bool:
        try:
            is_ours = process.environ().get(VARIABLE) == self.mark and is_alive(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
        return is_ours and OWN_RULE not in command(process)


def command(process: psutil.Process) -> str:
    """A process's command line; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def until(found: Callable[[], T], seconds: float = 120.0) -> T:
    """Wait until `found` returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"nothing within {seconds:.0f} s"
        time.sleep(0.1)
    return result
