"""The uniform numbers of the bonds of one plane, compared with two thresholds 64 bonds at a time."""

import numba
import numpy as np

from .._bits import lowest_bit
from .._random import WARM_UP
from .._random.cpu import derive, seed_streams
from . import BITS, STREAMS
from ._words import ALL, ONE

S = STREAMS
SCRATCH = 7 * STREAMS  # sfc64 states a, b, c, then for both thresholds [U < threshold] and [tie so far], one output


@numba.njit(cache=True)
def compare(key, thresholds, size, row, low, high, s):
    """low = [U < thresholds[0]], high = [U < thresholds[1]] as words [size * row]; s is scratch, uint64 [SCRATCH]."""
    seed_streams(key, s[: 3 * S].reshape(3, S))
    counter = np.uint64(1 + WARM_UP)
    tail = derive(key, np.uint64(3 * S))
    for q in range(0, size * row, S):
        for j in range(S):
            s[3 * S + j] = s[4 * S + j] = np.uint64(0)
            s[5 * S + j] = s[6 * S + j] = ALL
        for k in range(BITS):
            t0 = np.uint64(0) - (thresholds[0] >> np.uint64(64 - BITS + k) & ONE)
            t1 = np.uint64(0) - (thresholds[1] >> np.uint64(64 - BITS + k) & ONE)
            _next_compared(s, counter, t0, t1)
            counter += ONE
        for j in range(min(S, size * row - q)):
            i, w = divmod(q + j, row)
            sites = ALL >> np.uint64(64 * row - size) if w == row - 1 else ALL
            low[q + j], high[q + j] = s[3 * S + j] & sites, s[4 * S + j] & sites
            ties = (s[5 * S + j] | s[6 * S + j]) & sites
            while ties:
                bit = lowest_bit(ties)
                ties &= ties - ONE
                u = derive(tail, np.uint64(i * size + 64 * w + bit))
                one = ONE << np.uint64(bit)
                if s[5 * S + j] & one and u < thresholds[0] << np.uint64(BITS):
                    low[q + j] |= one
                if s[6 * S + j] & one and u < thresholds[1] << np.uint64(BITS):
                    high[q + j] |= one


@numba.njit(cache=True)
def _next_compared(s, counter, t0, t1):
    """One more bit of U, a more significant one than before."""
    # one scratch array with constant offsets: LLVM vectorises over the streams only if it can rule out aliases
    for j in range(S):
        a, b, c = s[j], s[S + j], s[2 * S + j]
        out = a + b + counter
        s[j] = b ^ b >> np.uint64(11)
        s[S + j] = c + (c << np.uint64(3))
        s[2 * S + j] = (c << np.uint64(24) | c >> np.uint64(40)) + out
        e0, e1 = ~(out ^ t0), ~(out ^ t1)
        s[3 * S + j] = (~out & t0) | (e0 & s[3 * S + j])
        s[4 * S + j] = (~out & t1) | (e1 & s[4 * S + j])
        s[5 * S + j] &= e0
        s[6 * S + j] &= e1
