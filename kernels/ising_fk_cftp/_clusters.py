"""Clusters of open bonds: the large one by a word-parallel flood, the others by union-find."""

import numba
import numpy as np

from .._bits import lowest_bit, popcount
from ._words import ALL, ONE, east

FLOOD_PASSES = 8  # an unfinished flood is completed by union-find: more passes change the time only


@numba.njit(cache=True)
def find(parent, x):
    """The root of x; every path walked is halved."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


@numba.njit(cache=True)
def join(parent, x, y):
    """The smaller root becomes the root, so that a root is the first site of its cluster."""
    x, y = find(parent, x), find(parent, y)
    parent[max(x, y)] = min(x, y)


@numba.njit(cache=True)
def flood(inside, right, down, size, row):
    """Grow the set of sites `inside` (words [size * row]) along open bonds, down and up the lattice, in place."""
    words = size * row
    for i in range(size):
        _spread(inside, right, i, size, row)
    for _ in range(FLOOD_PASSES):
        grown = 0
        source = words - row
        for i in range(size):
            base = i * row
            new = np.uint64(0)
            for w in range(row):
                x = inside[source + w] & down[source + w] & ~inside[base + w]
                inside[base + w] |= x
                new |= x
                grown += popcount(x)
            if new:
                _spread(inside, right, i, size, row)
            source = base
        for i in range(size - 1, -1, -1):
            base = i * row
            new = np.uint64(0)
            for w in range(row):
                x = inside[source + w] & down[base + w] & ~inside[base + w]
                inside[base + w] |= x
                new |= x
                grown += popcount(x)
            if new:
                _spread(inside, right, i, size, row)
            source = base
        if grown <= size // 8:
            break


@numba.njit(cache=True)
def _spread(inside, right, i, size, row):
    """Grow the sites of row i along its open right bonds."""
    base = i * row
    last = np.uint64((size - 1) & 63)
    carry = (right[base + row - 1] & inside[base + row - 1]) >> last & ONE
    for w in range(row):
        # eastwards: in (x & r) + r every run of open bonds carries from its first member onwards
        x, r = inside[base + w], right[base + w]
        start = x & r
        x |= (start + r + carry) ^ r ^ start
        if w == row - 1:
            x &= ALL >> np.uint64(64 * row - size)
        carry = (r & x) >> np.uint64(63)
        inside[base + w] = x
    following = inside[base] & ONE
    place = last
    for w in range(row - 1, -1, -1):
        # westwards: steps of 1, 2, 4, ... along bonds that are open in a row
        x, r = inside[base + w], right[base + w]
        x |= r & following << place
        x |= r & x >> ONE
        r &= r >> ONE
        x |= r & x >> np.uint64(2)
        r &= r >> np.uint64(2)
        x |= r & x >> np.uint64(4)
        r &= r >> np.uint64(4)
        x |= r & x >> np.uint64(8)
        following = x & ONE
        place = np.uint64(63)
        inside[base + w] = x


@numba.njit(cache=True)
def label(parent, inside, first, right, down, size, row):
    """Union-find over the sites outside `inside`, whose sites are all represented by `first`, one of them.

    Afterwards find(parent, x) for x outside, and find(parent, first), are equal within a cluster and there only.
    """
    parent[first] = first
    for i in range(size + 1):
        if i < size:
            for w in range(row):
                _label_runs(parent, outside_sites(inside, i, w, size, row), right[i * row + w], i * size + 64 * w)
            for w in range(row):
                _label_borders(parent, inside, first, right, down, i, w, size, row)
        if i > 0:
            for w in range(row):
                _label_rows(parent, inside, right, down, i - 1, w, size, row)


@numba.njit(cache=True)
def outside_sites(inside, i, w, size, row):
    """The sites of word w of row i that are not inside; no bits beyond the row."""
    outside = ~inside[i * row + w]
    return outside & ALL >> np.uint64(64 * row - size) if w == row - 1 else outside


@numba.njit(cache=True)
def _label_runs(parent, outside, right, x):
    """Give each outside site of a word, whose first site is x, the first one of its run of open right bonds as root."""
    linked = (right & outside & outside >> ONE) << ONE
    while outside:
        bit = lowest_bit(outside)
        outside &= outside - ONE
        parent[x + bit] = parent[x + bit - 1] if linked >> np.uint64(bit) & ONE else x + bit


@numba.njit(cache=True)
def _label_borders(parent, inside, first, right, down, i, w, size, row):
    """Bonds of a word's outside sites to the inside, and the last one's to the next word."""
    outside = outside_sites(inside, i, w, size, row)
    if not outside:
        return
    k, x = i * row + w, i * size + 64 * w
    north = k - row if i > 0 else k + (size - 1) * row
    south = k + row if i < size - 1 else w
    before, bit_before = (k - 1, 63) if w > 0 else (k + row - 1, (size - 1) % 64)
    touching = right[k] & east(inside, i, w, row, np.uint64((size - 1) % 64))
    touching |= (right[k] & inside[k]) << ONE | (right[before] & inside[before]) >> np.uint64(bit_before)
    touching |= down[k] & inside[south] | down[north] & inside[north]
    touching &= outside
    while touching:
        bit = lowest_bit(touching)
        touching &= touching - ONE
        join(parent, first, x + bit)
    final = (size - 1) % 64 if w == row - 1 else 63
    following = (64 * w + final + 1) % size
    leaves = (right[k] & outside) >> np.uint64(final) & ONE
    if leaves and ~inside[i * row + following // 64] >> np.uint64(following % 64) & ONE:
        join(parent, x + final, i * size + following)


@numba.njit(cache=True)
def _label_rows(parent, inside, right, down, i, w, size, row):
    """Down bonds between outside sites, except those beside one that joins the same two runs."""
    below = (i + 1) % size
    k, south = i * row + w, below * row + w
    bonds = down[k] & ~inside[k] & ~inside[south]
    bonds &= ~((bonds & right[k] & right[south]) << ONE)
    x, y = i * size + 64 * w, below * size + 64 * w
    while bonds:
        bit = lowest_bit(bonds)
        bonds &= bonds - ONE
        join(parent, x + bit, y + bit)
