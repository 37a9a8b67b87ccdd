"""ising_cftp on a GPU in CUDA C++: persistent warps for size 128, a block a lattice otherwise."""

import torch

from .._cuda import launch
from .._random import ISING_CFTP
from .._random.reference import derive

_THREADS = 128
_BLOCKS_PER_PROCESSOR = 4  # 16 warps of about 120 registers fill a multiprocessor


def ising_cftp(thresholds, rungs, sample_ids, seed, size, device="cuda"):
    num, rows, row = len(thresholds), size // 2, -(-size // 128)
    root = derive(int(seed), ISING_CFTP)
    thresholds, rungs, sample_ids = (torch.as_tensor(each, device=device) for each in (thresholds, rungs, sample_ids))
    words, rungs = torch.empty((num, 4, rows, row), dtype=torch.uint64, device=device), rungs.clone()
    if num == 0:
        return words, rungs
    arguments = (words, rungs, thresholds, sample_ids, root, num)
    if size == 128:
        blocks = _BLOCKS_PER_PROCESSOR * torch.cuda.get_device_properties(words.device).multi_processor_count
        tickets = torch.zeros(1, dtype=torch.int64, device=device)
        launch("ising_cftp", "ising_cftp_128", blocks, _THREADS, *arguments, tickets)
    else:
        scratch = torch.empty((num, 7, rows, row), dtype=torch.uint64, device=device)
        launch("ising_cftp", "ising_cftp_any", num, _THREADS, *arguments, size, scratch)
    return words, rungs
