"""Processes that end when the process that they work for ends, for whatever reason.

SIGKILL leaves a process no time to end its children, and a training step without its run goes on for a quarter of an
hour. So each child has a thread that checks every second whether the parent is still alive. The kernel's own way,
PR_SET_PDEATHSIG, follows the thread that started the child, not the process, and Dagster starts runs in threads.

`python -m recsys_assets.processes PID MODULE ARGUMENT...` runs a module like `python -m`, as a server of process PID:
when that process has ended, the server ends with all processes of its process group, which it must lead.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import sys
import threading
import time

import psutil

POLL_SECONDS = 1.0  # seconds between two checks


def end_with(pid: int, *, group: bool = False) -> None:
    """Kill this process, or its whole process group, once the process `pid` has ended."""
    threading.Thread(target=_watch, args=(pid, group), name=f"ends with {pid}", daemon=True).start()


def end_with_parent() -> None:
    """End this process with its parent, if `multiprocessing` started it, as it does Dagster's runs."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with(parent.pid)


def give_way(niceness: int) -> None:
    """Add to the niceness of this thread; it may not take it back."""
    this = os.PRIO_PROCESS, threading.get_native_id()
    os.setpriority(*this, os.getpriority(*this) + niceness)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process runs; a zombie, which has ended but was not waited for, does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _watch(pid: int, group: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        watched = psutil.Process(pid)  # it knows its start time: a later process with the same id is a different one
        while is_alive(watched):
            time.sleep(POLL_SECONDS)
    if group:
        os.killpg(0, signal.SIGKILL)
    _kill_children()
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_children() -> None:
    """Kill the processes that this one started in its own session, such as the `tail` with which Dagster shows a log.

    A server in a session of its own, such as the embedded MongoDB, serves others too and stays.
    """
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(child.pid) == os.getsid(0):
                child.kill()


def main() -> None:
    """Run the module that the command line names."""
    pid, module, *arguments = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a child inherits ignored signals
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with(int(pid), group=True)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
