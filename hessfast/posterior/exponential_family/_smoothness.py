"""How smooth phi should be, by what its fit to means does not use: the metric is the covariance of the statistics.

N (f - E f)(f - E f)^T has mean Hess phi at every t, so of fits that differ in smoothness alone the one closest to these
products has the best metric. Cross-validation of the means leaves it too rough, by how much depends on the family.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from ._learn import Fit

_MOST = 20_000  # samples that decide
_NEIGHBOURS = 50  # at least, whose covariance is the unit at a sample
_BESIDE = 5.0  # widths from a kink, where nothing of it is left; on it a few samples would decide alone
_CHUNK = 4096


def with_best_metric(fits: Sequence["Fit"], z: np.ndarray, u: np.ndarray, theta: np.ndarray, num_sites: int) -> "Fit":
    """The fit of least mean |C^-1/2 (Hess phi - N r r^T) C^-1/2|^2 over the samples.

    r are residuals from the means of the first fit, which cross-validation chose; C is the mean of N r r^T over a
    sample's neighbours in the parameters u, so that all places and directions count alike. What does not depend on the
    fit is left out of the square.
    """
    kink = fits[0].basis.kink
    rows = np.arange(len(z)) if kink is None else np.flatnonzero(np.abs(kink(theta)) > _BESIDE * kink.width)
    rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int)]
    z, u, theta = z[rows], u[rows], theta[rows]
    scaled = (u - u.mean(axis=0)) / u.std(axis=0)
    neighbours = min(max(_NEIGHBOURS, 10 * theta.shape[1]), len(rows) - 1)
    near = np.asarray(KDTree(scaled).query(scaled, neighbours + 1)[1])[:, 1:]
    means = fits[0].mean(theta)
    return min(fits, key=lambda fit: _misfit(fit, z @ fit.directions + fit.offset - means, theta, near, num_sites))


def _misfit(fit: "Fit", residuals: np.ndarray, theta: np.ndarray, near: np.ndarray, num_sites: int) -> float:
    metric = fit.fisher_metric(theta)
    total = 0.0
    for start in range(0, len(theta), _CHUNK):
        part = slice(start, start + _CHUNK)
        around, own = residuals[near[part]], residuals[part]
        covariance = num_sites / near.shape[1] * np.einsum("nki,nkj->nij", around, around)
        ridge = 1e-9 * np.trace(covariance, axis1=1, axis2=2)[:, None, None] + 1e-300
        inverse = np.linalg.inv(covariance + ridge * np.eye(theta.shape[1]))
        relative = inverse @ metric[part]
        square = np.einsum("nij,nji->n", relative, relative)
        product = np.einsum("ni,nij,njk,nk->n", own, relative, inverse, own)
        total += (square - 2 * num_sites * product).sum()
    return total / len(theta)
