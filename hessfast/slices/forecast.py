"""What a slice takes before it is made: images, calls of the network, bytes, and time by a short trial."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hessfast import shards

from .generate import shard_job
from .generators import Generator
from .plan import SlicePlan

QUICK = 1.0  # seconds; a trial as short as this is made again, without what only the first one does


@dataclass(frozen=True)
class Forecast:
    """What `generate` would do.

    Attributes:
        job: plan of the store: images, shards, arrays, bytes.
        missing: images that are not made yet.
        calls: of the network for them, each for a micro-batch; of twice as many images with guidance.
        num_bytes: of the missing images.
        seconds: for them, by one process.
        tried: images of the trial, `trial` seconds long.
        trial: its length.
    """

    job: shards.Plan
    missing: int
    calls: int
    num_bytes: int
    seconds: float
    tried: int
    trial: float


def forecast(
    plan: SlicePlan,
    generator: Generator,
    out: str | Path,
    features: Any = None,
    *,
    keep: Sequence[str] = ("latents", "features"),
    shard_size: int | None = None,
) -> Forecast:
    """What `generate` of the same arguments would still do; nothing is written.

    The time is that of one micro-batch, or on a CPU of as many as are computed at a time, through the whole loop.

    Raises:
        ValueError: as `generate` does, also for a folder with another plan.
        ArithmeticError: for latents or features of the trial that are not finite.

    Example:
        >>> import tempfile
        >>> from hessfast.slices import from_callable
        >>> plan = SlicePlan([[[[1.0, 2.0]]], [[[3.0, 5.0]]]], [[k / 8] for k in range(9)], num_steps=5, micro_batch=4)
        >>> found = forecast(plan, from_callable(lambda z: z, "same"), tempfile.mkdtemp(), keep=["latents"])
        >>> found.missing, found.calls, found.num_bytes  # 3 micro-batches; of each point two float32 and u, float64
        (9, 3, 144)
    """
    job, make = shard_job(plan, generator, features, keep=keep, shard_size=shard_size)
    shards.check(out, job)
    missing = job.num - min(shards.num_sealed(out) * job.shard_size, job.num)
    batches = -(-missing // plan.micro_batch)
    together = min(1 if generator.device.type == "cuda" else torch.get_num_threads(), -(-job.num // plan.micro_batch))
    tried = min(plan.micro_batch, job.num)
    trial = _seconds(make, tried)
    rounds = batches / together  # each takes as long as one micro-batch alone, if every thread has a core
    if trial < QUICK:
        tried = min(together * plan.micro_batch, job.num)
        trial = _seconds(make, tried)
    return Forecast(
        job=job,
        missing=missing,
        calls=batches * (plan.num_steps if generator.stepwise else 1),
        num_bytes=job.num_bytes * missing // job.num,
        seconds=trial * rounds,
        tried=tried,
        trial=trial,
    )


def _seconds(make: Any, num: int) -> float:
    start = time.perf_counter()
    make(0, num)
    return time.perf_counter() - start
