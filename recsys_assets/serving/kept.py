"""The other releases whose files are kept: a list can be compared with theirs, which a process of its own answers."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import orjson

from recsys_assets.serving.order import Release, served_last
from recsys_assets.serving.requests import Problem, RecommendBody
from recsys_assets.serving.service import Service

BUSY = 20.0  # seconds that a question waits for the one before


class KeptReleases:
    """Answers of releases that are not served now. Any thread may ask; one question is answered at a time.

    The first question starts a process that opens the release and ends when nobody asks any more, so that no memory is
    needed for releases that are not compared.

    Args:
        service: over the release that is served.
        copies: the folder of the copies of releases; None: none are kept.
    """

    def __init__(self, service: Service, copies: Path | None) -> None:
        self._service, self._copies, self._lock = service, copies, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0

    def listed(self) -> list[Release]:
        """The releases besides that which is served, the one that was served last first."""
        served = self._service.opened.number
        return [each for each in (served_last(self._copies) if self._copies else []) if each.number != served]

    def answer(self, number: int, body: RecommendBody) -> dict[str, Any]:
        """The answer of a release to a request.

        Raises:
            Problem: the release is not kept or cannot be opened, others ask too, or it refuses the request.
        """
        kept = [each.number for each in self.listed()]
        if number not in kept:
            those = f"those besides the served one are {', '.join(map(str, kept))}" if kept else "no other is"
            raise Problem(404, f"release {number} is not kept; {those}")
        if not self._lock.acquire(timeout=BUSY):
            raise Problem(503, "others compare releases now: send this request again later")
        try:
            status, content = self._ask(number, body.model_dump_json(exclude_defaults=True).encode())
        finally:
            self._lock.release()
        if status != 200:
            raise Problem(status, content)
        return dict(content)

    def _ask(self, number: int, line: bytes) -> tuple[int, Any]:
        """Status and content; a process that ended because nobody asked is started again."""
        for _ in range(2):
            process = self._running(number)
            with contextlib.suppress(BrokenPipeError):
                if process.stdin and process.stdout:
                    process.stdin.write(line + b"\n")
                    process.stdin.flush()
                    if said := process.stdout.readline():
                        status, content = orjson.loads(said)
                        return status, content
            self._end(process)
        raise Problem(503, f"the process that answers from release {number} ended: see the log")

    def _running(self, number: int) -> "subprocess.Popen[bytes]":
        if self._process and self._number != number:
            self._end(self._process)
        if self._process is None:
            command = [sys.executable, "-m", "recsys_assets.serving.kept_process", str(self._copies), str(number)]
            counted = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=counted)
            self._number = number
        return self._process

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.communicate()
        self._process = None
