"""The weight of a TASEP configuration: numba against rational numbers, its error against the truth."""

import os
import subprocess
import sys
from fractions import Fraction

import numba
import numpy as np
import pytest

from hessfast.kernels.tasep_likelihood import cpu, reference
from hessfast.tasep.enumeration import net_flow, occupations

from ..threads import threads

FUGACITIES = np.array([0.0, 1e-16, 0.01, 0.5, 1.0, 1.5, 40.0, 1e9])


def pack(sites):
    words = np.zeros((len(sites), -(-sites.shape[1] // 64)), np.uint64)
    for j, column in enumerate(sites.T):
        words[:, j // 64] |= column.astype(np.uint64) << np.uint64(j % 64)
    return words


def configurations(M, seed=0):
    """Uniform densities, an ordinary shock, and the blocks and the inverted shock that no TASEP would show."""
    random, place = np.random.default_rng(seed).random((7, M)), np.arange(M) / M
    step = np.where(place < 0.4, 0.2, 0.8)
    densities = [np.full(M, 0.1), np.full(M, 0.5), np.full(M, 0.9), step, 1 - step, place < 0.5, place >= 0.5]
    return (random < np.array(densities)).astype(np.uint8)


def run(kernel, sites, entry=FUGACITIES, exit=FUGACITIES, threshold=1e-60):
    a, b = (np.tile(np.asarray(x, float), (len(sites), 1)) for x in (entry, exit))
    log_weight, error = np.full((2, len(sites), a.shape[1], b.shape[1]), np.nan)
    kernel(log_weight, error, pack(sites), sites.shape[1], a, b, threshold)
    return log_weight, error


@pytest.mark.parametrize("M", [1, 2, 3, 5])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (1, "1/3"), ("2/7", "2/7"), ("1/4", "3/4"), ("3/5", "5/7")])
def test_reference_is_stationary(M, alpha, beta):
    alpha, beta = Fraction(alpha), Fraction(beta)
    weights = [reference.weight(reference.levels(s, 1 / alpha - 1), 1 / beta - 1) for s in occupations(M).tolist()]
    assert (net_flow(np.array(weights, dtype=object), alpha, beta, M) == 0).all()


@pytest.mark.parametrize("M", [1, 2, 8, 9, 63, 64, 65, 97])
def test_cpu_is_the_reference(M):
    sites = configurations(M)
    log_weight, error = run(cpu.tasep_likelihood, sites)
    exact, _ = run(reference.tasep_likelihood, sites)
    np.testing.assert_allclose(log_weight, exact, rtol=1e-14, atol=1e-14 * M)
    assert (error == 0).all()


def log_space(sites, a, b):
    """The recursion of the reference for every level, on logarithms."""
    v = np.full(len(sites) + 2, -np.inf)
    v[0], top, shift = 0.0, 0, 0.0
    for occupied in sites:
        if occupied:
            top += 1
            v[1 : top + 1] = np.logaddexp(v[1 : top + 1], v[:top])
        else:
            floor = np.log(a) + v[0]
            v[: top + 1] = np.logaddexp(v[: top + 1], v[1 : top + 2])
            v[0] = np.logaddexp(v[0], floor)
        peak = v[: top + 1].max()
        v[: top + 1] -= peak
        shift += peak
    return shift + np.logaddexp.reduce(v[: top + 1] + np.arange(top + 1) * np.log(b))


@pytest.mark.parametrize(("a", "b"), [(3.0, 0.4), (0.4, 3.0), (4.0, 4.0), (0.1, 0.05), (1.0, 1.0), (50.0, 1e-3)])
def test_long_chains(a, b):
    sites = configurations(1500, seed=1)
    log_weight, error = run(cpu.tasep_likelihood, sites, [a], [b])
    exact = [log_space(row, a, b) for row in sites]
    np.testing.assert_allclose(log_weight[:, 0, 0], exact, rtol=0, atol=1e-10)
    assert (error < 1e-12).all()


def test_the_error_bounds_what_is_dropped():
    sites = configurations(3000, seed=2)
    everything, none = run(cpu.tasep_likelihood, sites, threshold=0.0)
    assert (none < 1e-100).all()
    for threshold in (1e-2, 1e-4, 1e-8, 1e-16):
        log_weight, error = run(cpu.tasep_likelihood, sites, threshold=threshold)
        missing = everything - log_weight
        assert (missing >= -1e-10).all()
        assert (missing <= error + 1e-10).all()
        if threshold > 1e-5:
            assert missing.max() > 1e-6  # so there was something to bound
    assert error[:3].max() < 1e-6  # nor is the bound idle where the density is uniform


def test_nothing_to_do():
    assert run(cpu.tasep_likelihood, np.empty((0, 70), np.uint8))[0].shape == (0, 8, 8)
    assert run(cpu.tasep_likelihood, configurations(70), [], [1.0])[0].shape == (7, 0, 1)


def test_result_does_not_depend_on_the_threads():
    sites = configurations(500)
    everything = run(cpu.tasep_likelihood, sites)
    with threads(1):
        alone = run(cpu.tasep_likelihood, sites)
    np.testing.assert_array_equal(everything, alone)
    np.testing.assert_array_equal(np.array(everything)[:, 3:4], run(cpu.tasep_likelihood, sites[3:4]))


def test_without_jit():
    """The same numbers from plain Python, where an index out of bounds is an error."""
    if numba.config.DISABLE_JIT:
        pytest.skip("this is already plain Python")
    code = "import tests.kernels.test_tasep_likelihood as t; t.plain_python()"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment, cwd=root)


def plain_python():
    for M in (1, 70):
        sites = configurations(M)[3:5]
        log_weight, error = run(cpu.tasep_likelihood, sites, FUGACITIES[::3], FUGACITIES[::3], 1e-12)
        exact, _ = run(reference.tasep_likelihood, sites, FUGACITIES[::3], FUGACITIES[::3])
        np.testing.assert_allclose(log_weight, exact, rtol=0, atol=error.max() + 1e-11)
        assert error.max() < 1e-3
