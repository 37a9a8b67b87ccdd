"""The sampler of the contract in numba: words of bonds, floods, union-find and divide and conquer."""

import numba
import numpy as np

from .._bits import lowest_bit
from .._random import ISING_FK_CFTP
from .._random.cpu import derive
from .._threads import numbers, share
from ._bonds import GHOST, first_site, grow, scratch, sweep
from ._clusters import find, label, outside_sites
from ._horizon import first_horizon
from ._uniforms import SCRATCH, compare
from ._words import ONE, even_bits


def ising_fk_cftp(thresholds, sign, sample_ids, seed, size, horizon=0):
    """One perfect sample per row of `thresholds`; see the contract in ``kernels/ising_fk_cftp``."""
    n = len(thresholds)
    words = np.zeros((n, 4, size // 2, -(-size // 128)), dtype=np.uint64)
    sweeps = np.zeros(n, dtype=np.int64)
    horizons = np.full(n, horizon) if horizon else first_horizon(thresholds, size)
    root = np.uint64(derive(np.uint64(seed), np.uint64(ISING_FK_CFTP)))
    order = np.argsort(-horizons, kind="stable")  # samples cost 1 to 1000: the dear ones first
    if size == 128:
        share(_draw_128, n, order, thresholds, sign, sample_ids, root, horizons, words, sweeps)
    else:
        share(_draw, n, order, thresholds, sign, sample_ids, root, size, -(-size // 64), horizons, words, sweeps)
    return words, sweeps


@numba.njit(cache=True, nogil=True)
def _draw_128(tickets, order, thresholds, sign, sample_ids, root, horizons, words, sweeps):
    """Compiled for 128 sites a row: with constants in their place cheap samples take two thirds of the time."""
    _draw(tickets, order, thresholds, sign, sample_ids, root, 128, 2, horizons, words, sweeps)


@numba.njit(cache=True, nogil=True)
def _draw(tickets, order, thresholds, sign, sample_ids, root, size, row, horizons, words, sweeps):
    """The samples, in this order; a row is `row` words."""
    s = scratch(size, row)
    bottom = np.zeros((3, size * row), np.uint64)
    top = np.zeros((3, size * row), np.uint64)
    low = np.zeros((3, size * row), np.uint64)
    high = np.zeros((3, size * row), np.uint64)
    streams = np.zeros(SCRATCH, np.uint64)
    for k in numbers(tickets):
        n = order[k]
        planes = 3 if thresholds[n, 3] else 2
        key = derive(root, np.uint64(sample_ids[n]))
        sweeps[n] = _couple(thresholds[n], key, horizons[n], planes, size, row, bottom, top, low, high, streams, s)
        _signs(bottom, sign[n] > 0, derive(key, np.uint64(0)), planes, size, row, words[n], s)


@numba.njit(cache=True)
def _couple(thresholds, key, horizon, planes, size, row, bottom, top, low, high, streams, s):
    """Leave the bonds at time 0 in `bottom`; returns the horizon that sufficed."""
    while True:
        apart = True
        for t in range(horizon, 0, -1):
            step, is_first = derive(key, np.uint64(t)), t == horizon
            least, most = (bottom, top) if is_first else (low, high)
            for plane in range(planes):
                q = thresholds[2:] if plane == GHOST else thresholds[:2]
                compare(derive(step, np.uint64(plane)), q, size, row, least[plane], most[plane], streams)
            if not is_first:
                sweep(bottom, low, high, planes, size, row, s)
                if apart:
                    sweep(top, low, high, planes, size, row, s)
            apart = apart and differ(bottom, top, planes)
        if not apart:
            return horizon
        horizon += (horizon + 1) // 2


@numba.njit(cache=True)
def _signs(bonds, up, key, planes, size, row, words, s):
    """Spins of the clusters, packed by colour."""
    inside, parent = s.inside, s.parent
    ghost_inside = grow(bonds, planes, size, row, s)
    first = first_site(inside, size, row)
    label(parent, inside, first, bonds[0], bonds[1], size, row)
    with_ghost = find(parent, first) if ghost_inside else -1
    for i in range(size):
        for w in range(row):
            x = i * size + 64 * w
            spins = inside[i * row + w] if _sign(find(parent, first), with_ghost, up, key) else np.uint64(0)
            outside = outside_sites(inside, i, w, size, row)
            while outside:
                bit = lowest_bit(outside)
                outside &= outside - ONE
                if _sign(find(parent, x + bit), with_ghost, up, key):
                    spins |= ONE << np.uint64(bit)
            # even columns are black in even rows and white in odd ones
            half = np.uint64(32 * (w & 1))
            words[3 * (i & 1), i // 2, w // 2] |= even_bits(spins) << half
            words[2 - (i & 1), i // 2, w // 2] |= even_bits(spins >> ONE) << half


@numba.njit(cache=True)
def _sign(root, with_ghost, up, key):
    return up if root == with_ghost else derive(key, np.uint64(root)) >> np.uint64(63) == ONE


@numba.njit(cache=True)
def differ(one, other, planes):
    """Whether two bond states differ."""
    for plane in range(planes):
        for k in range(one.shape[1]):
            if one[plane, k] != other[plane, k]:
                return True
    return False
