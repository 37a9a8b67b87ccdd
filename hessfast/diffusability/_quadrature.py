"""Gauss-Legendre quadrature of exact curves, on panels as fine as the noise asks for."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

REACH = 9.5  # standard deviations of a normal distribution: beyond them lies less than 1e-20
_PANELS, _NODES = 64, 24  # most panels between two edges, and nodes of each
_RESOLVED = 3.0  # standard deviations of the noise in a panel
_SEEN = 8.0  # of a normal distribution in a panel: its 24 nodes integrate it to 1e-16


def legendre(edges: np.ndarray, panels: int | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre panels, `panels` between each two edges."""
    numbers = [panels] * (len(edges) - 1) if isinstance(panels, int) else panels
    between = zip(itertools.pairwise(edges), numbers, strict=True)
    cuts = np.concatenate([np.linspace(a, b, num, endpoint=False) for (a, b), num in between])
    cuts = np.append(cuts, edges[-1])
    x, w = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(cuts)[:, None] / 2
    return (cuts[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def resolving(values: np.ndarray, places: np.ndarray, noise: float) -> np.ndarray:
    """Edges of panels over the places, `[n]`, in which neither they nor the values there move far.

    Args:
        values: at the places; a panel sees them move by so many standard deviations of the noise that its nodes see
            all of exp(-(value - y)^2 / (2 noise^2)).
    """
    steps = np.maximum(np.abs(np.diff(values)) / noise, np.diff(places))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    return np.interp(np.linspace(0, along[-1], max(math.ceil(along[-1] / _SEEN), 4) + 1), along, places)


def on_a_line(
    moments: Callable[[Tensor], Iterable[Tensor]], edges: np.ndarray, tau: float, most: int = _PANELS
) -> tuple[float, ...]:
    """FI, FIR, MMSE and its rate from p(y), E[X | y] and Var[X | y] = tau (1 + tau s').

    Panels between edges are as fine as the noise, but `most` in number: beyond, functions vary over larger scales.
    """
    panels = [min(max(math.ceil(width / (_RESOLVED * math.sqrt(tau))), 4), most) for width in np.diff(edges)]
    y, weight = legendre(edges, panels)
    density, mean, variance = (x.numpy() for x in moments(torch.as_tensor(y)))
    weight = weight * density
    score, slope = (mean - y) / tau, (variance / tau - 1) / tau
    quantities = score**2, slope**2, variance, (variance / tau) ** 2
    return tuple(float(weight @ q) for q in quantities)
