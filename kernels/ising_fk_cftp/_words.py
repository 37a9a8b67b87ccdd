"""Bits of words and of packed rows: `size` sites are `row` words, site j is bit j % 64 of word j // 64."""

import numba
import numpy as np

ONE = np.uint64(1)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@numba.njit(cache=True)
def east(plane, i, w, row, last):
    """Word w of row i of `plane` shifted west: bit j becomes that of site j + 1."""
    base = i * row
    if w + 1 < row:
        return plane[base + w] >> ONE | plane[base + w + 1] << np.uint64(63)
    return plane[base + w] >> ONE | (plane[base] & ONE) << last


@numba.njit(cache=True)
def west(plane, i, w, row, last):
    """Shifted east: bit j becomes that of site j - 1; a bit beyond the row may be set."""
    base = i * row
    if w > 0:
        return plane[base + w] << ONE | plane[base + w - 1] >> np.uint64(63)
    return plane[base] << ONE | plane[base + row - 1] >> last & ONE


@numba.njit(cache=True)
def even_bits(word):
    """Bits 0, 2, 4, ... of a word, moved together."""
    word &= np.uint64(0x5555555555555555)
    word = (word | word >> ONE) & np.uint64(0x3333333333333333)
    word = (word | word >> np.uint64(2)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    word = (word | word >> np.uint64(4)) & np.uint64(0x00FF00FF00FF00FF)
    word = (word | word >> np.uint64(8)) & np.uint64(0x0000FFFF0000FFFF)
    return (word | word >> np.uint64(16)) & np.uint64(0x00000000FFFFFFFF)
