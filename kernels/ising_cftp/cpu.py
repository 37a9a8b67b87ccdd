"""ising_cftp in numba: both chains of a sample in the first-level cache, samples spread over threads as they finish."""

import numba
import numpy as np

from .._heat_bath.cpu import new_bath, set_thresholds, start, sweep
from .._heat_bath.planes import store, used_bits
from .._random import ISING_CFTP
from .._random.cpu import derive
from .._threads import numbers, share
from . import rung_start

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
        while not _meet(bath, num_bits, key, rungs[i]):
            rungs[i] += 2
        store(bath.planes, words[i])


@numba.njit(cache=True)
def _meet(bath, num_bits, key, first_rung):
    """Run two chains from rung `first_rung` to time 0; whether they met, and then the first lattice is the sample."""
    top, bottom = bath.planes[:4], bath.planes[4:]
    _fill(top, bath, ~np.uint64(0))
    _fill(bottom, bath, np.uint64(0))
    num_chains = 2
    for rung in range(first_rung, -1, -1):
        hash_key = start(bath, derive(key, np.uint64(rung)))
        for time in range(_rung_start(rung) - _rung_start(rung - 1)):
            sweep(bath, num_bits, hash_key, time, num_chains)
            if num_chains == 2 and _equal(top, bottom, bath):
                num_chains = 1
    return num_chains == 1


@numba.njit(cache=True)
def _fill(lattice, bath, word):
    """Set every spin from `word`, which is all ones or all zeros; unused bits stay 0."""
    for plane in range(4):
        for w in range(lattice.shape[1]):  # an assignment to a slice would take 3 s to compile
            lattice[plane, w] = word
        if bath.size % 128:  # the last word of a row has unused bits
            for w in range(bath.row - 1, lattice.shape[1], bath.row):
                lattice[plane, w] &= used_bits(bath.size)


@numba.njit(cache=True)
def _equal(top, bottom, bath):
    for plane in range(4):
        for w in range(bath.row, bath.row + bath.size // 2 * bath.row):
            if top[plane, w] != bottom[plane, w]:  # within the first words, until the chains have nearly met
                return False
    return True
