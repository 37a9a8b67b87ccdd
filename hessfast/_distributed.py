"""Who shares the work: the process group of torch.distributed, or the processes that torchrun has started."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any


def ranks() -> tuple[int, int]:
    """This process's rank and the number of processes; 0 and 1 without a group."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def started() -> tuple[int, int]:
    """Rank and number of processes as torchrun tells them, for those that need not talk; torch is not loaded."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def workers() -> tuple[int, int]:
    """Rank and number of processes of the group, or of torchrun where there is none."""
    rank, world_size = ranks()
    return (rank, world_size) if world_size > 1 else started()


def local_device(device: str) -> str:
    """A device by the number that it has for this process: under torchrun "cuda" is the GPU of its local rank."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


@contextlib.contextmanager
def group(device: str) -> Iterator[None]:
    """The process group of torchrun's processes, for those that talk; nothing where there is but one.

    They leave together, however long one of them still works alone: NCCL's groups are not left one by one.
    """
    if started()[1] == 1:
        yield
        return
    from torch import cuda, distributed

    if device.startswith("cuda"):
        cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        everyone: Any = distributed.new_group(backend="gloo", timeout=timedelta(days=365))
        yield
        distributed.barrier(everyone)
    finally:
        distributed.destroy_process_group()
