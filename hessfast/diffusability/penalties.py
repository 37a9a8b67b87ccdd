"""What an encoder does to the geometry of data: compression, tangential distortion, curvature, the GPE's cost."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessfast import _arrays, _checks

_QUANTILES = (0.05, 0.5, 0.95)


class Penalty(NamedTuple):
    """Over samples or pairs: mean, standard error, quantiles at 5, 50 and 95 %, the greatest, how many."""

    mean: float
    sem: float
    quantiles: tuple[float, ...]
    greatest: float
    num: int


@dataclass(frozen=True)
class EncoderPenalties:
    """Of an encoder E: R^D -> R^d on data near an m-dimensional surface with tangent frames U, J = grad E.

    Attributes:
        compression: (D - d) / (D - m), the share of empty directions that the encoder removes.
        tangential_distortion: |U^T J^T J U - I|, the largest eigenvalue's size; 0 for isometries.
        anisotropy: (hi - lo) / (hi + lo) of the eigenvalues of U^T J^T J U: the distortion but for a common scale.
        secant_distortion: | |E(x) - E(x')| / |x - x'| - 1 | of near pairs: the same without derivatives.
        bending: second difference of E along a tangent direction, size of its part normal to J U, 1 / length.
        metric_change: the tangential part of it.
        nonlinearity: |E(x') - E(x) - J (x' - x)|^2 / Var z of near pairs, no unit.
        data_curvature: 2 dist(x' - x, tangents) / |x' - x|^2 of near pairs: 1 / the radius of the surface, 1 / length;
            its greatest values bound the reach.
        gpe_cost: (log(1 + |E(x) - E(x')|^2) - log(1 + |x - x'|^2))^2 over pairs.
    """

    compression: float
    tangential_distortion: Penalty
    anisotropy: Penalty
    secant_distortion: Penalty
    bending: Penalty
    metric_change: Penalty
    nonlinearity: Penalty
    data_curvature: Penalty
    gpe_cost: Penalty


def encoder_penalties(
    encoder: Callable[[Tensor], Tensor],
    samples: Any,
    dimension: int,
    *,
    frames: Any = None,
    step: float | None = None,
    num_neighbours: int | None = None,
    num_pairs: int = 20_000,
    seed: int = 0,
) -> EncoderPenalties:
    """All penalties of an encoder on samples of data.

    Args:
        encoder: maps `[n, ...]` to `[n, ...]`, each sample for itself, differentiable by torch; of a VAE the mean.
        samples: `[n, ...]`, n > num_neighbours.
        dimension: m of the surface that the data lie near; see `FisherCurve.intrinsic_dimension`.
        frames: orthonormal tangents U, `[n, D, m]`; None: the m first principal axes of the nearest neighbours.
        step: h of second differences; None: the median distance of nearest neighbours. Encoders of piecewise linear
            networks have no second derivative, so that the step is part of the answer.
        num_neighbours: of a sample; None: 2 m + 2.
        num_pairs: random pairs of the GPE's cost.
        seed: of those pairs and of the directions of second differences.

    Raises:
        ValueError: for shapes that do not fit, answers that are not finite, fewer samples than neighbours.

    Example:
        A map that doubles lengths: its metric is 4, off by 3, its second differences are 0.

        >>> square = torch.rand(200, 2, dtype=torch.float64)
        >>> penalties = encoder_penalties(lambda x: 2 * x, square, dimension=2)
        >>> round(penalties.tangential_distortion.mean, 6), abs(round(penalties.bending.mean, 6))
        (3.0, 0.0)
    """
    x = _samples(samples)
    flat = x.flatten(1)
    n, wide = flat.shape
    m = _checks.integer("dimension", dimension, 1, wide)
    k = _checks.integer("num_neighbours", 2 * m + 2 if num_neighbours is None else num_neighbours, m, None)
    if n <= k:
        raise ValueError(f"samples must be more than their {k} neighbours, got {n}.")
    num_pairs, seed = _checks.integer("num_pairs", num_pairs, 1), _checks.seed(seed)

    def encode(rows: Tensor) -> Tensor:
        z = encoder(rows.reshape(-1, *x.shape[1:]))
        if not _arrays.is_tensor(z) or z.ndim < 2 or len(z) != len(rows):
            raise ValueError(f"encoder must map [n, ...] to [n, ...], got {tuple(getattr(z, 'shape', ()))}.")
        return z.flatten(1)

    with torch.no_grad():
        z = encode(flat)
    if not torch.isfinite(z).all():
        raise ValueError("encoder must return finite numbers, got NaN or infinity.")
    distances, neighbours = _neighbours(flat, k)
    tangents = _frames(flat, neighbours, m) if frames is None else _given(frames, flat, m)
    h = float(distances[:, 0].median()) if step is None else float(_checks.float_array("step", step))
    if not h > 0:
        raise ValueError(f"step must be > 0, got {h}; repeated samples have no distance.")
    pushed = torch.stack([_pushed(encode, flat, tangents[:, :, i]) for i in range(m)], dim=2)  # J U, [n, d, m]
    eigenvalues = torch.linalg.eigvalsh(pushed.mT @ pushed)
    low, high = eigenvalues[:, 0], eigenvalues[:, -1]
    normal, tangential = _second_differences(encode, flat, z, tangents, pushed, h, seed)
    near = neighbours[:, 0]
    offset, distance = flat[near] - flat, distances[:, 0]
    apart = distance > 0
    off_tangent = (offset - (tangents @ (tangents.mT @ offset[..., None]))[..., 0]).norm(dim=1)
    linear = _pushed(encode, flat, offset)
    variance = float(((z - z.mean(dim=0)) ** 2).sum(dim=1).mean())
    first, second = _pairs(n, num_pairs, seed)
    return EncoderPenalties(
        compression=(wide - z.shape[1]) / (wide - m) if wide > m else 0.0,
        tangential_distortion=_penalty(torch.maximum((high - 1).abs(), (low - 1).abs())),
        anisotropy=_penalty((high - low) / (high + low).clamp(min=1e-300)),
        secant_distortion=_penalty(((z[near] - z).norm(dim=1) / distance - 1).abs()[apart]),
        bending=_penalty(normal),
        metric_change=_penalty(tangential),
        nonlinearity=_penalty((z[near] - z - linear).pow(2).sum(dim=1) / max(variance, 1e-300)),
        data_curvature=_penalty((2 * off_tangent / distance**2)[apart]),
        gpe_cost=_penalty(gpe_cost(flat[first], flat[second], z[first], z[second])),
    )


def gpe_cost(x: Tensor, x_other: Tensor, z: Tensor, z_other: Tensor) -> Tensor:
    """Of pairs `[n, ...]`, `[n]`: (log(1 + |z - z'|^2) - log(1 + |x - x'|^2))^2."""
    apart = ((a - b).flatten(1).pow(2).sum(dim=1) for a, b in ((z, z_other), (x, x_other)))
    encoded, plain = (torch.log1p(squared) for squared in apart)
    return (encoded - plain) ** 2


def _pushed(encode: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    """J v of each sample, by two backward passes: every layer has those, not every layer has a forward mode."""
    with torch.inference_mode(False), torch.enable_grad():
        y = x.clone().requires_grad_()
        z = encode(y)
        if not z.requires_grad:
            raise ValueError("encoder must be made of operations that torch can differentiate.")
        dual = torch.zeros_like(z, requires_grad=True)
        (pulled,) = torch.autograd.grad(z, y, dual, create_graph=True)
        (product,) = torch.autograd.grad(pulled, dual, v, allow_unused=True)
    return torch.zeros_like(z) if product is None else product.detach()


def _second_differences(encode, x, z, tangents, pushed, h, seed) -> tuple[Tensor, Tensor]:
    """Sizes of (E(x + h v) + E(x - h v) - 2 E(x)) / h^2 for a random unit tangent v: normal part, tangential part."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(len(x), tangents.shape[2], generator=generator, dtype=torch.float64).to(x)
    v = (tangents @ (v / v.norm(dim=1, keepdim=True))[..., None])[..., 0]
    with torch.no_grad():
        second = (encode(x + h * v) + encode(x - h * v) - 2 * z) / h**2
    basis = torch.linalg.qr(pushed).Q
    inside = (basis @ (basis.mT @ second[..., None]))[..., 0]
    return (second - inside).norm(dim=1), inside.norm(dim=1)


def _neighbours(x: Tensor, k: int, at_once: int = 1024) -> tuple[Tensor, Tensor]:
    """Distances and numbers of the k nearest others, `[n, k]`."""
    distances, numbers = [], []
    for rows in torch.arange(len(x)).split(at_once):
        apart = torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")
        apart[torch.arange(len(rows)), rows] = math.inf
        nearest = apart.topk(k, largest=False)
        distances.append(nearest.values)
        numbers.append(nearest.indices)
    return torch.cat(distances), torch.cat(numbers)


def _frames(x: Tensor, neighbours: Tensor, m: int) -> Tensor:
    """The m first principal axes of each sample's neighbours about their mean, `[n, D, m]`."""
    around = x[neighbours]
    return torch.linalg.svd(around - around.mean(dim=1, keepdim=True), full_matrices=False).Vh[:, :m].mT


def _given(frames: Any, x: Tensor, m: int) -> Tensor:
    tangents = torch.as_tensor(frames).to(x)
    if tangents.shape != (*x.shape, m):
        raise ValueError(f"frames must have shape {(*x.shape, m)}, got {tuple(tangents.shape)}.")
    if not torch.allclose(tangents.mT @ tangents, torch.eye(m).to(x), atol=1e-4):
        raise ValueError("frames must be orthonormal.")
    return tangents


def _pairs(n: int, num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random pairs of different numbers."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(n, (num,), generator=generator)
    return first, (first + torch.randint(1, n, (num,), generator=generator)) % n


def _penalty(values: Tensor) -> Penalty:
    values = values.double()
    if not len(values):
        return Penalty(math.nan, math.nan, (math.nan,) * 3, math.nan, 0)
    low, middle, high = torch.quantile(values, values.new_tensor(_QUANTILES)).tolist()
    sem = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return Penalty(float(values.mean()), sem, (low, middle, high), float(values.max()), len(values))


def _samples(samples: Any) -> Tensor:
    x = samples if _arrays.is_tensor(samples) else torch.as_tensor(_checks.float_array("samples", samples))
    if x.ndim < 2 or not x.numel() or not x.is_floating_point():
        raise ValueError(f"samples must be floating point of shape [n, ...], got {x.dtype} {tuple(x.shape)}.")
    if not torch.isfinite(x).all():
        raise ValueError("samples must be finite, got NaN or infinity.")
    return x.detach()
