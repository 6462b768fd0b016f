"""The queue of a process: requests begin one at a time, in their order, and only so many wait.

A process answers a request in one go. Without turns, all requests that arrive while it does would begin next, in one
go too, and those that arrive then could not even be refused before all of these are answered.
"""

import asyncio
import time
from collections import deque


class Turns:
    """The requests that wait in a process until they may begin.

    Between two of them the event loop looks for new ones, so that one too many is refused at once.

    Args:
        most: how many may wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self) -> float | None:
        """Wait for a turn; returns the seconds that this took, or None at once if as many wait as may."""
        if len(self._waiting) >= self._most:
            return None
        began, loop = time.perf_counter(), asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._give)
        await turn
        return time.perf_counter() - began

    def _give(self) -> None:
        """Give the first of those that wait its turn, and the next one in the next round of the event loop."""
        turn = self._waiting.popleft()
        if not turn.done():  # it is cancelled where the service ends
            turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)
