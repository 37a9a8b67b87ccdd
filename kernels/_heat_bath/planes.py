"""Packed lattices as the heat bath works on them.

The planes of one or more lattices are the rows of an array uint64 [4 lattices, words], as `new_planes` makes it: the
word rows of the sites between two periodic ones, with room for `num_words` words of sites.
"""

import numba
import numpy as np

_u64 = np.uint64


@numba.njit(cache=True, inline="always")
def words_per_row(size):
    return (size + 127) // 128


@numba.njit(cache=True, inline="always")
def used_bits(size):
    """Mask of the sites in the last word of a row."""
    return ~_u64(0) >> _u64(-(size // 2) & 63)


@numba.njit(cache=True)
def new_planes(num_lattices, row, num_words):
    return np.empty((4 * num_lattices, row + num_words + row), np.uint64)


@numba.njit(cache=True)
def load(words, planes):
    """Copy a packed lattice [4, rows, words] into the first four planes."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                planes[plane, row + m * row + w] = words[plane, m, w]
        wrap(planes, plane, row, words.shape[1] * row)


@numba.njit(cache=True)
def store(planes, words):
    """Copy the first four planes back into a packed lattice."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                words[plane, m, w] = planes[plane, row + m * row + w]


@numba.njit(cache=True, inline="always")
def wrap(planes, plane, row, num_words):
    """Copy the last word row before the first, and the first after the last."""
    for w in range(row):
        planes[plane, w] = planes[plane, num_words + w]
        planes[plane, row + num_words + w] = planes[plane, row + w]
