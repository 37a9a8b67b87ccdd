"""The hyperplane in parameter space across which samples jump, as at a first-order transition."""

import numpy as np
from scipy import linalg, optimize
from scipy.spatial import KDTree
from scipy.special import expit
from scipy.stats import rankdata

from ._basis import Hyperplane, JumpingBasis, smooth

_COARSE = 4  # intervals of the field of spreads
_BLOCK = 4096  # neighbourhoods at a time
_JUMP = 25.0  # times the variance around it, or more, is the spread of neighbours across a jump
_FEWEST_JUMPS = 20


def _neighbours(theta: np.ndarray) -> np.ndarray:
    """int [n, k]: each sample and its nearest in the ranks of the coordinates."""
    num, dim = theta.shape
    ranks = rankdata(theta, axis=0, method="ordinal") / num
    # In one dimension a point has no more neighbourhoods than these have samples.
    return np.asarray(KDTree(ranks).query(ranks, min(3 * dim + 6 if dim > 1 else 2 * _FEWEST_JUMPS, num))[1])


def _residuals(values: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, int]:
    """[n, k, columns]: what a linear fit over each neighbourhood of k leaves, and its degrees of freedom.

    Divided by these, sums of products of residuals are unbiased for Cov(values | t) if means are locally linear.
    """
    steps = points - points.mean(axis=1, keepdims=True)
    steps /= np.abs(steps).max(axis=1, keepdims=True) + 1e-300
    orthogonal = np.linalg.qr(steps)[0]
    spread = values - values.mean(axis=1, keepdims=True)
    spread -= orthogonal @ (orthogonal.transpose(0, 2, 1) @ spread)
    return spread, points.shape[1] - 1 - points.shape[2]


def find_kink(z: np.ndarray, u: np.ndarray, theta: np.ndarray) -> Hyperplane | None:
    """The hyperplane in theta across which samples jump; None if there is none.

    A jump shows in the features, or, where these vary in many other ways, in the linear prediction of u from them.
    """
    near = _neighbours(u)
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
        left, dof = _residuals(z[near[block]], u[near[block]])
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
    kept = middles
    for _ in range(3):  # a plane through them, without the far third each time
        center = kept.mean(axis=0)
        normal = linalg.svd(kept - center, full_matrices=False)[2][-1]
        distance = np.abs((middles - center) @ normal)
        kept = middles[distance <= np.quantile(distance, 2 / 3)]
    close = distance <= 4 * np.median(distance)
    points, up = ((theta - center * scale) / scale)[near[jumps[close]]], up[close]
    around, up_around = points, up
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
    # Without neighbourhoods on whose sides samples are mixed the plane is found, but would be too sharp.
    weights = _dividing_plane(around.reshape(-1, len(normal)), up_around.ravel(), weights)
    slope = weights[:-1] / scale
    offset = slope @ (center * scale) - weights[-1]
    length = np.linalg.norm(slope)
    return Hyperplane(slope / length, float(offset / length), float(2 / length))


def _dividing_plane(points: np.ndarray, up: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Weights [dim + 1], the last of a constant, of the logistic regression of `up` on the points."""
    design = np.column_stack([points, np.ones(len(points))])
    weights = start if (((design @ start) > 0) == up).mean() > 0.5 else -start
    ridge = 1e-9 * (design**2).mean(axis=0)  # else the plane between separable points is infinitely steep

    def loss(weights):
        return np.logaddexp(0, design @ weights).mean() - up @ design @ weights / len(up) + ridge @ weights**2 / 2

    def slope(weights):
        return design.T @ (expit(design @ weights) - up) / len(up) + ridge * weights

    def curvature(weights):
        chance = expit(design @ weights)
        return (design * (chance * (1 - chance))[:, None]).T @ design / len(up) + np.diag(ridge)

    options = {"gtol": 1e-9}  # else the width would be that of the tolerance
    return optimize.minimize(loss, weights, jac=slope, hess=curvature, method="trust-exact", options=options).x
