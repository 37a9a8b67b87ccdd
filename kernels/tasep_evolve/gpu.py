"""The dynamics of the open TASEP on a CUDA device: tasep_evolve.cu, a thread per chain."""

import torch

from .._cuda import launch
from .._random import TASEP_EVOLVE
from .._random.reference import derive
from ._ticks import slices


def tasep_evolve(words, entry_rate, exit_rate, num_sites, duration, seed, first_id):
    """`words` is a CUDA tensor, the rates are NumPy arrays."""
    num = len(words)
    num_slices, least, thresholds = slices(num_sites, duration)
    if num == 0 or num_slices == 0:
        return
    root = derive(seed, TASEP_EVOLVE)
    law = torch.from_numpy(thresholds).to(words.device)
    alpha, beta = (torch.from_numpy(rate).to(words.device) for rate in (entry_rate, exit_rate))
    arguments = words, alpha, beta, law, len(thresholds), num_sites, num_slices, least, root, first_id, num
    launch("tasep_evolve", "tasep_evolve", -(-num // 128), 128, *arguments)
