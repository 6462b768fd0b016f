"""Access control for a server on this machine: a small ASGI middleware in front of any app.

A page of any website can send requests to 127.0.0.1 from its visitors' browsers, and with a domain name that points to
127.0.0.1 it can even read the answers (DNS rebinding). So the guard passes only requests that are sent to one of the
server's own host names and, if a page sent them, come from a page of such a host. The same holds for websockets. If
there is a token, every request needs it.
"""

import base64
import binascii
import hmac
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "[::1]")
CHALLENGE = (b"www-authenticate", b'Basic realm="the token as password", charset="UTF-8"')
NO_FRAMES = (b"x-frame-options", b"SAMEORIGIN")  # against clickjacking


def hosts_of(port: int, further: Iterable[str] = ()) -> frozenset[str]:
    """Allowed Host headers of a server on this machine: its own names with the port, and further `host[:port]`.

    A browser leaves out port 80.
    """
    own = [f"{name}:{port}" for name in LOCAL] + (list(LOCAL) if port == 80 else [])
    return frozenset(name.lower() for name in (*own, *further))


def listening_address() -> str:
    """The address on which servers listen: this machine's own, unless `RECSYS_LISTEN` names another.

    In a container that has to be 0.0.0.0, and the container's ports are published on 127.0.0.1 of its machine.
    """
    return os.environ.get("RECSYS_LISTEN") or LOCAL[0]


def hosts_in(variable: str) -> list[str]:
    """The hosts that an environment variable names, separated by commas."""
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def is_taken(port: int) -> bool:
    """Whether something listens on the port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex((LOCAL[0], port)) == 0


@dataclass(frozen=True)
class Refusal:
    """An answer instead of the app's."""

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Guard:
    """The app, restricted to allowed clients.

    Attributes:
        app: the ASGI app behind the guard.
        hosts: allowed values of the Host header, and of the Origin header after its scheme.
        token: if not empty, clients must send it as `Authorization: Bearer TOKEN`, or as the password of `Basic`,
            which browsers ask for.
        open_paths: paths that need no token, such as those of a page that asks for it.
        origins: further allowed values of the Origin header, as `https://host[:port]`.
    """

    app: App
    hosts: frozenset[str]
    token: str = ""
    open_paths: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on to the app."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)  # the server's own start and end
        elif refusal := self._refusal(scope):
            await refuse(refusal, scope, send)
        else:
            await self.app(scope, receive, _without_frames(send))

    def _refusal(self, scope: Scope) -> Refusal | None:
        hosts, origins = _headers(scope, b"host"), _headers(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return Refusal(
                403, f"this server is not known as {_join(hosts)}; its names are: {_join(sorted(self.hosts))}"
            )
        if any(not self._is_ours(origin) for origin in origins):
            return Refusal(403, f"a page of {_join(origins)} may not talk to this server")
        if self.token and scope["path"] not in self.open_paths and not self._has_token(scope):
            return Refusal(401, "this server asks for a token", (CHALLENGE,))
        return None

    def _is_ours(self, origin: str) -> bool:
        scheme, separator, host = origin.partition("://")
        is_own = bool(separator) and scheme in ("http", "https") and host.lower() in self.hosts
        return is_own or origin.lower() in self.origins

    def _has_token(self, scope: Scope) -> bool:
        return any(self._is_token(given) for given in _headers(scope, b"authorization"))

    def _is_token(self, given: str) -> bool:
        scheme, _, credentials = given.encode("latin-1").partition(b" ")
        said = {b"bearer": credentials.strip(), b"basic": _password(credentials)}.get(scheme.lower(), b"")
        return hmac.compare_digest(said, self.token.encode())


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Answer a request with a problem document (RFC 9457).

    A websocket is closed before it is accepted, which the client sees as status 403.
    """
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.reason[:100]})
        return
    title = HTTPStatus(refusal.status).phrase
    document = {"type": "about:blank", "title": title, "status": refusal.status, "detail": refusal.reason}
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close"), *refusal.headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _join(values: Iterable[str]) -> str:
    return ", ".join(values)[:300] or "nothing"


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


def _without_frames(send: Send) -> Send:
    async def send_without_frames(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), NO_FRAMES]}
        await send(message)

    return send_without_frames
