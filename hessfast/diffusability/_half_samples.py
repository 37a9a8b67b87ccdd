"""What the curves of an empirical denoiser owe to its data, which all samples share: balanced half-samples of them.

The data are dealt into eight groups. Seven rows of a Hadamard matrix choose four groups each, a half h, and leave four,
its complement c (McCarthy 1969). With theta the estimate from all data, theta_h that from a half, at the same few
samples and under the same noise:

    variance = mean over halves of ((theta_h - theta_c) / 2)^2,    bias = mean of (theta_h + theta_c) / 2 - theta

The bias is right where it falls as one over the number of data: theta then has half the bias of theta_h. What is linear
in the data cancels in it, so that it is known far better than from a jackknife, which multiplies small differences.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

from hessfast import _random

from ._sweep import BLOCK, ESTIMATES, WIDTH, Estimate, Probing, estimates, sweep
from .empirical import EmpiricalDenoiser

_HALVES = hadamard(8)[1:] > 0  # of eight groups, `[7, 8]`
_ASKED = 128  # samples; what they say of a half differs far less than they do


class OfData(NamedTuple):
    """Standard error, bias and the standard error of the bias at each tau, `[len(tau)]`."""

    error: np.ndarray
    bias: np.ndarray
    bias_error: np.ndarray


def of_data(denoiser: EmpiricalDenoiser, x: Tensor, levels: np.ndarray, how: Probing) -> dict[str, OfData]:
    """By the names of ESTIMATES; unknown, infinite, for fewer data than groups."""
    if len(denoiser.data) < _HALVES.shape[1]:
        none = np.zeros(len(levels))
        return {name: OfData(none + np.inf, none, none) for name in ESTIMATES}
    mixed = np.argsort(_random.derive(0, np.arange(len(x))))  # even steps might be those of the groups
    rows = torch.as_tensor(np.sort(mixed[:_ASKED]))
    samples = x[rows.to(x.device)]
    dealt = np.argsort(_random.derive(1, np.arange(len(denoiser.data))))  # whatever the order of the data
    group = dealt.argsort() % _HALVES.shape[1]

    def of(kept: np.ndarray) -> dict[str, np.ndarray]:
        part = denoiser.of_part(torch.as_tensor(kept), rows)
        return {name: each.mean for name, each in _estimates(part, samples, levels, how).items()}

    whole = of(np.full(len(group), True))
    pairs = [(of(half[group]), of(~half[group])) for half in _HALVES]
    found = {}
    for name in ESTIMATES:
        half, other = np.array([[one[name], two[name]] for one, two in pairs]).swapaxes(0, 1)
        middle = (half + other) / 2
        bias_error = middle.std(axis=0, ddof=1) / len(middle) ** 0.5
        error = np.sqrt((((half - other) / 2) ** 2).mean(axis=0))
        found[name] = OfData(error, middle.mean(axis=0) - whole[name], bias_error)
    return found


def _estimates(denoiser: EmpiricalDenoiser, x: Tensor, levels: np.ndarray, how: Probing) -> dict[str, Estimate]:
    num_blocks = -(-len(x) // BLOCK)
    sums = np.zeros((num_blocks, len(levels), WIDTH))
    sweep(denoiser, x, levels, np.ones(len(levels), bool), how, range(num_blocks), sums, shared=False)
    return estimates(sums, levels, x[0].numel())
