"""A stopwatch for the steps of the funnel."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Made = TypeVar("Made")


class Stopwatch:
    """Seconds by step, in the order in which the steps began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time what is done in the block."""
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def make(self, step: str, how: Callable[[], Made]) -> Made | None:
        """The result of a step, which is timed; a service may leave it out: None."""
        with self(step):
            return how()
