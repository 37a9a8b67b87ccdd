"""Packed lattices as the heat bath works on them.

The planes of one or more lattices are the rows of an array uint64 [4 lattices, words], as `new_planes` makes it: the
word rows of the sites, padded to whole groups of vectors, between two periodic rows.
"""

import numba
import numpy as np

from .draw import GROUP

_u64 = np.uint64


@numba.njit(cache=True)
def whole_groups(num_words):
    """The least multiple of GROUP that is not below `num_words`."""
    return (num_words + GROUP - 1) // GROUP * GROUP


@numba.njit(cache=True)
def new_planes(num_lattices, size):
    row = (size + 127) // 128
    return np.empty((4 * num_lattices, row + whole_groups(size // 2 * row) + row), np.uint64)


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
    for w in range(row):
        planes[plane, w] = planes[plane, num_words + w]
        planes[plane, row + num_words + w] = planes[plane, row + w]


@numba.njit(cache=True)
def new_edges(num_words, row):
    """Masks uint64 [2, num_words]: all ones at the first word of each row, and at the last."""
    edges = np.zeros((2, num_words), np.uint64)
    for end in range(2):
        for m in range(end * (row - 1), num_words, row):
            edges[end, m] = ~_u64(0)
    return edges
