"""Times on a CUDA device, and the rows that hold them."""

import statistics
import time
from collections.abc import Callable, Iterator

Row = dict[str, object]


def timed(call: Callable[[], object], seconds: float = 1.5, rounds: int = 15) -> dict[str, float]:
    """Median, least and greatest seconds of a call, by events on the device; compilation and first touch apart."""
    import torch

    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    first = time.perf_counter() - start
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < rounds and time.perf_counter() < until):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return {"seconds": statistics.median(times), "least": min(times), "most": max(times), "first": first}


def rate(name: str, call: Callable[[], object], work: float, unit: str, goal: float | None = None, **more) -> Row:
    """A row: `work` things done by one call, in things per `unit` second ("flips/ns": 1e-9 s)."""
    times = timed(call, **{key: more.pop(key) for key in ("seconds", "rounds") if key in more})
    scale = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}[unit.split("/")[-1]]
    row = {"name": name, "value": work * scale / times["seconds"], "unit": unit, **times, **more}
    return row if goal is None else {**row, "goal": goal}


Step = Callable[[], Iterator[Row]]
