"""SplitMix64 keys and the start of sfc64 for numba; words of sfc64 are drawn in the kernels, in vector registers."""

import numba
import numpy as np

from . import GOLDEN, WARM_UP

_GOLDEN = np.uint64(GOLDEN)


@numba.njit("uint64(uint64)", cache=True, inline="always")
def mix64(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit("uint64(uint64, uint64)", cache=True, inline="always")
def derive(key, index):
    """The child of `key` with number `index`: output `index` of SplitMix64 started at `key`."""
    return mix64(key + _GOLDEN * (index + np.uint64(1)))


@numba.njit(cache=True)
def seed_streams(key, streams):
    """Start the sfc64 streams of a key, uint64 [3, streams] for a, b, c; their common counter is then 1 + WARM_UP."""
    a, b, c = streams[0], streams[1], streams[2]
    for s in range(a.size):
        a[s] = derive(key, np.uint64(3 * s))
        b[s] = derive(key, np.uint64(3 * s + 1))
        c[s] = derive(key, np.uint64(3 * s + 2))
    for counter in range(1, WARM_UP + 1):
        for s in range(a.size):
            out = a[s] + b[s] + np.uint64(counter)
            a[s] = b[s] ^ (b[s] >> np.uint64(11))
            b[s] = c[s] + (c[s] << np.uint64(3))
            c[s] = ((c[s] << np.uint64(24)) | (c[s] >> np.uint64(40))) + out
