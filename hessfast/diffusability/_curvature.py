"""How a surface curves that is known by samples alone: quadrics fitted to the neighbours of each."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hessfast import _random

_PER_UNKNOWN = 3  # neighbours for each coefficient of a quadric
_FITS = 3  # the first on principal axes, which tilt as the surface curves; the others on tangents of the last
_RESOLVED = 1e-3  # least over greatest diagonal of the triangular factor: neighbours that determine all coefficients
_NUMBERS_AT_ONCE = 2**22  # of neighbours, some megabytes


class Quadrics(NamedTuple):
    """Quadrics through the samples, fitted to their neighbours.

    Attributes:
        determined: whether the neighbours of a sample determine its quadric, `[n]`.
        tangents: orthonormal tangents there, `[n, D, m]` in the dtype of the samples; zeros where not determined.
        curvature: |II(v, v)| of the surface along a random unit tangent v, float64 `[n]`; meaningless where not
            determined.
        variance: of the neighbours off the quadric, per direction and degree of freedom, float64 `[n]`.
        num_neighbours: of a sample, to which its quadric is fitted.
    """

    determined: Tensor
    tangents: Tensor
    curvature: Tensor
    variance: Tensor
    num_neighbours: int


def quadrics(x: Tensor, m: int, frames: Tensor | None, seed: int) -> Quadrics:
    """Quadrics L t + B(t, t) / 2 in tangential coordinates t of the neighbours, by least squares.

    Fitted three times, from the second on along the tangents that the last L spans; with known `frames` once, without.

    Args:
        x: `[n, D]`.
        frames: orthonormal tangents `[n, D, m]`, if they are known.
        seed: of the directions v.
    """
    n, wide = x.shape
    pairs = torch.triu_indices(m, m, device=x.device)
    k = _PER_UNKNOWN * (pairs.shape[1] + (m if frames is None else 0))
    curvature, variance = torch.zeros(2, n, dtype=torch.float64, device=x.device)
    determined = torch.zeros(n, dtype=torch.bool, device=x.device)
    found = Quadrics(determined, x.new_zeros(n, wide, m), curvature, variance, k)
    if m == wide:
        found.determined[:], found.tangents[:] = True, torch.eye(m).to(x)
        return found
    if n <= k:
        return found
    nearest = _Nearest(x, k)
    generator = _random.generator(seed, *_random.DATA_TANGENTS)
    v = torch.randn(n, m, generator=generator, dtype=torch.float64).to(x.device)
    v = v / v.norm(dim=1, keepdim=True)
    for rows in torch.arange(n, device=x.device).split(max(_NUMBERS_AT_ONCE // max(n, k * wide), 1)):
        offset, whole = nearest(rows)
        scale = offset.norm(dim=2).amax(dim=1)[:, None, None].clamp(min=1e-300)
        offset = offset / scale
        tangents = _principal(offset, m) if frames is None else frames[rows].double()
        for fit in range(_FITS if frames is None else 1):
            t = offset @ tangents
            design = t[..., pairs[0]] * t[..., pairs[1]] / 2
            if frames is None:
                design = torch.cat([t, design], dim=2)
            Q, R = torch.linalg.qr(design)
            size = R.diagonal(dim1=1, dim2=2).abs()
            good = whole & (size.amin(dim=1) > _RESOLVED * size.amax(dim=1))
            R = torch.where(good[:, None, None], R, torch.eye(R.shape[1]).to(R))
            quadric = torch.linalg.solve_triangular(R, Q.mT @ offset, upper=True)
            if frames is None and fit + 1 < _FITS:
                tangents = torch.linalg.qr(quadric[:, :m].mT).Q
        w = v[rows]
        # v_i v_j of both orders: off the diagonal a coefficient is that of t_i t_j / 2 alone
        along = (w[:, pairs[0]] * w[:, pairs[1]])[:, None] @ quadric[:, -pairs.shape[1] :]
        along = along - along @ tangents @ tangents.mT
        found.curvature[rows] = along[:, 0].norm(dim=1) / scale[:, 0, 0]
        off = (offset - Q @ (Q.mT @ offset)).square().sum(dim=(1, 2)) * scale[:, 0, 0] ** 2
        found.variance[rows] = off / (wide * (k - Q.shape[2]))
        last = torch.linalg.qr(quadric[:, :m].mT).Q if frames is None else tangents
        found.determined[rows] = good
        found.tangents[rows] = torch.where(good[:, None, None], last, 0).to(x.dtype)
    return found


class _Nearest:
    """Offsets of the k < n nearest others `[rows, k, D]` in float64, and whether there are so many.

    None is nearer than the cube root of what the dtype rounds: at a distance h rounding makes a curvature wrong by
    eps / h^2, and what a quadric leaves out by h.
    """

    def __init__(self, x: Tensor, k: int):
        self.x, self.k = x, k
        size = float((x - x.mean(dim=0)).norm(dim=1).median())
        rounded = torch.finfo(x.dtype).eps * float(x.norm(dim=1).max())
        self.least = (rounded * size**2) ** (1 / 3)

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        apart = torch.cdist(self.x[rows], self.x, compute_mode="donot_use_mm_for_euclid_dist")
        apart[apart < self.least] = math.inf
        near = apart.topk(self.k, largest=False)
        offset = self.x[near.indices].double() - self.x[rows].double()[:, None]
        return offset, near.values.isfinite().all(dim=1)


def _principal(offset: Tensor, m: int) -> Tensor:
    """Principal axes through the sample itself, `[rows, D, m]`: of the neighbours' products, which are few."""
    axes = offset.mT @ torch.linalg.eigh(offset @ offset.mT).eigenvectors[..., -m:]
    return torch.linalg.qr(axes).Q
