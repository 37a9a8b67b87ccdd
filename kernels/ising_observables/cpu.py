"""ising_observables in numba: shifts, exclusive ors and population counts."""

import numba
import numpy as np

from .._bits import popcount
from .._heat_bath.planes import load, new_planes, used_bits, words_per_row
from .._threads import numbers, share


def ising_observables(words, size):
    energy = np.empty(len(words), np.int64)
    magnetization = np.empty(len(words), np.int64)
    share(_observe_all, len(words), np.ascontiguousarray(words), size, energy, magnetization)
    return energy, magnetization


@numba.njit(cache=True, nogil=True)
def _observe_all(tickets, words, size, energy, magnetization):
    row = words_per_row(size)
    num_words = size // 2 * row
    planes, shifted = new_planes(1, row, num_words), np.empty((2, num_words), np.uint64)
    for i in numbers(tickets):
        load(words[i], planes)
        _shift_left(planes[2], row, size // 2, shifted[0])
        _shift_left(planes[1], row, size // 2, shifted[1])
        unequal, up = 0, 0
        for w in range(row, row + num_words):
            used = used_bits(size) if w % row == row - 1 else np.uint64(2**64 - 1)
            even, odd, white_even, white_odd = planes[0, w], planes[1, w], planes[2, w], planes[3, w]
            unequal += popcount(even ^ white_even) + popcount((even ^ shifted[0, w - row]) & used)
            unequal += popcount(even ^ white_odd) + popcount(even ^ planes[3, w - row])
            unequal += popcount(odd ^ white_odd) + popcount((white_odd ^ shifted[1, w - row]) & used)
            unequal += popcount(odd ^ white_even) + popcount(odd ^ planes[2, w + row])
            up += popcount(even) + popcount(odd) + popcount(white_even) + popcount(white_odd)
        energy[i] = 2 * (unequal - size * size)
        magnetization[i] = 2 * up - size * size


@numba.njit(cache=True)
def _shift_left(plane, row, bits, out):
    """Word rows rotated towards higher bits by one column: bit k comes from bit k - 1, bit 0 from the last."""
    top = np.uint64((bits - 1) & 63)
    if row == 1:  # with the general loops a lattice would take half as long again
        for m in range(bits):
            out[m] = (plane[1 + m] << np.uint64(1)) | (plane[1 + m] >> top)
    else:
        for m in range(bits * row):
            out[m] = (plane[row + m] << np.uint64(1)) | (plane[row + m - 1] >> np.uint64(63))
        for m in range(0, bits * row, row):  # before the first word of a row comes its last one
            out[m] = (plane[row + m] << np.uint64(1)) | (plane[row + m + row - 1] >> top)
