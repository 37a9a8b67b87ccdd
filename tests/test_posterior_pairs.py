"""Statistics from pairs of samples and the normaliser of posteriors, against families whose answer is known."""

import numpy as np
import pytest

from hessfast.posterior.exponential_family import _normaliser, _pairs
from hessfast.posterior.exponential_family._basis import Basis


def normal_family(num=20_000, seed=0):
    """x ~ N(A t, A): log Z = t^T A t / 2 and f = x."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-2, 2, (num, 2))
    covariance = np.array([[1.0, 0.3], [0.3, 0.6]])
    x = theta @ covariance + rng.normal(size=(num, 2)) @ np.linalg.cholesky(covariance).T
    return x, theta


@pytest.mark.parametrize("mixing", [np.eye(2), np.array([[2.0, 1.0], [0.0, -0.5]])])
def test_the_scale_and_the_mixing_of_features_are_found(mixing):
    """z = M x has f = x = M^-1 z, so that S = M^-T."""
    x, theta = normal_family()
    z = x @ mixing.T
    S = _pairs.near(z, theta, theta, np.random.default_rng(1))
    np.testing.assert_allclose(mixing.T @ S, np.eye(2), atol=0.06)
    S = _pairs.far(z, theta, theta, S, np.random.default_rng(2))
    np.testing.assert_allclose(mixing.T @ S, np.eye(2), atol=0.06)


def test_the_prior_of_parameters_does_not_matter():
    """Samples thinned by a function of t alone have the same odds."""
    x, theta = normal_family(40_000)
    kept = np.random.default_rng(3).random(len(theta)) < 0.1 + 0.8 * (theta[:, 0] > 0)
    S = _pairs.near(x[kept], theta[kept], theta[kept], np.random.default_rng(1))
    np.testing.assert_allclose(S, np.eye(2), atol=0.08)


def test_the_logistic_regression_is_at_its_optimum():
    """The gradient of the weighted likelihood is zero, by differences of the plain formula."""
    x, theta = normal_family(2000)
    pairs = _pairs.draw(theta, 50, 2, np.random.default_rng(1))
    S = _pairs.logistic(x, theta, [pairs], np.zeros((2, 2)))
    one, other = pairs
    apart, steps = x[one] - x[other], theta[one] - theta[other]
    weights = 1 / (1 + ((steps / np.median(np.abs(steps), axis=0)) ** 2).sum(axis=1))

    def likelihood(S):
        return -(weights * np.log1p(np.exp(-((apart @ S) * steps).sum(axis=1)))).sum() / weights.sum()

    best = likelihood(S)
    for step in np.eye(4).reshape(4, 2, 2):
        assert likelihood(S + 0.01 * step) < best
        assert likelihood(S - 0.01 * step) < best


def test_pairs_are_near_and_no_sample_meets_itself():
    theta = np.random.default_rng(0).uniform(size=(4096, 2))
    first, second = _pairs.draw(theta, 16, 3, np.random.default_rng(1))
    assert (first != second).all()
    assert len(first) > 0.85 * 3 * 2048
    assert np.bincount(np.concatenate([first, second])).max() <= 3
    assert np.median(np.linalg.norm(theta[first] - theta[second], axis=1)) < 2 * (16 / 4096) ** 0.5


def test_calibration_brings_the_normaliser_back():
    """x ~ N(t, 1 / N) for N = 400: phi = t^2 / 2; what is added to it is found."""
    rng = np.random.default_rng(0)
    theta, num_sites = rng.uniform(-1, 1, (4000, 1)), 400
    x = theta + rng.normal(size=theta.shape) / num_sites**0.5
    basis = Basis.over(theta, None, 8)
    knots = np.linspace(-1, 1, 400)[:, None]
    values = basis.values(knots).toarray()
    right, wrong = (
        np.linalg.lstsq(values, y, rcond=None)[0]
        for y in (knots[:, 0] ** 2 / 2, knots[:, 0] ** 2 / 2 + 0.01 * np.sin(3 * knots[:, 0]))
    )
    found = _normaliser.calibrate(basis, theta, x, wrong, num_sites, np.random.default_rng(1))

    def error(c):  # root mean square up to a constant, in nats
        return (num_sites * values @ (c - right)).std()

    assert error(found) < error(wrong) / 4
