"""What the curves of an empirical denoiser owe to its data, which all samples share: a jackknife over groups of them.

Theta_k is an estimate without group k of the data, at a few samples and with their noise; theta the same with all:

    variance = (1 - 1 / G) sum_k (theta_k - mean theta_k)^2,    bias = (G - 1) (mean theta_k - theta)

(Quenouille 1956, Tukey 1958; groups instead of single data, Shao and Tu 1995).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hessfast import _random

from ._sweep import BLOCK, ESTIMATES, WIDTH, Estimate, Probing, estimates, sweep
from .empirical import EmpiricalDenoiser

_GROUPS = 8
_ASKED = 128  # samples; what they say of a group differs far less than they do


class OfData(NamedTuple):
    """Standard error and bias at each tau, `[len(tau)]`."""

    error: np.ndarray
    bias: np.ndarray


def of_data(denoiser: EmpiricalDenoiser, x: Tensor, levels: np.ndarray, how: Probing) -> dict[str, OfData]:
    """By the names of ESTIMATES; unknown, infinite, for data too few to do without some."""
    groups = min(_GROUPS, len(denoiser.data))
    if groups < 3:
        return {name: OfData(np.full(len(levels), np.inf), np.zeros(len(levels))) for name in ESTIMATES}
    mixed = np.argsort(_random.derive(0, np.arange(len(x))))  # even steps might be those of the groups
    rows = torch.as_tensor(np.sort(mixed[:_ASKED]))
    gaps: dict[str, list[np.ndarray]] = {name: [] for name in ESTIMATES}
    first = None
    for group in range(groups):
        whole, without, some = denoiser.resampled(rows, group, groups)
        samples = x[some.to(x.device)]
        if first is None or denoiser.left_out is not None:  # else it is the same for all groups
            first = _estimates(whole, samples, levels, how)
        second = _estimates(without, samples, levels, how)
        for name in ESTIMATES:
            gaps[name].append(second[name].mean - first[name].mean)
    found = {}
    for name, each in gaps.items():
        apart = np.array(each)
        mean = apart.mean(axis=0)
        error = np.sqrt((1 - 1 / groups) * ((apart - mean) ** 2).sum(axis=0))
        found[name] = OfData(error, (groups - 1) * mean)
    return found


def _estimates(denoiser: EmpiricalDenoiser, x: Tensor, levels: np.ndarray, how: Probing) -> dict[str, Estimate]:
    num_blocks = -(-len(x) // BLOCK)
    sums = np.zeros((num_blocks, len(levels), WIDTH))
    sweep(denoiser, x, levels, np.ones(len(levels), bool), how, range(num_blocks), sums, shared=False)
    return estimates(sums, levels, x[0].numel())
