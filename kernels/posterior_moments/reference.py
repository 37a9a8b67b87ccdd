"""posterior_moments in NumPy and float64, one query at a time, from differences."""

import numpy as np


def posterior_moments(queries, data, tau, probes, left_out):
    mean, log_normaliser = np.empty(queries.shape), np.empty(len(queries))
    covariance, data = np.empty(probes.shape), data.astype(np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        exponents = -((query - data) ** 2).sum(axis=1) / (2 * tau[i])
        if left_out[i] >= 0:
            exponents[left_out[i]] = -np.inf
        weights = np.exp(exponents - exponents.max())
        log_normaliser[i] = exponents.max() + np.log(weights.sum())
        weights /= weights.sum()
        mean[i] = weights @ data
        apart = data - mean[i]
        covariance[i] = (probes[i].astype(np.float64) @ apart.T * weights) @ apart
    return mean, log_normaliser, covariance
