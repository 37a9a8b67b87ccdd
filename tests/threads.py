"""How many threads kernels use, for the length of a block."""

import contextlib

import numba
import pytest


@contextlib.contextmanager
def threads(num):
    """`num` threads, and then as many as before; skips a test on machines with fewer cores."""
    before = numba.get_num_threads()
    if num > before:
        pytest.skip(f"{before} threads, {num} needed")
    numba.set_num_threads(num)
    try:
        yield
    finally:
        numba.set_num_threads(before)
