"""Step 3 of the TASEP sampler in numba: which opening brackets stay unmatched on a circle of bits, 64 at a time.

A node is a stretch of 2^level positions; matched within itself it leaves d closing brackets, then u opening ones. A
word holds 64 / 2^level nodes in fields of 2^level bits. Two neighbours cancel c = min(u_left, d_right) pairs:
    d = d_left + d_right - c,    u = u_left - c + u_right.
Up the levels this gives u and d per word; a scan over the words says how many of the u stay unmatched; they are the
leftmost, so down the levels kept_left = min(kept, u_left - c), kept_right = kept - kept_left, to single positions.
"""

import numba
import numpy as np

_LEFT = np.array([(2**64 - 1) // (2**k + 1) for k in (1, 2, 4, 8, 16, 32)], np.uint64)  # every other field of k bits
_TOP = np.array([(2**64 - 1) // (4**k - 1) << (2 * k - 1) for k in (1, 2, 4, 8, 16, 32)], np.uint64)


@numba.njit(cache=True)
def keep_unmatched(openings, closings, kept):
    """Row 0 of `openings` [7, n] holds the opening brackets, `closings` [n] the closing ones (they are used up).

    `kept` [n] receives the unmatched opening brackets; the other rows of `openings` are scratch.
    """
    n = len(kept)
    for level in range(6):
        u, combined = openings[level], openings[level + 1]
        field = np.uint64(1 << level)
        last = np.uint64((2 << level) - 1)
        mask, top = _LEFT[level], _TOP[level]
        for w in range(n):
            u_left, u_right = u[w] & mask, (u[w] >> field) & mask
            d_left, d_right = closings[w] & mask, (closings[w] >> field) & mask
            excess = (d_right | top) - u_left
            positive = excess & top
            excess &= positive - (positive >> last)  # max(0, d_right - u_left)
            combined[w] = u_right + (u_left + excess - d_right)
            closings[w] = d_left + excess
    u = openings[6]
    height = lowest = 0
    for w in range(n):
        lowest = min(lowest, height - np.int64(closings[w]))
        height += np.int64(u[w]) - np.int64(closings[w])
    lowest += height  # of the second time round the circle: what the last word has to stay below
    for w in range(n - 1, -1, -1):
        opened, closed = np.int64(u[w]), np.int64(closings[w])
        bottom = height - opened
        kept[w] = np.uint64(max(min(height, lowest) - bottom, 0))
        lowest = min(lowest, bottom)
        height = bottom + closed
    for level in range(5, -1, -1):
        u, combined = openings[level], openings[level + 1]
        field = np.uint64(1 << level)
        last = np.uint64((2 << level) - 1)
        mask, top = _LEFT[level], _TOP[level]
        for w in range(n):
            left = combined[w] - ((u[w] >> field) & mask)  # u_left - c
            excess = (left | top) - kept[w]
            positive = excess & top
            left -= excess & (positive - (positive >> last))  # min(left, kept)
            kept[w] = left | ((kept[w] - left) << field)
