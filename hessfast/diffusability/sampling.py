"""Samples of a denoiser's distribution: the deterministic sampler of Karras et al. (2022), second order in sigma."""

import math
from typing import Any

import torch
from torch import Tensor

from hessfast import _checks, _random
from hessfast._autograd import without_autocast

from .denoisers import Denoiser, checked

_RHO = 7.0  # of Karras et al.: steps are shorter where the noise is little
_BLOCK = 64  # samples that draw their noise together


@without_autocast()
def generate(
    denoiser: Denoiser,
    num: int,
    shape: tuple[int, ...],
    *,
    tau_range: tuple[float, float] | None = None,
    num_steps: int = 32,
    batch_size: int = 1024,
    device: Any = "cpu",
    seed: int = 0,
) -> Tensor:
    """Samples `[num, *shape]` from noise of the greatest tau down to the least and its posterior mean.

    They have the dtype of a network's weights, or float32.

    dy / dsigma = -sigma s(y, sigma^2), by Heun's method on sigma_k between the ends of the range, spaced evenly in
    sigma^(1/7). Sample k is a function of (seed, k) but for rounding.

    Args:
        tau_range: least and greatest variance of the noise; None: the denoiser's, if it has both. The greatest must be
            many times the variance of the data: samples start from noise about D(0), their mean in that limit alone.
        num_steps: of two evaluations each, the last of one.

    Raises:
        ValueError: without a range, or for numbers that do not fit.
        ArithmeticError: for samples that are not finite.

    References:
        Karras, Aittala, Aila, Laine, "Elucidating the Design Space of Diffusion-Based Generative Models", NeurIPS 2022.

    Example:
        X ~ N(0, 1/4) from its exact denoiser.

        >>> from hessfast.diffusability import from_denoiser
        >>> normal = from_denoiser(lambda y, tau: y / (1 + 4 * tau), tau_range=(1e-4, 100.0))
        >>> round(float(generate(normal, 4000, (1,)).std()), 1)
        0.5
    """
    checked(denoiser)
    num, num_steps = _checks.integer("num", num, 1), _checks.integer("num_steps", num_steps, 2)
    batch, seed = _checks.integer("batch_size", batch_size, 1), _checks.seed(seed)
    chosen = denoiser.tau_range if tau_range is None else tau_range
    if chosen is None or (tau_range is None and chosen[1] == math.inf):
        raise ValueError("tau_range must be given for this denoiser, got None.")
    last, first = (tau ** (0.5 / _RHO) for tau in _checks.interval("tau_range", chosen, positive=True))
    sigmas = [(first + k / (num_steps - 1) * (last - first)) ** _RHO for k in range(num_steps)]
    shape = tuple(_checks.integer("shape", side, 1) for side in ((shape,) if isinstance(shape, int) else shape))
    noise = torch.cat([
        torch.randn((_BLOCK, *shape), generator=_random.generator(seed, *_random.GENERATED, block))
        for block in range(-(-num // _BLOCK))
    ])[:num]  # fmt: skip
    with torch.no_grad():
        samples = torch.cat([_descend(denoiser, denoiser.brought(z.to(device)), sigmas) for z in noise.split(batch)])
    if not torch.isfinite(samples).all():
        raise ArithmeticError("samples must be finite, got NaN or infinity. Train the denoiser with a lower rate.")
    return samples


def _descend(denoiser: Denoiser, z: Tensor, sigmas: list[float]) -> Tensor:
    tau = sigmas[0] ** 2
    # The largest noise is finite, so the data mean still matters.
    y = denoiser(torch.zeros_like(z), tau) + math.sqrt(tau) * z
    for now, later in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        slope = -now * denoiser.score(y.clone(), now**2)  # which may work in place
        ahead = y + (later - now) * slope
        if later > 0:
            slope = (slope - later * denoiser.score(ahead, later**2)) / 2
            ahead = y + (later - now) * slope
        y = ahead
    return y
