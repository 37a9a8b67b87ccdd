"""ising_cftp in numba: both chains of a sample in the first-level cache, samples spread over threads as they finish."""

import numba
import numpy as np

from .._heat_bath import HASH_CHILD
from .._heat_bath.cpu import new_bath, set_thresholds, sweep
from .._heat_bath.planes import store
from .._random import ISING_CFTP
from .._random.cpu import derive, seed_streams
from .._threads import numbers, share
from . import rung_start

_HASH_CHILD = np.uint64(HASH_CHILD)
_rung_start = numba.njit(cache=True)(rung_start)


def ising_cftp(thresholds, rungs, sample_ids, seed, size):
    root = np.uint64(derive(np.uint64(seed), np.uint64(ISING_CFTP)))
    words = np.empty((len(thresholds), 4, size // 2, -(-size // 128)), np.uint64)
    rungs = np.array(rungs, np.int64)
    share(_sample_all, len(words), words, rungs, thresholds, sample_ids, root, size)
    return words, rungs


@numba.njit(cache=True, nogil=True)
def _sample_all(tickets, words, rungs, thresholds, sample_ids, root, size):
    bath = new_bath(2, size)
    for i in numbers(tickets):
        num_bits = set_thresholds(bath, thresholds[i], True)
        key = derive(root, sample_ids[i])
        while not _meet(bath, num_bits, key, rungs[i], size):
            rungs[i] += 2
        store(bath.planes, words[i])


@numba.njit(cache=True)
def _meet(bath, num_bits, key, first_rung, size):
    """Run the top and the bottom chain from rung `first_rung` to time 0; whether they met, and then in the sample."""
    row = (size + 127) // 128
    top, bottom = bath.planes[:4], bath.planes[4:]
    _fill(top, row, size, ~np.uint64(0))
    _fill(bottom, row, size, np.uint64(0))
    num_chains = 2
    for rung in range(first_rung, -1, -1):
        run_key = derive(key, np.uint64(rung))
        hash_key = derive(run_key, _HASH_CHILD)
        seed_streams(run_key, bath.streams)
        for time in range(_rung_start(rung) - _rung_start(rung - 1)):
            sweep(bath, num_bits, hash_key, time, size, num_chains)
            if num_chains == 2 and _equal(top, bottom, row, size):
                num_chains = 1
    return num_chains == 1


@numba.njit(cache=True)
def _fill(lattice, row, size, word):
    """Set every spin from `word`, which is all ones or all zeros; unused bits stay 0."""
    last = ~np.uint64(0) >> np.uint64(64 * row - size // 2)
    for plane in range(4):
        for w in range(lattice.shape[1]):  # an assignment to a slice would take 3 s to compile
            lattice[plane, w] = word
        if ~last:
            for w in range(row - 1, lattice.shape[1], row):
                lattice[plane, w] &= last


@numba.njit(cache=True)
def _equal(top, bottom, row, size):
    for plane in range(4):
        for w in range(row, row + size // 2 * row):
            if top[plane, w] != bottom[plane, w]:  # among the first words, until the chains are about to meet
                return False
    return True
