"""The service's log: a line of JSON for each event, on its output, which never makes an answer wait."""

import datetime as dt
import queue
import sys
import threading
from collections.abc import Mapping
from typing import Any

import orjson

_MOST = 10_000  # lines that wait to be written; while the output takes none, further ones are dropped


class _Lines:
    """Lines that a thread writes; it starts with the first one, because a fork does not take threads along."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[bytes] = queue.Queue(_MOST)
        self._thread: threading.Thread | None = None

    def add(self, line: bytes) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._write, name="log", daemon=True)
            self._thread.start()
        if not self._waiting.full():
            self._waiting.put(line)

    def _write(self) -> None:
        while True:
            sys.stdout.buffer.write(self._waiting.get() + b"\n")
            sys.stdout.buffer.flush()


_lines = _Lines()


def write(content: Mapping[str, Any]) -> None:
    """Write an event with the present time."""
    _lines.add(orjson.dumps({"time": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds"), **content}))


def say(sentence: str) -> None:
    """Write a sentence for people."""
    print(sentence, flush=True)  # noqa: T201  # the service's log is its output
