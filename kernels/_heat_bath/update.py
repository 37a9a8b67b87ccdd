"""Applying a random map to a packed lattice: neighbours by shifts, their count by bit logic, the choice by masks."""

import numba
import numpy as np

_u64 = np.uint64


@numba.njit(cache=True)
def load(words, lattice):
    """Copy packed planes [4, rows, words] into `lattice` [4, (rows + 2) words], with a periodic row at each end."""
    row = words.shape[2]
    for plane in range(4):
        lattice[plane, row : lattice.shape[1] - row] = words[plane].ravel()
        _wrap(lattice[plane], row)


@numba.njit(cache=True)
def store(lattice, words):
    """Copy the planes of `lattice` back into packed words."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                words[plane, m, w] = lattice[plane, (m + 1) * row + w]


@numba.njit(cache=True, inline="always")
def _wrap(plane, row):
    for w in range(row):
        plane[w] = plane[plane.size - 2 * row + w]
        plane[plane.size - row + w] = plane[row + w]


@numba.njit(cache=True, inline="always")
def shift_left(plane, row, bits, out):
    """Every word row rotated towards higher bits by one column: bit k comes from bit k - 1, bit 0 from the last."""
    if row == 1:
        top = _u64(bits - 1)
        for m in range(out.size):
            x = plane[m + 1]
            out[m] = (x << _u64(1)) | (x >> top)
    else:
        top = _u64((bits - 1) & 63)
        for m in range(0, out.size, row):
            carry = plane[row + m + row - 1] >> top
            for w in range(row):
                x = plane[row + m + w]
                out[m + w] = (x << _u64(1)) | carry
                carry = x >> _u64(63)


@numba.njit(cache=True, inline="always")
def shift_right(plane, row, bits, out):
    """Every word row rotated towards lower bits by one column: bit k comes from bit k + 1, the last from bit 0."""
    if row == 1:
        top = _u64(bits - 1)
        for m in range(out.size):
            x = plane[m + 1]
            out[m] = (x >> _u64(1)) | (x << top)
    else:
        top = _u64((bits - 1) & 63)
        for m in range(0, out.size, row):
            carry = (plane[row + m] & _u64(1)) << top
            for w in range(row - 1, -1, -1):
                x = plane[row + m + w]
                out[m + w] = (x >> _u64(1)) | carry
                carry = x << _u64(63)


@numba.njit(cache=True, inline="always")
def apply(masks, lattice, plane, row, bits, shifted):
    """Apply the random map of one plane to `lattice`; sites of one colour read only the other, so this is in place.

    The other neighbour in the row stands one column to the left for planes Be and Wo and to the right for Bo and We;
    the rows above and below are m - 1 and m of the opposite row plane for even rows, m and m + 1 for odd rows.
    """
    odd, colour = plane & 1, plane >> 1
    same, other = lattice[2 * (1 - colour) + odd], lattice[2 * (1 - colour) + 1 - odd]
    if odd == colour:
        shift_left(same, row, bits, shifted)
    else:
        shift_right(same, row, bits, shifted)
    _choose(masks, same[row:], shifted, other[odd * row :], other[(odd + 1) * row :], lattice[plane][row:])
    if bits & 63:
        last = ~_u64(0) >> _u64(64 * row - bits)
        for m in range(2 * row - 1, lattice.shape[1] - row, row):
            lattice[plane, m] &= last
    _wrap(lattice[plane], row)


@numba.njit(cache=True, inline="always")
def _choose(masks, a, b, c, d, out):
    f0, f1, f2, f3, f4 = masks[0], masks[1], masks[2], masks[3], masks[4]
    for w in range(b.size):
        p, q = a[w] | b[w], c[w] | d[w]
        x, y = a[w] & b[w], c[w] & d[w]
        one, two, three, four = p | q, x | y | (p & q), (x & q) | (p & y), x & y  # at least so many neighbours up
        rise = (one & (f0[w] ^ f1[w])) ^ (two & (f1[w] ^ f2[w])) ^ (three & (f2[w] ^ f3[w])) ^ (four & (f3[w] ^ f4[w]))
        out[w] = f0[w] ^ rise
