"""The horizon tried first. It decides the time and nothing else."""

import numpy as np


def first_horizon(thresholds):
    """A horizon at which the chains of nearly all samples meet: int64 [n] from uint64 [n, 4]."""
    bond, ghost = (thresholds[:, k] * 2.0**-64 for k in (1, 3))
    distance = np.abs(bond - 0.586) + 0.5 * ghost  # from the critical point p = sqrt(2) / (1 + sqrt(2)) without field
    return np.rint(3 + 22 * np.exp(-12 * distance)).astype(np.int64)
