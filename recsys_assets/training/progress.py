"""The progress bar of a training, on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from recsys_assets.training.loop import Losses


class Step(NamedTuple):
    """A finished step: its epoch, the rows of the epoch so far, all rows of the epoch, and its mean loss."""

    epoch: int
    done: int
    rows: int
    loss: Tensor


OnStep = Callable[[Step], None]


def report_steps(losses: Losses, epoch: int, rows: int, on_step: OnStep) -> Losses:
    """The same losses; `on_step` is called for each step when the next one begins."""
    done = 0
    for loss, size in losses:
        yield loss, size
        done += size
        on_step(Step(epoch, done, rows, loss.detach()))


@contextmanager
def bar() -> Iterator[OnStep | None]:
    """Show a bar of the epoch on a terminal, with loss and rows per second; without a terminal, nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = "epoch {task.fields[epoch]}", BarColumn(), "{task.completed:,} of {task.total:,} rows"
    figures = TextColumn("{task.fields[loss]:.4f} loss, {task.fields[speed]:,.0f} rows/s")
    with Progress(*columns, figures, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=1, epoch=0, loss=0.0, speed=0.0)

        def on_step(step: Step) -> None:
            if shown.tasks[0].fields["epoch"] != step.epoch:
                shown.reset(task)
            speed = step.done / max(shown.tasks[0].elapsed or 0.0, 1e-3)
            shown.update(
                task, completed=step.done, total=step.rows, epoch=step.epoch, loss=float(step.loss), speed=speed
            )

        yield on_step
