"""What a sweep shows to be doubtful: a score that is not the samples', a denoiser that a linear one excels."""

import numpy as np
import torch
from torch import Tensor

from ._samples import chunks
from ._sweep import Estimate


def doubts(
    estimated: dict[str, Estimate],
    levels: np.ndarray,
    x: Tensor | None,
    tau_range: tuple[float, float] | None,
    unmet: np.ndarray,
) -> tuple[str, ...]:
    """A sentence for each reason to doubt what a denoiser says of the samples x; None: of samples that are gone.

    Args:
        tau_range: what the denoiser is good for, if that is known.
        unmet: levels at which samples ran out.
    """
    divergence, plug_in, dsm = (estimated[f"fisher_information{kind}"] for kind in ("", "_plug_in", "_dsm"))
    mmse, found = estimated["mmse"], []
    gap, noise = plug_in.mean - dsm.mean, np.hypot(plug_in.sem, dsm.sem)
    if (wrong := np.abs(gap) > 4 * noise + 0.05 * np.abs(divergence.mean)).any():
        found.append(f"the score is not that of the samples at tau = {listed(levels[wrong])}: plug-in and DSM disagree")
    if x is not None and (worse := mmse.mean - 4 * mmse.sem > _linear_mmse(x, levels)).any():
        found.append(f"the denoiser is worse than the best linear one at tau = {listed(levels[worse])}")
    if tau_range is not None:
        low, high = tau_range
        if (out := (levels < low * (1 - 1e-9)) | (levels > high * (1 + 1e-9))).any():
            good = f"{low:.3g} to {high:.3g}"
            found.append(f"tau = {listed(levels[out])} is beyond what the denoiser is good for, {good}")
    if unmet.any():
        found.append(f"samples ran out before the relative error was met at tau = {listed(levels[unmet])}")
    return tuple(found)


def _linear_mmse(x: Tensor, levels: np.ndarray) -> np.ndarray:
    """MMSE of the best linear denoiser, coordinate by coordinate where these are many.

    It is fitted to every other sample and judged on the rest, and the other way round: on its own samples it would be
    better than the truth.
    """
    even, odd = x[::2], x[1::2]
    return (_linear_mmse_of(even, odd, levels) + _linear_mmse_of(odd, even, levels)) / 2


def _linear_mmse_of(fitted: Tensor, judged: Tensor, levels: np.ndarray) -> np.ndarray:
    dim = fitted[0].numel()
    whole = dim <= 1024 and len(fitted) > 2 * dim
    mean = torch.stack([part.flatten(1).double().sum(dim=0) for part in chunks(fitted)]).sum(dim=0) / len(fitted)
    variance, off = torch.zeros((dim, dim) if whole else dim, dtype=torch.float64, device=fitted.device), mean * 0
    for part in chunks(fitted):
        apart = part.flatten(1).double() - mean
        variance += apart.T @ apart if whole else apart.square().sum(dim=0)
    variance /= max(len(fitted) - 1, 1)
    axes = None
    if whole:
        variance, axes = torch.linalg.eigh(variance)
    for part in chunks(judged):
        apart = part.flatten(1).double() - mean
        off += (apart if axes is None else apart @ axes).square().sum(dim=0)
    off, variance = (off / len(judged)).cpu().numpy(), variance.clamp(min=0).cpu().numpy()
    share = variance / (variance + levels[:, None])
    return ((1 - share) ** 2 * off + share**2 * levels[:, None]).sum(axis=1)


def listed(levels: np.ndarray) -> str:
    """Noise variances, as sentences name them."""
    return ", ".join(f"{tau:.3g}" for tau in levels)
