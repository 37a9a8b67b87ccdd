"""Threads share out numbers, and keep out of the way of others: Ctrl-C, forks, the user's threads, torch, BLAS."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
from numba.core import event
from threadpoolctl import threadpool_info

from hessfast.kernels import _threads
from hessfast.kernels._blas import one_thread
from hessfast.kernels._threads import numbers, share

from ..threads import threads


@numba.njit(nogil=True)
def count(tickets, counts, forbidden):
    for i in numbers(tickets):
        if i == forbidden:
            raise ValueError("forbidden")
        counts[i] += 1


@pytest.mark.parametrize("num", [0, 1, 2, 5, 5_000_000])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_number_is_taken_once(num, num_threads):
    counts = np.zeros(num + 1, np.int8)
    with threads(num_threads):
        share(count, num, counts, -1)
    assert (counts[:num] == 1).all() and counts[num] == 0


@pytest.mark.parametrize("num_threads", [1, 2])
def test_as_many_threads_work_as_may(num_threads):
    everyone, who = threading.Barrier(num_threads), set()

    def work(tickets):
        for _ in numbers(tickets):
            everyone.wait(timeout=60)
            who.add(threading.get_ident())
            time.sleep(0.1)

    with threads(num_threads):
        share(work, 2 * num_threads)
    assert len(who) == num_threads


def test_an_error_in_a_thread_is_raised_and_stops_the_others():
    done = []

    def work(tickets):
        for i in numbers(tickets):
            if i == 0:
                raise ValueError("forbidden")
            done.append(i)
            time.sleep(0.001)

    with threads(2), pytest.raises(ValueError, match="forbidden"):
        share(work, 10_000)
    number = len(done)
    time.sleep(0.2)
    assert len(done) <= number + 1


def test_an_error_in_compiled_code_is_raised():
    with pytest.raises(ValueError, match="forbidden"):
        share(count, 1000, np.zeros(1000, np.int8), 7)


def test_the_caller_works_alone_where_no_thread_can_start(monkeypatch):
    def start(thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")  # as in atexit from Python 3.12 on

    monkeypatch.setattr(_threads, "_idle", queue.SimpleQueue())
    monkeypatch.setattr(threading.Thread, "start", start)
    counts = np.zeros(1000, np.int8)
    with threads(2):
        share(count, 1000, counts, -1)
    assert (counts == 1).all()


def test_a_thread_does_not_wait_for_the_calls_of_another():
    begun, go_on = threading.Event(), threading.Event()

    def wait(tickets):
        for _ in numbers(tickets):
            begun.set()
            assert go_on.wait(timeout=60)

    with threads(1):
        other = threading.Thread(target=share, args=(wait, 2 * numba.config.NUMBA_NUM_THREADS))
        other.start()
        assert begun.wait(timeout=60)
        share(count, 100, np.zeros(100, np.int8), -1)
        go_on.set()
        other.join()


@pytest.mark.parametrize("num", [1, 2])
def test_the_callers_thread_does_not_compile(num):
    who = set()

    class Threads(event.Listener):
        def on_start(self, event):
            who.add(threading.get_ident())

        def on_end(self, event):
            pass

    @numba.njit(nogil=True)
    def work(tickets):
        for _ in numbers(tickets):
            pass

    with event.install_listener("numba:compile", Threads()):
        share(work, num)
    assert who and threading.get_ident() not in who


def blas_threads():
    return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")


def test_blas_has_one_thread_until_the_last_caller_leaves():
    before = blas_threads()
    with contextlib.ExitStack() as outer:
        with one_thread():
            outer.enter_context(one_thread())
        assert blas_threads() == 1
    assert blas_threads() == before


def test_blas_has_its_threads_in_a_process_forked_by_another_thread():
    code = """
import os, threading
from threadpoolctl import threadpool_info
from hessfast.kernels._blas import one_thread
def most():
    return max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
def call():
    with one_thread():
        inside.set()
        end.wait()
before, inside, end = most(), threading.Event(), threading.Event()
other = threading.Thread(target=call)
other.start()
inside.wait()
child = os.fork()
if child == 0:
    os._exit(most())
end.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == before)
"""
    assert output(code, OPENBLAS_NUM_THREADS="2") == "True\n"


@pytest.mark.parametrize(
    ("num_threads", "num", "duration"), [("1", 50_000, 5e3), ("2", 1000, 5e5)], ids=["short samples", "long samples"]
)
def test_interrupt_ends_a_long_call(num_threads, num, duration):
    code = f"""
import numpy as np
from hessfast import tasep
def evolve(duration):
    tasep.evolve(tasep.pack(np.zeros(({num}, 1000), np.int8)), 0.5, 0.5, duration=duration, seed=1)
evolve(0.01)
print("compiled", flush=True)
evolve({duration})  # minutes
"""
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_NUM_THREADS": num_threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout.readline() == "compiled\n"
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=30)
    finally:
        running.kill()
    assert error.endswith("KeyboardInterrupt\n") and running.returncode == -signal.SIGINT


def output(code, **environment):
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_forked_process_and_two_threads():
    code = """
import os, signal, threading
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
    signal.alarm(60)
    os._exit(7 if (words() == alone).all() else 8)
assert len(found) == 2 and all((each == alone).all() for each in found)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert output(code, NUMBA_NUM_THREADS="2") == "7\n"


def test_calls_after_the_main_thread():
    code = """
import atexit, threading, time
import numpy as np
from hessfast import tasep
def words():
    print(tasep.sample(np.full(500, 0.3), 0.4, num_sites=200, seed=1).words.shape)
def later():
    time.sleep(0.5)
    words()
words()  # later numba could not be imported
atexit.register(words)
threading.Thread(target=later).start()
"""
    assert output(code, NUMBA_NUM_THREADS="2") == 3 * "(500, 4)\n"


def test_torch_keeps_its_threads():
    code = """
import numpy as np, torch
from hessfast import tasep
torch.set_num_threads(2)
assert torch.get_num_threads() == 2
tasep.sample(np.full(500, 0.3), 0.4, num_sites=200, seed=1)
print(torch.get_num_threads())
"""
    assert output(code, NUMBA_NUM_THREADS="1") == "2\n"
