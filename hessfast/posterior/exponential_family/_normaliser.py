"""The normaliser of the posterior, right to a fraction of a nat: N phi is, which the means of f do not give.

The gradient of phi is the mean of f. Integrated along a direction in which a sample says nothing, its noise times N
adds up to tens of nats, and the posterior goes where phi happens to be low. What a posterior needs is seen by ranking:
of the parameters of many samples, drawn from one prior, which is this one's? Their odds are exp(N <f, t> - N phi(t)).
"""

import numpy as np

_BLOCK = 1024  # samples that are ranked among one another
_MOST = 20  # blocks
_POWERS = (1 / 256, 1 / 64, 1 / 16, 1 / 4, 1 / 2, 1.0)  # of the odds: from where all is nearly parabolic to the end
_STEPS, _ENOUGH = 8, 2e-3  # Newton's at each power; nats a sample
_NEVER = -30.0  # log odds; far below, numbers in float32 are denormal, and slow
_SOFTNESS = 0.05  # how much of the precision of the means holds phi in place


def calibrate(basis, theta, statistics, c, num_sites, rng) -> np.ndarray:
    """Coefficients near `c`, those of phi, under which samples `statistics` find their own theta most likely.

    Args:
        statistics: f, `[n, dim]`; its means are the gradient of basis . c.
    """
    num, dim = theta.shape
    gradients = [basis.gradient(theta, a) for a in range(dim)]
    rest = statistics - np.stack([A @ c for A in gradients], axis=1)
    precision = sum((A.T @ A).toarray() / (rest[:, a] ** 2).mean() for a, A in enumerate(gradients)) * _SOFTNESS
    precision += 1e-9 * np.trace(precision) / len(c) * np.eye(len(c))
    order = rng.permutation(num)[: _MOST * _BLOCK]
    count = max(len(order) // _BLOCK, 1)
    blocks = order[: len(order) // count * count].reshape(count, -1)
    values = [basis.values(theta[rows]) for rows in blocks]
    columns = [A.T.tocsr().astype(np.float32) for A in values]
    exponents = [num_sites * (statistics[rows] @ theta[rows].T) for rows in blocks]
    odds = np.empty_like(exponents[0])
    chance = np.empty(odds.shape, np.float32)  # right to 1e-7, and half the memory to go through

    def loss(at: np.ndarray, power: float, curved: bool = False):
        """Minus the log likelihood of all ranks, and with `curved` its gradient and Hessian."""
        scale = power * num_sites
        pull = precision @ (at - c)
        value, slope, curvature = (at - c) @ pull / 2, pull.copy(), precision.copy()
        for A, columns_of_A, exponent in zip(values, columns, exponents, strict=True):
            np.subtract(np.multiply(exponent, power, out=odds), scale * (A @ at), out=odds)
            top = odds.max(axis=1)
            np.subtract(odds, top[:, None], out=chance, casting="same_kind")
            np.exp(np.maximum(chance, _NEVER, out=chance), out=chance)
            total = chance.sum(axis=1)
            value += (top + np.log(total) - odds.diagonal()).sum()
            if curved:
                np.divide(chance, total[:, None], out=chance)
                mean, drawn = (columns_of_A @ chance.T).T, chance.sum(axis=0, dtype=np.float64)
                slope += scale * (A.T @ (1 - drawn))
                curvature += scale**2 * ((A.T @ A.multiply(drawn[:, None])).toarray() - mean.T @ mean)
        return (value, slope, curvature) if curved else value

    best = c
    for power in _POWERS:
        damping = 1e-4
        value, slope, curvature = loss(best, power, True)
        for _ in range(_STEPS):
            diagonal = np.diag(curvature)
            held = curvature + np.diag(damping * diagonal + 1e-10 * diagonal.mean())
            step = np.linalg.solve(held, -slope)
            after = loss(best + step, power)
            if not after < value:
                damping *= 10
                continue
            best, damping, gain = best + step, damping / 10, value - after
            if gain < _ENOUGH * min(num, _MOST * _BLOCK):
                break
            value, slope, curvature = loss(best, power, True)
    return best if loss(best, 1.0) < loss(c, 1.0) else c
