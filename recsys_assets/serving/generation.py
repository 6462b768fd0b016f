"""A generation: the processes that answer from one release. One process opens the release, and is copied for each.

`python -m recsys_assets.serving.generation SOCKET REPORT` is given two file descriptors and, as a line on its standard
input, an `Order`. It opens the release and then forks: what was opened is in memory once, however many processes answer
from it, a process that died is replaced within a moment, and no process that answers ever loads anything. The processes
that answer from the release before go on until these here do. Then they leave, and their memory is free again.
"""

import gc
import json
import multiprocessing
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from recsys_assets.processes import end_with, give_way
from recsys_assets.serving.kinds import Kind, kind_of
from recsys_assets.serving.limits import Limits, Rates
from recsys_assets.serving.log import say
from recsys_assets.serving.order import LOOK, Order
from recsys_assets.serving.place import Place
from recsys_assets.serving.worker import work

STARTS = 30.0  # seconds that a process has until it listens
HUNG = 15.0  # seconds without a sign of life after which a process is replaced
LOW = 10  # niceness of opening, while others answer
_context = multiprocessing.get_context("fork")


class Member:
    """One process that answers, and when it last showed that it lives."""

    def __init__(self, kind: Kind, opened: Any, listener: socket.socket, place: Place) -> None:
        self._listens = _context.Event()
        self._beat = _context.Value("d", time.monotonic() + STARTS, lock=False)
        arguments = (kind, opened, listener, place, self._listens.set, self._show_life)
        self.process: ForkProcess = _context.Process(target=work, args=arguments)
        self.process.start()

    def _show_life(self) -> None:
        self._beat.value = time.monotonic()

    @property
    def is_well(self) -> bool:
        """Whether it lives and is not stuck; one that is stuck is killed."""
        if time.monotonic() - self._beat.value > HUNG:
            self.process.kill()
        return self.process.is_alive()

    def wait(self) -> bool:
        """Wait until it listens; whether it does."""
        while not self._listens.wait(LOOK):
            if not self.is_well:
                return False
        return True


class Generation:
    """The processes that answer from one release, and the care for them."""

    def __init__(self, order: Order, listener: socket.socket) -> None:
        self._kind = kind_of(order.kind)
        limits = Limits.read(os.environ)
        rates = Rates(limits.rate) if limits.rate else None
        places = Path(order.status), os.getppid(), os.getpid(), Path(order.copies)
        self._listener, self._place = listener, Place(limits, rates, *places)
        self._members: list[Member] = []
        self._leaves = self._is_open = False
        signal.signal(signal.SIGTERM, self._leave)

    def _leave(self, *_: object) -> None:
        self._leaves = True
        if not self._is_open:  # nothing is in flight but the answer that nothing is open yet
            for each in self._members:
                each.process.kill()
            os._exit(0)

    def start(self, processes: int, opened: Any) -> bool:
        """Let so many processes answer, in place of those before; whether all of them do."""
        gc.collect()
        gc.freeze()  # otherwise the collector would write to the pages that the processes share
        before, self._opened, self._is_open = self._members, opened, opened is not None
        for each in before:  # they say that nothing is open yet, and this must be over first
            each.process.terminate()
        self._members = [Member(self._kind, opened, self._listener, self._place) for _ in range(processes)]
        return all([each.wait() for each in self._members])

    def look_after(self) -> None:
        """Replace processes that ended, until SIGTERM; then let all of them leave."""
        while not self._leaves:
            time.sleep(LOOK)
            multiprocessing.active_children()  # takes note of those that ended
            if self._opened is not None:
                self._kind.look(self._opened)
            for place, each in enumerate(self._members):
                if not each.is_well and not self._leaves:
                    say(f"process {each.process.pid} ended with status {each.process.exitcode}; another takes over")
                    self._members[place] = Member(self._kind, self._opened, self._listener, self._place)
        for each in self._members:
            each.process.terminate()
        for each in self._members:
            each.process.join()


def in_thread(function: Callable[[], Any], niceness: int) -> Any:
    """The function's result, computed in a thread of a lower priority, which ends with the thread.

    A process may lower its own priority, but not raise it again.
    """

    def run() -> Any:
        give_way(niceness)
        return function()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def main() -> None:
    """Run a generation as the module says."""
    end_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor decides
    listener, report = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    order = Order.read(sys.stdin.readline())
    if order.memory:  # further processes have the same limit, because they are copies
        resource.setrlimit(resource.RLIMIT_DATA, (order.memory << 20,) * 2)
    generation = Generation(order, listener)
    if order.alone:
        generation.start(1, None)
    refusal = _serve(generation, order)
    with os.fdopen(report, "w") as said:
        said.write(json.dumps({"refusal": refusal}) + "\n")
    if order.alone or not refusal:
        generation.look_after()


def _serve(generation: Generation, order: Order) -> str:
    """Open the release and answer from it; returns why that cannot be, or nothing."""
    release = order.release
    if release is None:
        return ""
    try:
        opened = in_thread(lambda: kind_of(order.kind).open(order, release), 0 if order.alone else LOW)
    except Exception as error:  # whatever is wrong with a release, the one that works must stay
        return str(error)
    if not generation.start(order.processes, opened):
        return "its processes do not start: see the log"
    say(str(opened))
    return ""


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # without Python's clean-up, in which DuckDB prints a list of what it did not free
