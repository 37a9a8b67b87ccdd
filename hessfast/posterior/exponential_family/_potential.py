"""The potential phi whose gradient is the mean of the statistics, and the mixing of statistics that makes it one."""

import math

import numpy as np
from scipy import sparse

from ._basis import penalized_least_squares, weighted_gram

_HUBER = 2.5
_APART = 1024.0  # the units in which parameters are measured here are powers of it


def mixings(dim: int) -> np.ndarray:
    """[dim^2 - dim, dim, dim]: a basis of the matrices of zero diagonal."""
    full = np.eye(dim * dim).reshape(-1, dim, dim)
    return np.delete(full, np.s_[:: dim + 1], axis=0)


def fit_potential(basis, theta, statistics, means, error, robust=False) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients c of phi, and B of zero diagonal, of the least squares of grad phi(t) = f + B E[f|t].

    A gradient is free of curl, which a mixing of its components is not: where the metric varies, this determines B. Its
    diagonal is left to the pairs: the fit would choose the scales of smaller misfit. `error` is the standard
    deviation of B before the fit, relative to the components' ranges; it decides where curl does not, as at a constant
    metric. The means stand beside B because the noise of f would shrink it; without them B is 0. `robust`: residuals
    beyond _HUBER deviations count linearly, which biases means of skewed noise, and keeps outliers from the others.
    """
    num, dim = theta.shape
    unit = _APART ** np.rint(np.log(theta.std(axis=0)) / math.log(_APART))
    scale = (statistics * unit).std()
    statistics = statistics * unit / scale
    designs = [basis.gradient(theta, a) * unit[a] for a in range(dim)]
    directions, prior = np.zeros((0, dim, dim)), np.zeros(0)
    if means is not None:
        means, directions = means * unit / scale, mixings(dim)
        mixed = [sparse.csr_array(-(means @ directions[:, a].T)) for a in range(dim)]
        designs = [sparse.csr_array(sparse.hstack(both)) for both in zip(designs, mixed, strict=True)]
        ranges = means.std(axis=0)
        prior = np.array([(np.abs(B) * ranges[None, :] / ranges[:, None]).sum() / error for B in directions]) ** 2
    size = basis.size + len(directions)
    roughness = np.zeros((size, size))
    roughness[: basis.size, : basis.size] = basis.roughness
    weights = np.ones_like(theta)
    for _ in range(3 if robust else 1):
        gram = np.sum([weighted_gram(A, weights[:, a]) for a, A in enumerate(designs)], axis=0)
        gram[basis.size :, basis.size :] += np.diag(prior)
        moment = np.sum([A.T @ (weights[:, a] * statistics[:, a]) for a, A in enumerate(designs)], axis=0)
        square = np.array([(weights * statistics**2).sum()])
        (solution,) = penalized_least_squares(gram, moment[:, None], square, num * dim, roughness).T
        if robust:
            rest = statistics - np.stack([A @ solution for A in designs], axis=1)
            spread = np.median(np.abs(rest), axis=0) / 0.6745
            weights = np.minimum(1, _HUBER * spread / np.maximum(np.abs(rest), 1e-300))
    B = np.tensordot(solution[basis.size :], directions, 1)
    return scale * solution[: basis.size], B * unit / unit[:, None]
