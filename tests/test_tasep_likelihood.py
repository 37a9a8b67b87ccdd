"""The probability of TASEP configurations: the law it must be, its symmetry, and the exact samples it must describe."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from hessfast.tasep import likelihood
from hessfast.tasep.enumeration import occupations, stationary_law
from hessfast.tasep.likelihood import log_likelihood, log_likelihood_grid
from hessfast.tasep.log_partition import log_partition_derivatives
from hessfast.tasep.sampling import pack, sample


@pytest.mark.parametrize("num_sites", [1, 2, 4, 6])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 1), (1, "1/3"), ("2/7", "2/7"), ("1/4", "3/4"), ("3/5", "5/7")])
def test_master_equation(alpha, beta, num_sites):
    law = stationary_law(Fraction(alpha), Fraction(beta), num_sites).astype(float)
    value = log_likelihood(occupations(num_sites), float(Fraction(alpha)), float(Fraction(beta)))
    np.testing.assert_allclose(np.exp(value), law, rtol=1e-13)


def test_probabilities_sum_to_one():
    rates = np.array([1e-6, 0.02, 0.4, 0.5, 0.8, 1])
    grid = log_likelihood_grid(occupations(10), rates, rates)
    assert grid.shape == (1024, 6, 6)
    np.testing.assert_allclose(np.exp(grid).sum(axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.7])
def test_independent_sites(alpha):
    """On the line alpha + beta = 1 a chain of 16,384 sites is a row of coins."""
    chain = sample(alpha, 1 - alpha, 16384, seed=1)
    n = chain.num_particles()
    exact = n * np.log(alpha) + (16384 - n) * np.log(1 - alpha)
    np.testing.assert_allclose(log_likelihood(chain, alpha, 1 - alpha), exact, rtol=0, atol=1e-10)


def test_particles_and_holes():
    """Read backwards, with particles and holes exchanged, a configuration has the rates exchanged."""
    rates = np.array([0.05, 0.3, 0.6, 1.0])
    sites = np.concatenate(
        [sample(*pair, 16384, seed=2).occupations() for pair in [(0.2, 0.6), (0.1, 0.1), (0.8, 0.9)]]
    )
    there = log_likelihood_grid(sites, rates, rates)
    back = log_likelihood_grid(1 - sites[:, ::-1], rates, rates)
    np.testing.assert_allclose(there, back.transpose(0, 2, 1), rtol=0, atol=1e-10)
    pairs = log_likelihood(sites[:, None].repeat(4, 1).reshape(12, -1), np.tile(rates, 3), np.tile(rates, 3))
    np.testing.assert_array_equal(pairs.reshape(3, 4), there[:, np.arange(4), np.arange(4)])


def test_exact_samples_have_this_law():
    """The mean of p(tau | other rates) / p(tau | rates) over samples is 1."""
    alpha, beta, n = 0.3, 0.45, 20_000
    chain = sample(np.full(n, alpha), beta, 50, seed=3)
    steps = np.array([-0.01, 0.0, 0.01])
    grid = log_likelihood_grid(chain, alpha + steps, beta + steps)
    ratio = np.delete(np.exp(grid - grid[:, 1:2, 1:2]).reshape(n, 9), 4, axis=1)
    sem = ratio.std(axis=0) / np.sqrt(n)
    assert sem.max() < 2e-3
    assert (abs(ratio.mean(axis=0) - 1) < 4.5 * sem).all()


def test_the_observed_metric_is_half_the_hessian():
    """In the low-density phase the sites carry half the information that the exponents (e, f) carry."""
    alpha, beta, num_sites, h = 0.2, 0.7, 10, 1e-3
    sites = occupations(num_sites)
    shifted = [1 / (1 + np.exp(sign * h) * (1 - alpha) / alpha) for sign in (-1, 0, 1)]
    low, here, high = (log_likelihood(sites, rate, beta) for rate in shifted)
    observed = (np.exp(here) * ((high - low) / (2 * h)) ** 2).sum()
    hidden = log_partition_derivatives(alpha, beta, num_sites).hessian[0, 0]
    assert 0.5 < observed / hidden < 0.52


@pytest.mark.parametrize("rate", [1e-12, 1e-100, 1e-300, 1 - 2.0**-53])
def test_extreme_rates(rate):
    sites = occupations(5)
    for pair in [(rate, 0.5), (0.5, rate), (rate, rate)]:
        exact = log_likelihood(sites, *pair, backend="reference")
        np.testing.assert_allclose(log_likelihood(sites, *pair), exact, rtol=1e-14, atol=1e-12)


def test_chains_of_which_too_much_was_dropped_are_taken_again(monkeypatch):
    random = np.random.default_rng(0).random((2, 500)) < [[0.3], [0.5]]
    sites = np.vstack([random[:1], np.ones((1, 500)), random[1:]]).astype(int)  # of ones alone nothing is dropped
    expected = log_likelihood(sites, 0.3, 0.4)
    monkeypatch.setattr(likelihood, "_THRESHOLDS", (0.1, 1e-60))
    np.testing.assert_allclose(log_likelihood(sites, 0.3, 0.4), expected, rtol=0, atol=1e-10)
    monkeypatch.setattr(likelihood, "_THRESHOLDS", (0.1,))
    with pytest.raises(ArithmeticError, match="got one at index 0 whose weight is uncertain by more than 1e-10"):
        log_likelihood(sites, 0.3, 0.4)


def test_shapes_and_tensors():
    assert log_likelihood([1, 0, 1], 0.5, 0.5).shape == (1,)
    assert log_likelihood([1, 0, 1], [0.5, 0.4], [[0.5], [0.6], [0.7]]).shape == (3, 2)
    assert log_likelihood(np.empty((0, 5), int), 0.5, 0.5).shape == (0,)
    assert log_likelihood_grid(np.empty((0, 5), int), [0.5], [0.5]).shape == (0, 1, 1)
    assert log_likelihood_grid([1, 0, 1], [], [0.4]).shape == (1, 0, 1)
    assert log_likelihood_grid([1, 0, 1], [0.4, 0.5], []).shape == (1, 2, 0)
    sites = torch.tensor([[1, 0, 1], [0, 0, 0]])
    value = log_likelihood(sites, torch.tensor([0.5, 0.25]), 0.5)
    assert value.dtype == torch.float64
    assert log_likelihood([1, 0, 1], torch.tensor(0.3), 0.4).dtype == torch.float64
    assert log_likelihood_grid([1, 0, 1], [0.3], torch.tensor([0.4, 0.5])).shape == torch.Size([1, 1, 2])
    np.testing.assert_array_equal(value.numpy(), log_likelihood(pack(sites.numpy()), [0.5, 0.25], 0.5))
    np.testing.assert_allclose(value.numpy(), log_likelihood(sites, [0.5, 0.25], 0.5, backend="reference"), rtol=1e-14)


def test_refusals(monkeypatch):
    with pytest.raises(ValueError, match=r"entry_rate must be in \(0, 1\], got 0.0"):
        log_likelihood([1, 0], 0, 0.5)
    with pytest.raises(ValueError, match=r"exit_rate must be in \(0, 1\], got 2.0"):
        log_likelihood_grid([1, 0], [0.5], [2])
    with pytest.raises(ValueError, match="occupations must be 0 or 1"):
        log_likelihood([1, 2], 0.5, 0.5)
    with pytest.raises(ValueError, match="configurations and entry_rate and exit_rate must have shapes that broadcast"):
        log_likelihood(np.zeros((3, 4), int), [0.5, 0.5], 0.5)
    with pytest.raises(ValueError, match=r"exit_rates must have one axis, got shape \(\). log_likelihood takes pairs"):
        log_likelihood_grid([1, 0], [0.5], 0.5)
    monkeypatch.setattr(likelihood, "_TOLERANCE", -1.0)
    with pytest.raises(ArithmeticError, match=r"whose weight is uncertain by more than -1\. Leave out"):
        log_likelihood([1, 0], 0.5, 0.5)
