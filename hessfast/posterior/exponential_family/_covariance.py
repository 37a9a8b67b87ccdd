"""phi fitted to the covariances of the statistics as well as to their means: its Hessian and its gradient.

Means alone tell the Hessian as the slope of something noisy, and where it is small, as in a saturated phase, leave it
indefinite. There a few samples show the covariance. The noise of either differs by orders of magnitude over the
parameters, and each sample counts by its own.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from ._basis import Basis, JumpingBasis, penalized_least_squares, penalized_pencil, scaled, smooth, weighted_gram
from ._fit import Fit
from ._pairs import regions

_SMOOTHERS = np.array([1.0, 3.0, 10.0, 30.0, 100.0])  # times the penalty of cross-validation, too little for some means
_BESIDE = 5.0  # widths from a kink, where nothing of it is left; on it a few samples would decide alone
_STRICT = 4  # a Hessian off by half in a region halves the weight of its covariances
_MOST_SCALE = 2.0  # of what a scale may be, up or down
_SAMPLES_A_FUNCTION, _MOST_FUNCTIONS = 50, 350  # of fields: weights that follow single samples follow their noise
_FEWEST_INTERVALS, _MOST_INTERVALS = 2, 8  # of their splines
_SCORINGS = 10  # steps to a field of variance
_STEEPEST = 5.0  # of a square in a step, times its variance
_LEAST_VARIANCE = 1e-3  # times the mean: where nothing fluctuated, nothing is known of it
_LEAST_REST = 0.03  # deviation of what other components leave of one, before it is called rounding
_ENOUGH = 20_000  # samples for a field, or to choose a first metric
_NUMBERS = 1 << 23  # of second derivatives at a time


def with_covariances(fit: Fit, z: np.ndarray, u: np.ndarray, theta: np.ndarray, num_sites: int) -> Fit:
    """The fit with phi refitted to the same statistics f by weighted least squares.

    r = sqrt(N) (f - E f) are residuals from the means of `fit`, and W whitens them by smooth fields over the parameters
    u. The equations of a sample are W grad phi = W f and W Hess phi W^T = W r r^T W^T / scale. Covariances of s f are
    s^2 times too large, its means s times: scale = s makes them agree, so that pairs alone decide how large f is.
    """
    basis, root, num = fit.basis, math.sqrt(num_sites), len(z)
    f = z @ fit.directions + fit.offset
    r = root * (f - fit.mean(theta))
    W = _whitening(r, u)
    white = np.einsum("npa,na->np", W, r)
    step = max(_NUMBERS // (basis.values(theta[:1]).nnz * basis.dim * (basis.dim + 1) // 2), 1)
    parts = [slice(start, start + step) for start in range(0, num, step)]
    means = _system(rows for part in parts for rows in _mean_rows(basis, theta[part], root * W[part], f[part]))
    clear = np.ones(num, bool) if basis.kink is None else np.abs(basis.kink(theta)) > _BESIDE * basis.kink.width
    if not clear.any():
        return dataclasses.replace(fit, coefficients=_solution(basis, *means))
    weights = np.zeros_like(W)
    first = _closest(fit, means, theta[clear], W[clear], white[clear])
    weights[clear], scale = _weights(_whitened_metric(first, theta[clear], W[clear]), white[clear], u[clear])
    covariances = _system(
        rows
        for part in parts
        for rows in _covariance_rows(basis, theta[part], W[part], white[part] / math.sqrt(scale), weights[part])
    )
    both = (a + b for a, b in zip(means, covariances, strict=True))
    return dataclasses.replace(fit, coefficients=_solution(basis, *both))


def _system(rows: Iterable[tuple[sparse.csr_array, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, float, int]:
    """A^T A, A^T y, y^T y and the number of equations, of many A c = y; those of weight 0 are none."""
    gram, moment, square, count = 0, 0, 0.0, 0
    for A, y in rows:
        gram, moment, square = gram + weighted_gram(A), moment + A.T @ y, square + float(y @ y)
        count += int(np.count_nonzero(abs(A).sum(axis=1)))
    return np.asarray(gram), np.asarray(moment), square, count


def _mean_rows(basis: Basis, theta, W, f) -> list[tuple[sparse.csr_array, np.ndarray]]:
    """W grad phi = W f."""
    gradients = [basis.gradient(theta, a) for a in range(basis.dim)]
    values = np.einsum("npa,na->pn", W, f)
    return [
        (functools.reduce(operator.add, (scaled(gradients[a], W[:, p, a]) for a in range(p + 1))), values[p])
        for p in range(basis.dim)
    ]


def _covariance_rows(basis: Basis, theta, W, white, weights) -> list[tuple[sparse.csr_array, np.ndarray]]:
    """W Hess phi W^T = white white^T, each element of the lower triangle by the root of its weight."""
    lower = [(a, b) for a in range(basis.dim) for b in range(a + 1)]
    hessians = {(a, b): basis.hessian(theta, a, b) for a, b in lower}
    rows = []
    for p, q in lower:
        root = np.sqrt(weights[:, p, q])
        terms = (
            scaled(hessians[max(a, b), min(a, b)], root * W[:, p, a] * W[:, q, b])
            for a in range(p + 1)
            for b in range(q + 1)
        )
        rows.append((functools.reduce(operator.add, terms), root * white[:, p] * white[:, q]))
    return rows


def _solution(basis: Basis, gram, moment, square, count) -> np.ndarray:
    return penalized_least_squares(gram, moment[:, None], np.array([square]), count, basis.roughness)[:, 0]


def _closest(fit: Fit, means: tuple, theta: np.ndarray, W: np.ndarray, white: np.ndarray) -> Fit:
    """Of fits to means alone, by smoother, the one of least mean |W Hess phi W^T - white white^T|^2."""
    gram, moment, square, count = means
    columns, squares = np.tile(moment[:, None], len(_SMOOTHERS)), np.full(len(_SMOOTHERS), square)
    c = penalized_least_squares(gram, columns, squares, count, fit.basis.roughness, _SMOOTHERS)
    some = _enough(len(theta))

    def distance(each: Fit) -> float:
        metric = _whitened_metric(each, theta[some], W[some])
        return float((metric**2).sum() - 2 * np.einsum("np,npq,nq->", white[some], metric, white[some]))

    return min((dataclasses.replace(fit, coefficients=each) for each in c.T), key=distance)


def _whitened_metric(fit: Fit, theta: np.ndarray, W: np.ndarray) -> np.ndarray:
    """W Hess phi W^T `[n, dim, dim]`."""
    return W @ fit.fisher_metric(theta) @ W.transpose(0, 2, 1)


def _weights(metric: np.ndarray, white: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights `[n, dim, dim]` of white white^T, whose mean a whitened metric is, and the scale that brings it there.

    A weight is one over the variance in the sample's region, or over that of normal variables if this is larger, and
    less where the metric of the means is off by more than noise: statistics that fluctuate though no parameter moves
    them are no metric.
    """
    num, dim = white.shape
    region = regions(rankdata(u, axis=0), np.random.default_rng(0))
    count = np.bincount(region)

    def mean(values):
        return np.bincount(region, values) / count

    expected, found = mean(np.trace(metric, axis1=1, axis2=2)), mean((white**2).sum(axis=1)) + 1e-300
    scale = 1.0
    for _ in range(2):
        off = (scale * expected / found - 1) ** 2 - 2 / (dim * count)
        trust = 1 / (1 + _STRICT * np.maximum(off, 0))
        ratio = (trust * count) @ found / max((trust * count) @ expected, 1e-300)
        scale = float(np.clip(ratio, 1 / _MOST_SCALE, _MOST_SCALE))
    weights = np.empty((num, dim, dim))
    for p in range(dim):
        for q in range(p + 1):
            product = white[:, p] * white[:, q]
            variance = np.maximum(mean(product**2) - mean(product) ** 2, 2 if p == q else 1)
            weights[:, p, q] = weights[:, q, p] = (trust / variance)[region]
    return weights, scale


def _whitening(r: np.ndarray, u: np.ndarray) -> np.ndarray:
    """W `[n, dim, dim]`, lower triangular: W r has components of variance about 1, not correlated, at every u.

    One component after another is divided by its deviation, freed of what those before it tell, and divided again
    (Pourahmadi 1999), all by smooth fields.
    """
    num, dim = r.shape
    size = min(num / _SAMPLES_A_FUNCTION, _MOST_FUNCTIONS) ** (1 / u.shape[1])
    intervals = int(np.clip(size - 3, _FEWEST_INTERVALS, _MOST_INTERVALS)) if u.shape[1] <= 3 else _FEWEST_INTERVALS
    basis = JumpingBasis(u, None, intervals, _FEWEST_INTERVALS)
    A, roughness, some = basis(), basis.roughness, _enough(num)
    W, white = np.zeros((num, dim, dim)), np.empty((num, dim))
    for p in range(dim):
        deviation = _deviation(A, r[:, p], roughness)
        row, rest = np.zeros((num, dim)), r[:, p] / deviation
        row[:, p] = 1 / deviation
        if p:
            design = sparse.csr_array(sparse.hstack([scaled(A[some], white[some, q]) for q in range(p)]))
            c = smooth(design, rest[some, None], np.ones(len(some)), np.kron(np.eye(p), roughness)).reshape(p, -1)
            told = A @ c.T
            rest = rest - (told * white[:, :p]).sum(axis=1)
            deviation = np.maximum(_deviation(A, rest, roughness), _LEAST_REST)
            row = (row - np.einsum("nq,nqa->na", told, W[:, :p])) / deviation[:, None]
            rest = rest / deviation
        W[:, p], white[:, p] = row, rest
    return W


def _deviation(A: sparse.csr_array, values: np.ndarray, roughness: np.ndarray) -> np.ndarray:
    """Standard deviations `[n]`, roots of the exp(A c) most likely for squares of Gamma distribution, by scoring."""
    some = _enough(len(values))
    design, mean = A[some], (values**2).mean() + 1e-300
    square, num = values[some] ** 2 / mean, len(some)
    pencil = penalized_pencil(weighted_gram(design), roughness)

    def smoothed(level: np.ndarray) -> np.ndarray:
        return pencil((design.T @ level)[:, None], np.array([level @ level]), num)[:, 0]

    c = smoothed(np.log(square + _LEAST_VARIANCE))
    for _ in range(_SCORINGS):
        level = np.maximum(design @ c, math.log(_LEAST_VARIANCE))
        c = smoothed(level + np.clip(square * np.exp(-level) - 1, -1, _STEEPEST))
    return np.exp(np.maximum(A @ c, math.log(_LEAST_VARIANCE)) / 2) * math.sqrt(mean)


def _enough(num: int) -> np.ndarray:
    """Which of `num` samples are taken where _ENOUGH of them are."""
    return np.linspace(0, num - 1, min(num, _ENOUGH)).astype(int)
