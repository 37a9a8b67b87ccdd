"""Running a plan from the command line, alone or as one of torchrun's processes."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from hessfast import _atomic, _distributed

Out = Annotated[
    Path, typer.Option("--out", help="Folder of the data set; created, or gone on with.", show_default=False)
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N. Under torchrun cuda means one GPU each.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show samples, bytes and time (from a short trial), and exit.")]
PILOT_SECONDS = 2.0


def run(plan, out: Path, device: str, dry_run: bool) -> None:
    """Fill `out`, or say what that would take; called with the same arguments in every process of torchrun."""
    (rank, world_size), device = _distributed.started(), _distributed.local_device(device)
    _share_threads()
    from hessfast import datasets, shards

    make = datasets.maker(plan, device)
    shards.check(out, plan)
    missing = plan.num_shards - shards.num_sealed(out)
    need = plan.num_bytes * missing // plan.num_shards
    free = _atomic.free_bytes(out)
    if dry_run:
        if rank == 0:
            _forecast(plan, out, make, need, free, missing, device, world_size)
        return
    if need > free:
        raise OSError(f"{out} needs {size(need)} more, but {size(free)} are free there; free some or choose another")
    start = time.perf_counter()
    try:
        store = shards.fill(out, plan, make, rank=rank, world_size=world_size, progress=rank == 0)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted; what is sealed stays. Go on with: hessfast resume {out}") from None
    if rank == 0:
        seconds = time.perf_counter() - start
        typer.echo(
            f"{out}: {plan.num:,} samples of {plan.name} in {plan.num_shards:,} shards, all sealed; {seconds:.1f} s."
        )
        typer.echo(_certificates(store))


def _share_threads() -> None:
    """Divide the cores among torchrun's processes; numba reads this variable when it is first imported."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if processes > 1 and "numba" not in sys.modules:
        os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // processes)))


def _forecast(plan, out, make, need, free, missing, device, world_size) -> None:
    make(0, min(plan.num, plan.shard_size, 64))  # compiles
    tried, seconds = 0, 0.0
    while seconds < PILOT_SECONDS and tried < plan.num:
        stop = min(max(64, 2 * tried), tried + plan.shard_size, plan.num)
        start = time.perf_counter()
        make(tried, stop)
        seconds += time.perf_counter() - start
        tried = stop
    total = seconds / tried * plan.num * missing / plan.num_shards / world_size
    typer.echo(
        f"{plan.name}: {plan.num:,} samples in {plan.num_shards:,} shards of {plan.shard_size:,}, plan {plan.hash}\n"
        f"to make: {missing:,} shards, {size(need)} in {out}, where {size(free)} are free\n"
        f"time: about {duration(total)} by {world_size} process(es) on {device} ({tried:,} took {seconds:.2f} s)"
    )


def _certificates(store) -> str:
    import numpy as np

    if "certificate" not in store:
        return "Every sample is exact."
    counts = np.bincount(np.asarray(store["certificate"]), minlength=3)
    names = store.plan.parameters["certificate"]
    return "Certificates: " + ", ".join(f"{count:,} {name}" for count, name in zip(counts, names, strict=True)) + "."


def duration(seconds: float) -> str:
    """A time in words, with about two digits: it is an estimate."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds / 86400:.2g} days"


def size(num_bytes: float) -> str:
    """Bytes in words, with three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 999.5:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
