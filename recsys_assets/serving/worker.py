"""One process that answers: the application on a socket that all processes share, from a release that is open."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import Config

from recsys_assets.guard import App, Guard, hosts_in, hosts_of
from recsys_assets.processes import end_with
from recsys_assets.serving.app import create_app
from recsys_assets.serving.budget import default_deadline
from recsys_assets.serving.log import say
from recsys_assets.serving.online_features import online_features
from recsys_assets.serving.order import FINISH, LEAVE
from recsys_assets.serving.page import PATHS
from recsys_assets.serving.place import Place
from recsys_assets.serving.request_log import RequestLog, logging
from recsys_assets.serving.service import Opened, Service
from recsys_assets.serving.told import Told, open_told


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


def application(
    opened: Opened | None, port: int, place: Place, log: RequestLog | None = None, told: Told | None = None
) -> App:
    """The guarded application over a release and what was told since; without one, it says that none is open yet."""
    service = Service(opened, told, default_deadline())
    if opened:
        opened.engine.online = online_features(opened.engine, os.environ)
        opened.engine.warm_up()  # the process touches what it shares with the others
        opened.book.follow(opened.engine)
    hosts, origins = hosts_of(port, hosts_in("RECSYS_SERVE_HOSTS")), frozenset(place.limits.origins)
    token = os.environ.get("RECSYS_SERVE_TOKEN", "")
    app: App = Guard(create_app(service, log, place), hosts, token, PATHS, origins)
    if origins:
        headers = ("authorization", "content-type", "x-request-id")
        app = CORSMiddleware(app, list(origins), ("GET", "POST"), headers, expose_headers=("x-request-id",))
    return app


def work(
    opened: Opened | None,
    listener: socket.socket,
    place: Place,
    listens: Callable[[], None],
    beat: Callable[[], None],
) -> None:
    """Answer until SIGTERM, or until the supervisor ends."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(place.supervisor)
    headers = [] if opened else [("connection", "close")]  # the next answer may be of a process that has a release
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(logging(opened.engine.profile.name, say)) if opened else None
        told = stack.enter_context(open_told(opened.engine.profile)) if opened else None
        app = application(opened, listener.getsockname()[1], place, log, told)
        config = Config(app, log_level="warning", access_log=False, headers=headers, timeout_graceful_shutdown=FINISH)
        Worker(config, listens, beat).run([listener])
