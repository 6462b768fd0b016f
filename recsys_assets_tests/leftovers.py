"""Processes that a test started, and all that these started: found by a variable that they inherit."""

import os
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

import psutil

from recsys_assets.processes import is_alive

VARIABLE = "RECSYS_TESTS_MARK"
OWN_RULE = "recsys_assets.stores.embedded"  # the MongoDB server ends by itself, 10 s after its last user
T = TypeVar("T")


class Family:
    """Whatever is started with its environment."""

    def __init__(self, **environment: str) -> None:
        """Nothing is started; `environment` comes on top of this process's."""
        self.mark = uuid.uuid4().hex
        self.environment = {**os.environ, **environment, VARIABLE: self.mark}

    def alive(self) -> list[psutil.Process]:
        """Those that run, wherever they were moved to."""
        return [process for process in psutil.process_iter() if self._is_member(process)]

    def left(self, seconds: float = 10.0) -> list[str]:
        """The command lines of those that still run after the seconds; returns at once when none does."""
        end = time.monotonic() + seconds
        while (alive := self.alive()) and time.monotonic() < end:
            time.sleep(0.2)
        return [f"{process.pid}: {command(process)}" for process in alive]

    def steps(self) -> list[psutil.Process]:
        """Processes of Dagster's steps: forked from a fork server, which has the same command line."""
        forks = [process for process in self.alive() if "multiprocessing.forkserver" in command(process)]
        return [process for process in forks if process.ppid() in {each.pid for each in forks}]

    def _is_member(self, process: psutil.Process) -> bool:
        try:
            is_ours = process.environ().get(VARIABLE) == self.mark and is_alive(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False
        return is_ours and OWN_RULE not in command(process)


def command(process: psutil.Process) -> str:
    """Its command line; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def until(found: Callable[[], T], seconds: float = 120.0) -> T:
    """What `found` returns, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"nothing within {seconds:.0f} s"
        time.sleep(0.1)
    return result
