"""Blocks of a computation in parallel, one thread per core; and the cores of steps that run at the same time.

numpy and scipy let other threads run while they compute.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from recsys_assets.arrays import Ints, offsets

# Steps of a run at a time, and trainings of all runs (the limit of pools in dagster.yaml): each may hold a few GB.
STEPS_AT_ONCE = 2
Block = TypeVar("Block")
Result = TypeVar("Result")


def threads() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit products of numpy and scipy to the calling thread inside the block.

    BLAS's own threads wait for each other after every product, which costs more than it gains where products are many
    and small, and far more where other processes use the cores.
    """
    with threadpool_limits(1, "blas"):
        yield


@contextmanager
def one_of_several_trainings() -> Iterator[None]:
    """Inside the block, libraries compute with a training's share of the cores, so that as many trainings run at once.

    A training has many small products, which more threads hardly speed up: on two cores an epoch of DSSM on MovieLens
    1M took 13.5 s with one thread and 12.8 s with two, one of DropoutNet 19.3 s and 21.3 s. So two trainings at a time,
    with a thread each, take about half of the time that they take one after the other. `OMP_NUM_THREADS` may say less.
    """
    share, most = max(1, threads() // STEPS_AT_ONCE), os.environ.get("OMP_NUM_THREADS", "")
    share = min(share, int(most)) if most.isdigit() and int(most) else share
    # The variable is for libraries that are loaded in the block.
    with _variable("OMP_NUM_THREADS", str(share)), threadpool_limits(share):
        yield


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment inside the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        os.environ.update({} if before is None else {name: before})


def map_blocks(task: Callable[[Block], Result], blocks: Iterable[Block]) -> list[Result]:
    """The task's result for every block, in the order of the blocks."""
    with one_blas_thread(), ThreadPoolExecutor(threads()) as pool:
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
