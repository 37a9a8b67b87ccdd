"""Settings of every benchmark: one core, compile time apart, rates in the unit of the field, one file per machine.

``pytest bench`` prints the rates and, with ``--record``, writes them to bench/results; a red test reports nothing.
"""

import os
import statistics
import time
from collections.abc import Callable

import pytest

from bench import report

# One core unless the caller says otherwise; the variables are read when these libraries are first imported.
for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROUNDS = 9
SHORTEST_ROUND = 0.05  # seconds: a round shorter than this is lost in the noise of the clock and of other jobs
LONGEST_BENCHMARK = 20.0  # seconds: a slow call gets fewer rounds, but never fewer than three
ROW, ROWS = pytest.StashKey[tuple[str, dict]](), pytest.StashKey[dict[str, dict[str, dict]]]()


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="write the rates to bench/results/<machine>.json")


def pytest_configure(config):
    config.stash[ROWS] = {}
    config.option.benchmark_disable_gc = True
    config.option.benchmark_quiet = True  # our own table says it in the unit of the field


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("No CUDA device was found.")


@pytest.fixture
def record_rate(request) -> Callable[..., float | None]:
    """``record_rate(call, work=..., unit="flips/ns/core", goal=...)`` times `call` and returns its median rate.

    Args of the returned function:
        call: function of no arguments; on a GPU it ends with a synchronisation.
        work: things done by one call (spin updates, samples, sites, bytes).
        unit: "things/ns" (work per time) or "us/thing" (time per work) by the clock on the wall; with a last "/core"
            by the CPU time of all threads, which other jobs on the machine hardly change.
        goal: where it should get to, in the same unit.
        device: "cpu" or "cuda"; decides in which machine's file the row is kept.

    The first call, where numba and CUDA compile, is timed apart ("start-up").
    Check the result before: a red test reports no speed.
    """

    def record(call: Callable[[], object], *, work: float, unit: str, goal: float | None = None, device: str = "cpu"):
        clock = time.process_time if unit.endswith("/core") else time.perf_counter
        request.node.add_marker(pytest.mark.benchmark(timer=clock))
        benchmark = request.getfixturevalue("benchmark")  # reads the marker
        first, again = _seconds(call), _seconds(call)
        iterations = max(1, round(SHORTEST_ROUND / max(again, 1e-9)))
        rounds = min(ROUNDS, max(3, int(LONGEST_BENCHMARK / (again * iterations))))
        benchmark.pedantic(call, rounds=rounds, iterations=iterations)
        if benchmark.stats is None:  # --benchmark-disable: the call was only checked to run
            return None
        times = benchmark.stats.stats.data
        row = {
            "unit": unit,
            "rate": report.rate(unit, work, statistics.median(times)),
            "best": report.rate(unit, work, min(times)),
            "rounds": rounds,
            "threads": int(os.environ["NUMBA_NUM_THREADS"]),
            "start_up_s": round(max(0.0, first - again), 3),
        }
        if goal is not None:
            row["goal"] = goal
        benchmark.extra_info.update(row)
        request.node.stash[ROW] = (device, row)
        return row["rate"]

    return record


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call" and outcome.passed and ROW in item.stash:
        device, row = item.stash[ROW]
        case = item.name.removeprefix("test_").replace("_", " ").replace("[", ", ").rstrip("]")
        name = f"{item.path.stem.removeprefix('bench_')}: {case}"
        item.config.stash[ROWS].setdefault(device, {})[name] = row
    return outcome


def pytest_terminal_summary(terminalreporter, config):
    for device, rows in config.stash[ROWS].items():
        terminalreporter.section(f"rates on {report.machine(device)}, median of rounds")
        terminalreporter.write_line(report.table(rows))
        if config.option.record:
            terminalreporter.write_line(f"written to {report.store(rows, device).relative_to(report.ROOT)}")
