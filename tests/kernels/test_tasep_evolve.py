"""The dynamics of the open TASEP: the law of one tick and of the number of ticks, and the same bits from every form."""

import os
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from scipy.linalg import expm

from hessfast.kernels._random import TASEP_EVOLVE
from hessfast.kernels._random.reference import derive
from hessfast.kernels.tasep_evolve import cpu, reference
from hessfast.kernels.tasep_evolve._ticks import poisson, slices
from hessfast.tasep import sampling as tasep
from hessfast.tasep.enumeration import transitions

from ..threads import threads
from . import cuda_host


@pytest.mark.parametrize("M", [1, 2, 3, 5])
def test_a_tick_is_the_generator(M):
    """Averaged over its bond and over passing the ends, a tick is 1 + Q / (M + 1), Q of the master equation."""
    alpha, beta = Fraction(2, 7), Fraction(3, 5)
    step = np.full((2**M, 2**M), Fraction(0))
    for state in range(2**M):
        for bond in range(M + 1):
            passes = {0: alpha, M: beta}.get(bond, Fraction(1))
            after = reference.tick(1 | state << 1, bond, M)
            assert after & 1 == 1
            assert after >> (M + 1) == 0
            step[after >> 1, state] += passes
            step[state, state] += 1 - passes
    generator = np.full((2**M, 2**M), Fraction(0))
    for state, after, rate in transitions(alpha, beta, M):
        generator[after, state] += rate
        generator[state, state] -= rate
    assert (step == generator + (M + 1) * np.eye(2**M, dtype=int)).all()


@pytest.mark.parametrize("mean", [Fraction(1, 10**6), Fraction(1, 3), Fraction(1), Fraction(77, 2), Fraction(1024)])
def test_thresholds_of_the_poisson_law(mean):
    least, thresholds = poisson(mean)
    with mpmath.workdps(60):
        exact = mpmath.mpf(mean.numerator) / mean.denominator
        for n in [least - 1, *range(least, least + len(thresholds), 13), least + len(thresholds)]:
            k = n - least
            below = 0 if k < 0 else 2**64 if k >= len(thresholds) else thresholds[k]
            true = mpmath.gammainc(n + 1, exact, regularized=True) if n >= 0 else 0
            assert abs(below - true * 2**64) <= 1


def test_slices_share_the_time_equally():
    num_slices, least, thresholds = slices(99, 123.4)
    assert num_slices == 13  # 12,340 ticks, at most 1,024 in each
    mean = least + (1 - thresholds / 2.0**64).sum()  # the sum of P(N > n)
    assert mean == pytest.approx(100 * 123.4 / 13, rel=1e-12)
    assert slices(99, 0.0)[0] == 0


def states(n, M, seed=0):
    sites = np.random.default_rng(seed).integers(0, 2, (n, 64 * -(-M // 64)), dtype=np.uint8)
    sites[:, M:] = 0
    return np.packbits(sites, axis=1, bitorder="little").view(np.uint64)


def run(module, words, alpha, beta, M, duration, seed=3, first_id=0):
    after = words.copy()
    module.tasep_evolve(after, np.asarray(alpha, float), np.asarray(beta, float), M, duration, seed, first_id)
    return after


@pytest.mark.parametrize("M", [1, 2, 63, 64, 65, 130])
@pytest.mark.parametrize("duration", [0.0, 1e-3, 2.5, 40.0])
def test_same_bits_as_the_reference(M, duration):
    alpha, beta = np.random.default_rng(M).uniform(size=(2, 12))
    alpha[:3], beta[1:5] = 1, 1
    args = states(12, M), alpha, beta, M, duration, 2**64 - 1, 2**63
    np.testing.assert_array_equal(run(cpu, *args), run(reference, *args))


@pytest.mark.parametrize("M", [1, 2, 63, 64, 65, 128, 130, 500])
@pytest.mark.parametrize("duration", [1e-3, 7.5])
def test_same_bits_from_the_cuda_kernel(M, duration):
    """The steps of gpu.py with the CUDA kernel compiled for the host."""
    n, seed, first_id = 100, 2**64 - 1, 2**63
    alpha, beta = np.random.default_rng(M).uniform(size=(2, n))
    alpha[:10], beta[5:15] = 1, 1
    words = states(n, M)
    num_slices, least, thresholds = slices(M, duration)
    after, root = words.copy(), derive(seed, TASEP_EVOLVE)
    arguments = after, alpha, beta, thresholds, len(thresholds), M, num_slices, least, root, first_id, n
    cuda_host.run("tasep_evolve", "tasep_evolve", *arguments)
    np.testing.assert_array_equal(after, run(cpu, words, alpha, beta, M, duration, seed, first_id))


@pytest.mark.gpu
@pytest.mark.parametrize("M", [1, 64, 130, 3000])
def test_same_bits_from_a_gpu(M):
    torch = pytest.importorskip("torch")
    alpha, beta = np.random.default_rng(M).uniform(0.01, 1, size=(2, 300))
    start = tasep.pack(np.random.default_rng(0).integers(0, 2, (300, M)))
    there = tasep.pack(torch.from_numpy(start.occupations()).cuda())
    after = tasep.evolve(there, alpha, beta, 12.5, seed=4).words.cpu().numpy()
    np.testing.assert_array_equal(after, tasep.evolve(start, alpha, beta, 12.5, seed=4).words)


def test_a_chain_depends_on_its_number_only():
    M, n = 200, 30
    words, rates = states(n, M), np.random.default_rng(1).uniform(size=(2, n))
    whole = run(cpu, words, *rates, M, 30.0)
    with threads(1):
        np.testing.assert_array_equal(run(cpu, words, *rates, M, 30.0), whole)
        np.testing.assert_array_equal(run(cpu, words[9:], *rates[:, 9:], M, 30.0, first_id=9), whole[9:])


@pytest.mark.parametrize(
    ("M", "alpha", "beta", "duration"), [(1, 0.3, 0.9, 0.7), (3, 0.4, 0.8, 1.3), (4, 1.0, 0.25, 3.0)]
)
def test_law_at_a_time(M, alpha, beta, duration):
    """From the empty chain: the exponential of the generator."""
    n = 100_000
    generator = np.zeros((2**M, 2**M))
    for state, after, rate in transitions(alpha, beta, M):
        generator[after, state] += rate
        generator[state, state] -= rate
    expected = n * expm(duration * generator)[:, 0]
    after = run(cpu, np.zeros((n, 1), np.uint64), [alpha] * n, [beta] * n, M, duration)
    counts = np.bincount(after[:, 0].astype(int), minlength=2**M)
    freedom = 2**M - 1
    assert abs(((counts - expected) ** 2 / expected).sum() - freedom) < 5 * np.sqrt(2 * freedom)


def test_long_times_keep_the_particles_within_the_chain():
    M = 70
    after = run(cpu, states(5, M), [1.0] * 5, [1e-300] * 5, M, 2000.0)  # nothing ever leaves: the chain fills up
    assert (after == [2**64 - 1, 2**6 - 1]).all()


def test_without_compiling():
    """The kernel is also plain Python: there every index is checked."""
    code = """if True:
        import warnings; warnings.simplefilter("ignore")  # NumPy warns when scalars wrap around 2^64
        import numpy as np
        from hessfast.kernels.tasep_evolve import cpu, reference
        for M in (1, 64, 70):
            rates = np.array([1.0, 0.5]), np.array([0.3, 1.0])
            results = [np.zeros((2, -(-M // 64)), np.uint64) for _ in range(2)]
            for module, words in zip((cpu, reference), results):
                module.tasep_evolve(words, *rates, M, 20.0, 3, 4)
            assert (results[0] == results[1]).all(), M
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
