"""ising_sweep on a GPU in CUDA C++: a warp a lattice for size 128, a block a lattice otherwise."""

import torch

from .._cuda import launch
from .._random import ISING_SWEEP
from .._random.reference import derive

_THREADS = 128


def ising_sweep(words, thresholds, num_sweeps, sample_ids, seed, size) -> None:
    num, device = len(words), words.device
    root = derive(int(seed), ISING_SWEEP)
    tables = [torch.as_tensor(each, device=device) for each in (thresholds, num_sweeps, sample_ids)]
    if num == 0:
        return
    if size == 128:
        launch("ising_sweep", "ising_sweep_128", -(-num * 32 // _THREADS), _THREADS, words, *tables, root, num)
    else:
        streams = torch.empty((num, words[0, 0].numel(), 3), dtype=torch.uint64, device=device)
        launch("ising_sweep", "ising_sweep_any", num, _THREADS, words, *tables, root, num, size, streams)
