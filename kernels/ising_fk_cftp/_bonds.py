"""One sweep of the single-bond heat bath, a class of bonds at a time."""

from collections import namedtuple

import numba
import numpy as np

from .._bits import lowest_bit, popcount
from ._clusters import find, flood, label
from ._sequence import decide, reduce
from ._words import ALL, ONE, east, west

GHOST = 2
EVEN_BITS = np.uint64(0x5555555555555555)

# what a thread works with: planes of words, lists of bonds, properties of vertices, properties of listed bonds
Scratch = namedtuple(
    "Scratch", "before waiting inside lonely ends other bond site parent degree name old new free seed"
)


@numba.njit(cache=True)
def scratch(size, row):
    words = size * row
    bonds = size * size + 2
    return Scratch(
        np.zeros(words, np.uint64),
        np.zeros(words, np.uint64),
        np.zeros(words, np.uint64),
        np.zeros(words, np.uint64),
        np.zeros(2 * bonds, np.int32),
        np.zeros(2 * bonds, np.int32),
        np.zeros(2 * bonds, np.int32),
        np.zeros(bonds, np.int32),
        np.zeros(bonds, np.int32),
        np.zeros(bonds, np.int32),
        np.full(bonds, np.int32(-1)),
        np.zeros(bonds, np.uint8),
        np.zeros(bonds, np.uint8),
        np.zeros(bonds, np.uint8),
        np.zeros(1, np.int64),
    )


@numba.njit(cache=True)
def sweep(bonds, low, high, planes, size, row, s):
    """Update bonds uint64 [3, size * row] in place, given low = [U < q_0] and high = [U < q_1] of the same shape."""
    for turn in range(5 if planes > GHOST else 4):
        plane, parity = (turn & 1, turn >> 1) if turn < 4 else (turn >> 1, turn >> 1)  # the ghost bonds come last
        _update(bonds, plane, parity, low[plane], high[plane], planes, size, row, s)


@numba.njit(cache=True)
def members(parity, i, w, size, row):
    """The bits of word w of row i whose bonds belong to the class: one parity of i + j, or all (2)."""
    mask = ALL if parity == 2 else EVEN_BITS << np.uint64((i + parity) & 1)
    return mask & sites(w, size, row)


@numba.njit(cache=True)
def sites(w, size, row):
    """The bits of word w of a row that are sites."""
    return ALL >> np.uint64(64 * row - size) if w == row - 1 else ALL


@numba.njit(cache=True)
def _update(bonds, plane, parity, low, high, planes, size, row, s):
    last = np.uint64((size - 1) % 64)
    mine, before, waiting = bonds[plane], s.before, s.waiting
    # what stays open through the whole class: all other bonds, and those of the class that are open and stay so
    for i in range(size):
        for w in range(row):
            k = i * row + w
            before[k] = mine[k]
            mine[k] &= low[k] | ~members(parity, i, w, size, row)
    ghost_inside = grow(bonds, planes, size, row, s)
    undecided = _select(bonds, plane, parity, low, high, planes, ghost_inside, size, row, last, s)
    if undecided:
        _search(bonds, plane, low, high, ghost_inside, size, row, last, s)
    for k in range(size * row):
        mine[k] |= waiting[k] & low[k]


@numba.njit(cache=True)
def _search(bonds, plane, low, high, ghost_inside, size, row, last, s):
    """Decide the waiting bonds on the graph of clusters and open those undecided ones whose ends are connected."""
    first = first_site(s.inside, size, row)
    label(s.parent, s.inside, first, bonds[0], bonds[1], size, row)
    ghost = first if ghost_inside else size * size
    s.parent[size * size] = size * size
    start = np.int64(0)  # not a literal, which numba would compile for itself
    count = _list(plane, low, high, first, ghost, size, row, last, s)
    ends, other, parent, degree, name, new, site = s.ends, s.other, s.parent, s.degree, s.name, s.new, s.site
    for k in range(count):
        for end in (ends[k], other[k]):
            root = find(parent, end)
            degree[root] = 0
            name[root] = -1
    kept, names = reduce(ends, other, s.bond, start, count, start, new, s.free, parent, degree, name)
    decide(ends, other, s.bond, kept, names, s.old, new, s.free, parent, degree, name)
    for k in range(count):
        if new[k]:
            i, j = divmod(site[k], size)
            bonds[plane, i * row + j // 64] |= ONE << np.uint64(j % 64)


@numba.njit(cache=True)
def grow(bonds, planes, size, row, s):
    """Flood a large cluster into s.inside: that of the ghost if it has open bonds, else one hit by trial."""
    inside = s.inside
    if planes > GHOST:
        any_ghost = np.uint64(0)
        for k in range(size * row):
            inside[k] = bonds[GHOST, k]
            any_ghost |= bonds[GHOST, k]
        if any_ghost:
            flood(inside, bonds[0], bonds[1], size, row)
            return True
    for _ in range(3):
        inside[:] = 0
        i, j = divmod(s.seed[0], size)
        inside[i * row + j // 64] = ONE << np.uint64(j % 64)
        flood(inside, bonds[0], bonds[1], size, row)
        count = 0
        for k in range(size * row):
            count += popcount(inside[k])
        if 4 * count > size * size:
            break
        s.seed[0] = (s.seed[0] + size * size * 5 // 8 + size // 3 + 1) % (size * size)
    return False


@numba.njit(cache=True)
def first_site(inside, size, row):
    for k in range(size * row):
        if inside[k]:
            return k // row * size + 64 * (k % row) + lowest_bit(inside[k])
    return 0


@numba.njit(cache=True)
def _select(bonds, plane, parity, low, high, planes, ghost_inside, size, row, last, s):
    """Settle what words can settle; s.waiting = the bonds that need the graph. Whether any of these is undecided."""
    right, down, mine, ghosts = bonds[0], bonds[1], bonds[plane], bonds[GHOST]
    large, lonely, before, waiting = s.inside, s.lonely, s.before, s.waiting
    for i in range(size):
        for w in range(row):
            k = i * row + w
            north = down[k - row] if i > 0 else down[k + (size - 1) * row]
            around = right[k] | west(right, i, w, row, last) | down[k] | north
            if planes > GHOST:
                around |= ghosts[k]
            lonely[k] = ~around & sites(w, size, row)
    undecided = np.uint64(0)
    for i in range(size):
        for w in range(row):
            k = i * row + w
            mask = members(parity, i, w, size, row)
            free = mask & high[k] & ~low[k]
            changing = mask & (before[k] | high[k]) & ~(before[k] & low[k])
            inside = large[k]
            alone = lonely[k]
            if plane == 0:
                inside &= east(large, i, w, row, last)
                alone |= east(lonely, i, w, row, last)
            elif plane == 1:
                below = k + row if i < size - 1 else w
                inside &= large[below]
                alone |= lonely[below]
            elif not ghost_inside:
                inside = np.uint64(0)
            waiting[k] = changing & ~inside & ~alone
            mine[k] |= (mask & low[k] | free & inside) & ~waiting[k]
            undecided |= free & waiting[k]
    return undecided != 0


@numba.njit(cache=True)
def _list(plane, low, high, first, ghost, size, row, last, s):
    """The waiting bonds in their order, with the roots of their ends."""
    inside, ends, other, bond, site = s.inside, s.ends, s.other, s.bond, s.site
    before, old, new, free = s.before, s.old, s.new, s.free
    count = 0
    for i in range(size):
        for w in range(row):
            k = i * row + w
            waiting = s.waiting[k]
            there = inside[k]
            if plane == 0:
                there = east(inside, i, w, row, last)
            elif plane == 1:
                there = inside[k + row if i < size - 1 else w]
            while waiting:
                bit = np.uint64(lowest_bit(waiting))
                waiting &= waiting - ONE
                j = 64 * w + np.int64(bit)
                x = i * size + j
                if plane == 0:
                    y = i * size + (j + 1) % size
                elif plane == 1:
                    y = x + size if i < size - 1 else j
                else:
                    y = ghost
                ends[count] = first if inside[k] >> bit & ONE else x
                other[count] = first if plane < GHOST and there >> bit & ONE else y
                bond[count] = count
                site[count] = x
                old[count] = before[k] >> bit & ONE
                new[count] = low[k] >> bit & ONE
                free[count] = (high[k] & ~low[k]) >> bit & ONE
                count += 1
    return count
