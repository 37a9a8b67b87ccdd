"""One sweep over noise variances, samples and probes: the sums that Fisher curves are made of, in bounded memory.

Sample i has the same Z and v at every tau and in every run with the same seed, whatever the batches and the ranks.
"""

import contextlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks, _distributed, _random
from hessfast._autograd import plain_attention, recording

from .denoisers import Denoiser

BLOCK = 64  # samples that draw their noise together: what a rank takes at a time


class Estimate(NamedTuple):
    """Mean and standard error at each tau, `[len(tau)]`, from how many samples, `[len(tau)]`."""

    mean: np.ndarray
    sem: np.ndarray
    num_samples: np.ndarray

    def to_dict(self) -> dict[str, list]:
        """For JSON."""
        return {name: np.asarray(values).tolist() for name, values in self._asdict().items()}


# Of a block of samples at a tau: their number; then sums of the quantities, of their squares, and of plug-in times
# control variate. A quantity of several probes is their mean.
ESTIMATES = (
    "fisher_information", "fisher_information_plug_in", "fisher_information_dsm", "fisher_information_rate",
    "mmse", "mmse_rate", "asymmetry",
)  # fmt: skip
ROUNDED = ("fisher_information", "fisher_information_rate", "mmse_rate")  # differences of terms that may be larger
_QUANTITIES = (*ESTIMATES, "control", *(f"rounding of {name}" for name in ROUNDED))
_PLUG_IN, _CONTROL = _QUANTITIES.index("fisher_information_plug_in"), _QUANTITIES.index("control")
WIDTH = 2 + 2 * len(_QUANTITIES)
_REGRESSED = 60  # samples: of fewer a control variate's coefficient would add an error that the sem does not show


class Probing(NamedTuple):
    """How a sample is asked: sign vectors, seed of these and of Z, samples at a time, J v beside J^T v."""

    num_probes: int
    seed: int
    batch_size: int
    asymmetry: bool


def sweep(
    denoiser: Denoiser,
    x: Tensor,
    levels: np.ndarray,
    open_levels: np.ndarray,
    how: Probing,
    blocks: Sequence[int],
    sums: np.ndarray,
    *,
    shared: bool = True,
) -> None:
    """Adds the sums of some blocks; if they are `shared` among ranks, those of this one, and gathers the others'."""
    rank, ranks = _distributed.ranks() if shared else (0, 1)
    mine = [block for block in blocks if block % ranks == rank]
    at_once = max(how.batch_size // BLOCK, 1)
    batches = [mine[first : first + at_once] for first in range(0, len(mine), at_once)]
    with ThreadPoolExecutor(1) as ahead:  # draws the next noise while the denoiser is at work
        drawn = [ahead.submit(_draws, some, x, how) for some in batches[:1]]
        for k, some in enumerate(batches):
            rows, noise, probes = drawn.pop().result()
            drawn += [ahead.submit(_draws, later, x, how) for later in batches[k + 1 : k + 2]]
            owner = (rows // BLOCK).numpy()
            for level in np.flatnonzero(open_levels):
                values = _quantities(denoiser, x, rows, float(levels[level]), noise, probes, how)
                for block in some:
                    sums[block, level] = _sums(values[owner == block])
    if ranks > 1:
        rows = slice(blocks[0], blocks[-1] + 1)
        sums[rows] = summed(sums[rows])  # zeros elsewhere make the sum over ranks exact


def refuse_mixing(denoiser: Denoiser, x: Tensor, tau: float, batch_size: int) -> None:
    """Refuse answers that depend on the others of a batch, or on chance: one is asked for beside others, and copies."""
    usual = min(len(x), batch_size)
    if usual < 2:
        return
    if hasattr(denoiser.network, "_orig_mod"):  # compiled for batches of the usual size
        one, other = _last_answers(denoiser, x, tau, usual)
    else:
        try:
            one, other = _last_answers(denoiser, x, tau, 2)
        except Exception:  # the user's function may hold something for each of the usual number
            one, other = _last_answers(denoiser, x, tau, usual)
    tolerance = max(10 * torch.finfo(one.dtype).eps, 1e-4) * float(one.double().norm())
    if torch.isfinite(one).all() and not torch.allclose(one, other, rtol=0, atol=tolerance):
        raise ValueError(
            "denoiser must map each sample for itself, the same each time, got another answer beside other samples. "
            "Give BatchNorm running statistics; draw no random numbers."
        )


def _last_answers(denoiser: Denoiser, x: Tensor, tau: float, size: int) -> list[Tensor]:
    """Of the last of `size` samples, beside the others and beside copies of itself."""
    with recording():
        return [
            _answer(denoiser.for_rows(x, rows), x[rows.to(x.device)].requires_grad_(), tau)[-1].detach()
            for rows in (torch.arange(size), torch.full((size,), size - 1))
        ]


def estimates(sums: np.ndarray, levels: np.ndarray, dim: int) -> dict[str, Estimate]:
    """Estimates by the names of FisherCurve. Blocks are added in their order: ranks and batches change nothing."""
    total = np.add.reduce(sums, axis=0)
    k, n = len(_QUANTITIES), total[:, 0]
    mean = total[:, 1 : 1 + k] / n[:, None]
    squares = np.maximum(total[:, 1 + k : 1 + 2 * k] / n[:, None] - mean**2, 0)
    spread = squares[:, _CONTROL]
    cross = total[:, -1] / n - mean[:, _PLUG_IN] * mean[:, _CONTROL]
    share = np.divide(cross, spread, out=np.zeros(len(n)), where=(spread > 0) & (n >= _REGRESSED))
    mean[:, _PLUG_IN] -= share * (mean[:, _CONTROL] - dim / levels)
    squares[:, _PLUG_IN] = np.maximum(squares[:, _PLUG_IN] - share * cross, 0)
    freedom = np.tile(n[:, None] - 1, k)
    freedom[:, _PLUG_IN] -= share != 0
    sem = np.sqrt(squares / np.maximum(freedom, 1))
    return {name: Estimate(mean[:, q], sem[:, q], n.astype(int)) for q, name in enumerate(ESTIMATES)}


def effective_blocks(sums: np.ndarray, name: str) -> np.ndarray:
    """How many blocks contribute to the variance of an estimate (participation ratio), `[t]`: few if rare ones do."""
    q, k = _QUANTITIES.index(name), len(_QUANTITIES)
    n, total, squares = sums[..., 0], sums[..., 1 + q], sums[..., 1 + k + q]
    mean = total.sum(axis=0) / n.sum(axis=0)
    spread = np.maximum(squares - 2 * mean * total + n * mean**2, 0)
    even = (spread**2).sum(axis=0)
    return np.divide(spread.sum(axis=0) ** 2, even, out=np.full(len(even), np.inf), where=even > 0)


def roundings(sums: np.ndarray) -> dict[str, np.ndarray]:
    """By how much the estimates named ROUNDED may be off because J^T v is known to an eps of its dtype alone."""
    total = np.add.reduce(sums, axis=0)
    return {name: total[:, 1 + _QUANTITIES.index(f"rounding of {name}")] / total[:, 0] for name in ROUNDED}


def _quantities(
    denoiser: Denoiser, x: Tensor, rows: Tensor, tau: float, noise: Tensor, probes: Tensor, how: Probing
) -> np.ndarray:
    """`[n, len(_QUANTITIES)]` of the rows of x, float64."""
    results, size = [], how.batch_size
    with recording(), plain_attention() if how.asymmetry else contextlib.nullcontext():
        for some, z, v in zip(rows.split(size), noise.split(size), probes.split(size, dim=1), strict=True):
            piece = denoiser.for_rows(x, some), x[some.to(x.device)], z, v, tau, how.asymmetry
            results.append(_piece(*piece))
    return np.concatenate(results)


def _piece(denoiser: Denoiser, x: Tensor, z: Tensor, probes: Tensor, tau: float, asymmetry: bool) -> np.ndarray:
    skip, out, slope = denoiser.coefficients(tau)
    dim = x[0].numel()
    y = (x + math.sqrt(tau) * z).clone().requires_grad_()
    output = _answer(denoiser, y, tau)
    pulled, pushed = [], []
    for k, v in enumerate(probes):
        more = k + 1 < len(probes)
        if asymmetry:
            pull, push = _pulled_and_pushed(output, y, v)
            pushed.append(push)
        else:
            pull = _pulled(output, y, v, more)
        pulled.append(pull)
    F, noisy, clean = (a.detach().double().flatten(1) for a in (output, y, x))
    score, miss = slope * noisy + out / tau * F, skip * noisy + out * F - clean
    signs, pulls = probes.double().flatten(2), torch.stack(pulled).double().flatten(2)
    of_score, of_denoiser = slope * signs + out / tau * pulls, skip * signs + out * pulls
    eps = max(torch.finfo(dtype).eps for dtype in (output.dtype, y.dtype))
    blur_of_score, blur_of_denoiser = ((eps * factor * pulls).abs() for factor in (out / tau, out))
    mmse = (miss**2).sum(dim=1)
    values = (
        -(signs * of_score).sum(dim=2).mean(dim=0),
        (score**2).sum(dim=1),
        (dim * tau - mmse) / tau**2,
        (of_score**2).sum(dim=2).mean(dim=0),
        mmse,
        (of_denoiser**2).sum(dim=2).mean(dim=0),
        _turning(pulls, pushed) * (out / tau) ** 2,
        (z.double().flatten(1) ** 2).sum(dim=1) / tau,
        blur_of_score.sum(dim=2).mean(dim=0),
        _blur_of_square(of_score, blur_of_score),
        _blur_of_square(of_denoiser, blur_of_denoiser),
    )
    result = torch.stack(values, dim=1).cpu().numpy()
    if not np.isfinite(result).all():
        raise ValueError(f"denoiser must return finite numbers, got NaN or infinity at tau = {tau:g}.")
    return result


def _answer(denoiser: Denoiser, y: Tensor, tau: float) -> Tensor:
    """What the network says, which must be of y's shape and differentiable."""
    try:
        output = _checks.of_dtype(
            lambda: denoiser.predict(y, tau), f"denoiser must have the dtype of samples, {y.dtype}", "Convert them."
        )
    except RuntimeError as error:
        if "leaf Variable" not in str(error):
            raise
        raise ValueError(
            "denoiser must leave y as it is, got an operation in place. Write y / a for y.div_(a) and y = y + b for "
            "y += b."
        ) from error
    if not isinstance(output, Tensor):
        raise TypeError(
            f"denoiser must return tensors, got {type(output).__name__}. Compute with torch; of a diffusers model use "
            "from_diffusers, or return its .sample."
        )
    if output.shape != y.shape:
        raise ValueError(f"denoiser must return the shape of y, {tuple(y.shape)}, got {tuple(output.shape)}.")
    if not output.requires_grad:
        raise ValueError("denoiser must be made of operations on y that torch can differentiate.")
    return output


def _blur_of_square(vectors: Tensor, blur: Tensor) -> Tensor:
    """By how much |vector|^2 of each sample is off at most, if each number is by its blur."""
    return ((2 * vectors.abs() + blur) * blur).sum(dim=2).mean(dim=0)


def _pulled(output: Tensor, y: Tensor, v: Tensor, more: bool) -> Tensor:
    """J^T v; `more` are to come."""
    try:
        return torch.autograd.grad(output, y, v, retain_graph=more)[0]
    except RuntimeError as error:
        if "donated buffer" not in str(error):
            raise
        raise ValueError(
            "num_probes must be 1 for a compiled network that gives its buffers away. Set "
            "torch._functorch.config.donated_buffer = False before it is compiled."
        ) from error


def _pulled_and_pushed(output: Tensor, y: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """J^T v, and J v as the derivative of J^T u in u, along v: any layer has it that can be differentiated twice."""
    u = v.clone().requires_grad_()
    try:
        (pull,) = torch.autograd.grad(output, y, u, create_graph=True)
        (push,) = torch.autograd.grad(pull, u, v, retain_graph=True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"denoiser must be twice differentiable by torch for its asymmetry, got {str(error).splitlines()[0]!r}."
        ) from error
    return pull.detach(), push


def _turning(pulls: Tensor, pushed: list[Tensor]) -> Tensor:
    """|(J^T - J) v|^2 / 4 of each sample; 0 where J v was not asked for."""
    if not pushed:
        return pulls.new_zeros(pulls.shape[1])
    return ((pulls - torch.stack(pushed).double().flatten(2)) ** 2).sum(dim=2).mean(dim=0) / 4


def _draws(blocks: list[int], x: Tensor, how: Probing) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the blocks `[n]`, their Z `[n, ...]` and signs `[num_probes, n, ...]`; made on the host."""
    rows = torch.cat([torch.arange(b * BLOCK, min((b + 1) * BLOCK, len(x))) for b in blocks])
    shape, noise, signs = x.shape[1:], [], []
    for block in blocks:
        generator = _random.generator(how.seed, _random.DIFFUSABILITY, block)
        noise.append(torch.randn((BLOCK, *shape), generator=generator, dtype=torch.float32))
        signs.append(torch.randint(0, 2, (how.num_probes, BLOCK, *shape), generator=generator, dtype=torch.int8))
    kept = torch.cat([rows[rows // BLOCK == b] - b * BLOCK + k * BLOCK for k, b in enumerate(blocks)])
    z, v = torch.cat(noise)[kept].to(x), torch.cat(signs, dim=1)[:, kept]
    return rows, z, (2 * v.to(x.device) - 1).to(x.dtype)


def _sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [[len(values)], values.sum(0), (values**2).sum(0), [(values[:, _PLUG_IN] * values[:, _CONTROL]).sum()]]
    )


def summed(sums: np.ndarray) -> np.ndarray:
    """Over the ranks of torch.distributed, if there are any."""
    if _distributed.ranks()[1] == 1:
        return sums
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    part = torch.as_tensor(sums).to(device)
    torch.distributed.all_reduce(part)
    return part.cpu().numpy()
