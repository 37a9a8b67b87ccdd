"""Sufficient statistics from the score identity d E[z|t] / dt = N Cov(z|t) S; the kink from neighbours that jump."""

import numpy as np
from scipy import linalg
from scipy.spatial import KDTree
from scipy.special import expit
from scipy.stats import rankdata

from ._basis import Basis, Hyperplane, blocks, smooth

# This much of the mean variance is added to all before they weigh: where statistics hardly fluctuate (frozen lattices,
# the other phase) a small misfit of the features would otherwise outweigh everything.
FLOOR = 1.0
_COARSE = 4  # intervals of the fields of variance
_JUMP = 25.0  # times the variance around it, or more, is the spread of neighbours across a jump
_FEWEST_JUMPS = 20


def neighbours(theta: np.ndarray) -> np.ndarray:
    """int [n, k]: each sample and its nearest in the ranks of the coordinates."""
    ranks = rankdata(theta, axis=0) / len(theta)
    return np.asarray(KDTree(ranks).query(ranks, min(3 * theta.shape[1] + 6, len(theta)))[1])


def residuals(values: np.ndarray, theta: np.ndarray, near: np.ndarray) -> tuple[np.ndarray, int]:
    """[n, k, columns]: what a linear fit over each neighbourhood leaves, and its degrees of freedom.

    Divided by these, sums of products of residuals are unbiased for Cov(values | t) if means are locally linear.
    """
    dim = theta.shape[1]
    steps = theta[near] - theta[near].mean(axis=1, keepdims=True)
    steps /= np.abs(steps).max(axis=1, keepdims=True) + 1e-300
    orthogonal = np.linalg.qr(steps)[0]
    spread = values[near] - values[near].mean(axis=1, keepdims=True)
    spread -= orthogonal @ (orthogonal.transpose(0, 2, 1) @ spread)
    return spread, near.shape[1] - 1 - dim


def find_kink(z: np.ndarray, theta: np.ndarray, near: np.ndarray) -> Hyperplane | None:
    """The hyperplane across which z jumps, as at a first-order transition; None if there is none.

    Neighbourhoods over which z spreads far more than around them straddle it; there the main axis of the spread tells
    the two sides apart, and a logistic regression of the sides on t is the hyperplane.
    """
    spread = np.empty(len(z))
    for block in blocks(len(z)):
        left, dof = residuals(z, theta, near[block])
        spread[block] = (left**2).sum(axis=(1, 2)) / dof
    floor = 1e-12 * spread.mean() + 1e-300
    log_spread = np.log(spread + floor)
    basis = Basis(theta, None, _COARSE if theta.shape[1] <= 3 else 2)
    A, weights = basis.jumping(theta), np.ones(len(z))
    for _ in range(5):  # towards the median, which a few jumps leave alone
        field = (A @ smooth(A, log_spread[:, None], weights, basis.roughness))[:, 0]
        weights = 1 / np.maximum(np.abs(log_spread - field), 0.1)
    jumps = np.flatnonzero(log_spread - field > np.log(_JUMP))
    if len(jumps) < _FEWEST_JUMPS:
        return None
    scale = theta.std(axis=0)
    middles = theta[near[jumps]].mean(axis=1) / scale
    for _ in range(5):  # a plane through them, without the far third each time
        kept = middles
        for _ in range(3):
            center = kept.mean(axis=0)
            normal = linalg.svd(kept - center, full_matrices=False)[2][-1]
            distance = np.abs((middles - center) @ normal)
            kept = middles[distance <= np.quantile(distance, 2 / 3)]
    coordinates = (theta - center * scale) / scale
    inside = near[jumps]
    spreads = z[inside] - z[inside].mean(axis=1, keepdims=True)
    axes = np.linalg.svd(spreads, full_matrices=False)[2][:, 0]
    along = np.einsum("nkp,np->nk", spreads, axes)
    side = coordinates[inside] @ normal
    along *= np.sign(((side - side.mean(axis=1, keepdims=True)) * along).sum(axis=1, keepdims=True))
    # Two sides, and nothing in between: the largest gap of the projections is most of their range.
    ordered = np.sort(along, axis=1)
    gaps = np.diff(ordered, axis=1)
    widest = gaps.argmax(axis=1)[:, None]
    clear = gaps.max(axis=1) > 0.5 * np.ptp(along, axis=1)
    up = (along > np.take_along_axis(ordered, widest, axis=1))[clear].ravel()
    points = coordinates[inside[clear]].reshape(-1, theta.shape[1])
    if clear.sum() < _FEWEST_JUMPS:
        return None
    design = np.column_stack([points, np.ones(len(points))])
    width = np.abs(side).mean()
    weights = np.append(normal, 0.0) / width
    ridge = 1e-6 * np.diag((design**2).sum(axis=0))
    for _ in range(100):
        chance = expit(design @ weights)
        gradient = design.T @ (up - chance) - ridge @ weights
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design + ridge
        step = linalg.solve(curvature, gradient, assume_a="pos")
        weights = weights + step * min(1.0, 3 * np.linalg.norm(weights) / np.linalg.norm(step))
        if np.linalg.norm(step) < 1e-8 * np.linalg.norm(weights):
            break
    if ((design @ weights > 0) == up).mean() < 0.9:
        return None
    slope = weights[:-1] / scale
    offset = slope @ (center * scale) - weights[-1]
    length = np.linalg.norm(slope)
    return Hyperplane(slope / length, float(offset / length))


def solve(z, theta, near, basis, passes=3):
    """S [features, dim] of f = S^T z with the absolute scale; the smooth mean of z; the smooth variances of f.

    S_a = (sum_i w_a C)^-1 sum_i w_a D_a with D = d E[z|t]/dt of a smooth fit, C = Cov(z|t) of the residuals between
    neighbours, and w_a = 1 / (smooth variance of f_a): weights that follow the residuals of single samples would bias
    the scale by a fifth.
    """
    num, dim = theta.shape
    inside = np.ones(num, bool)
    if basis.kink is not None:
        side = np.sign(basis.kink(theta))
        inside = (side[near] == side[:, None]).all(axis=1)
        inside = inside[near].all(axis=1)
    A = basis.jumping(theta)
    slopes = [basis.jumping(theta, along=a) for a in range(dim)]
    mean = smooth(A, z, np.maximum(inside, 1e-3), basis.roughness)
    fitted = A @ mean
    rest = z - fitted
    coarse = Basis(theta, basis.kink, _COARSE if dim <= 3 else 2, 3)
    field = coarse.jumping(theta)
    variances = np.ones((num, dim))
    for _ in range(passes):
        weights = inside[:, None] / (variances + FLOOR * variances.mean(axis=0))
        C = np.zeros((dim, z.shape[1], z.shape[1]))
        for block in blocks(num):
            left, dof = residuals(rest, theta, near[block])
            for a in range(dim):
                flat = (left * np.sqrt(weights[block, a] / dof)[:, None, None]).reshape(-1, z.shape[1])
                C[a] += flat.T @ flat
        D = [np.asarray(slope.T @ weights[:, a]) @ mean for a, slope in enumerate(slopes)]
        S = np.stack([linalg.lstsq(C[a], D[a], cond=1e-12)[0] for a in range(dim)], axis=1)  # pyright: ignore[reportOptionalSubscript]
        squares = np.concatenate(
            [((residuals(rest, theta, near[b])[0] @ S) ** 2).sum(axis=1) / dof for b in blocks(num)]
        )
        logs = np.log(squares + 1e-3 * np.median(squares, axis=0))
        variances = np.exp(
            np.clip(
                field @ smooth(field, logs, np.maximum(inside, 1e-3), coarse.roughness),
                *np.quantile(logs, (0.01, 0.99), axis=0),
            )
        )
    return S, fitted, variances
