"""Work shared out to threads: whoever is free takes the next number, until none is left.

The loop of a kernel stands in a function of its own, compiled with nogil=True, and runs over `numbers`; `share` calls
that function in as many threads as numba may use. Numba's own parallel loops would take twice as long to compile, deal
samples out beforehand though some cost a thousand times as much as others, keep Ctrl-C waiting for the last of them,
change the number of torch's threads, and end a forked process (GNU OpenMP) or one that has threads itself (workqueue).
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

_FEW = 4  # numbers that the caller takes before it waits for the pool
_pool: ThreadPoolExecutor | None = None


def num_threads() -> int:
    """As many as numba may use: NUMBA_NUM_THREADS, or less by numba.set_num_threads; one if nothing is compiled."""
    if numba.config.DISABLE_JIT:  # pyright: ignore
        return 1
    if not parallel._is_initialized:  # then nobody has set a number, and asking numba for it would start its threads
        return numba.config.NUMBA_NUM_THREADS  # pyright: ignore
    return numba.get_num_threads()


def share(work, num: int, *arguments) -> None:
    """Call work(queue, *arguments) in several threads, where it loops over `numbers(queue)`: 0 to num - 1 among all.

    What it raises in one of them is raised here, and so is Ctrl-C; arguments may then be written for a moment longer.
    """
    taken, tasks = np.zeros(1, np.int64), []

    def submit():
        tasks.append(_threads().submit(work, (taken, num, num), *arguments))

    try:
        for _ in range(min(num_threads(), num) - 1):
            submit()
        # The pool takes 50 us to answer, so the caller begins. But it must not compile, because numba can lose a
        # Ctrl-C, nor work for long, because a Ctrl-C would have to wait.
        if num > 0 and getattr(work, "overloads", True):
            work((taken, num, _FEW), *arguments)
        if taken[0] < num:
            submit()
        for task in tasks:
            if taken[0] < num or not task.cancel():
                task.result()
    except BaseException:
        taken[0] = num  # the threads stop when they are done with the number they have
        raise


def _threads() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, "hessfast")  # pyright: ignore
    return _pool


def _forget_threads() -> None:
    """A forked process has none of its parent's threads."""
    global _pool
    _pool = None


os.register_at_fork(after_in_child=_forget_threads)


@numba.njit  # not cached: numba cannot loop over a generator that it has read from its cache
def numbers(queue):
    """The numbers that no other thread has taken."""
    taken, num, most = queue
    for _ in range(most):
        i = _take(taken)  # pyright: ignore[reportCallIssue]
        if i >= num:
            break
        yield i


@intrinsic
def _take(typing_context, taken):
    """taken[0], and add one to it, as one step between which no other thread comes."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(taken), codegen


def _take_numpy(taken):
    """`_take` without LLVM, for NUMBA_DISABLE_JIT=1, where there is one thread."""
    taken[0] += 1
    return taken[0] - 1


if numba.config.DISABLE_JIT:  # pyright: ignore
    _take = _take_numpy  # pyright: ignore[reportAssignmentType]
