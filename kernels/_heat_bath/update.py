"""Applying a random map to a packed lattice: neighbours by shifts, their count by bit logic, the choice by masks."""

import numba
import numpy as np

_u64 = np.uint64


@numba.njit(cache=True)
def load(words, lattice):
    """Copy packed planes [4, rows, words] into `lattice` [4, (rows + 2) words], with a periodic row at each end."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                lattice[plane, (m + 1) * row + w] = words[plane, m, w]
        _wrap(lattice, plane, row)


@numba.njit(cache=True)
def store(lattice, words):
    """Copy the planes of `lattice` back into packed words."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                words[plane, m, w] = lattice[plane, (m + 1) * row + w]


@numba.njit(cache=True, inline="always")
def _wrap(lattice, plane, row):
    end = lattice.shape[1]
    for w in range(row):
        lattice[plane, w] = lattice[plane, end - 2 * row + w]
        lattice[plane, end - row + w] = lattice[plane, row + w]


@numba.njit(cache=True, inline="always")
def shift_left(lattice, plane, row, bits, num_words, out):
    """Every word row rotated towards higher bits by one column: bit k comes from bit k - 1, bit 0 from the last."""
    top = _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = lattice[plane, m + 1]
            out[m] = (x << _u64(1)) | (x >> top)
    else:
        for m in range(0, num_words, row):
            carry = lattice[plane, row + m + row - 1] >> top
            for w in range(row):
                x = lattice[plane, row + m + w]
                out[m + w] = (x << _u64(1)) | carry
                carry = x >> _u64(63)


@numba.njit(cache=True, inline="always")
def shift_right(lattice, plane, row, bits, num_words, out):
    """Every word row rotated towards lower bits by one column: bit k comes from bit k + 1, the last from bit 0."""
    top = _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = lattice[plane, m + 1]
            out[m] = (x >> _u64(1)) | (x << top)
    else:
        for m in range(0, num_words, row):
            carry = (lattice[plane, row + m] & _u64(1)) << top
            for w in range(row - 1, -1, -1):
                x = lattice[plane, row + m + w]
                out[m + w] = (x >> _u64(1)) | carry
                carry = x << _u64(63)


@numba.njit(cache=True, inline="always")
def apply(masks, lattice, plane, row, bits, num_words, shifted):
    """Apply the random map of one plane to `lattice`; sites of one colour read only the other, so this is in place.

    The other neighbour in the row stands one column to the left for planes Be and Wo and to the right for Bo and We;
    the rows above and below are m - 1 and m of the opposite row plane for even rows, m and m + 1 for odd rows.
    Planes are indexed, not sliced: every slice costs the count of a reference.
    """
    odd, colour = plane & 1, plane >> 1
    same = 2 * (1 - colour) + odd
    other = same ^ 1
    if odd == colour:
        shift_left(lattice, same, row, bits, num_words, shifted)
    else:
        shift_right(lattice, same, row, bits, num_words, shifted)
    above, below = odd * row, (odd + 1) * row
    for w in range(num_words):
        a, b, c, d = lattice[same, row + w], shifted[w], lattice[other, above + w], lattice[other, below + w]
        p, q, x, y = a | b, c | d, a & b, c & d
        one, two, three, four = p | q, x | y | (p & q), (x & q) | (p & y), x & y  # at least so many neighbours up
        f0, f1, f2, f3, f4 = masks[0, w], masks[1, w], masks[2, w], masks[3, w], masks[4, w]
        rise = (one & (f0 ^ f1)) ^ (two & (f1 ^ f2)) ^ (three & (f2 ^ f3)) ^ (four & (f3 ^ f4))
        lattice[plane, row + w] = f0 ^ rise
    if bits & 63:
        last = ~_u64(0) >> _u64(64 * row - bits)
        for m in range(2 * row - 1, lattice.shape[1] - row, row):
            lattice[plane, m] &= last
    _wrap(lattice, plane, row)
