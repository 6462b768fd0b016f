"""Blocks of a computation in parallel, one thread per core.

numpy and scipy let other threads run while they compute. BLAS is limited to one thread meanwhile: its own threads
wait for each other after every product, and here products are many and small.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from recsys_assets.arrays import Ints, offsets

Block = TypeVar("Block")
Result = TypeVar("Result")


def threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def map_blocks(task: Callable[[Block], Result], blocks: Iterable[Block]) -> list[Result]:
    """The task's result for every block, in the order of the blocks."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads()) as pool:
        return list(pool.map(task, blocks))


def cost_blocks(costs: Ints, limit: int) -> Iterator[slice]:
    """Consecutive blocks whose costs add up to at most `limit`; one that costs more is a block of its own."""
    total = offsets(costs)
    first = 0
    while first < len(costs):
        last = int(np.searchsorted(total, total[first] + limit, "right")) - 1
        last = max(last, first + 1)
        yield slice(first, last)
        first = last
