"""phi fitted to the covariances of the statistics as well as to their means: its Hessian and its gradient.

Means alone tell the Hessian as the slope of something noisy, and where it is small, as in a saturated phase, leave it
indefinite. There a few samples show the covariance. The noise of either differs by orders of magnitude over the
parameters, and each sample counts by its own.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from ._basis import Basis, JumpingBasis, penalized_least_squares, scaled, smooth, weighted_gram
from ._pairs import cells

if TYPE_CHECKING:
    from ._learn import Fit

_SMOOTHERS = np.array([1.0, 3.0, 10.0, 30.0, 100.0])  # than cross-validation asks, too little for some families
_BESIDE = 5.0  # widths from a kink, where nothing of it is left; on it a few samples would decide alone
_REGION, _REGIONS = 256, 128  # samples of a region, or more; regions, or fewer
_STRICT = 4  # a Hessian off by half in a region halves the weight of its covariances
_SAMPLES_A_FUNCTION = 50  # of a field of variance, or more: weights that follow single samples follow their noise
_INTERVALS = 2, 8  # of its splines, least and most
_STEPS, _STEEPEST = 10, 5.0  # of its fit; of a step, relative to the variance
_LEAST = 1e-12  # variance, of the mean one
_MOST = 20_000  # samples to which fields are fitted, and that choose a first metric
_WRONG = 2.0  # scale, at most
_ROWS = 1 << 16  # samples at a time


@dataclass(frozen=True, eq=False)
class _System:
    """Least squares of A c = y: A^T A, A^T y, y^T y and the number of rows."""

    gram: np.ndarray
    moment: np.ndarray
    square: float
    count: int

    def __add__(self, other: "_System") -> "_System":
        moment, square, count = self.moment + other.moment, self.square + other.square, self.count + other.count
        return _System(self.gram + other.gram, moment, square, count)

    def misfit(self, c: np.ndarray) -> float:
        """|A c - y|^2 without y^T y."""
        return float(c @ (self.gram @ c - 2 * self.moment))


def with_covariances(fit: "Fit", z: np.ndarray, u: np.ndarray, theta: np.ndarray, num_sites: int) -> "Fit":
    """The fit with phi refitted to the same statistics f by weighted least squares.

    r = sqrt(N) (f - E f) are residuals from the means of `fit`. With W whitening them by smooth fields over the
    parameters u, the equations of a sample are W grad phi = W f, and W Hess phi W^T = W r r^T W^T / scale, where scale
    takes out what the covariances are too large by if f is: that is left to the means. Of several smoothers the one
    whose Hessians come closest to the covariances is taken.
    """
    basis, root = fit.basis, math.sqrt(num_sites)
    f = z @ fit.directions + fit.offset
    residuals = root * (f - fit.mean(theta))
    whiten = _whitening(residuals, u)
    white = np.einsum("npa,na->np", whiten, residuals)
    means = _in_parts(len(f), lambda part: _mean_rows(basis, theta[part], root * whiten[part], f[part]))
    clear = np.ones(len(f), bool) if basis.kink is None else np.abs(basis.kink(theta)) > _BESIDE * basis.kink.width
    some = np.flatnonzero(clear)[:: _every(int(clear.sum()))]
    first = min(_solved(fit, means), key=lambda each: _distance(each, theta[some], whiten[some], white[some]))
    weights, scale = _weights(_whitened(first, theta, whiten), white, u)
    weights *= clear[:, None, None]
    white /= math.sqrt(scale)
    covariances = _in_parts(
        len(f), lambda part: _covariance_rows(basis, theta[part], whiten[part], white[part], weights[part])
    )
    return min(_solved(fit, means + covariances), key=lambda each: covariances.misfit(each.coefficients))


def _in_parts(num: int, rows: Callable[[slice], list[tuple[sparse.csr_array, np.ndarray]]]) -> _System:
    """The system of the rows (A, y) of all samples, which are large, a part at a time."""
    systems = (
        _System(weighted_gram(A, np.ones(len(y))), A.T @ y, float(y @ y), int(np.count_nonzero(y)))
        for start in range(0, num, _ROWS)
        for A, y in rows(slice(start, start + _ROWS))
    )
    return functools.reduce(operator.add, systems)


def _mean_rows(basis: Basis, theta, whiten, f) -> list[tuple[sparse.csr_array, np.ndarray]]:
    """W grad phi = W f."""
    gradients = [basis.gradient(theta, a) for a in range(basis.dim)]
    values = np.einsum("npa,na->pn", whiten, f)
    rows = ([scaled(gradients[a], whiten[:, p, a]) for a in range(p + 1)] for p in range(basis.dim))
    return [(functools.reduce(operator.add, terms), values[p]) for p, terms in enumerate(rows)]


def _covariance_rows(basis: Basis, theta, whiten, white, weights) -> list[tuple[sparse.csr_array, np.ndarray]]:
    """W Hess phi W^T = white white^T, each element of the lower triangle by the root of its weight."""
    lower = [(a, b) for a in range(basis.dim) for b in range(a + 1)]
    hessians = {(a, b): basis.hessian(theta, a, b) for a, b in lower}
    rows = []
    for p, q in lower:
        root = np.sqrt(weights[:, p, q])
        terms = (
            scaled(hessians[max(a, b), min(a, b)], root * whiten[:, p, a] * whiten[:, q, b])
            for a in range(p + 1)
            for b in range(q + 1)
        )
        rows.append((functools.reduce(operator.add, terms), root * white[:, p] * white[:, q]))
    return rows


def _whitened(fit: "Fit", theta: np.ndarray, whiten: np.ndarray) -> np.ndarray:
    """W Hess phi W^T `[n, dim, dim]`."""
    return whiten @ fit.fisher_metric(theta) @ whiten.transpose(0, 2, 1)


def _distance(fit: "Fit", theta: np.ndarray, whiten: np.ndarray, white: np.ndarray) -> float:
    """Mean |W Hess phi W^T - white white^T|^2 without what does not depend on phi."""
    metric = _whitened(fit, theta, whiten)
    return float((metric**2).sum() - 2 * np.einsum("np,npq,nq->", white, metric, white)) / len(theta)


def _solved(fit: "Fit", system: _System) -> list["Fit"]:
    """One for each smoother."""
    num = len(_SMOOTHERS)
    moment = np.tile(system.moment[:, None], num)
    c = penalized_least_squares(
        system.gram, moment, np.full(num, system.square), system.count, fit.basis.roughness, _SMOOTHERS
    )
    return [dataclasses.replace(fit, coefficients=each) for each in c.T]


def _whitening(residuals: np.ndarray, u: np.ndarray) -> np.ndarray:
    """W `[n, dim, dim]`, lower triangular: W r has components of variance 1 that are not correlated, at every u.

    One component after another is divided by its deviation, freed of what those before it tell, and divided again
    (Pourahmadi 1999), all by smooth fields.
    """
    num, dim = residuals.shape
    fewest, most = _INTERVALS
    intervals = int(np.clip((num / _SAMPLES_A_FUNCTION) ** (1 / u.shape[1]) - 3, fewest, most))
    basis = JumpingBasis(u, None, intervals if u.shape[1] <= 3 else fewest, fewest)
    A, roughness, some = basis(), basis.roughness, slice(None, None, _every(num))
    whiten = np.zeros((num, dim, dim))
    for p in range(dim):
        row = whiten[:, p]
        row[:, p] = 1 / _deviation(A, residuals[:, p], roughness)
        if p:
            before = whiten[:, :p]
            white = np.einsum("nqa,na->nq", before, residuals)
            design = sparse.csr_array(sparse.hstack([scaled(A[some], column) for column in white[some].T]))
            value = (row * residuals)[some].sum(axis=1, keepdims=True)
            c = smooth(design, value, np.ones(len(value)), np.kron(np.eye(p), roughness)).reshape(p, -1)
            row -= np.einsum("nq,nqa->na", A @ c.T, before)
            row /= _deviation(A, (row * residuals).sum(axis=1), roughness)[:, None]
    return whiten


def _deviation(A: sparse.csr_array, values: np.ndarray, roughness: np.ndarray) -> np.ndarray:
    """Standard deviations `[n]`, roots of the exp(A c) most likely for squares of Gamma distribution, by scoring."""
    some = slice(None, None, _every(len(values)))
    design, mean = A[some], (values**2).mean() + 1e-300
    square, ones = values[some] ** 2 / mean, np.ones(design.shape[0])
    c = smooth(design, np.log(square + 1e-8)[:, None], ones, roughness)
    for _ in range(_STEPS):
        level = np.maximum(design @ c, math.log(_LEAST))
        off = np.clip(square[:, None] * np.exp(-level) - 1, -1, _STEEPEST)
        c = smooth(design, level + off, ones, roughness)
    return np.exp(np.maximum(A @ c, math.log(_LEAST))[:, 0] / 2) * math.sqrt(mean)


def _every(num: int) -> int:
    """Every which of so many samples is taken where _MOST are enough."""
    return -(-num // _MOST)


def _weights(metric: np.ndarray, white: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights `[n, dim, dim]` of white white^T, whose mean a whitened metric is, and the scale that brings it there.

    A weight is one over the variance in the sample's region, at least that of normal variables, and less where the
    metric of the means is off by more than noise: statistics that fluctuate though no parameter moves them are no
    metric.
    """
    num, dim = white.shape
    regions = cells(rankdata(u, axis=0), max(_REGION, num // _REGIONS), np.random.default_rng(0))
    count = np.bincount(regions)

    def mean(values):
        return np.bincount(regions, values) / count

    expected, found = mean(np.trace(metric, axis1=1, axis2=2)), mean((white**2).sum(axis=1)) + 1e-300
    scale = 1.0
    for _ in range(2):
        off = (scale * expected / found - 1) ** 2 - 2 / (dim * count)
        trust = count / (1 + _STRICT * np.maximum(off, 0))
        scale = float(np.clip(trust @ found / max(trust @ expected, 1e-300), 1 / _WRONG, _WRONG))
    trust = (trust / count)[regions]
    weights = np.empty((num, dim, dim))
    for p in range(dim):
        for q in range(p + 1):
            product = white[:, p] * white[:, q]
            variance = np.maximum(mean(product**2) - mean(product) ** 2, 2 if p == q else 1)
            weights[:, p, q] = weights[:, q, p] = trust / variance[regions]
    return weights, scale
