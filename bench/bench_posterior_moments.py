"""The denoiser of a data set of 768 features: pairs of a query and a datum a ns. 20,000 queries of as many are 4e8."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from hessfast.kernels.posterior_moments import cpu, reference


def problem(num_queries, num, num_probes=0, width=768):
    """Noisy queries and data on a curved surface; at these tau a few to all of the data count."""
    rng = np.random.default_rng(0)
    data = np.tanh(rng.normal(size=(num, 8)) @ rng.normal(size=(8, width)) / 4).astype(np.float32)
    data += 0.05 * rng.standard_normal((num, width), np.float32)
    tau = np.geomspace(0.01, 1, num_queries) * width * data.var()
    noise = np.sqrt(tau).astype(np.float32)[:, None] * rng.standard_normal((num_queries, width), np.float32)
    probes = rng.choice(np.array([-1, 1], np.float32), (num_queries, num_probes, width))
    return data[:num_queries] + noise, data, tau, probes, np.full(num_queries, -1)


def by_scipy(queries, data, tau, chunk=1024):
    """What one writes with SciPy: distances, softmax and mean in chunks of queries."""
    means = []
    for first in range(0, len(queries), chunk):
        part = slice(first, first + chunk)
        exponents = cdist(queries[part], data, "sqeuclidean") / (-2 * tau[part, None])
        weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
        means.append(weights / weights.sum(axis=1, keepdims=True) @ data)
    return np.concatenate(means)


def check():
    case = problem(300, 600, 1)
    mean, log_normaliser, covariance = reference.posterior_moments(*case)
    got = cpu.posterior_moments(*case)
    np.testing.assert_allclose(by_scipy(*case[:3]), mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[0], mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[1], log_normaliser, atol=1e-5)
    assert np.linalg.norm(got[2] - covariance) < 1e-5 * np.linalg.norm(covariance)


@pytest.mark.parametrize("num_probes", [0, 1])
def test_probes(num_probes, record_rate):
    check()
    arguments = problem(1024, 8192, num_probes)
    goal = None if num_probes else 0.02
    record_rate(lambda: cpu.posterior_moments(*arguments), work=1024 * 8192, unit="pairs/ns/core", goal=goal)


def test_peer_scipy(record_rate):
    check()
    arguments = problem(1024, 2048)[:3]
    record_rate(lambda: by_scipy(*arguments), work=1024 * 2048, unit="pairs/ns/core")


def test_peer_two_products(record_rate):
    """Only what any form must do: Y X^T and W X in float32."""
    queries, data, *_ = problem(1024, 8192)
    record_rate(lambda: queries @ data.T @ data, work=1024 * 8192, unit="pairs/ns/core")


@pytest.mark.slow
def test_full_size(record_rate):
    """20,000 queries of 20,000 data of 768 features, by the clock, on the cores that NUMBA_NUM_THREADS gives."""
    check()
    arguments = problem(20_000, 20_000)
    record_rate(lambda: cpu.posterior_moments(*arguments), work=4e8, unit="pairs/ns", goal=0.03)
