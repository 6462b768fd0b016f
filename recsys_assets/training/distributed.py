"""The processes that train one model together, as `torchrun` starts them; a process on its own is one of one.

Each process holds all rows and the same weights, and computes its share of every batch; the gradients are averaged,
so that every process takes the same step. The first process makes all decisions on validation rows, for all.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recsys_assets.models.layers import Table
from recsys_assets.processes import end_with


class ProcessLost(RuntimeError):
    """One of the other processes that train together has ended, so this one cannot continue."""


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device_of_choice() -> torch.device:
    """A GPU if there is one (a different one for each process of a machine), otherwise the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started: gloo on CPUs, NCCL on GPUs. Without torchrun, do nothing.

    They end with torchrun, even if it is killed.

    Raises:
        ProcessLost: one of the others has ended.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    end_with(os.getppid())
    device = device_of_choice()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise ProcessLost(
            f"process {rank()} of {processes()} stopped, because another process ended or cannot be reached. "
            "See torchrun's error of that process for the cause; the same command continues from the last whole epoch"
        ) from error
    dist.destroy_process_group()  # not after a failure: it may wait for a process that has ended


def is_lost_peer(error: RuntimeError) -> bool:
    """Whether gloo, which has no error class of its own, or NCCL raised this error because a process is gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def make_parallel(objective: nn.Module, *, same_weights: bool = True) -> nn.Module:
    """The module with gradients averaged over all processes; for a single process, the module itself.

    `same_weights` says that every batch uses the same weights, which saves a look at each. The gradients of `Table`s
    that are trained by rows are left to `gather_rows`.
    """
    if processes() == 1:
        return objective
    by_rows = [f"{name}.weight" for name, part in objective.named_modules() if isinstance(part, Table) and part.by_rows]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(  # type: ignore[no-untyped-call]
        objective, by_rows
    )
    # With a static graph, some weights may be unused (the crosses, if a schema has none).
    return DistributedDataParallel(
        objective,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=same_weights,
        find_unused_parameters=not same_weights,
    )


def gather_rows(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N,) of a table and their gradients (N, …) of all processes, averaged by dividing by their number."""
    if processes() == 1:
        return rows, values
    sizes = [torch.zeros_like(rows[:1]) for _ in range(processes())]
    dist.all_gather(sizes, torch.full_like(rows[:1], len(rows)))
    numbers = [int(size) for size in sizes]
    return _gather(rows, numbers), _gather(values / processes(), numbers)


def _gather(tensor: Tensor, numbers: list[int]) -> Tensor:
    """The first `numbers[r]` entries of the tensor of each process r; padded, for gloo needs equal sizes."""
    padded = tensor.new_zeros(max(numbers), *tensor.shape[1:])
    padded[: len(tensor)] = tensor
    parts = [torch.empty_like(padded) for _ in numbers]
    dist.all_gather(parts, padded)
    return torch.cat([part[:number] for part, number in zip(parts, numbers, strict=True)])


def mean_of_all(value: Tensor) -> Tensor:
    """The mean of a scalar over all processes."""
    if processes() > 1:
        dist.all_reduce(value)
        value = value / processes()
    return value


def decide(judge: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The first process's result, sent to all processes."""
    found = [judge() if rank() == 0 else {}]
    if processes() > 1:
        dist.broadcast_object_list(found)
    return found[0]
