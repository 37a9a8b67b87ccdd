"""Work shared out to threads: whoever is free takes the next number, until none is left.

The loop of a kernel stands in a function of its own, compiled with nogil=True, and runs over `numbers`; `share` calls
that function in as many threads as numba may use. Unlike numba's parallel loops this ends soon after Ctrl-C, works in
forked processes and in several threads of the user's, and keeps all cores busy where samples differ in cost.
"""

import os
import queue
import threading
import time

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

_SLICE = 0.05  # seconds that the caller works before it looks for Ctrl-C; or one number, if that takes longer
_idle: queue.SimpleQueue = queue.SimpleQueue()  # of the queues by which idle threads get their tasks


def share(work, num: int, *arguments) -> None:
    """Call work(tickets, *arguments) in several threads, which loop over `numbers(tickets)`: 0 to num - 1 among all.

    Ctrl-C, or an error in any of them, is raised here; then the others stop when they are done with their number.
    """
    next_number, errors = np.zeros(1, np.int64), queue.SimpleQueue()

    def error_of(end):
        try:
            work((next_number, end, end), *arguments)
        except BaseException as error:
            next_number[0] = num
            return error

    helpers, most = min(_num_threads(), num) - 1, 1
    try:
        if not getattr(work, "overloads", True):  # numba can lose a Ctrl-C while it compiles
            _start(error_of, 0, errors)
            _raise(errors.get())
        for _ in range(helpers):
            _start(error_of, num, errors)
        while next_number[0] < num:
            start = time.perf_counter()
            work((next_number, num, most), *arguments)
            if time.perf_counter() - start < _SLICE:
                most *= 2
        for _ in range(helpers):
            _raise(errors.get())
    finally:
        next_number[0] = num


def _raise(error) -> None:
    if error is not None:
        raise error


def _num_threads() -> int:
    """NUMBA_NUM_THREADS, or less by numba.set_num_threads; one if nothing is compiled."""
    if numba.config.DISABLE_JIT:  # pyright: ignore
        return 1
    if not parallel._is_initialized:  # nobody has set a number; to ask numba would start its threads and change torch's
        return numba.config.NUMBA_NUM_THREADS  # pyright: ignore
    return numba.get_num_threads()


def _start(task, argument, results) -> None:
    """Have an idle thread, or else a new one, put task(argument) into `results`."""
    try:
        tasks = _idle.get_nowait()
    except queue.Empty:
        tasks = queue.SimpleQueue()
        try:
            threading.Thread(target=_serve, args=(tasks,), name="hessfast", daemon=True).start()
        except RuntimeError:  # no more threads, as when the interpreter ends
            results.put(task(argument))
            return
    tasks.put((task, argument, results))


def _serve(tasks) -> None:
    while True:
        _do(tasks, *tasks.get())


def _do(tasks, task, argument, results) -> None:  # a function: an idle thread must not hold the arrays of its last task
    result = task(argument)
    _idle.put(tasks)
    results.put(result)


def _forget_threads() -> None:
    """A forked process has none of its parent's threads."""
    global _idle
    _idle = queue.SimpleQueue()


os.register_at_fork(after_in_child=_forget_threads)


@numba.njit  # not cached: numba cannot loop over a generator that it has read from its cache
def numbers(tickets):
    """The numbers below `end` that no other thread has taken, at most `most`."""
    next_number, end, most = tickets
    for _ in range(most):
        number = _take(next_number)  # pyright: ignore[reportCallIssue]
        if number >= end:
            break
        yield number


@intrinsic
def _take(typing_context, next_number):
    """next_number[0], and add one to it, as one step between which no other thread comes."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(next_number), codegen


def _take_numpy(next_number):
    """`_take` without LLVM, for NUMBA_DISABLE_JIT=1, where there is one thread."""
    next_number[0] += 1
    return next_number[0] - 1


if numba.config.DISABLE_JIT:  # pyright: ignore
    _take = _take_numpy  # pyright: ignore[reportAssignmentType]
