"""The intrinsic dimension of data from distances of neighbours alone."""

import math
from typing import Any, NamedTuple

import torch

from . import _samples

_ASKED = 4096  # samples whose neighbours are looked for
_SHARED = 1.5  # errors of neighbours are not independent: measured on lines, circles, planes and clusters


class Dimension(NamedTuple):
    """Estimate and standard error."""

    mean: float
    sem: float


def intrinsic_dimension(samples: Any) -> Dimension:
    """m of the surface that samples lie near, at the scale of their neighbours.

    The logarithm of the ratio of a sample's distances to its second and its first neighbour is exponential with mean
    1 / m, whatever the density, where that is even over the neighbours. Noise wider than they are apart counts as
    dimensions, and above ten or so too few samples make m too small. Copies of a sample are left out.

    Args:
        samples: `[n, ...]`, n >= 3.

    References:
        Facco, d'Errico, Rodriguez and Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
        information", Scientific Reports 7, 12140 (2017).

    Example:
        A circle in three dimensions.

        >>> angle = 6 * torch.rand(1000, generator=torch.Generator().manual_seed(0))
        >>> round(intrinsic_dimension(torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1)).mean)
        1
    """
    x = _samples.samples("samples", samples, least=3).flatten(1)
    x = (x if x.dtype == torch.float64 else x.float()).unique(dim=0)
    if len(x) < 3:
        raise ValueError(f"samples must be three or more that differ, got {len(x)}.")
    near, _ = _samples.nearest(x, torch.linspace(0, len(x) - 1, min(len(x), _ASKED), device=x.device).long(), 2)
    ratio = (near[:, 1] / near[:, 0]).log()
    ratio = ratio[ratio.isfinite()]  # what differs by less than rounding is at no distance
    if not ratio.sum() > 0:
        raise ValueError("samples must have neighbours at different distances, got equal ones throughout.")
    mean = (len(ratio) - 1) / float(ratio.sum())
    return Dimension(mean, _SHARED * mean / math.sqrt(len(ratio)))


def rounded(m: Any) -> Any:
    """Of a `Dimension` its mean, rounded; anything else itself."""
    return round(m.mean) if isinstance(m, Dimension) else m
