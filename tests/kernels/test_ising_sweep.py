"""ising_sweep: reference = numba = CUDA C++ on the host (= GPU), bit for bit; and its law on 4 x 4 by enumeration."""

import numpy as np
import pytest

from hessfast.ising import _layout, _thresholds
from hessfast.kernels._heat_bath import MIN_BITS
from hessfast.kernels._heat_bath.reference import pack, split, unpack
from hessfast.kernels._random import ISING_SWEEP
from hessfast.kernels._random.reference import derive
from hessfast.kernels.ising_sweep import cpu, reference

from . import cuda_host

SIZES = [2, 4, 6, 22, 126, 128, 130, 256, 258]
EDGES = np.array([[0] * 5, [2**64 - 1] * 5, [0, 1, 2**63, 2**64 - 2, 2**64 - 1], [2**52] * 5], np.uint64)


def problem(size, num=3, seed=0):
    rng = np.random.default_rng(seed + size)
    words = pack(rng.choice([-1, 1], (num, size, size)))
    thresholds = _thresholds.heat_bath(rng.uniform(0.3, 5, num), rng.uniform(-2, 2, num))
    thresholds[0] = EDGES[size % len(EDGES)]
    num_sweeps = np.array([2, 0, 1, 3, 1][:num])
    return words, thresholds, num_sweeps, rng.integers(0, 2**64, num, dtype=np.uint64), 2**63 + 9, size


def on_host(words, thresholds, num_sweeps, sample_ids, seed, size):
    root = derive(seed, ISING_SWEEP)
    cuda_host.run(
        "ising_sweep", "ising_sweep_any", words, thresholds, num_sweeps, sample_ids, root, len(words), size,
        np.empty((len(words), words[0, 0].size, 3), np.uint64),
    )  # fmt: skip


def on_host_warp(words, thresholds, num_sweeps, sample_ids, seed, size):
    root = derive(seed, ISING_SWEEP)
    cuda_host.run("ising_sweep", "ising_sweep_128", words, thresholds, num_sweeps, sample_ids, root, len(words))


@pytest.mark.parametrize("size", SIZES)
def test_numba_equals_reference(size):
    expected, *rest = problem(size)
    got = expected.copy()
    reference.ising_sweep(expected, *rest)
    cpu.ising_sweep(got, *rest)
    np.testing.assert_array_equal(got, expected)


def test_planes_of_whole_pages_in_several_bands():
    """512 x 512: a plane is two pages, drawn in four bands."""
    expected, thresholds, _, *rest = problem(512, num=2)
    got = expected.copy()
    reference.ising_sweep(expected, thresholds, np.array([0, 1]), *rest)
    cpu.ising_sweep(got, thresholds, np.array([0, 1]), *rest)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [2, 6, 22, 126, 128, 130, 256, 514])  # 514: several bands, the last a short one
def test_cuda_equals_numba_on_the_host(size):
    expected, *rest = problem(size, num=5)
    forms = [on_host, on_host_warp] if size == 128 else [on_host]
    results = [expected.copy() for _ in forms]
    cpu.ising_sweep(expected, *rest)
    for form, got in zip(forms, results, strict=True):
        form(got, *rest)
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [2, 12, 64, 126, 128, 130, 256, 258])
@pytest.mark.parametrize("right", [False, True])
def test_neighbours_of_escaped_sites(size, right):
    """Few sites escape, fewer at the ends of rows: every word and bit of three rows, against columns."""
    from hessfast.kernels._heat_bath import cpu as heat_bath

    bits, row = size // 2, -(-size // 128)
    for place in range(3 * bits):
        line, k = divmod(place, bits)
        following = (k + (1 if right else -1)) % bits
        got = heat_bath._beside.py_func(line * row + k // 64, k % 64, row, bits, right)
        assert got == (line * row + following // 64, following % 64)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [2, 6, 22, 126, 128, 130, 256])
def test_gpu_equals_numba(size):
    import torch

    from hessfast.kernels.ising_sweep import gpu

    expected, *rest = problem(size, num=5)
    got = torch.from_numpy(expected.copy()).cuda()
    cpu.ising_sweep(expected, *rest)
    gpu.ising_sweep(got, *rest)
    np.testing.assert_array_equal(got.cpu().numpy(), expected)


def test_many_sweeps():
    expected, thresholds, _, *rest = problem(10)
    got, num_sweeps = expected.copy(), np.array([40, 41, 1])
    reference.ising_sweep(expected, thresholds, num_sweeps, *rest)
    cpu.ising_sweep(got, thresholds, num_sweeps, *rest)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("size", [6, 130])
def test_layout_is_the_documented_one(size):
    """One spin up at (row, column): its plane, word row, word and bit, by the words of the contract."""
    for row, column in ((0, 0), (0, 1), (1, 0), (3, 3), (size - 1, size - 1), (size - 2, size - 1), (5, size - 2)):
        spins = -np.ones((1, size, size), int)
        spins[0, row, column] = 1
        plane = 2 * ((row + column) & 1) + (row & 1)
        first = row & 1 if plane < 2 else 1 - (row & 1)
        k = (column - first) // 2
        words = np.zeros((1, 4, size // 2, -(-size // 128)), np.uint64)
        words[0, plane, row // 2, k // 64] = 1 << (k % 64)
        for packed in (pack(spins), _layout.pack(spins)):
            np.testing.assert_array_equal(packed, words)
        np.testing.assert_array_equal(unpack(words, size), spins)
        np.testing.assert_array_equal(_layout.unpack(words, size), spins)


def test_empty_batch():
    words = np.empty((0, 4, 3, 1), np.uint64)
    for form in (cpu, reference):
        form.ising_sweep(
            words, np.empty((0, 5), np.uint64), np.empty(0, np.int64), np.empty(0, np.uint64), np.uint64(0), 6
        )


def test_split_keeps_every_probability_exactly_and_is_monotone():
    rng = np.random.default_rng(5)
    temperature = np.concatenate([rng.uniform(0.2, 6, 3000), [0.01, 1e3, 1e9]])
    field = np.concatenate([rng.uniform(-2.5, 2.5, 3000), [0.0, 0.0, 1.0]])
    rare = 0
    for row in _thresholds.heat_bath(temperature, field):
        for monotone, escapes in ((False, 1), (True, 4)):
            num_bits, codes, hashes = split(row, monotone)
            rare += monotone and num_bits > MIN_BITS[True]
            for j in range(5):
                assert 0 <= codes[j] <= 2**num_bits - escapes
                assert 0 <= hashes[j] < 2**64
                # 2^64 2^B P = 2^64 A + E D, in integers
                assert (codes[j] << 64) + escapes * hashes[j] == min(int(row[j]), 2**64 - escapes) << num_bits
            if monotone:
                assert codes == sorted(codes) and hashes == sorted(hashes)
    assert 10 < rare < 40  # 22; for T in [1, 5] it is 1 in 120


def test_compiled_split_equals_reference():
    from hessfast.kernels._heat_bath import cpu as heat_bath

    rng = np.random.default_rng(6)
    for row in _thresholds.heat_bath(rng.uniform(0.05, 6, 500), rng.uniform(-2.5, 2.5, 500)):
        for monotone in (False, True):
            codes, hashes = np.empty(5, np.uint64), np.empty(5, np.uint64)
            num_bits = heat_bath.split(row, monotone, codes, hashes)
            assert (num_bits, list(map(int, codes)), list(map(int, hashes))) == split(row, monotone)


def test_escape_codes_are_used():
    """54 of the 64 bits live in the hash: a probability of 2^-12 is out of reach of 10 random bits."""
    size, num = 128, 64
    thresholds = np.full((num, 5), 2**52, np.uint64)
    words = np.zeros((num, 4, 64, 1), np.uint64)
    cpu.ising_sweep(words, thresholds, np.ones(num, np.int64), np.arange(num, dtype=np.uint64), np.uint64(1), size)
    up = np.unpackbits(words.view(np.uint8)).sum()
    expected = num * size * size / 2**12
    assert abs(up - expected) < 5 * np.sqrt(expected)
