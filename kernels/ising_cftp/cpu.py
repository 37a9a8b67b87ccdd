"""ising_cftp in numba: both chains of a sample in the first-level cache, samples spread over threads as they finish."""

import numba
import numpy as np

from .._heat_bath import HASH_CHILD
from .._heat_bath.cpu import new_bath, seed_streams, set_thresholds, sweep
from .._heat_bath.update import store
from .._random import ISING_CFTP
from .._random.cpu import derive
from . import rung_start

_HASH_CHILD = np.uint64(HASH_CHILD)
_rung_start = numba.njit(cache=True)(rung_start)


def ising_cftp(thresholds, rungs, sample_ids, seed, size):
    root = np.uint64(derive(np.uint64(seed), np.uint64(ISING_CFTP)))
    words = np.empty((len(thresholds), 4, size // 2, -(-size // 128)), np.uint64)
    rungs = np.array(rungs, np.int64)
    with numba.parallel_chunksize(1):
        _sample_all(words, rungs, thresholds, sample_ids, root, size)
    return words, rungs


@numba.njit(cache=True, parallel=True)
def _sample_all(words, rungs, thresholds, sample_ids, root, size):
    for i in numba.prange(len(words)):
        bath = new_bath(size)
        chains = np.empty((2, 4, (size // 2 + 2) * words.shape[3]), np.uint64)
        num_bits = set_thresholds(bath, thresholds[i], True)
        key = derive(root, sample_ids[i])
        while not _meet(bath, num_bits, key, rungs[i], size, chains):
            rungs[i] += 2
        store(chains[0], words[i])


@numba.njit(cache=True)
def _meet(bath, num_bits, key, first_rung, size, chains):
    """Run the top and the bottom chain from rung `first_rung` to time 0; whether they met, and then in the sample."""
    _fill(chains[0], size, ~np.uint64(0))
    _fill(chains[1], size, np.uint64(0))
    running, met = chains, False
    for rung in range(first_rung, -1, -1):
        run_key = derive(key, np.uint64(rung))
        hash_key = derive(run_key, _HASH_CHILD)
        seed_streams(run_key, bath.streams)
        for time in range(_rung_start(rung) - _rung_start(rung - 1)):
            sweep(bath, num_bits, hash_key, time, size, running)
            if not met and _equal(chains[0], chains[1]):
                running, met = chains[:1], True
    return met


@numba.njit(cache=True)
def _fill(lattice, size, word):
    """Set every spin from `word`, which is all ones or all zeros; unused bits stay 0."""
    words_per_row = (size + 127) // 128
    lattice[:] = word
    if size % 128:
        lattice[:, words_per_row - 1 :: words_per_row] &= ~np.uint64(0) >> np.uint64(64 * words_per_row - size // 2)


@numba.njit(cache=True)
def _equal(top, bottom):
    difference = np.uint64(0)
    for plane in range(4):
        for w in range(top.shape[1]):
            difference |= top[plane, w] ^ bottom[plane, w]
    return difference == np.uint64(0)
