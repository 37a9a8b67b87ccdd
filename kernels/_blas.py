"""BLAS on one thread, while threads of ours share the work."""

import scipy.linalg.cython_blas  # noqa: F401  # numba's BLAS: loaded before its threads are limited
from threadpoolctl import ThreadpoolController

_LIBRARIES = ThreadpoolController()  # found once: looking for them takes 2 ms, longer than a small network


def one_thread():
    return _LIBRARIES.limit(limits=1, user_api="blas")
