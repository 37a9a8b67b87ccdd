"""Times on a CUDA device, and the rows that hold them."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench import report

Row = dict[str, Any]
Step = Callable[[], Iterator[Row]]


def timed(
    call: Callable[[], object], seconds: float = 1.5, rounds: int = 15, warm_up: Callable[[], object] | None = None
) -> list[float]:
    """Seconds of the first call, where kernels are compiled, by the clock; then of others by events on the device.

    At least min(rounds, 3) others, and up to `rounds` within `seconds`. If a call is long, `warm_up` is called first
    instead, which must compile all that the call needs.
    """
    import torch

    start = time.perf_counter()
    (warm_up or call)()
    torch.cuda.synchronize()
    times = [time.perf_counter() - start]
    until = time.perf_counter() + seconds
    while len(times) <= min(rounds, 3) or (len(times) <= rounds and time.perf_counter() < until):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return times


def rate(
    name: str,
    call: Callable[[], object],
    work: float,
    unit: str,
    goal: float | None = None,
    *,
    seconds: float = 1.5,
    rounds: int = 15,
    warm_up: Callable[[], object] | None = None,
    **more: object,
) -> Row:
    """A row: `work` things done by one call, in `unit` as of `bench.report.rate`; median, best and worst of rounds."""
    first, *times = timed(call, seconds, rounds, warm_up)
    rates = {"rate": statistics.median(times), "best": min(times), "worst": max(times)}
    row: Row = {"name": name, "unit": unit, **{key: report.rate(unit, work, x) for key, x in rates.items()}}
    row |= {
        "rounds": len(times),
        "seconds": statistics.median(times),
        "start_up_s": round(max(0, first - (0 if warm_up else min(times))), 3),
    }
    return row | more if goal is None else row | {"goal": goal} | more
