"""ising_observables on a GPU in CUDA C++: a warp a lattice."""

import torch

from .._cuda import launch

_THREADS = 128


def ising_observables(words, size):
    energy, magnetization = torch.empty((2, len(words)), dtype=torch.int64, device=words.device)
    if len(words):
        blocks = -(-len(words) * 32 // _THREADS)
        launch(
            "ising_observables", "ising_observables", blocks, _THREADS, words, len(words), size, energy, magnetization
        )
    return energy, magnetization
