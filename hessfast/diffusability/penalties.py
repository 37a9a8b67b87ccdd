"""What an encoder does to the geometry of data: compression, tangential distortion, curvature, the GPE's cost."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hessfast import _arrays, _checks, _random
from hessfast._autograd import recording
from hessfast._modules import dtype_of, refuse_training

from . import _samples
from ._curvature import quadrics
from ._surface import Surface, principal_axes
from .dimension import Dimension, rounded

_QUANTILES = (0.05, 0.5, 0.95)
_DENSE = 20  # samples for each neighbour of a quadric, from which on it is local enough for its tangents


class Penalty(NamedTuple):
    """A penalty over samples or pairs: mean, standard error, quantiles at 5, 50 and 95 %, the greatest, of how many."""

    mean: float
    sem: float
    quantiles: tuple[float, ...]
    max: float
    num_samples: int


@dataclass(frozen=True, eq=False)
class EncoderPenalties:
    """Penalties of an encoder E: R^D -> R^d on data near an m-dimensional surface with tangent frames U, J = grad E.

    Estimated frames are tilted: `tangential_distortion` and `anisotropy` of a swiss roll that is unrolled, 0 in truth,
    are 0.01 and 0.005 with 2,000 samples, 0.54 and 0.29 on principal axes. Neighbours share that error, so that both
    standard errors are up to half too small. Where `tangential_distortion` is far above `secant_distortion`, which
    needs no frames, believe the latter. Of fewer than some 50 samples all standard errors are too small.

    Attributes:
        compression: (D - d) / (D - m), the share of empty directions that the encoder removes; above 1 (infinite for
            D = m) if d < m, so that it must remove others, too.
        tangential_distortion: |U^T J^T J U - I|, its largest absolute eigenvalue; 0 for isometries.
        anisotropy: (hi - lo) / (hi + lo) of the eigenvalues of U^T J^T J U: the distortion up to an overall scale, of
            samples where J is not 0.
        secant_distortion: | |E(x) - E(x')| / |x - x'| - 1 | of near pairs: the same without derivatives.
        bending: second difference of E along a tangent direction, size of its part normal to J U, 1 / length.
        metric_change: the tangential part of it.
        nonlinearity: |E(x') - E(x) - J (x' - x)|^2 / Var z of near pairs, no unit.
        data_curvature: 1 / radius of the surface itself along a random tangent direction v of each sample, |II(v, v)|:
            of a quadric through the sample, fitted to its 3 m (m + 3) / 2 nearest neighbours, which corrects the
            tangents, too, unless `frames` are given. The reach is at most 1 / its maximum. The bias falls with the
            distance h of the farthest neighbour: on spheres with 300 samples .1, 4 and 13 % for m = 1, 2, 3, with 5,000
            less than .001, .2 and 2 %. Noise off the surface must be far below h^2 / radius. Samples are left out whose
            neighbours are too few or do not determine the quadric. It costs n^2 D once more.
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


@recording()
def encoder_penalties(
    encoder: Callable[[Tensor], Tensor],
    samples: Any,
    intrinsic_dimension: int | Dimension,
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
        samples: `[n, ...]`, n > num_neighbours; brought to the dtype of the encoder's weights, if it is a network.
        intrinsic_dimension: m of the surface that the data lie near, or what `intrinsic_dimension` returns, rounded.
        frames: orthonormal tangents U, `[n, D, m]`; None: those of the quadrics of `data_curvature`, where
            `num_neighbours` is None, n is twenty times their neighbours or more, and a sample's neighbours determine
            its quadric and lie nearer to it than the nearest do to a plane; elsewhere the m first principal axes of the
            nearest, which tilt as the surface curves.
        step: h of second differences; None: the median distance of nearest neighbours, or more where rounding would
            blur them. Encoders of piecewise linear networks have no second derivative, so that the step is part of the
            answer.
        num_neighbours: of a sample, m + 1 or more, whose principal axes are then its frame; None: quadrics, or the
            axes of 2 m + 2.
        num_pairs: random pairs of the GPE's cost.
        seed: of those pairs and of the directions of second differences.

    Raises:
        ValueError: for shapes that do not fit, answers that are not finite, fewer samples than neighbours, a network
            with dropout or batch normalisation in training, or whose answers depend on the other samples.
        TypeError: for samples in half precision.

    Example:
        A map that doubles lengths: its metric is 4, off by 3, its second differences are 0.

        >>> square = torch.rand(200, 2, dtype=torch.float64)
        >>> penalties = encoder_penalties(lambda x: 2 * x, square, intrinsic_dimension=2)
        >>> round(penalties.tangential_distortion.mean, 6), abs(round(penalties.bending.mean, 6))
        (3.0, 0.0)
    """
    refuse_training("encoder", encoder)
    x = _samples.samples("samples", samples, least=1)
    x = x.to(dtype_of(encoder) or x.dtype)
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"samples must be float32 or float64, got {x.dtype}. Pass them, and the encoder, as .float().")
    flat = x.flatten(1)
    n, wide = flat.shape
    m = _checks.integer("intrinsic_dimension", rounded(intrinsic_dimension), 1, wide)
    k = 2 * m + 2 if num_neighbours is None else _checks.integer("num_neighbours", num_neighbours, m + 1)
    if n <= k:
        raise ValueError(f"samples must be more than their {k} neighbours, got {n}.")
    num_pairs, seed = _checks.integer("num_pairs", num_pairs, 1), _checks.seed(seed)
    encode = _of_rows(getattr(encoder, "_orig_mod", encoder), tuple(x.shape[1:]))
    few = flat[:2]
    with torch.no_grad():
        requirement = f"encoder must have the dtype of samples, {flat.dtype}"
        z, *twice = (_checks.of_dtype(lambda x=x: encode(x), requirement, "Convert them.") for x in (flat, few, few))
    if not torch.isfinite(z).all():
        raise ValueError("encoder must return finite numbers, got NaN or infinity.")
    alike = partial(torch.allclose, rtol=1e-3, atol=1e-3 * float(z.std()))
    if not alike(*twice):
        raise ValueError("encoder must give the same answer twice, got others. Of a VAE pass the mean, without noise.")
    if not alike(twice[0], z[:2]):
        raise ValueError(
            "encoder must map each sample for itself, got other answers beside other samples. Give BatchNorm running "
            "statistics."
        )
    distances, neighbours = _samples.nearest(flat, torch.arange(n), k)
    tangents = None if frames is None else _given(frames, flat, m)
    fitted = quadrics(flat, m, tangents, seed)
    if tangents is None:
        tangents, flatness = principal_axes(flat, neighbours, m)
        if num_neighbours is None and n >= _DENSE * fitted.num_neighbours:
            better = fitted.determined & (fitted.variance <= flatness)
            tangents = torch.where(better[:, None, None], fitted.tangents, tangents)
    h = float(distances[:, 0].median()) if step is None else _checks.positive("step", step)
    if not h > 0:
        raise ValueError(f"step must be > 0, got {h}; repeated samples have no distance.")
    if step is None:
        h = max(h, _resolved(flat))
    surface = Surface(encode, flat, z, tangents)
    distortion, anisotropy = surface.distortions()
    bending, metric_change = surface.second_differences(h, seed)
    secant, nonlinearity = surface.to_neighbours(neighbours[:, 0], distances[:, 0])
    near = neighbours[:, 0]
    mutual = float((near[near] == torch.arange(n, device=near.device)).double().mean())
    first, second = (rows.to(flat.device) for rows in _pairs(n, num_pairs, seed))
    return EncoderPenalties(
        compression=_compression(wide, z.shape[1], m),
        tangential_distortion=_penalty(distortion),
        anisotropy=_penalty(anisotropy),
        secant_distortion=_widened(_penalty(secant), mutual),
        bending=_penalty(bending),
        metric_change=_penalty(metric_change),
        nonlinearity=_widened(_penalty(nonlinearity), mutual),
        data_curvature=_penalty(fitted.curvature[fitted.determined]),
        gpe_cost=_of_pairs(gpe_cost(flat[first], flat[second], z[first], z[second]), first, second, n),
    )


def gpe_cost(x: Tensor, x_other: Tensor, z: Tensor, z_other: Tensor) -> Tensor:
    """The GPE's cost of each pair, (log(1 + |z - z'|^2) - log(1 + |x - x'|^2))^2, `[n]`.

    Args:
        x, x_other: data, `[n, ...]`.
        z, z_other: their latents, `[n, ...]`.

    Example:
        A pair at the distance 1 that an encoder sets apart by 3.

        >>> x, z = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
        >>> gpe_cost(x[:1], x[1:], z[:1], z[1:]).sqrt().exp().round(decimals=4).tolist()  # (1 + 3^2) / (1 + 1^2)
        [5.0]
    """
    apart = ((a - b).flatten(1).pow(2).sum(dim=1) for a, b in ((z, z_other), (x, x_other)))
    encoded, plain = (torch.log1p(squared) for squared in apart)
    return (encoded - plain) ** 2


def _compression(wide: int, narrow: int, m: int) -> float:
    if wide > m:
        return (wide - narrow) / (wide - m)
    return math.inf if narrow < wide else 0.0


def _resolved(x: Tensor) -> float:
    """The step at which a second difference loses as much by rounding as by its length, as a share of the spread."""
    spread = float((x - x.mean(dim=0)).norm(dim=1).median())
    rounded = torch.finfo(x.dtype).eps * float(x.norm(dim=1).max())
    return (rounded * spread**3) ** 0.25


def _of_rows(encoder: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """The encoder as a map of rows, `[n, D]` to `[n, d]`."""

    def encode(rows: Tensor) -> Tensor:
        z = encoder(rows.reshape(-1, *shape))
        if not _arrays.is_tensor(z):
            kind = type(z).__name__
            raise TypeError(f"encoder must return a tensor, got {kind}. Of diffusers' return .latent_dist.mean.")
        if z.ndim < 2 or len(z) != len(rows):
            raise ValueError(f"encoder must map [n, ...] to [n, ...], got {tuple(z.shape)} for n = {len(rows)}.")
        return z.flatten(1)

    return encode


def _given(frames: Any, x: Tensor, m: int) -> Tensor:
    tangents = torch.as_tensor(frames).to(x)
    if tangents.shape != (*x.shape, m):
        raise ValueError(f"frames must have shape {(*x.shape, m)}, got {tuple(tangents.shape)}.")
    if not torch.allclose(tangents.mT @ tangents, torch.eye(m).to(x), atol=1e-4):
        raise ValueError("frames must be orthonormal.")
    return tangents


def _pairs(n: int, num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random pairs of different numbers."""
    generator = _random.generator(seed, *_random.PAIRS)
    first = torch.randint(n, (num,), generator=generator)
    return first, (first + torch.randint(1, n, (num,), generator=generator)) % n


def _penalty(values: Tensor) -> Penalty:
    values = values.double()
    if not len(values):
        return Penalty(math.nan, math.nan, (math.nan,) * 3, math.nan, 0)
    low, middle, high = torch.quantile(values, values.new_tensor(_QUANTILES)).tolist()
    sem = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return Penalty(float(values.mean()), sem, (low, middle, high), float(values.max()), len(values))


def _widened(penalty: Penalty, mutual: float) -> Penalty:
    """Of neighbours, a share of whom are each other's: those pairs are in the mean twice."""
    return penalty._replace(sem=penalty.sem * math.sqrt(1 + mutual))


def _of_pairs(values: Tensor, first: Tensor, second: Tensor, num_samples: int) -> Penalty:
    """Of pairs of samples, each sample in many: the error of the mean is that of a U-statistic (Hoeffding 1948)."""
    off = values.double() - values.double().mean()
    shares = off.new_zeros(num_samples).index_add_(0, first, off).index_add_(0, second, off)
    alone = off.square().sum()  # what independent pairs would have
    sem = float((shares.square().sum() - alone).clamp(min=alone).sqrt()) / len(values)
    return _penalty(values)._replace(sem=sem, num_samples=num_samples)
