"""The horizon tried first. It decides the time and nothing else."""

import numpy as np


def first_horizon(thresholds):
    """A horizon at which most pairs of chains meet, a fit to those of 128x128: int64 [n] from uint64 [n, 4]."""
    bond, ghost = (thresholds[:, k] * 2.0**-64 for k in (1, 3))
    distance = abs(bond - 0.586) + 0.3 * ghost  # from the critical p = sqrt(2) / (1 + sqrt(2)) without field
    return np.rint(3 + 6 * np.exp(-distance / 0.12) + 6 * np.exp(-distance / 0.015)).astype(np.int64)
