"""Sufficient statistics from pairs of samples: of two samples and two parameters, which belongs to which?

If p(x|t) ~ h(x) exp(N <f(x), t> - N phi(t)), the odds are exp(N <f(x) - f(x'), t - t'>): h and phi cancel, whatever
they are and however far apart the two are (Kalbfleisch 1978; Liang and Qin 2000). With f = S^T z this is a logistic
regression. It has one optimum and knows the absolute scale of f, with nothing smoothed and nothing else to be fitted.
"""

import numpy as np
from scipy import linalg
from scipy.special import expit
from scipy.stats import rankdata

_FIRST_CELL = 12  # samples of different parameters; pairs come from one cell
_CLEAR = 1.0  # log odds; pairs of less tell little, pairs of more nothing new
_WIDENINGS = 3
_SEPARABLE = 100.0  # log odds of neighbours: f is then as steep as Newton's method had time to make it
_PAIRS, _FEWEST, _MOST = 1_200_000, 16, 32  # in all, and limits to the pairs of each sample
_REGION, _REGIONS = 256, 128  # samples of a region, or more; regions, or fewer
_PASSES = 3  # of weights by trust
_STRICT = 16  # odds off by a quarter halve the weight
_ROWS = 1 << 16  # of pairs at a time
_STEPS, _ENOUGH = 40, 1e-7  # Newton's; gain of log likelihood a pair
_CURVED = 200_000  # pairs, or fewer, of which the curvature is taken


def near(z: np.ndarray, u: np.ndarray, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """N S `[features, dim]`, from pairs near in u: as near as it takes for typical odds of e to one.

    Nearer pairs of the same number would say less, farther ones would ask more of f than that it is right locally.
    """
    num, dim = theta.shape
    ranks, rounds = rankdata(u, axis=0), _rounds(num)
    size, S = _first_cell(theta), np.zeros((z.shape[1], dim))
    for _ in range(_WIDENINGS):
        pairs = draw(ranks, size, rounds, rng)
        S = logistic(z, theta, [pairs], S)
        odds = _typical(_log_odds(z, theta, S, *pairs))
        if odds > _SEPARABLE:
            raise ValueError(
                f"samples must leave doubt between neighbouring parameters, got log odds of {odds:.0f}. "
                "Draw more samples, or use features that are not a function of the parameters."
            )
        wider = min(size * (_CLEAR / max(odds, 1e-3)) ** dim, num / 4)
        if wider < 2 * size:
            break
        size = int(wider)
    region = regions(ranks, rng)
    for _ in range(_PASSES):
        trust = _trust(_log_odds(z, theta, S, *pairs), region[pairs[0]], rounds)
        S = logistic(z, theta, [pairs], S, trust)
    return S


def _trust(odds: np.ndarray, region: np.ndarray, repeats: int) -> np.ndarray:
    """Weights of pairs, from 1 down, by how far the odds are off in their region; noise of that alone is forgiven.

    Were all odds of a region multiplied by s, its likelihood would be highest at s = 1 + step. Where features fluctuate
    in ways that t does not move, as in the maximal-current phase of the TASEP, s is 0: taken for information this would
    lower the scale of f everywhere.
    """
    slope = np.bincount(region, odds * expit(-odds))
    curvature = np.bincount(region, odds**2 * expit(odds) * expit(-odds)) + 1e-300
    excess = np.maximum((slope / curvature) ** 2 - repeats / curvature, 0)
    return (1 / (1 + _STRICT * excess))[region]


def far(z: np.ndarray, u: np.ndarray, theta: np.ndarray, S: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """N S from near pairs and pairs from all over, beginning at N S of near ones.

    Few of the far ones are in doubt, but these are: samples alike, of parameters far apart in a direction that neither
    tells. They keep f constant where it says nothing; a little noise there would move posteriors by tens of nats.
    """
    ranks, rounds = rankdata(u, axis=0), _rounds(len(z)) // 2  # the curvature is that of all of them
    few = draw(ranks, len(z) // 2, rounds // 4, rng)
    pairs = [draw(ranks, _first_cell(theta), rounds, rng), few]
    return logistic(z, theta, pairs, S, curved=sum(len(first) for first, _ in pairs))


def _rounds(num: int) -> int:
    """Pairs of each sample: of few samples more, or the choice of partners would add to their noise."""
    return int(np.clip(_PAIRS // num, _FEWEST, _MOST))


def _first_cell(theta: np.ndarray) -> int:
    """Samples of a cell in which a dozen parameters meet, however often each was drawn."""
    return min(_FIRST_CELL * len(theta) // len(np.unique(theta, axis=0)), len(theta) // 4)


def _typical(values: np.ndarray) -> float:
    """The median size of those that are not zero; 1 of none."""
    sizes = np.abs(values[values != 0])
    return float(np.median(sizes)) if sizes.size else 1.0


def draw(u: np.ndarray, size: int, rounds: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of samples: in each round space is halved at random into cells of about `size`, and each is paired off."""
    pairs = []
    for _ in range(rounds):
        cells = _cells(u, size, rng)
        order = np.lexsort((rng.random(len(u)), cells))
        first, second = order[: len(u) // 2 * 2 : 2], order[1::2]
        together = cells[first] == cells[second]
        pairs.append((first[together], second[together]))
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def regions(ranks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The region of each sample, int `[n]`: large enough for averages, small enough to follow the parameters."""
    return _cells(ranks, max(_REGION, len(ranks) // _REGIONS), rng)


def _cells(u: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    num, dim = u.shape
    ascending = [np.argsort(column, kind="stable") for column in u.T]
    cells = np.zeros(num, np.int64)
    axis = int(rng.integers(dim))
    for level in range(max(round(np.log2(num / size)), 0)):
        along = ascending[(axis + level) % dim]
        sizes = np.bincount(cells)
        small = np.uint16 if len(sizes) <= 1 << 16 else np.uint32  # of 16 bits numpy sorts by radix
        order = along[np.argsort(cells[along].astype(small), kind="stable")]
        cut = rng.uniform(0.35, 0.65, len(sizes)) * sizes  # so that no two rounds have the same walls
        place = np.arange(num) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        cells[order] = 2 * cells[order] + (place >= np.repeat(cut, sizes))
        taken = np.bincount(cells) > 0
        cells = (np.cumsum(taken) - 1)[cells]
    return cells


def logistic(z, theta, pairs, start, trust: np.ndarray | None = None, curved: int = _CURVED) -> np.ndarray:
    """N S that maximises sum w log sigmoid(N (z - z')^T S (t - t')) over groups of pairs, by Newton's method.

    Any weights of the parameters alone leave it consistent. Here w falls off as the square of t - t' beyond the median
    of its group: where t is stretched, as logits are at their ends, a family that does not quite hold would otherwise
    rule all. The curvature is that of at most `curved` pairs: enough where most pairs are in doubt.
    """
    unit = z.std(axis=0)
    z, S = z / unit, start * unit[:, None]
    weights = []
    for one, other in pairs:
        steps = theta[one] - theta[other]
        typical = [_typical(column) for column in steps.T]
        weights.append(1 / (1 + ((steps / typical) ** 2).sum(axis=1)))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    weights = np.concatenate(weights) if trust is None else np.concatenate(weights) * trust
    weighted = first, second, weights / weights.sum()
    some = tuple(part[:: -(-len(first) // curved)] for part in weighted)
    value, slope = _likelihood(z, theta, S, *weighted)
    for _ in range(_STEPS):
        curvature = _curvature(z, theta, S, *some) / some[2].sum()
        size = np.sqrt(np.diag(curvature))
        curvature = curvature / (size * size[:, None]) + 1e-10 * np.eye(len(size))
        change = linalg.solve(curvature, slope.T.ravel() / size, assume_a="pos") / size
        change = change.reshape(S.T.shape).T
        for _ in range(20):
            after = _likelihood(z, theta, S + change, *weighted)
            if after[0] >= value:
                break
            change = change / 2
        else:
            break
        S, gain = S + change, after[0] - value
        value, slope = after
        if gain < _ENOUGH:
            break
    return S / unit[:, None]


def _log_odds(z, theta, S, first, second) -> np.ndarray:
    """How much likelier the two are as they are than the other way round, `[pairs]`."""
    f = z @ S
    return ((f[first] - f[second]) * (theta[first] - theta[second])).sum(axis=1)


def _likelihood(z, theta, S, first, second, weights) -> tuple[float, np.ndarray]:
    """Weighted log likelihood and its gradient `[size, dim]`."""
    odds = _log_odds(z, theta, S, first, second)
    pulls = (weights * expit(-odds))[:, None] * (theta[first] - theta[second])
    on = [np.bincount(first, pull, len(z)) - np.bincount(second, pull, len(z)) for pull in pulls.T]
    return -float(weights @ np.logaddexp(0, -odds)), z.T @ np.stack(on, axis=1)


def _curvature(z, theta, S, first, second, weights) -> np.ndarray:
    """Minus the Hessian of the weighted log likelihood, dim blocks of size a side."""
    size, dim = S.shape
    curvature = np.zeros((dim, size, dim, size))
    odds = _log_odds(z, theta, S, first, second)
    doubts = weights * expit(odds) * expit(-odds)
    for start in range(0, len(first), _ROWS):
        one, other, doubt = (part[start : start + _ROWS] for part in (first, second, doubts))
        apart, steps = z[one] - z[other], theta[one] - theta[other]
        for a in range(dim):
            for b in range(a + 1):
                curvature[a, :, b] += apart.T @ (apart * (doubt * steps[:, a] * steps[:, b])[:, None])
    for a in range(dim):
        for b in range(a):
            curvature[b, :, a] = curvature[a, :, b]
    return curvature.reshape(dim * size, dim * size)
