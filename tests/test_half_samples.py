"""Errors and biases that curves of an empirical denoiser owe to its data."""

import itertools

import numpy as np
import pytest
import torch

from hessfast import _random
from hessfast.diffusability import (
    Doubt,
    FisherCurveMetric,
    GaussianMixture,
    empirical_denoiser,
    fisher_curve,
    fisher_information,
    from_density,
)
from hessfast.diffusability._half_samples import of_data
from hessfast.diffusability._sweep import Probing

NAMES = ("fisher_information", "fisher_information_rate", "mmse_rate")


def normal(n, seed):
    return torch.randn((n, 2), generator=torch.Generator().manual_seed(seed))


def curve_of(seed, leave_one_out, tau):
    data = normal(300, seed)
    samples = data if leave_one_out else normal(200, 10**6 + seed)
    return fisher_curve(empirical_denoiser(data, leave_one_out=leave_one_out), samples, tau, seed=seed)


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_errors_are_those_of_other_data(leave_one_out):
    """Given the data alone they would be five times too small: N(0, I) at tau = 2, twenty sets of 300."""
    curves = [curve_of(seed, leave_one_out, [2.0]) for seed in range(20)]
    for name in NAMES:
        mean, sem = (np.array([getattr(getattr(c, name), part)[0] for c in curves]) for part in ("mean", "sem"))
        assert 0.6 < mean.std(ddof=1) / sem.mean() < 1.6, name
        assert abs(mean.mean() - (2 / 3 if name == NAMES[0] else 2 / 9)) < 4 * mean.std(ddof=1) / 20**0.5 + 0.02


def test_where_few_data_are_not_the_distribution_it_is_said():
    """At tau = .2 FIR of these 300 is three times that of N(0, I), 1.4; where nothing is said the error is as large."""
    curve = curve_of(2, False, [0.2, 2.0])
    assert curve.fisher_information_rate.mean[0] > 2 * 2 / 1.2**2
    assert curve.warnings == (Doubt("FIR is not that of the distribution behind the data at tau = 0.2", (0.2,)),)
    rate = curve_of(0, False, [0.1]).fisher_information_rate
    assert rate.mean[0] > 10 * 2 / 1.1**2 and rate.sem[0] > 0.3 * rate.mean[0]


def test_samples_that_are_gone_have_no_halves():
    metric = FisherCurveMetric(empirical_denoiser(normal(300, 0)), [2.0])
    metric.update(normal(100, 1))
    assert "without that of the denoiser's data" in metric.compute().warnings[-1].sentence


def test_error_and_bias_are_those_of_the_formula():
    """Under so much noise that each sample is told the mean of the others: of all, or of 35 pairs of halves."""
    x = normal(64, 0)
    denoiser, how = empirical_denoiser(x, leave_one_out=True), Probing(1, 0, 256, asymmetry=False)
    found = of_data(denoiser, x, np.array([1e10]), how)["mmse"]
    values, group = x.double().numpy(), np.argsort(_random.derive(1, np.arange(64))).argsort() % 8

    def mmse(data):
        others = (values[data].sum(axis=0) - values * data[:, None]) / (data.sum() - data)[:, None]
        return ((values - others) ** 2).sum(axis=1).mean()

    halves = [np.isin(group, (0, *three)) for three in itertools.combinations(range(1, 8), 3)]
    one, other = (np.array([mmse(half) for half in each]) for each in (halves, [~half for half in halves]))
    assert found.bias[0] == pytest.approx(((one + other) / 2).mean() - mmse(group >= 0), rel=0.1)
    assert found.error[0] == pytest.approx((((one - other) / 2) ** 2).mean() ** 0.5, rel=0.1)


def test_biases_are_told_and_within_their_errors():
    """FIR of 4,000 data of a mixture is .95 to 1.27 and .18 to .37 too large at tau = .03 and .05, seeds 200 to 205."""
    means, variances = [[-1.0, 0, 0], [1, 0.5, 0], [0, -1, 1]], [[0.1, 0.2, 0.3], [0.05, 0.1, 0.2], [0.2, 0.2, 0.1]]
    density, tau = GaussianMixture(means, variances, [0.5, 0.3, 0.2]), [0.03, 0.05, 0.1]
    data = density.sample(4000, seed=200)
    truth = fisher_curve(from_density(density), data, tau).fisher_information_rate.mean
    curve = fisher_curve(empirical_denoiser(data, leave_one_out=True), data, tau)
    rate = curve.fisher_information_rate
    assert (rate.mean[:2] > 1.15 * truth[:2]).all() and (np.abs(rate.mean - truth) < 3 * rate.sem).all()
    assert rate.sem[2] < 0.1 * truth[2]
    assert any("FIR is not that" in str(doubt) and 0.03 in doubt.tau for doubt in curve.warnings)


@pytest.mark.parametrize("num", [9, 509, 1017, 1018])
def test_any_number_of_data(num):
    """At 1,017 every eighth would be in one group."""
    data = normal(num, 0)
    curve = fisher_curve(empirical_denoiser(data, leave_one_out=True), data, [2.0])
    assert 0 < curve.mmse_rate.sem[0] < 0.2


def test_an_error_that_the_data_alone_make_too_large_is_told():
    curve = fisher_curve(empirical_denoiser(normal(60, 0)), normal(5000, 1), [1.0], relative_error=0.05)
    assert curve.fisher_information_rate.sem[0] > 0.05 * curve.fisher_information_rate.mean[0]
    sentence = "the denoiser's data, or rounding, do not allow the relative error at tau = 1"
    assert sentence in [doubt.sentence for doubt in curve.warnings]
    assert not [doubt for doubt in curve.warnings if "ran out" in doubt.sentence]  # more samples would not help


@pytest.mark.parametrize("factor", [1.02, 1.1, 2.0])
def test_a_relative_error_that_all_samples_reach_is_met(factor):
    """The data's error is known from the start: sampling goes on until both together are small enough."""
    density = GaussianMixture([[-1.0, 0.0], [1.0, 0.0]], [0.1, 0.1])
    denoiser, samples = empirical_denoiser(density.sample(1000, 0)), density.sample(12_000, 1)
    best = fisher_information(denoiser, samples, 0.5)
    goal = factor * float(best.sem[0] / best.mean[0])
    curve = fisher_curve(denoiser, samples, 0.5, relative_error=goal, watched=["fisher_information"])
    assert curve.fisher_information.sem[0] <= goal * curve.fisher_information.mean[0]
    assert not [doubt for doubt in curve.warnings if "relative error" in doubt.sentence]


@pytest.mark.parametrize("num", [60, 400])
def test_what_the_data_forbid_no_samples_are_asked_for(num):
    curve = fisher_curve(empirical_denoiser(normal(60, 0)), normal(num, 1), [1.0], relative_error=0.01)
    said = [doubt.sentence for doubt in curve.warnings if "relative error" in doubt.sentence]
    assert said == ["the denoiser's data, or rounding, do not allow the relative error at tau = 1"]


@pytest.mark.parametrize("num", [2, 7])
def test_of_few_data_the_error_is_unknown(num):
    curve = fisher_curve(empirical_denoiser(normal(num, 0)), normal(50, 1), [1.0])
    assert np.isinf(curve.fisher_information.sem).all()
    assert "standard errors are unknown from fewer than 8 data" in map(str, curve.warnings)


def test_the_order_of_the_data_does_not_matter():
    """Every eighth of 800 lies aside: groups of every eighth would be another distribution."""
    data = normal(800, 0)
    data[::8] += 5
    mixed = data[torch.randperm(800, generator=torch.Generator().manual_seed(0))]
    one, other = (
        fisher_curve(empirical_denoiser(x), normal(100, 1), [3.0]).fisher_information.sem for x in (data, mixed)
    )
    assert 0.5 < one[0] / other[0] < 2
