"""The sampler of the contract on plain Python integers and lists: one search through the lattice per undecided bond."""

import numpy as np

from .._heat_bath.reference import pack
from .._random import ISING_FK_CFTP
from .._random.reference import Sfc64, derive
from . import BITS, STREAMS
from ._horizon import first_horizon

RIGHT, DOWN, GHOST = 0, 1, 2


def ising_fk_cftp(thresholds, sign, sample_ids, seed, size, horizon=0):
    """One perfect sample per row of `thresholds`; see the contract in ``kernels/ising_fk_cftp``."""
    root = derive(int(seed), ISING_FK_CFTP)
    horizons = [horizon] * len(thresholds) if horizon else first_horizon(thresholds, size).tolist()
    spins, sweeps = [], []
    for q, s, i, first in zip(thresholds.tolist(), sign.tolist(), sample_ids.tolist(), horizons, strict=True):
        key = derive(root, i)
        bonds, used = _couple(q, key, size, first)
        spins.append(_signs(bonds, s, derive(key, 0), size))
        sweeps.append(used)
    return pack(np.array(spins, dtype=bool).reshape(-1, size, size)), np.array(sweeps, dtype=np.int64)


def _couple(thresholds, key, size, horizon):
    """The bonds at time 0 and the horizon that sufficed."""
    planes = (RIGHT, DOWN, GHOST) if thresholds[3] else (RIGHT, DOWN)
    while True:
        uniforms = _uniforms(derive(key, horizon), planes, size)
        bottom = {b: u < thresholds[2 * (b[0] == GHOST)] << BITS for b, u in uniforms.items()}
        top = {b: u < thresholds[2 * (b[0] == GHOST) + 1] << BITS for b, u in uniforms.items()}
        for t in range(horizon - 1, 0, -1):
            uniforms = _uniforms(derive(key, t), planes, size)
            for bonds in (bottom, top):
                _sweep(bonds, uniforms, thresholds, size)
        if bottom == top:
            return bottom, horizon
        horizon += (horizon + 1) // 2


def _sweep(bonds, uniforms, thresholds, size):
    """One heat bath of every bond, in place, in the order of the contract."""
    for bond in sorted(bonds, key=_turn):
        low, high = (q << BITS for q in thresholds[2 * (bond[0] == GHOST) :][:2])
        bonds[bond] = False
        bonds[bond] = uniforms[bond] < low or (uniforms[bond] < high and _connected(bonds, *ends(bond, size), size))


def _turn(bond):
    plane, i, j = bond
    return plane == GHOST, 0 if plane == GHOST else (i + j) % 2, plane, i, j


def ends(bond, size):
    """The two vertices of a bond; None is the ghost."""
    plane, i, j = bond
    return (i, j), {RIGHT: (i, (j + 1) % size), DOWN: ((i + 1) % size, j), GHOST: None}[plane]


def _connected(bonds, one, other, size):
    """Whether open bonds join two vertices; both clusters grow in turn, so the smaller one bounds the search."""
    seen = ({one}, {other})
    front = [[one], [other]]
    while front[0] and front[1]:
        for side in (0, 1):
            step = [v for u in front[side] for v in _neighbours(bonds, u, size)]
            front[side] = [v for v in dict.fromkeys(step) if v not in seen[side]]
            seen[side].update(front[side])
            if not seen[1 - side].isdisjoint(front[side]):
                return True
    return False


def _neighbours(bonds, vertex, size):
    if vertex is None:
        return [(i, j) for plane, i, j in bonds if plane == GHOST and bonds[plane, i, j]]
    i, j = vertex
    around = [(RIGHT, i, j), (DOWN, i, j), (GHOST, i, j), (RIGHT, i, (j - 1) % size), (DOWN, (i - 1) % size, j)]
    return [v for b in around if bonds.get(b) for v in ends(b, size) if v != vertex]


def _uniforms(key, planes, size):
    """U of every bond as an integer in [0, 2^(64 + BITS))."""
    row_words = -(-size // 64)
    uniforms = {}
    for plane in planes:
        plane_key = derive(key, plane)
        streams = [Sfc64(plane_key, s) for s in range(STREAMS)]
        tail = derive(plane_key, 3 * STREAMS)
        for q in range(size * row_words):
            i, w = divmod(q, row_words)
            draws = [streams[q % STREAMS].next() for _ in range(BITS)]
            for j in range(64 * w, min(64 * w + 64, size)):
                top = sum((draw >> j % 64 & 1) << k for k, draw in enumerate(draws))
                uniforms[plane, i, j] = top << 64 | derive(tail, i * size + j)
    return uniforms


def _signs(bonds, sign, key, size):
    """Spins (True: up): the sign of the field for the cluster of the ghost, fair ones for the others."""
    up = {}
    for first in [None, *((i, j) for i in range(size) for j in range(size))]:
        if first not in up:
            value = sign > 0 if first is None else bool(derive(key, first[0] * size + first[1]) >> 63)
            up[first], front = value, [first]
            while front:
                for v in _neighbours(bonds, front.pop(), size):
                    if v not in up:
                        up[v] = value
                        front.append(v)
    return [[up[i, j] for j in range(size)] for i in range(size)]
