"""Likelihoods of TASEP configurations of 16,384 sites: one pair of rates each, and a posterior grid of 128 x 128."""

import numpy as np
import pytest

from hessfast.kernels.tasep_likelihood import cpu, reference
from hessfast.tasep.likelihood import log_likelihood, log_likelihood_grid
from hessfast.tasep.log_partition import log_partition
from hessfast.tasep.profile import density_profile
from hessfast.tasep.sampling import sample

SITES = 16384
# One point of each phase, and one on the line where two coexist: the width of the recursion differs.
RATES = np.array([[0.3, 0.8], [0.7, 0.2], [0.7, 0.9], [0.3, 0.3]])


@pytest.fixture(scope="module")
def chain():
    words = sample(*RATES.T, 100, seed=1).words
    fugacities = 1 / RATES - 1
    value, error, exact = np.zeros((3, 4, 1, 1))
    cpu.tasep_likelihood(value, error, words, 100, fugacities[:, :1], fugacities[:, 1:], 1e-60)
    reference.tasep_likelihood(exact, error, words, 100, fugacities[:, :1], fugacities[:, 1:], 0.0)
    np.testing.assert_allclose(value, exact, rtol=1e-13)
    return sample(*RATES.T, SITES, seed=1)


def test_one_pair_of_rates(record_rate, chain):
    record_rate(lambda: log_likelihood(chain, *RATES.T), work=4, unit="us/configuration/core")


def test_every_level(record_rate, chain):
    """What the truncation saves: the recursion over all levels that can be reached."""
    out, fugacities = np.zeros((2, 4, 1, 1)), 1 / RATES - 1
    arguments = chain.words, SITES, fugacities[:, :1], fugacities[:, 1:], 0.0
    record_rate(lambda: cpu.tasep_likelihood(*out, *arguments), work=4, unit="us/configuration/core")


def test_grid_of_128x128_rates(record_rate, chain):
    rates = (np.arange(128) + 0.5) / 128
    record_rate(lambda: log_likelihood_grid(chain, rates, rates), work=4, unit="us/configuration/core")


def test_log_partition(record_rate):
    rates = (np.arange(32) + 0.5) / 32
    record_rate(lambda: log_partition(rates[:, None], rates, SITES), work=1024, unit="us/pair/core")


def test_density_profile(record_rate):
    record_rate(lambda: density_profile(*RATES.T, SITES), work=4, unit="us/profile/core")
