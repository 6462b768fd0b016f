"""The processes that torchrun starts for one command: each works on its share of the rows.

Without torchrun there is one process, and torch, whose import takes two seconds, is not loaded.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import click

from recsys_assets.processes import end_with

T = TypeVar("T")
TORCHRUN = "TORCHELASTIC_RUN_ID"  # the variable that torchrun sets in its processes


@dataclass(frozen=True)
class Share:
    """One of `processes` processes, by its number from 0."""

    rank: int = 0
    processes: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and says what there is only once."""
        return self.rank == 0

    def of(self, rows: int) -> slice:
        """The rows of this process: consecutive ones, as many as the others have, up to one."""
        return slice(rows * self.rank // self.processes, rows * (self.rank + 1) // self.processes)

    def say(self, text: str) -> None:
        """Print a remark to stderr, once for all processes."""
        if self.is_first:
            click.echo(text, err=True)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, by their numbers; all of them have come this far."""
        if self.processes == 1:
            return [value]
        import torch.distributed as dist

        found: list[T] = [value] * self.processes
        dist.all_gather_object(found, value)
        return found


ALONE = Share()


def is_first() -> bool:
    """Whether this process is the only one, or the first of those that torchrun started; it ends with torchrun.

    For work that one process does; the others may end at once.
    """
    if TORCHRUN not in os.environ:
        return True
    end_with(os.getppid())
    return os.environ["RANK"] == "0"


@contextlib.contextmanager
def sharing() -> Iterator[Share]:
    """Join the processes that torchrun started, until the block ends.

    Raises:
        ProcessLost: one of the others has ended.
    """
    if TORCHRUN not in os.environ:
        yield ALONE
        return
    from recsys_assets.training.distributed import process_group, processes, rank

    with process_group():
        yield Share(rank(), processes())
