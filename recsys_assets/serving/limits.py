"""Limits of what one client may send: the settings (RECSYS_SERVE_*), the size and the time of a body, and a rate."""

import asyncio
import mmap
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from starlette.exceptions import HTTPException

from recsys_assets.guard import Message, Receive
from recsys_assets.serving.variables import InvalidVariable, number

BODY_SECONDS = 10.0  # within which a body must arrive
BURST = 2.0  # seconds of its rate that a client may send at once
_SLOTS = 1 << 16  # clients that share one are limited together


@dataclass(frozen=True)
class Limits:
    """The settings of a service that limit or log requests.

    Attributes:
        body: the most bytes of a body (`RECSYS_SERVE_BODY`).
        rate: requests a second of one client (`RECSYS_SERVE_RATE`); 0: as many as it likes.
        logged: the share of requests that are logged (`RECSYS_SERVE_ACCESS_LOG`); refused and failed ones always are.
        queue: how many requests may wait in one process (`RECSYS_SERVE_QUEUE`); further ones are refused.
        origins: whose pages may send requests (`RECSYS_SERVE_ORIGINS`, as `https://shop.example`).
    """

    body: int = 1 << 20
    rate: float = 0.0
    logged: float = 0.0
    queue: int = 50
    origins: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Limits":
        """The settings that the environment gives.

        Raises:
            InvalidVariable: one is not a number in its bounds, or an origin is not one.
        """
        named = [each.strip().rstrip("/").lower() for each in environment.get("RECSYS_SERVE_ORIGINS", "").split(",")]
        origins = tuple(each for each in named if each)
        if odd := [each for each in origins if not each.startswith(("http://", "https://"))]:
            raise InvalidVariable(f"RECSYS_SERVE_ORIGINS: {odd[0]!r} is not an origin such as https://shop.example")
        return cls(
            int(number(environment, "RECSYS_SERVE_BODY", cls.body, 1 << 30)),
            number(environment, "RECSYS_SERVE_RATE", cls.rate, 1e6),
            number(environment, "RECSYS_SERVE_ACCESS_LOG", cls.logged, 1.0),
            int(number(environment, "RECSYS_SERVE_QUEUE", cls.queue, 1e6, 1.0)),
            origins,
        )


class Rates:
    """The rates of all clients, in memory that a process shares with those that it forks.

    It is the generic cell rate algorithm: all that is kept of a client is the time at which its next request would be
    due if it sent them evenly. Two requests at the same instant may be counted as one.

    Args:
        rate: requests a second.
    """

    def __init__(self, rate: float) -> None:
        self._each, self._due = 1 / rate, np.frombuffer(mmap.mmap(-1, 8 * _SLOTS), np.float64)
        self._ahead = max(BURST - self._each, 0.0)  # seconds by which a client may be ahead of its even rate

    def wait(self, client: str) -> float:
        """Seconds until the client may send again; 0 if it may now, and this is then counted."""
        place, now = hash(client) % _SLOTS, time.monotonic()
        due = max(float(self._due[place]), now)
        if due - now > self._ahead:
            return due - now - self._ahead
        self._due[place] = due + self._each
        return 0.0


def limited(receive: Receive, most: int) -> Receive:
    """Receive a body of at most so many bytes, chunked or not, within `BODY_SECONDS`.

    Raises:
        HTTPException: it is larger (413), or slower (408).
    """
    read, end = 0, time.monotonic() + BODY_SECONDS

    async def take() -> Message:
        nonlocal read
        try:
            async with asyncio.timeout(max(end - time.monotonic(), 0)):
                message = await receive()
        except TimeoutError:
            raise _refusal(408, f"send the body within {BODY_SECONDS:.0f} seconds") from None
        read += len(message.get("body", b""))
        if read > most:
            raise _refusal(413, f"send a body of at most {most:,} bytes")
        return message

    return take


def _refusal(status: int, detail: str) -> HTTPException:
    return HTTPException(status, detail, {"connection": "close"})  # the rest of the body is not read
