"""Work shared out to threads: whoever is free takes the next number, until none is left.

The loop of a kernel stands in a function of its own, compiled with nogil=True, and runs over `numbers`; `share` calls
that function in as many threads as numba may use. Unlike numba's parallel loops this ends soon after Ctrl-C, works in
forked processes and in several threads of the user's, and keeps all cores busy where samples differ in cost.
"""

import ctypes
import os
import queue
import threading

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

_idle: queue.SimpleQueue = queue.SimpleQueue()  # of the queues by which idle threads get their tasks


def share(work, num: int, *arguments) -> None:
    """Call work(tickets, *arguments) in several threads, which loop over `numbers(tickets)`: 0 to num - 1 among all.

    Ctrl-C, or an error in any of them, is raised here; then the others stop when they are done with their number.
    """
    if num == 0:
        return
    counter = ctypes.c_int64(0)  # the next number

    def call():
        work((ctypes.addressof(counter), num), *arguments)  # each thread holds on to the counter, also after Ctrl-C

    def task():
        try:
            call()
        except BaseException as error:
            return error

    if numba.config.DISABLE_JIT or (num == 1 and work.overloads):  # pyright: ignore
        call()  # threads would take 50 us to answer
        return
    results = queue.SimpleQueue()
    try:
        # All of it elsewhere: Ctrl-C would have to wait for compiled code, and numba can lose it while it compiles.
        threads = min(_num_threads(), num)
        for _ in range(threads):
            _start(task, results)
        for _ in range(threads):
            _raise(results.get())
    finally:
        counter.value = num


def _raise(error) -> None:
    try:
        if error is not None:
            raise error
    finally:
        del error  # its traceback holds this frame, and the arguments of the task


def _num_threads() -> int:
    """NUMBA_NUM_THREADS, or less by numba.set_num_threads."""
    if not parallel._is_initialized:  # nobody has set a number; to ask numba would start its threads and change torch's
        return numba.config.NUMBA_NUM_THREADS  # pyright: ignore
    return numba.get_num_threads()


def _start(task, results) -> None:
    """Have an idle thread, or else a new one, put what the task returns into `results`."""
    try:
        tasks = _idle.get_nowait()
    except queue.Empty:
        tasks = queue.SimpleQueue()
        try:
            threading.Thread(target=_serve, args=(tasks,), name="hessfast", daemon=True).start()
        except RuntimeError:  # no more threads, as when the interpreter ends
            results.put(task())
            return
    tasks.put((task, results))


def _serve(tasks) -> None:
    while True:
        _do(tasks, *tasks.get())


def _do(tasks, task, results) -> None:  # a function: an idle thread must not hold the arrays of its last task
    result = task()
    _idle.put(tasks)
    results.put(result)


def _forget_threads() -> None:
    """A forked process has none of its parent's threads."""
    global _idle
    _idle = queue.SimpleQueue()


os.register_at_fork(after_in_child=_forget_threads)


@numba.njit  # not cached: numba cannot loop over a generator that it has read from its cache
def numbers(tickets):
    """The numbers that no other thread has taken."""
    counter, end = tickets  # an address: of arrays in generators numba never gives up its reference
    number = _take(counter)  # pyright: ignore[reportCallIssue]
    while number < end:
        yield number
        number = _take(counter)  # pyright: ignore[reportCallIssue]


@intrinsic
def _take(typing_context, counter):
    """The int64 at an address, and add one to it, as one step between which no other thread comes."""

    def codegen(context, builder, signature, arguments):
        int64 = ir.IntType(64)
        address = builder.inttoptr(arguments[0], int64.as_pointer())
        return builder.atomic_rmw("add", address, ir.Constant(int64, 1), "monotonic")

    return types.int64(types.int64), codegen


def _take_plainly(counter):
    """`_take` without LLVM, for NUMBA_DISABLE_JIT=1, where there is one thread."""
    number = ctypes.c_int64.from_address(counter)
    number.value += 1
    return number.value - 1


if numba.config.DISABLE_JIT:  # pyright: ignore
    _take = _take_plainly  # pyright: ignore[reportAssignmentType]
