"""The front of the application, which every request passes: its id, its limits, its turn, its log line.

It is a plain ASGI middleware: Starlette's class for them starts a task for each request.
"""

import math
import random
import re
import time
import uuid
from dataclasses import dataclass
from typing import Any

from recsys_assets.guard import App, Message, Receive, Scope, Send
from recsys_assets.serving.answers import REQUEST_ID, WAITED, problem
from recsys_assets.serving.limits import Limits, Rates, limited
from recsys_assets.serving.log import write
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.turns import Turns

MOST_HEADERS = 1 << 15  # bytes of all headers
RETRY = 1  # seconds after which a client may come again whom a full queue refused
WATCHES = ("/health/", "/metrics")  # paths by which a service is watched, also while it has too much to do
_SANE = re.compile(r"[\w.:-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Front:
    """The application behind the front.

    Attributes:
        app: the application.
        metrics: counts requests.
        limits: of bodies and of the log.
        turns: of the requests of this process.
        rates: of clients; None: they are not limited.
    """

    app: App
    metrics: Metrics
    limits: Limits
    turns: Turns
    rates: Rates | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status, request_id = time.perf_counter(), 500, _request_id(scope)
        REQUEST_ID.set(request_id)

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await self._answer(scope, limited(receive, self.limits.body), tell)
        finally:
            self.metrics.request(scope["method"], status)
            self._log(scope, request_id, status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal := self._refusal(scope):
            await problem(*refusal)(scope, receive, send)
        elif not await self._has_turn(scope["path"]):
            self.metrics.shed()
            detail = f"{self.limits.queue:,} requests wait already: send this one again later"
            await problem(503, detail, {"retry-after": str(RETRY)})(scope, receive, send)
        elif scope["method"] == "HEAD":  # the server leaves the body out
            await self.app({**scope, "method": "GET"}, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        """Status, reason and headers for a client that sends too much."""
        wait = self.rates.wait(_client(scope)) if self.rates else 0.0
        if wait > 0:
            retry = {"retry-after": str(math.ceil(wait))}
            return 429, f"send at most {self.limits.rate:g} requests a second", retry
        length = _header(scope, b"content-length")
        if length.isdecimal() and int(length) > self.limits.body:
            return 413, f"send a body of at most {self.limits.body:,} bytes", {"connection": "close"}
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MOST_HEADERS:
            return 431, f"send headers of at most {MOST_HEADERS:,} bytes", {"connection": "close"}
        return None

    async def _has_turn(self, path: str) -> bool:
        """Whether the request may begin, once it may; not if too many wait."""
        waited = 0.0 if path.startswith(WATCHES) else await self.turns.wait()
        WAITED.set(waited or 0.0)
        return waited is not None

    def _log(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        """Write a line without what may be secret: neither the query, nor headers, nor bodies."""
        is_probe = scope["path"].startswith("/health/")
        if (status >= 400 and not is_probe) or random.random() < self.limits.logged:
            said: dict[str, Any] = {"request_id": request_id, "method": scope["method"], "path": scope["path"][:200]}
            write({**said, "status": status, "ms": round(seconds * 1000, 2), "client": _client(scope)})


def _request_id(scope: Scope) -> str:
    """The id that the client gave, if it is one, or a new one."""
    given = _header(scope, b"x-request-id")
    return given if _SANE.fullmatch(given) else uuid.uuid4().hex


def _client(scope: Scope) -> str:
    return scope["client"][0] if scope.get("client") else "unknown"


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
