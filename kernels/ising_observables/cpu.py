"""ising_observables in numba: shifts, exclusive ors and population counts."""

import numba
import numpy as np

from .._heat_bath.update import load, shift_left, shift_right
from .._random.cpu import popcount


def ising_observables(words, size):
    energy = np.empty(len(words), np.int64)
    magnetization = np.empty(len(words), np.int64)
    _observe_all(np.ascontiguousarray(words), size, energy, magnetization)
    return energy, magnetization


@numba.njit(cache=True, parallel=True)
def _observe_all(words, size, energy, magnetization):
    row = words.shape[3]
    for i in numba.prange(len(words)):
        lattice = np.empty((4, (size // 2 + 2) * row), np.uint64)
        shifted = np.empty((2, size // 2 * row), np.uint64)
        load(words[i], lattice)
        shift_left(lattice, 2, row, size // 2, size // 2 * row, shifted[0])
        shift_right(lattice, 3, row, size // 2, size // 2 * row, shifted[1])
        unequal, up = 0, 0
        last = np.uint64(2**64 - 1) >> np.uint64(64 * row - size // 2)
        for w in range(row, row + shifted.shape[1]):
            used = last if w % row == row - 1 else np.uint64(2**64 - 1)
            even, odd, white_even, white_odd = lattice[0, w], lattice[1, w], lattice[2, w], lattice[3, w]
            unequal += popcount(even ^ white_even) + popcount((even ^ shifted[0, w - row]) & used)
            unequal += popcount(even ^ white_odd) + popcount(even ^ lattice[3, w - row])
            unequal += popcount(odd ^ white_odd) + popcount((odd ^ shifted[1, w - row]) & used)
            unequal += popcount(odd ^ white_even) + popcount(odd ^ lattice[2, w + row])
            up += popcount(even) + popcount(odd) + popcount(white_even) + popcount(white_odd)
        energy[i] = 2 * (unequal - size * size)
        magnetization[i] = 2 * up - size * size
