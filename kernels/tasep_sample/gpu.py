"""The exact TASEP sampler on a CUDA device: tasep_sample.cu, a thread per sample for (e, f), then a warp per sample."""

import torch

from .._cuda import launch
from .._random import TASEP_SAMPLE
from .._random.reference import derive
from . import LANES

SHARED_WORDS, WARPS_PER_BLOCK = 640, 4  # of tasep_sample.cu: the room of a warp in shared memory
MOST_BLOCKS = 1024  # where warps work in global memory, so that their room stays small


def tasep_sample(words, exponents, entry_rate, exit_rate, num_sites, seed, first_id):
    """`words` and `exponents` are CUDA tensors, the rates NumPy arrays."""
    num = len(words)
    if num == 0:
        return
    root = derive(seed, TASEP_SAMPLE)
    alpha, beta = (torch.from_numpy(rate).to(words.device) for rate in (entry_rate, exit_rate))
    drawn = torch.empty(num, dtype=torch.int64, device=words.device)
    arguments = exponents, drawn, alpha, beta, num_sites, root, first_id, num
    launch("tasep_sample", "tasep_exponents", -(-num // 128), 128, *arguments)
    room = 2 * (num_sites // 64 + 1) + 2 * LANES
    in_shared = room <= SHARED_WORDS
    blocks = -(-num // WARPS_PER_BLOCK)
    if not in_shared:
        blocks = min(blocks, MOST_BLOCKS)
    scratch = torch.empty(1 if in_shared else blocks * WARPS_PER_BLOCK * room, dtype=torch.int64, device=words.device)
    arguments = words, exponents, drawn, num_sites, root, first_id, num, scratch, int(in_shared)
    launch("tasep_sample", "tasep_configurations", blocks, 32 * WARPS_PER_BLOCK, *arguments)
