"""Gauss-Legendre quadrature of exact curves, on panels as fine as the noise asks for."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

REACH = 9.5  # standard deviations of a normal distribution: beyond them lies less than 1e-20
_PANELS, _NODES = 64, 24  # most panels between two edges, and nodes of each
_RESOLVED = 3.0  # standard deviations of the noise in a panel


def panels_for(width: float, scale: float) -> int:
    """Panels over a width on which functions vary over a scale."""
    return min(max(math.ceil(width / (_RESOLVED * scale)), 4), _PANELS)


def legendre(edges: np.ndarray, panels: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre panels, `panels` between each two edges."""
    cuts = np.concatenate([np.linspace(a, b, panels, endpoint=False) for a, b in itertools.pairwise(edges)])
    cuts = np.append(cuts, edges[-1])
    x, w = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(cuts)[:, None] / 2
    return (cuts[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def on_a_line(
    moments: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], edges: np.ndarray, tau: float
) -> tuple[float, ...]:
    """FI, FIR, MMSE and its rate from p(y), E[X | y] and Var[X | y] = tau (1 + tau s')."""
    y, weight = legendre(edges, panels_for(float(np.diff(edges).max()), math.sqrt(tau)))
    density, mean, variance = (x.numpy() for x in moments(torch.as_tensor(y)))
    weight = weight * density
    score, slope = (mean - y) / tau, (variance / tau - 1) / tau
    quantities = score**2, slope**2, variance, (variance / tau) ** 2
    return tuple(float(weight @ q) for q in quantities)
