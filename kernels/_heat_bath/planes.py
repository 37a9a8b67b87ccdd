"""Packed lattices as the heat bath works on them, and their neighbours in the row.

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


@numba.njit(cache=True, inline="always")
def shift_left(planes, plane, start, stop, row, bits, out, slot):
    """Word rows rotated towards higher bits by one column: bit k comes from bit k - 1, bit 0 from the last."""
    first, num_words = row + start, stop - start
    top = _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = planes[plane, first + m]
            out[slot, m] = (x << _u64(1)) | (x >> top)
    else:
        for m in range(num_words):
            out[slot, m] = (planes[plane, first + m] << _u64(1)) | (planes[plane, first + m - 1] >> _u64(63))
        for m in range(0, num_words, row):  # before the first word of a row comes its last one
            out[slot, m] = (planes[plane, first + m] << _u64(1)) | (planes[plane, first + m + row - 1] >> top)


@numba.njit(cache=True, inline="always")
def shift_right(planes, plane, start, stop, row, bits, out, slot):
    """Word rows rotated towards lower bits by one column: bit k comes from bit k + 1, the last from bit 0."""
    first, num_words = row + start, stop - start
    top = _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = planes[plane, first + m]
            out[slot, m] = (x >> _u64(1)) | (x << top)
    else:
        for m in range(num_words):
            out[slot, m] = (planes[plane, first + m] >> _u64(1)) | (planes[plane, first + m + 1] << _u64(63))
        for m in range(row - 1, num_words, row):  # after the last word of a row comes its first one
            carry = (planes[plane, first + m - row + 1] & _u64(1)) << top
            out[slot, m] = (planes[plane, first + m] >> _u64(1)) | carry
