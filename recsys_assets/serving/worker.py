"""One process that answers: the application on a socket that all processes share, from what is open."""

import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import uvicorn
from uvicorn.config import Config

from recsys_assets.processes import end_with
from recsys_assets.serving.kinds import Kind
from recsys_assets.serving.order import FINISH, LEAVE
from recsys_assets.serving.place import Place

# Seconds after which a thread that writes lets an answer go on; Python's own 0.005 are waited after each step that lets
# other threads run. With this and the priority of the log's thread, the 99th percentile of 250 requests a second on
# MovieLens 1M fell from 63 to 41 ms (medians of five loads each, in turns).
SWITCH = 0.0005
# uvloop takes one new connection between two answers, so those that wait too long could not even be refused.
LOOP: Literal["asyncio"] = "asyncio"


class Worker(uvicorn.Server):
    """A server that tells when it listens, shows that it lives, and leaves without a request that fails.

    It leaves on SIGTERM: it takes no more connections, answers on those that are open with `Connection: close`, and
    closes idle ones a second later. A client whose request crosses such an end would see it fail.

    Args:
        config: of uvicorn.
        listens: is called once connections are taken.
        beat: is called ten times a second.
    """

    def __init__(self, config: Config, listens: Callable[[], None], beat: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens, self._beat = listens, beat
        self._leaves: float | None = None

    def handle_exit(self, sig: int, frame: object) -> None:  # noqa: ARG002 (it is uvicorn's)
        """Begin to leave."""
        self._leaves = self._leaves or time.monotonic() + LEAVE

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell so."""
        await super().startup(sockets)
        self._listens()

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to end; asked ten times a second."""
        self._beat()
        ends = await super().on_tick(counter)
        if self._leaves is None:
            return ends
        for server in self.servers:
            server.close()
        self.server_state.default_headers = [*self.config.encoded_headers, (b"connection", b"close")]
        return ends or time.monotonic() > self._leaves


def work(
    kind: Kind,
    opened: Any,
    listener: socket.socket,
    place: Place,
    listens: Callable[[], None],
    beat: Callable[[], None],
) -> None:
    """Answer until SIGTERM, or until the supervisor ends."""
    sys.setswitchinterval(SWITCH)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(place.supervisor)
    # Without anything open, the next answer may be of a process that has something.
    headers = [] if opened is not None else [("connection", "close")]
    with kind.application(opened, listener.getsockname()[1], place) as app:
        how: dict[str, Any] = {"log_level": "warning", "access_log": False, "loop": LOOP}
        config = Config(app, **how, headers=headers, timeout_graceful_shutdown=FINISH)
        Worker(config, listens, beat).run([listener])
