"""posterior_moments: numba and Triton against NumPy in float64, to the accuracy that the contract states."""

import numpy as np
import pytest

from hessfast.kernels.posterior_moments import ROUNDING, TOLERANCE, cpu, reference

from ..threads import threads
from . import interpreter

TAUS = (1e-9, 1e-6, 1e-3, 0.03, 1.0, 30.0, 1e3, 1e9)  # data have a variance of about 1 a coordinate


def problem(num_queries, num, width, tau, num_probes=1, seed=0, leave_out=True):
    """Data on a noisy surface away from the origin, some of them repeated or nearly so; queries sqrt(tau D) away."""
    rng = np.random.default_rng(seed)
    data = 2 * np.sin(rng.normal(size=(num, 2)) @ rng.normal(size=(2, width))) + 5 + 0.1 * rng.normal(size=(num, width))
    data[1::7] = data[::7][: len(data[1::7])]
    data[2::7] = data[::7][: len(data[2::7])] * (1 + 1e-5)
    data = data.astype(np.float32)
    taus = np.broadcast_to(np.asarray(tau, np.float64), num_queries).copy()
    chosen = rng.integers(0, num, num_queries)
    queries = data[chosen] + np.sqrt(taus)[:, None] * rng.normal(size=(num_queries, width))
    probes = rng.choice([-1, 1], (num_queries, num_probes, width))
    left_out = np.where((rng.random(num_queries) < 0.5) & leave_out & (num > 1), chosen, -1)
    return queries.astype(np.float32), data, taus, probes.astype(np.float32), left_out


def assert_accurate(got, case):
    """The rule of the contract, and of float32's rounding of the result."""
    queries, data, tau, probes, left_out = case
    mean, log_normaliser, covariance = reference.posterior_moments(*case)
    assert [x.dtype for x in got] == [np.float32, np.float64, np.float32]
    assert [x.shape for x in got] == [mean.shape, log_normaliser.shape, covariance.shape]
    centre = data.mean(axis=0, dtype=np.float64)
    radius = max(((x - centre) ** 2).sum(axis=1).max(initial=0) for x in (queries, data))
    share = TOLERANCE + ROUNDING * radius / tau
    first, second = np.empty((2, len(queries)))  # E |X - D*| and E |X - D*|^2
    for i, (query, best) in enumerate(zip(queries.astype(np.float64), mean, strict=True)):
        exponents = -((query - data) ** 2).sum(axis=1) / (2 * tau[i]) - log_normaliser[i]
        weights = np.where(np.arange(len(data)) == left_out[i], 0, np.exp(np.minimum(exponents, 0)))
        apart = np.linalg.norm(data - best, axis=1)
        first[i], second[i] = weights @ apart, weights @ apart**2
    half = 2.0**-24
    error = np.linalg.norm(got[0] - mean, axis=1)
    allowed = share * first + TOLERANCE * radius**0.5 + half * np.linalg.norm(mean, axis=1)
    assert (error <= allowed).all(), (error / allowed).max()
    error = np.abs(got[1] - log_normaliser)
    assert (error <= share + 2**-52 * np.abs(log_normaliser)).all(), (error / share).max()
    error = np.linalg.norm(got[2] - covariance, axis=2)
    allowed = (share * second + ROUNDING * radius)[:, None] * np.linalg.norm(probes, axis=2)
    allowed += half * np.linalg.norm(covariance, axis=2) + 1e-38
    assert (error <= allowed).all(), (error / allowed).max()


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("width", [1, 2, 37, 200])
def test_numba_equals_reference(width, tau):
    case = problem(90, 700, width, tau)
    assert_accurate(cpu.posterior_moments(*case), case)


@pytest.mark.parametrize("num_probes", [0, 1, 3])
def test_probes_and_a_tau_for_each_query(num_probes):
    case = problem(300, 500, 24, np.geomspace(1e-6, 1e6, 300), num_probes)
    assert_accurate(cpu.posterior_moments(*case), case)


@pytest.mark.parametrize("num", [1, 2, cpu.PANEL - 1, cpu.PANEL, cpu.PANEL + 1, 2 * cpu.PANEL + 300])
def test_panels(num):
    case = problem(40, num, 5, np.geomspace(1e-3, 1e3, 40), num_probes=2)
    assert_accurate(cpu.posterior_moments(*case), case)


@pytest.mark.parametrize("num_queries", [0, 1, cpu.BLOCK - 1, cpu.BLOCK, cpu.BLOCK + 1])
def test_blocks(num_queries):
    case = problem(num_queries, 60, 3, 0.1)
    assert_accurate(cpu.posterior_moments(*case), case)


def test_chunks(monkeypatch):
    case = problem(700, 60, 3, 0.1)
    whole = cpu.posterior_moments(*case)
    monkeypatch.setattr(cpu, "CHUNK", 1)
    for one, other in zip(whole, cpu.posterior_moments(*case), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("num_probes", [0, 1])
def test_single_datum(num_probes):
    case = problem(9, 1, 6, 0.5, num_probes)
    mean, log_normaliser, covariance = cpu.posterior_moments(*case)
    np.testing.assert_array_equal(mean, np.broadcast_to(case[1], (9, 6)))
    np.testing.assert_allclose(log_normaliser, -(((case[0] - case[1]).astype(np.float64)) ** 2).sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(covariance, 0)


def test_left_out_alone_in_a_panel():
    """The sums of a query begin with a panel of which nothing counts, once as the first and once as the last."""
    for left_out in (0, cpu.PANEL):
        queries, data, tau, probes, _ = problem(3, cpu.PANEL + 1, 4, 0.3)
        data = np.roll(data, left_out, axis=0)
        case = queries, data, tau, probes, np.full(3, left_out)
        assert_accurate(cpu.posterior_moments(*case), case)


def test_two_data_points():
    """D* = m + h tanh(<h, y - m> / tau) and Cov = h h^T sech^2, for data m - h and m + h."""
    rng = np.random.default_rng(1)
    middle, half = rng.integers(-8, 9, (2, 10)) / 4.0
    data = np.stack([middle - half, middle + half]).astype(np.float32)
    for tau in (0.1, 2.0, 50.0):
        queries = (middle + rng.normal(size=(50, 10)) * 0.3).astype(np.float32)
        probes = rng.normal(size=(50, 2, 10)).astype(np.float32)
        case = queries, data, np.full(50, tau), probes, np.full(50, -1)
        mean, log_normaliser, covariance = cpu.posterior_moments(*case)
        argument = (queries - middle) @ half / tau
        np.testing.assert_allclose(mean, middle + np.tanh(argument)[:, None] * half, rtol=1e-6, atol=1e-6)
        around = ((queries - middle) ** 2).sum(axis=1) + half @ half
        logarithm = np.log(2 * np.cosh(argument)) - around / (2 * tau)
        np.testing.assert_allclose(log_normaliser, logarithm, rtol=0, atol=1e-6)
        expected = (probes @ half / np.cosh(argument)[:, None] ** 2)[..., None] * half
        np.testing.assert_allclose(covariance, expected, rtol=1e-5, atol=1e-6)


def test_tweedie():
    """D*(y) = y + tau grad log p and Cov v = tau Jac D* v, both by finite differences of the kernel's own results."""
    width, tau, step = 4, 0.7, 2.0**-6
    queries, data, taus, probes, left_out = problem(20, 80, width, tau)
    queries, data = np.round(queries * 64) / 64, data - 5  # a step changes them exactly
    mean, _, covariance = cpu.posterior_moments(queries, data, taus, probes, left_out)

    def moved(directions):
        results = [
            cpu.posterior_moments((queries + s * step * directions).astype(np.float32), data, taus, probes, left_out)
            for s in (-2, -1, 1, 2)
        ]
        return [
            (-d + 8 * c - 8 * b + a) / (12 * step)  # fourth order
            for a, b, c, d in (tuple(x.astype(np.float64) for x in column) for column in zip(*results, strict=True))
        ]

    for k in range(width):
        score = moved(np.eye(width)[k])[1]
        np.testing.assert_allclose(mean[:, k], queries[:, k] + tau * score, atol=1e-5)
    np.testing.assert_allclose(covariance[:, 0], tau * moved(probes[:, 0])[0], atol=2e-4)


def test_nan_is_not_swallowed():
    case = problem(5, 40, 3, 0.1, leave_out=False)
    for argument, row in ((0, 2), (2, 2), (3, 2), (1, 7)):
        spoilt = [x.copy() for x in case]
        spoilt[argument][row] = np.nan
        results = cpu.posterior_moments(*spoilt)
        nothing = [np.isnan(x).reshape(5, -1).all(axis=1) for x in results]
        if argument == 1:  # a datum belongs to all queries
            assert all(x.all() for x in nothing)
        else:
            spoils = nothing[2:] if argument == 3 else nothing
            assert all(x[2] for x in spoils) and not any(np.isnan(x[[0, 1, 3, 4]]).any() for x in results)


@pytest.mark.parametrize("num_probes", [0, 1])
def test_company_does_not_change_a_bit(num_probes):
    """A query alone, at another place of a block, and in another block."""
    case = problem(cpu.BLOCK + 70, cpu.PANEL + 300, 50, 0.05, num_probes)
    whole = cpu.posterior_moments(*case)
    rng = np.random.default_rng(2)
    for chosen in ([3], [cpu.BLOCK + 5, 0], rng.permutation(len(case[0]))):
        queries, data, *rest = case
        some = cpu.posterior_moments(queries[chosen], data, *(x[chosen] for x in rest))
        for expected, got in zip(whole, some, strict=True):
            np.testing.assert_array_equal(got, expected[chosen])


def test_threads_do_not_change_a_bit():
    case = problem(600, cpu.PANEL + 300, 16, 0.1)
    results = []
    for num in (1, 2):
        with threads(num):
            results.append(cpu.posterior_moments(*case))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def on(device, case):
    """What the GPU form makes of a case, as NumPy's arrays."""
    import torch

    from hessfast.kernels.posterior_moments import gpu

    return [x.cpu().numpy() for x in gpu.posterior_moments(*(torch.as_tensor(x, device=device) for x in case))]


def interpret():
    """What the test below runs in another process, where TRITON_INTERPRET is set before Triton is imported."""
    from hessfast.kernels.posterior_moments import gpu

    gpu.PANEL, gpu.CHUNK = 16, 30  # several panels and chunks
    for num_queries, *sizes in ((70, 50, 8, 1), (31, 17, 5, 0), (7, 16, 3, 3), (3, 1, 2, 1), (0, 4, 2, 1)):
        num, width, num_probes = sizes
        case = problem(num_queries, num, width, np.geomspace(1e-9, 1e9, num_queries), num_probes)
        assert_accurate(on("cpu", case), case)
    for left_out in (0, 16):  # alone in its panel
        queries, data, tau, probes, _ = problem(3, 17, 4, 0.3)
        case = queries, data, tau, probes, np.full(3, left_out)
        assert_accurate(on("cpu", case), case)
    for argument in (0, 1, 2, 3):
        case = problem(5, 40, 3, 0.1)
        case[argument][2] = np.nan
        mean, _, covariance = on("cpu", case)
        assert np.isnan(covariance[2]).all() and np.isnan(covariance).all() == (argument == 1)
        assert np.isnan(mean[2]).all() == (argument != 3)


def test_triton_in_the_interpreter():
    result = interpreter.run(__name__)
    assert result.returncode == 0, result.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("num_probes", [0, 1, 3])
def test_gpu_equals_reference(num_probes):
    from hessfast.kernels.posterior_moments import gpu

    for num_queries, num, width in ((0, 9, 3), (40, 1, 3), (300, 700, 37), (50, 2 * gpu.PANEL + 5, 200)):
        case = problem(num_queries, num, width, np.geomspace(1e-9, 1e9, num_queries), num_probes)
        assert_accurate(on("cuda", case), case)


@pytest.mark.gpu
def test_nan_is_not_swallowed_on_a_gpu():
    for argument in (0, 1, 2, 3):
        case = problem(5, 40, 3, 0.1)
        case[argument][2] = np.nan
        mean, _, covariance = on("cuda", case)
        assert np.isnan(covariance[2]).all() and np.isnan(covariance).all() == (argument == 1)
        assert np.isnan(mean[2]).all() == (argument != 3)
