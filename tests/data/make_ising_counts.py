"""Write ising_counts_12x12.npz: how many states of the 12 x 12 torus have each broken-bond number and magnetisation.

Run as ``python tests/data/make_ising_counts.py SIDE FILE``; side 12 takes ten minutes of one core and 0.7 GB.

With w_s[t] the polynomial in x (broken bonds) and y (up spins) of the side/2 - 1 rings between two fixed rings s and t,
g = sum_{s,t} w_s[t]^2 x^{b(s) + b(t)} y^{u(s) + u(t)}. w_s[t] is built spin by spin in positive floating-point numbers;
its squares are taken by FFT under two tilts x -> x e^{-2K}, the laws at K = 1/T. Rounding of the FFT is 1e-15 of the
largest cells, so each cell is taken from the tilt under which it is more probable, and dropped below 1e-13: at
(T, H) = (5, 2) the cells left out hold 1e-8 of the probability, at T <= 3 less than 1e-11.
"""

import sys

import numba
import numpy as np
import scipy.fft

from hessfast.ising.enumeration import _ring_classes

TILTS = (0.25, 0.45)


@numba.njit(cache=True)
def add_site(ways, bit, side, horizontal, bonds, ups):
    """One more spin at `bit`; of `ways[ring, broken, up]` only [:bonds, :ups] is in use so far."""
    old0, old1 = np.zeros(ways.shape[1:]), np.zeros(ways.shape[1:])
    for lower in range(ways.shape[0]):
        if (lower >> bit) & 1:
            continue
        upper = lower | (1 << bit)
        old0[:bonds, :ups] = ways[lower, :bonds, :ups]
        old1[:bonds, :ups] = ways[upper, :bonds, :ups]
        for ring, same, other, more_up in ((lower, old0, old1, 0), (upper, old1, old0, horizontal)):
            spin, broken = (ring >> bit) & 1, 0
            if horizontal and bit > 0:
                broken += spin != (ring >> (bit - 1)) & 1
            if horizontal and bit == side - 1:
                broken += spin != ring & 1
            new = ways[ring]
            new[: bonds + 3, : ups + 1] = 0
            for b in range(bonds):
                for u in range(ups):
                    new[b + broken, u + more_up] += same[b, u]
                    new[b + broken + 1, u + more_up] += other[b, u]


def between(ring, side):
    """w_ring[t] for every t: float64 [2^side, bonds + 3, ups + 1]."""
    rings = side // 2 - 1
    all_bonds, all_ups = (2 * rings + 1) * side + 1, rings * side + 1
    ways = np.zeros((1 << side, all_bonds + 3, all_ups + 1))
    ways[ring, 0, 0] = 1
    bonds, ups = 1, 1
    for row in range(rings + 1):
        for bit in range(side):
            horizontal = int(row < rings)
            add_site(ways, bit, side, horizontal, bonds, ups)
            bonds += 1 + horizontal * ((bit > 0) + (bit == side - 1))
            ups += horizontal
    assert (bonds, ups) == (all_bonds, all_ups)
    return ways[:, :bonds, :ups]


def squares(ways, ring, side, K):
    """sum_t w^2 x^{b(s)+b(t)} y^{u(s)+u(t)} under a tilt: float64 [broken / 2, up], both of the whole torus."""
    states = np.arange(1 << side)
    ones = np.array([int(t).bit_count() for t in states])
    broken = ones[states ^ ((states >> 1) | ((states & 1) << (side - 1)))]
    parity = ones[states ^ ring] % 2
    bonds, ups = ways.shape[1:]
    half = (bonds + 1) // 2
    shape = scipy.fft.next_fast_len(2 * half, real=True), scipy.fft.next_fast_len(2 * ups, real=True)
    tilt = np.exp(-2 * K * np.arange(bonds)[:, None])
    total = np.zeros((side**2 + 1, side**2 + 1))
    for b, u in set(zip(broken.tolist(), ones.tolist(), strict=True)):
        chosen = states[(broken == b) & (ones == u)]
        first = int(parity[chosen[0]])
        spectrum = 0
        for part in np.array_split(chosen, -(-len(chosen) // 64)):
            block = (ways[part] * tilt)[:, first::2]
            spectrum = spectrum + (scipy.fft.rfft2(block, shape) ** 2).sum(0)
        square = scipy.fft.irfft2(spectrum, shape)[: 2 * block.shape[1] - 1, : 2 * ups - 1]
        db, du = first + (b + broken[ring]) // 2, u + ones[ring]
        total[db : db + square.shape[0], du : du + square.shape[1]] += square * np.exp(-2 * K * (b + broken[ring]))
    return total


def main(side, path):
    sites = side**2
    tilted = {K: np.zeros((sites + 1, sites + 1)) for K in TILTS}
    classes = _ring_classes(side)
    for number, (ring, members) in enumerate(classes.items()):
        ways = between(ring, side)
        for K, weights in tilted.items():
            found = squares(ways, ring, side, K)
            weights += members / 2 * (found + found[:, ::-1])
        print(number + 1, len(classes), flush=True)
    broken = 2 * np.arange(sites + 1)[:, None]
    best, counts = np.zeros((sites + 1, sites + 1)), np.zeros((sites + 1, sites + 1))
    for K, weights in tilted.items():
        share = weights / weights.sum()
        better = share > best
        best[better] = share[better]
        counts[better] = (weights * np.exp(2 * K * broken))[better]
    counts[best < 1e-13] = 0
    possible = np.flatnonzero(counts.any(1))
    np.savez_compressed(
        path, energies=4 * possible - 2 * sites, magnetizations=np.arange(-sites, sites + 1, 2), counts=counts[possible]
    )
    return counts


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
