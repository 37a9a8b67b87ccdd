"""ising_observables: numba equals the sum over unpacked spins; hand-counted patterns."""

import numpy as np
import pytest

from hessfast.kernels._heat_bath.reference import pack
from hessfast.kernels.ising_observables import cpu, reference

from . import cuda_host


def on_host(words, size):
    energy, magnetization = np.full((2, len(words)), -1, np.int64)
    cuda_host.run("ising_observables", "ising_observables", words, len(words), size, energy, magnetization)
    return energy, magnetization


@pytest.mark.parametrize("size", [2, 4, 6, 22, 126, 128, 130, 256, 384])
def test_numba_and_cuda_on_the_host_equal_the_reference(size):
    words = pack(np.random.default_rng(size).choice([-1, 1], (4, size, size), p=[0.3, 0.7]))
    expected = reference.ising_observables(words, size)
    for form in (cpu.ising_observables, on_host):
        np.testing.assert_array_equal(form(words, size), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [2, 22, 128, 130])
def test_gpu_equals_reference(size):
    import torch

    from hessfast.kernels.ising_observables import gpu

    words = pack(np.random.default_rng(size).choice([-1, 1], (4, size, size), p=[0.3, 0.7]))
    got = gpu.ising_observables(torch.from_numpy(words).cuda(), size)
    np.testing.assert_array_equal([each.cpu().numpy() for each in got], reference.ising_observables(words, size))


@pytest.mark.parametrize("form", [cpu, reference])
def test_patterns_counted_by_hand(form):
    size = 8
    rows, columns = np.indices((size, size))
    aligned = np.ones((size, size), int)
    checkerboard = 1 - 2 * ((rows + columns) % 2)
    stripes = 1 - 2 * (rows % 2)
    one_down = aligned.copy()
    one_down[3, 7] = -1
    energy, magnetization = form.ising_observables(pack(np.array([aligned, checkerboard, stripes, one_down])), size)
    assert list(energy) == [-128, 128, 0, -120]
    assert list(magnetization) == [64, 0, 0, 62]
