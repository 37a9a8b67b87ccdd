"""ising_cftp: reference = numba = CUDA C++ on the host, bit for bit; independence of the first rung."""

import numpy as np
import pytest

from hessfast.ising import _thresholds
from hessfast.kernels._heat_bath.reference import split
from hessfast.kernels._random import ISING_CFTP
from hessfast.kernels._random.reference import derive
from hessfast.kernels.ising_cftp import cpu, reference, rung_start

from . import cuda_host

TWELVE_BITS = [875116714355000125, 1304680498834922132, 1410182734995233200, 3913139068250653428, 16918916653284326804]
FOURTEEN_BITS = [
    7617720127321333298, 9486421086643080298, 10238004715650478908, 14809075122022833013, 15132338813294849853,
]  # fmt: skip
MOST_BITS = [(j + 1) * (2**61 - 1) for j in range(5)]
# Certain and impossible flips, saturated and equal thresholds; maps that are monotone only with 12, 14 and 62 bits.
EDGES = np.array(
    [
        [0] * 5, [2**64 - 1] * 5, TWELVE_BITS, FOURTEEN_BITS, MOST_BITS, [2**62, 2**62, 2**63, 2**63, 2**63 + 2**62],
    ],
    np.uint64,
)  # fmt: skip


def problem(size, num=3, first_rung=0):
    rng = np.random.default_rng(size)
    thresholds = _thresholds.heat_bath(rng.uniform(2.6, 5, num), rng.uniform(-2, 2, num))
    thresholds[0] = EDGES[size // 2 % len(EDGES)]
    return thresholds, np.full(num, first_rung), rng.integers(0, 2**64, num, dtype=np.uint64), 2**64 - 3, size


def on_host(thresholds, rungs, sample_ids, seed, size):
    num, rows, row = len(thresholds), size // 2, -(-size // 128)
    words, rungs = np.full((num, 4, rows, row), 0xABCDEF, np.uint64), rungs.copy()
    scratch = np.empty((num, 7, rows, row), np.uint64)
    arguments = (words, rungs, thresholds, sample_ids, derive(seed, ISING_CFTP), num)
    cuda_host.run("ising_cftp", "ising_cftp_any", *arguments, size, scratch)
    return words, rungs


def on_host_warp(thresholds, rungs, sample_ids, seed, size):
    words, rungs = np.full((len(thresholds), 4, 64, 1), 0xABCDEF, np.uint64), rungs.copy()
    arguments = (words, rungs, thresholds, sample_ids, derive(seed, ISING_CFTP), len(thresholds))
    cuda_host.run("ising_cftp", "ising_cftp_128", *arguments, np.zeros(1, np.uint64))
    return words, rungs


@pytest.mark.parametrize(("size", "num"), [(2, 3), (4, 3), (6, 3), (8, 3), (10, 3), (12, 3), (22, 3), (130, 1)])
def test_numba_equals_reference(size, num):
    expected, got = reference.ising_cftp(*problem(size, num)), cpu.ising_cftp(*problem(size, num))
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("size", [2, 10, 126, 128, 130, 256])
def test_cuda_equals_numba_on_the_host(size):
    given = problem(size, num=4, first_rung=[0, 1, 4, 0])
    expected = cpu.ising_cftp(*given)
    for form in [on_host, on_host_warp] if size == 128 else [on_host]:
        got = form(*given)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.gpu
@pytest.mark.parametrize("size", [2, 10, 126, 128, 130, 256])
def test_gpu_equals_numba(size):
    from hessfast.kernels.ising_cftp import gpu

    num = 6000 if size == 128 else 40  # more than a GPU has warps, so that warps take a second lattice
    given = problem(size, num, first_rung=np.arange(num) % 6)
    for got, expected in zip(gpu.ising_cftp(*given), cpu.ising_cftp(*given), strict=True):
        np.testing.assert_array_equal(got.cpu().numpy(), expected)


@pytest.mark.parametrize("first_rung", [1, 5, 12])
def test_a_longer_horizon_returns_the_same_sample(first_rung):
    short, rungs = cpu.ising_cftp(*problem(64, num=8))
    long, longer_rungs = cpu.ising_cftp(*problem(64, num=8, first_rung=first_rung))
    np.testing.assert_array_equal(long, short)
    assert (longer_rungs >= first_rung).all() and (rungs != longer_rungs).any()


@pytest.mark.parametrize(("thresholds", "num_bits"), [(TWELVE_BITS, 12), (FOURTEEN_BITS, 14), (MOST_BITS, 62)])
def test_edges_are_what_they_are_for(thresholds, num_bits):
    assert split(thresholds, monotone=True)[0] == num_bits


def test_rungs_are_the_documented_horizons():
    assert [rung_start(r) for r in range(8)] == [4, 6, 8, 12, 16, 24, 32, 48]


def test_samples_do_not_depend_on_the_batch():
    thresholds, rungs, sample_ids, seed, size = problem(30, num=6)
    words, _ = cpu.ising_cftp(thresholds, rungs, sample_ids, seed, size)
    order = [3, 0, 5]
    some, _ = cpu.ising_cftp(thresholds[order], rungs[order], sample_ids[order], seed, size)
    np.testing.assert_array_equal(some, words[order])


def test_empty_batch():
    nothing = np.empty((0, 5), np.uint64), np.empty(0, np.int64), np.empty(0, np.uint64), np.uint64(0), 6
    for form in (cpu, reference):
        words, rungs = form.ising_cftp(*nothing)
        assert words.shape == (0, 4, 3, 1) and rungs.shape == (0,)
