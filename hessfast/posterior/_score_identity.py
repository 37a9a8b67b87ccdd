"""Sufficient statistics from the score identity d E[z|t] / dt = N Cov(z|t) S; the kink from neighbours that jump."""

import numpy as np
from scipy import linalg, optimize
from scipy.spatial import KDTree
from scipy.special import expit
from scipy.stats import rankdata

from ._basis import Hyperplane, JumpingBasis, smooth

# This much of the mean variance is added to all before they weigh: where statistics hardly fluctuate (frozen lattices,
# the other phase) a small misfit of the features would otherwise outweigh everything.
FLOOR = 1.0
_COARSE = 4  # intervals of the field of spreads
_CELL = 256  # samples of a cell, or more
_BLOCK = 4096  # neighbourhoods at a time
# Of a relative misfit of the score identity: from lenient to strict, not to be led astray by a bad start. Weights
# follow a solution; the last solution has those of the last but one.
_TOLERANCES = (4.0, 2.0, 1.0, 1.0)
_JUMP = 25.0  # times the variance around it, or more, is the spread of neighbours across a jump
_FEWEST_JUMPS = 20


def neighbours(theta: np.ndarray) -> np.ndarray:
    """int [n, k]: each sample and its nearest in the ranks of the coordinates."""
    ranks = rankdata(theta, axis=0) / len(theta)
    return np.asarray(KDTree(ranks).query(ranks, min(3 * theta.shape[1] + 6, len(theta)))[1])


def residuals(values: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, int]:
    """[n, k, columns]: what a linear fit over each neighbourhood of k leaves, and its degrees of freedom.

    Divided by these, sums of products of residuals are unbiased for Cov(values | t) if means are locally linear.
    """
    steps = points - points.mean(axis=1, keepdims=True)
    steps /= np.abs(steps).max(axis=1, keepdims=True) + 1e-300
    orthogonal = np.linalg.qr(steps)[0]
    spread = values - values.mean(axis=1, keepdims=True)
    spread -= orthogonal @ (orthogonal.transpose(0, 2, 1) @ spread)
    return spread, points.shape[1] - 1 - points.shape[2]


def find_kink(z: np.ndarray, u: np.ndarray, theta: np.ndarray, near: np.ndarray) -> Hyperplane | None:
    """The hyperplane in theta across which samples jump, as at a first-order transition; None if there is none.

    A jump shows in the features, or, where these vary in many other ways, in the linear prediction of u from them.
    """
    centred = z - z.mean(axis=0)
    predicted = centred @ linalg.lstsq(centred, (u - u.mean(axis=0)) / u.std(axis=0))[0]  # pyright: ignore[reportOptionalSubscript]
    planes = (_plane_of_jumps(seen, u, theta, near) for seen in (predicted, z))
    return next((plane for plane in planes if plane is not None), None)


def _plane_of_jumps(z: np.ndarray, u: np.ndarray, theta: np.ndarray, near: np.ndarray) -> Hyperplane | None:
    """Neighbourhoods over which z spreads far more than around them straddle the plane; there the main axis of the
    spread tells the two sides apart, and a logistic regression of the sides on theta is the plane.
    """
    spread = np.empty(len(z))
    for block in np.array_split(np.arange(len(z)), len(z) // _BLOCK + 1):
        left, dof = residuals(z[near[block]], u[near[block]])
        spread[block] = (left**2).sum(axis=(1, 2)) / dof
    floor = 1e-12 * spread.mean() + 1e-300
    log_spread = np.log(spread + floor)
    basis = JumpingBasis(u, None, _COARSE if u.shape[1] <= 3 else 2, 2)
    A, weights = basis(), np.ones(len(z))
    for _ in range(5):  # towards the median, which a few jumps leave alone
        field = (A @ smooth(A, log_spread[:, None], weights, basis.roughness))[:, 0]
        weights = 1 / np.maximum(np.abs(log_spread - field), 0.1)
    jumps = np.flatnonzero(log_spread - field > np.log(_JUMP))
    if len(jumps) < _FEWEST_JUMPS:
        return None
    spreads = z[near[jumps]] - z[near[jumps]].mean(axis=1, keepdims=True)
    axes = np.linalg.svd(spreads, full_matrices=False)[2][:, 0]
    main = np.linalg.svd(axes, full_matrices=False)[2][0]  # jumps point in much the same direction, or its opposite
    along = np.einsum("nkp,np->nk", spreads, axes * np.sign(axes @ main)[:, None])
    # Two sides, and nothing in between: the largest gap of the projections is most of their range.
    ordered = np.sort(along, axis=1)
    gaps = np.diff(ordered, axis=1)
    up = along > np.take_along_axis(ordered, gaps.argmax(axis=1)[:, None], axis=1)
    clear = gaps.max(axis=1) > 0.5 * np.ptp(along, axis=1)
    clear &= np.minimum(up.sum(axis=1), (~up).sum(axis=1)) > 1  # one alone is an outlier
    if clear.sum() < _FEWEST_JUMPS:
        return None
    clear &= gaps.max(axis=1) > 0.25 * np.quantile(gaps.max(axis=1)[clear], 0.9)  # others are rare excitations
    up, jumps = up[clear], jumps[clear]
    scale = theta.std(axis=0)
    middles = theta[near[jumps]].mean(axis=1) / scale
    for _ in range(5):  # a plane through them, without the far third each time
        kept = middles
        for _ in range(3):
            center = kept.mean(axis=0)
            normal = linalg.svd(kept - center, full_matrices=False)[2][-1]
            distance = np.abs((middles - center) @ normal)
            kept = middles[distance <= np.quantile(distance, 2 / 3)]
    close = distance <= 4 * np.median(distance)
    points, up = ((theta - center * scale) / scale)[near[jumps[close]]], up[close]
    start = np.append(normal, 0.0) / np.abs(points @ normal).mean()
    for _ in range(3):  # without neighbourhoods that the plane does not divide
        if len(up) < max(_FEWEST_JUMPS, len(jumps) / 3):
            return None
        weights = _dividing_plane(points.reshape(-1, len(normal)), up.ravel(), start)
        right = (points @ weights[:-1] + weights[-1] > 0) == up
        both = [(right & side).sum(axis=1) / side.sum(axis=1) for side in (up, ~up)]
        divided = np.minimum(*both) > 0.7
        points, up = points[divided], up[divided]
    if len(up) < max(_FEWEST_JUMPS, len(jumps) / 3):
        return None
    slope = weights[:-1] / scale
    offset = slope @ (center * scale) - weights[-1]
    length = np.linalg.norm(slope)
    return Hyperplane(slope / length, float(offset / length))


def _dividing_plane(points: np.ndarray, up: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Weights [dim + 1], the last of a constant, of the logistic regression of `up` on the points."""
    design = np.column_stack([points, np.ones(len(points))])
    weights = start if (((design @ start) > 0) == up).mean() > 0.5 else -start
    ridge = 1e-6 * (design**2).mean(axis=0)  # else the plane between separable points is infinitely steep

    def loss(weights):
        return np.logaddexp(0, design @ weights).mean() - up @ design @ weights / len(up) + ridge @ weights**2 / 2

    def slope(weights):
        return design.T @ (expit(design @ weights) - up) / len(up) + ridge * weights

    def curvature(weights):
        chance = expit(design @ weights)
        return (design * (chance * (1 - chance))[:, None]).T @ design / len(up) + np.diag(ridge)

    return optimize.minimize(loss, weights, jac=slope, hess=curvature, method="trust-exact").x


def solve(z, u, theta, slopes, near, kink, resolution):
    """S [features, dim] of f = S^T z with the absolute scale; the smooth mean of z; the smooth variances of f.

    S_a = (sum_c w_ca C_c)^-1 sum_c w_ca D_c with D = d E[z|t]/dt of a smooth fit, C = Cov(z|t) of the residuals between
    neighbours, both summed over cells c. The weights w_ca = 1 / (variance of f_a around c) keep clear of the variance
    of the cell itself, and so of its own residuals: weights that follow these would bias the scale by a fifth. They
    fall off where the identity fails for f_a, S_a C_c S_a against S_a D_c: there features fluctuate in ways that t does
    not move, as in the maximal-current phase of the TASEP, and this would pass for information elsewhere.

    Args:
        u: parameters in which E[z|t] is smoothed; slopes: du/dt `[n, dim of u, dim]` there.
    """
    num, dim = theta.shape
    side = None if kink is None else np.sign(kink(theta))
    inside = np.ones(num, bool)
    if side is not None:
        inside = (side[near] == side[:, None]).all(axis=1)
        inside = inside[near].all(axis=1)
    basis = JumpingBasis(u, side, resolution, max(resolution // 2, 2))
    A = basis()
    mean = smooth(A, z, np.maximum(inside, 1e-3), basis.roughness)
    fitted = A @ mean
    along = [basis(k) @ mean for k in range(u.shape[1])]
    cells, centres = partition(u)
    counts = np.maximum(np.bincount(cells, inside), 1)
    C, D = np.zeros((len(centres), z.shape[1], z.shape[1])), np.zeros((len(centres), z.shape[1], dim))
    for c, block in enumerate(np.split(np.argsort(cells, kind="stable"), np.cumsum(np.bincount(cells))[:-1])):
        block = block[inside[block]]
        left, dof = residuals(z[near[block]] - fitted[near[block]], u[near[block]])
        flat = left.reshape(-1, z.shape[1])
        C[c] = flat.T @ flat / dof
        for a in range(dim):
            D[c, :, a] = sum(slopes[block, k, a] @ along[k][block] for k in range(u.shape[1]))
    around = KDTree(centres).query(centres, min(9, len(centres)))[1].reshape(len(centres), -1)
    around = around[:, 1:] if len(centres) > 1 else around
    weights = np.ones((len(centres), dim))
    for tolerance in _TOLERANCES:
        S = np.stack(
            [
                linalg.lstsq(np.tensordot(w, C, 1), np.tensordot(w, D[:, :, a], 1), cond=1e-12)[0]  # pyright: ignore[reportOptionalSubscript]
                for a, w in enumerate(weights.T)
            ],
            axis=1,
        )
        spread = np.einsum("ia,cij,ja->ca", S, C, S) / counts[:, None]
        moved = np.einsum("ia,cia->ca", S, D) / counts[:, None]
        variances = np.median(spread[around], axis=1)
        size = spread + np.abs(moved) + 0.1 * spread.mean(axis=0)
        weights = 1 / (1 + (2 * (spread - moved) / size / tolerance) ** 2)
        weights /= variances + FLOOR * variances.mean(axis=0)
    return S, fitted, variances[cells]


def partition(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Halve the points along each coordinate in turn: the cell of each, and the centres in units of the spread."""
    depth = int(np.clip(np.log2(max(len(points), 1) / _CELL), 0, 7))
    cells = np.zeros(len(points), np.int64)
    for level in range(depth):
        order = np.lexsort((points[:, level % points.shape[1]], cells))
        sizes = np.bincount(cells)
        upper = np.concatenate([np.arange(size) >= size // 2 for size in sizes])
        cells[order] = 2 * cells[order] + upper
    counts = np.bincount(cells)
    scaled = points / points.std(axis=0)
    return cells, np.stack([np.bincount(cells, column) / counts for column in scaled.T], axis=1)
