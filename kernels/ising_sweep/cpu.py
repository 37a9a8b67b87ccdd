"""ising_sweep in numba: one lattice at a time in the first-level cache, lattices spread over threads."""

import numba
import numpy as np

from .._heat_bath.cpu import new_bath, set_thresholds, start, sweep
from .._heat_bath.planes import load, store
from .._random import ISING_SWEEP
from .._random.cpu import derive
from .._threads import numbers, share


def ising_sweep(words, thresholds, num_sweeps, sample_ids, seed, size) -> None:
    root = np.uint64(derive(np.uint64(seed), np.uint64(ISING_SWEEP)))
    share(_sweep_all, len(words), words, thresholds, num_sweeps, sample_ids, root, size)


@numba.njit(cache=True, nogil=True)
def _sweep_all(tickets, words, thresholds, num_sweeps, sample_ids, root, size):
    bath = new_bath(1, size)
    for i in numbers(tickets):
        num_bits = set_thresholds(bath, thresholds[i], False)
        hash_key = start(bath, derive(root, sample_ids[i]))
        load(words[i], bath.planes)
        for time in range(num_sweeps[i]):
            sweep(bath, num_bits, hash_key, time, 1)
        store(bath.planes, words[i])
