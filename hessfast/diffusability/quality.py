"""How far two samples are apart: what generated images are judged by."""

from typing import Any

import torch
from torch import Tensor

from . import _samples

_AT_ONCE = 1024


def energy_distance(samples: Any, others: Any) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|: 0 for one distribution, and for no two others; in the unit of the samples.

    Without bias, so that it may fall below 0 by chance.

    Args:
        samples, others: `[n, ...]` and `[m, ...]`, n, m >= 2.

    References:
        Szekely and Rizzo, "Energy statistics", Journal of Statistical Planning and Inference 143 (2013).

    Example:
        Two points at 0 against two at 1.

        >>> energy_distance([[0.0], [0.0]], [[1.0], [1.0]])
        2.0
    """
    x, y = _flat(samples, others)
    n, m = len(x), len(y)
    return 2 * _total(x, y) / (n * m) - _total(x, x) / (n * (n - 1)) - _total(y, y) / (m * (m - 1))


def frechet_distance(samples: Any, others: Any) -> float:
    """|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2)) of their means and covariances: FID, of features of one's choice.

    Biased upwards, the more so the fewer samples there are for each dimension: compare like with like.

    Args:
        samples, others: `[n, dim]` and `[m, dim]`, n, m >= 2.

    References:
        Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017.

    Example:
        >>> round(frechet_distance([[-1.0], [1.0]], [[0.0], [2.0]]), 9)
        1.0
    """
    x, y = _flat(samples, others)
    dim = x.shape[1]
    first, second = (torch.cov(a.T).reshape(dim, dim) for a in (x, y))
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return float((x.mean(0) - y.mean(0)).square().sum() + first.trace() + second.trace() - 2 * cross)


def _total(x: Tensor, y: Tensor) -> float:
    few = (torch.cdist(rows, y, compute_mode="donot_use_mm_for_euclid_dist").sum() for rows in x.split(_AT_ONCE))
    return float(torch.stack(list(few)).sum())


def _flat(samples: Any, others: Any) -> tuple[Tensor, Tensor]:
    """`[n, dim]` and `[m, dim]`, float64."""
    x, y = (
        _samples.samples(name, value).double().flatten(1) for name, value in (("samples", samples), ("others", others))
    )
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"others must have as many numbers each as samples, {x.shape[1]}, got {y.shape[1]}.")
    return x, y
