"""The horizon tried first. It decides the time and nothing else."""

import numpy as np


def first_horizon(thresholds, size):
    """A horizon at which most pairs of chains meet, int64 [n] from uint64 [n, 4]: a fit to those of size 128.

    Those needed grow with the size, near the critical point as its power .4, elsewhere as .2 or less; the power is a
    compromise, for one more attempt costs as much as a horizon too long by a half.
    """
    bond, ghost = (thresholds[:, k] * 2.0**-64 for k in (1, 3))
    distance = abs(bond - 0.586) + 0.3 * ghost  # from the critical p = sqrt(2) / (1 + sqrt(2)) without field
    horizon = 3 + 6 * np.exp(-distance / 0.12) + 6 * np.exp(-distance / 0.015)
    return np.maximum(np.rint(horizon * (size / 128) ** 0.25), 1).astype(np.int64)
