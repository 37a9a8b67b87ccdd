"""Fisher information, its rate and the MMSE of a denoiser over noise, each with its standard error, in one sweep.

For Y = X + sqrt(tau) Z with score s and H = grad s (Prop. 2.1 of arXiv:2604.02751 with constant 1)

    FI = E|s|^2,   FIR = -dFI/dtau = E|H|^2,   MMSE = E|X - D(Y)|^2,   MMSE' = E|Jac D|^2,   Jac D = 1 + tau H,

with Frobenius norms, of which one vector-Jacobian product with a random sign vector v estimates |J^T v|^2 without bias.
Sample i has the same Z and v at every tau and in every run with the same seed, whatever the batches and the ranks.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hessfast import _arrays, _checks, _distributed, _random

from .denoisers import Denoiser

BLOCK = 64  # samples that draw their noise together: what a rank takes at a time
_FIRST_BLOCKS = 4  # before the standard errors are looked at for the first time


class Estimate(NamedTuple):
    """Mean and standard error at each tau, `[len(tau)]`, from how many samples, `[len(tau)]`."""

    mean: np.ndarray
    sem: np.ndarray
    num_samples: np.ndarray


@dataclass(frozen=True)
class FisherCurve:
    """What a denoiser says of a distribution at each of the noise variances `tau`.

    Attributes:
        tau: `[len(tau)]`, ascending.
        dim: D, numbers in a sample.
        fisher_information: -E v^T H v, the estimator of least variance.
        fisher_information_plug_in: E|s|^2, with |Z|^2 / tau as control variate.
        fisher_information_dsm: (D tau - E|D(Y) - X|^2) / tau^2, never above the truth in expectation. It and the
            plug-in are alike for a score that is true, and their mean is the first: a gap proves an error of the model.
        fisher_information_rate: E|H^T v|^2.
        mmse: E|X - D(Y)|^2.
        mmse_rate: E|Jac D^T v|^2.
        warnings: sentences on what makes these numbers doubtful.
    """

    tau: np.ndarray
    dim: int
    fisher_information: Estimate
    fisher_information_plug_in: Estimate
    fisher_information_dsm: Estimate
    fisher_information_rate: Estimate
    mmse: Estimate
    mmse_rate: Estimate
    warnings: tuple[str, ...]

    @property
    def fisher_information_rate_by_differences(self) -> np.ndarray:
        """-dFI/dtau between neighbouring tau, `[len(tau)]`: as exact as the grid is fine."""
        if len(self.tau) < 2:
            return np.full(len(self.tau), np.nan)
        mean = self.fisher_information.mean
        slope = np.gradient(np.log(mean), np.log(self.tau)) if (mean > 0).all() else np.full(len(self.tau), np.nan)
        return -slope * mean / self.tau

    @property
    def intrinsic_dimension(self) -> dict[str, np.ndarray]:
        """D - tau FI, D - tau^2 FIR, MMSE / tau, MMSE', `[len(tau)]`: they tend to that of the support as tau falls."""
        return {
            "fisher_information": self.dim - self.tau * self.fisher_information.mean,
            "fisher_information_rate": self.dim - self.tau**2 * self.fisher_information_rate.mean,
            "mmse": self.mmse.mean / self.tau,
            "mmse_rate": self.mmse_rate.mean,
        }


def fisher_curve(
    denoiser: Denoiser,
    samples: Any,
    tau: Any,
    num_probes: int = 1,
    seed: int = 0,
    *,
    relative_error: float | None = None,
    batch_size: int = 256,
) -> FisherCurve:
    """All curves of one distribution.

    Args:
        denoiser: a `Denoiser`, made by `from_denoiser` and its neighbours, `empirical` or `train_denoiser`.
        samples: `[n, ...]`, x itself, not seen in training; on the device and in the dtype that the denoiser takes.
        tau: noise variances, > 0; a number or `[t]`.
        num_probes: random sign vectors a sample; more samples do more for the error.
        seed: of Z and v.
        relative_error: stop at each tau as soon as the standard errors of FI, FIR and MMSE' over their means are below.
        batch_size: samples at a time; memory grows with this, not with n. Ranks of torch.distributed share the samples.

    Raises:
        ValueError: for tau that is not positive, samples that are not finite or fewer than two, answers of other shape.

    Example:
        X ~ N(0, 1) has FI = 1 / (1 + tau) whatever the sample, for D(y) = y / (1 + tau).

        >>> from hessfast.diffusability import from_denoiser
        >>> normal = from_denoiser(lambda y, tau: y / (1 + tau))
        >>> curve = fisher_curve(normal, torch.randn(100, 1), [1.0])
        >>> curve.fisher_information.mean.round(6).tolist(), curve.mmse_rate.mean.round(6).tolist()
        ([0.5], [0.25])
    """
    x, levels = _samples(samples), _levels(tau)
    denoiser.for_rows(x, torch.arange(0))  # refuses samples that it cannot take
    num_probes = _checks.integer("num_probes", num_probes, 1)
    seed, batch = _checks.seed(seed), _checks.integer("batch_size", batch_size, 1)
    goal = 0.0 if relative_error is None else float(_checks.float_array("relative_error", relative_error))
    if relative_error is not None and not goal > 0:
        raise ValueError(f"relative_error must be > 0, got {relative_error}.")
    num_blocks = -(-len(x) // BLOCK)
    sums = np.zeros((num_blocks, len(levels), _WIDTH))
    open_levels, done = np.ones(len(levels), bool), 0
    upto = num_blocks if relative_error is None else min(_FIRST_BLOCKS, num_blocks)
    while open_levels.any() and done < num_blocks:
        _sweep(denoiser, x, levels, open_levels, num_probes, seed, batch, range(done, upto), sums)
        done = upto
        if relative_error is not None:
            open_levels &= ~_precise(_estimates(sums, levels, x[0].numel()), goal)
        upto = min(2 * done, num_blocks)
    estimates = _estimates(sums, levels, x[0].numel())
    warnings = _warnings(denoiser, x, levels, estimates, open_levels & (goal > 0))
    return FisherCurve(levels, x[0].numel(), **estimates, warnings=warnings)


# Of a block of samples at a tau: their number; then sums of the quantities, of their squares, and of plug-in times
# control variate. A quantity of several probes is their mean.
_ESTIMATES = (
    "fisher_information", "fisher_information_plug_in", "fisher_information_dsm", "fisher_information_rate",
    "mmse", "mmse_rate",
)  # fmt: skip
_QUANTITIES = (*_ESTIMATES, "control")
_PLUG_IN, _CONTROL = _QUANTITIES.index("fisher_information_plug_in"), _QUANTITIES.index("control")
_WIDTH = 2 + 2 * len(_QUANTITIES)


def _sweep(denoiser, x, levels, open_levels, num_probes, seed, batch, blocks, sums) -> None:
    """Adds the sums of some blocks, those of this rank by it, and gathers those of the others."""
    rank, ranks = _distributed.ranks()
    mine = [block for block in blocks if block % ranks == rank]
    at_once = max(batch // BLOCK, 1)
    batches = [mine[first : first + at_once] for first in range(0, len(mine), at_once)]
    with ThreadPoolExecutor(1) as ahead:  # draws the next noise while the denoiser is at work
        drawn = [ahead.submit(_draws, some, x, num_probes, seed) for some in batches[:1]]
        for k, some in enumerate(batches):
            rows, noise, probes = drawn.pop().result()
            drawn += [ahead.submit(_draws, later, x, num_probes, seed) for later in batches[k + 1 : k + 2]]
            owner = (rows // BLOCK).numpy()
            for level in np.flatnonzero(open_levels):
                values = _quantities(denoiser, x, rows, float(levels[level]), noise, probes, batch)
                for block in some:
                    sums[block, level] = _sums(values[owner == block])
    if ranks > 1:
        _gather(sums, blocks)


def _quantities(
    denoiser: Denoiser, x: Tensor, rows: Tensor, tau: float, noise: Tensor, probes: Tensor, batch: int
) -> np.ndarray:
    """`[n, len(_QUANTITIES)]` of the rows of x, float64."""
    results = []
    for some, z, v in zip(rows.split(batch), noise.split(batch), probes.split(batch, dim=1), strict=True):
        results.append(_piece(denoiser.for_rows(x, some), x[some.to(x.device)], z, v, tau))
    return np.concatenate(results)


def _piece(denoiser: Denoiser, x: Tensor, z: Tensor, probes: Tensor, tau: float) -> np.ndarray:
    skip, out, slope = denoiser.coefficients(tau)
    dim = x[0].numel()
    with torch.inference_mode(False), torch.enable_grad():
        y = (x + math.sqrt(tau) * z).clone().requires_grad_()
        output = denoiser.predict(y, tau)
        if output.shape != y.shape:
            raise ValueError(f"denoiser must return the shape of y, {tuple(y.shape)}, got {tuple(output.shape)}.")
        if not output.requires_grad:
            raise ValueError("denoiser must be made of operations on y that torch can differentiate.")
        kept = [k + 1 < len(probes) for k in range(len(probes))]
        pulled = [torch.autograd.grad(output, y, v, retain_graph=k)[0] for v, k in zip(probes, kept, strict=True)]
    F, noisy, clean = (a.detach().double().flatten(1) for a in (output, y, x))
    score, miss = slope * noisy + out / tau * F, skip * noisy + out * F - clean
    signs, pulls = probes.double().flatten(2), torch.stack(pulled).double().flatten(2)
    of_score, of_denoiser = slope * signs + out / tau * pulls, skip * signs + out * pulls
    mmse = (miss**2).sum(dim=1)
    values = (
        -(signs * of_score).sum(dim=2).mean(dim=0),
        (score**2).sum(dim=1),
        (dim * tau - mmse) / tau**2,
        (of_score**2).sum(dim=2).mean(dim=0),
        mmse,
        (of_denoiser**2).sum(dim=2).mean(dim=0),
        (z.double().flatten(1) ** 2).sum(dim=1) / tau,
    )
    result = torch.stack(values, dim=1).cpu().numpy()
    if not np.isfinite(result).all():
        raise ValueError(f"denoiser must return finite numbers, got NaN or infinity at tau = {tau:g}.")
    return result


def _draws(blocks: list[int], x: Tensor, num_probes: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the blocks `[n]`, their Z `[n, ...]` and signs `[num_probes, n, ...]`; made on the host."""
    rows = torch.cat([torch.arange(b * BLOCK, min((b + 1) * BLOCK, len(x))) for b in blocks])
    shape, noise, signs = x.shape[1:], [], []
    for block in blocks:
        generator = _random.generator(seed, _random.DIFFUSABILITY, block)
        noise.append(torch.randn((BLOCK, *shape), generator=generator, dtype=torch.float32))
        signs.append(torch.randint(0, 2, (num_probes, BLOCK, *shape), generator=generator, dtype=torch.int8))
    kept = torch.cat([rows[rows // BLOCK == b] - b * BLOCK + k * BLOCK for k, b in enumerate(blocks)])
    z, v = torch.cat(noise)[kept].to(x), torch.cat(signs, dim=1)[:, kept]
    return rows, z, (2 * v.to(x.device) - 1).to(x.dtype)


def _sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [[len(values)], values.sum(0), (values**2).sum(0), [(values[:, _PLUG_IN] * values[:, _CONTROL]).sum()]]
    )


def _estimates(sums: np.ndarray, levels: np.ndarray, dim: int) -> dict[str, Estimate]:
    """By the names of FisherCurve. Blocks are added in their order: ranks and batches change nothing."""
    total = np.add.reduce(sums, axis=0)
    k, n = len(_QUANTITIES), total[:, 0]
    mean = total[:, 1 : 1 + k] / n[:, None]
    squares = np.maximum(total[:, 1 + k : 1 + 2 * k] / n[:, None] - mean**2, 0)
    spread = squares[:, _CONTROL]
    cross = total[:, -1] / n - mean[:, _PLUG_IN] * mean[:, _CONTROL]
    share = np.divide(cross, spread, out=np.zeros(len(n)), where=spread > 0)
    mean[:, _PLUG_IN] -= share * (mean[:, _CONTROL] - dim / levels)
    squares[:, _PLUG_IN] = np.maximum(squares[:, _PLUG_IN] - share * cross, 0)
    sem = np.sqrt(squares / np.maximum(n - 1, 1)[:, None])
    return {name: Estimate(mean[:, q], sem[:, q], n.astype(int)) for q, name in enumerate(_ESTIMATES)}


def _precise(estimates: dict[str, Estimate], goal: float) -> np.ndarray:
    """Levels where FI, FIR and MMSE' are known well enough."""
    asked = (estimates[name] for name in ("fisher_information", "fisher_information_rate", "mmse_rate"))
    return np.all([estimate.sem <= goal * np.abs(estimate.mean) for estimate in asked], axis=0)


def _warnings(
    denoiser: Denoiser, x: Tensor, levels: np.ndarray, estimates: dict[str, Estimate], unmet: np.ndarray
) -> tuple[str, ...]:
    divergence, plug_in, dsm = (estimates[name] for name in _ESTIMATES[:3])
    mmse, found = estimates["mmse"], []
    gap, noise = plug_in.mean - dsm.mean, np.hypot(plug_in.sem, dsm.sem)
    if (wrong := np.abs(gap) > 4 * noise + 0.05 * np.abs(divergence.mean)).any():
        found.append(f"the score is not that of the samples at tau = {_list(levels[wrong])}: plug-in and DSM disagree")
    linear = _linear_mmse(x, levels)
    if (worse := mmse.mean - 4 * mmse.sem > linear).any():
        found.append(f"the denoiser is worse than the best linear one at tau = {_list(levels[worse])}")
    if denoiser.tau_range is not None:
        low, high = denoiser.tau_range
        if (out := (levels < low * (1 - 1e-9)) | (levels > high * (1 + 1e-9))).any():
            found.append(f"tau = {_list(levels[out])} is beyond what the denoiser is good for, {low:.3g} to {high:.3g}")
    if unmet.any():
        found.append(f"samples ran out before the relative error was met at tau = {_list(levels[unmet])}")
    return tuple(found)


def _linear_mmse(x: Tensor, levels: np.ndarray) -> np.ndarray:
    """Of the best linear denoiser of these samples, coordinate by coordinate where they are many."""
    flat = x.detach().double().flatten(1).cpu()
    if flat.shape[1] <= 1024 and len(flat) > 2 * flat.shape[1]:
        variance = torch.linalg.eigvalsh(torch.cov(flat.T).reshape(flat.shape[1], -1)).clamp(min=0).numpy()
    else:
        variance = flat.var(dim=0).numpy()
    return (variance * levels[:, None] / (variance + levels[:, None])).sum(axis=1)


def _list(levels: np.ndarray) -> str:
    return ", ".join(f"{tau:.3g}" for tau in levels)


def _samples(samples: Any) -> Tensor:
    x = samples if _arrays.is_tensor(samples) else torch.as_tensor(_checks.float_array("samples", samples))
    if x.ndim < 2 or len(x) < 2 or not x[0].numel():
        raise ValueError(f"samples must have shape [n, ...] with n >= 2, got {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise TypeError(f"samples must be floating point, got {x.dtype}.")
    if not torch.isfinite(x).all():
        raise ValueError("samples must be finite, got NaN or infinity.")
    return x.detach()


def _levels(tau: Any) -> np.ndarray:
    levels = np.atleast_1d(_checks.float_array("tau", tau))
    if levels.ndim != 1 or not levels.size or not (levels > 0).all() or not (np.diff(levels) > 0).all():
        raise ValueError(f"tau must be positive and ascending, got {tau}.")
    return levels


def _gather(sums: np.ndarray, blocks: Sequence[int]) -> None:
    """What each rank has added to its blocks; zeros elsewhere make the sum over ranks exact."""
    rows = slice(blocks[0], blocks[-1] + 1)
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    part = torch.as_tensor(sums[rows]).to(device)
    torch.distributed.all_reduce(part)
    sums[rows] = part.cpu().numpy()
