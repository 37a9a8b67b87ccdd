"""Threads share out numbers, and do not get in the way of others: Ctrl-C, forks, the user's threads, torch's."""

import os
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pytest

from hessfast.kernels._threads import numbers, share


@numba.njit(nogil=True)
def count(queue, counts, forbidden):
    for i in numbers(queue):
        if i == forbidden:
            raise ValueError("forbidden")
        counts[i] += 1


@pytest.mark.parametrize("num", [0, 1, 2, 5, 10_000])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_number_is_taken_once(num, num_threads):
    counts = np.zeros(num + 1, np.int64)
    before = numba.get_num_threads()
    numba.set_num_threads(min(num_threads, before))
    share(count, num, counts, -1)
    numba.set_num_threads(before)
    assert counts.tolist() == [1] * num + [0]


@pytest.mark.parametrize("forbidden", [0, 7, 9_999])
def test_an_error_in_a_thread_is_raised(forbidden):
    with pytest.raises(ValueError, match="forbidden"):
        share(count, 10_000, np.zeros(10_000, np.int64), forbidden)


def process(code, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


@pytest.mark.parametrize("num_threads", ["1", "2"])
def test_interrupt_ends_a_long_call(num_threads):
    code = """
import numpy as np
from hessfast import tasep
def evolve(duration):
    tasep.evolve(tasep.pack(np.zeros((1000, 1000), np.int8)), 0.5, 0.5, duration=duration, seed=1)
evolve(0.1)
print("compiled", flush=True)
evolve(500_000.0)  # a second a chain, a quarter of an hour
"""
    running = process(code, NUMBA_NUM_THREADS=num_threads)
    try:
        assert running.stdout.readline() == "compiled\n"
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=30)
    finally:
        running.kill()
    assert error.endswith("KeyboardInterrupt\n")


def test_a_forked_process_and_two_threads():
    code = """
import os, threading
import numpy as np
from hessfast import tasep
def words():
    return tasep.sample(np.full(500, 0.3), 0.4, num_sites=200, seed=1).words
alone, found = words(), []
two = [threading.Thread(target=lambda: found.append(words())) for _ in range(2)]
[thread.start() for thread in two]
[thread.join() for thread in two]
child = os.fork()
if child == 0:
    os._exit(7 if (words() == alone).all() else 8)
assert len(found) == 2 and all((each == alone).all() for each in found)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    out, error = process(code, NUMBA_NUM_THREADS="2").communicate(timeout=300)
    assert out == "7\n", error


def test_torch_keeps_its_threads():
    code = """
import numpy as np, torch
from hessfast import tasep
torch.set_num_threads(2)
assert torch.get_num_threads() == 2
tasep.sample(np.full(500, 0.3), 0.4, num_sites=200, seed=1)
print(torch.get_num_threads())
"""
    out, error = process(code, NUMBA_NUM_THREADS="1").communicate(timeout=300)
    assert out == "2\n", error
