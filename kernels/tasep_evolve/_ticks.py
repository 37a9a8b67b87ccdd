"""The number of clock ticks in a slice of time: the Poisson law as 64-bit thresholds, from integers alone."""

from fractions import Fraction
from math import ceil

import numpy as np

from . import TICKS

_UNIT = 1 << 192  # the weight of the most likely number; what is left out is below 2^-190 of it


def slices(num_sites: int, duration: float) -> tuple[int, int, np.ndarray]:
    """The number of slices, and the law of the ticks in each: `least` + how many of `thresholds` a word reaches."""
    total = Fraction(duration) * (num_sites + 1)
    num_slices = ceil(total / TICKS)
    least, thresholds = poisson(total / num_slices) if num_slices else (0, [])
    return num_slices, least, np.array(thresholds, np.uint64)


def poisson(mean: Fraction) -> tuple[int, list[int]]:
    """`least`, and floor(2^64 P(N <= n)) for n = least, least + 1, ...: those neither 0 nor 2^64."""
    mode = int(mean)
    weights = [_UNIT]
    for n in range(mode, 0, -1):
        weights.append(weights[-1] * n * mean.denominator // mean.numerator)
    weights.reverse()
    n = mode
    while weights[-1]:
        n += 1
        weights.append(weights[-1] * mean.numerator // (mean.denominator * n))
    total, below, least, thresholds = sum(weights), 0, 0, []
    for weight in weights:
        below += weight
        threshold = (below << 64) // total
        if threshold == 0:
            least += 1
        elif threshold < 1 << 64:
            thresholds.append(threshold)
    return least, thresholds
