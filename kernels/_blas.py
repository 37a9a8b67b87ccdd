"""BLAS on one thread, while several of ours share the work."""

import contextlib
import os
import threading
from collections.abc import Iterator

import scipy.linalg.cython_blas  # noqa: F401  # numba's BLAS: loaded before its threads are limited
from threadpoolctl import ThreadpoolController

_LIBRARIES = ThreadpoolController()  # found once: looking for them takes 2 ms, longer than a small network
_lock = threading.Lock()
_limits = contextlib.ExitStack()
_callers = 0


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """From the first caller's entry to the last one's exit: the number of threads is the process's."""
    global _callers
    with _lock:
        if _callers == 0:
            _limits.enter_context(_LIBRARIES.limit(limits=1, user_api="blas"))
        _callers += 1
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if _callers == 0:
                _limits.close()


def _forget_callers() -> None:
    """A forked process has none of its parent's threads."""
    global _lock, _callers
    _lock, _callers = threading.Lock(), 0
    _limits.close()


os.register_at_fork(after_in_child=_forget_callers)
