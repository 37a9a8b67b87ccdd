"""Times on a CUDA device, and the rows that hold them."""

import statistics
import time
from collections.abc import Callable, Iterator

from bench import report

Row = dict[str, object]
Step = Callable[[], Iterator[Row]]


def timed(call: Callable[[], object], seconds: float = 1.5, rounds: int = 15) -> list[float]:
    """Seconds of the first call, where kernels are compiled, by the clock; then of others by events on the device."""
    import torch

    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    times = [time.perf_counter() - start]
    until = time.perf_counter() + seconds
    while len(times) < 4 or (len(times) <= rounds and time.perf_counter() < until):
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
    **more: object,
) -> Row:
    """A row: `work` things done by one call, in `unit` as of `bench.report.rate`; median, best and worst of rounds."""
    first, *times = timed(call, seconds, rounds)
    rates = {"rate": statistics.median(times), "best": min(times), "worst": max(times)}
    row: Row = {"name": name, "unit": unit, **{key: report.rate(unit, work, x) for key, x in rates.items()}}
    row |= {
        "rounds": len(times),
        "seconds": statistics.median(times),
        "start_up_s": round(max(0, first - min(times)), 3),
    }
    return row | more if goal is None else row | {"goal": goal} | more
