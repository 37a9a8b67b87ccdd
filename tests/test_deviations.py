"""Deviations of latents from data against closed forms: the paper's figures 2 and 3, scales, standard errors."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hessfast.diffusability import (
    Estimate,
    FisherCurve,
    GaussianMixture,
    TransformedNormal,
    fir_deviation,
    fisher_curve,
    from_density,
    gaussian_curves,
    mmse_rate_deviation,
)


def closed_form(eigenvalues, tau):
    """The curves of a normal distribution, without error."""
    rows = [gaussian_curves(eigenvalues, t) for t in tau]

    def exact(name):
        return Estimate(np.array([getattr(row, name) for row in rows]), np.zeros(len(tau)), np.full(len(tau), 10))

    information = exact("fisher_information")
    return FisherCurve(
        np.array(tau), len(eigenvalues), information, information, information,
        exact("fisher_information_rate"), exact("mmse"), exact("mmse_rate"), (),
    )  # fmt: skip


def test_figure_3a():
    """N(0, I) and its image under diag(sqrt(1 + d), sqrt(1 - d)): u^2 (3 - u^2) / (1 - u^2)^2, u = d / (1 + tau)."""
    tau, d0 = np.array([0.1, 1.0]), 0.3
    u2 = (d0 / (1 + tau)) ** 2
    deviation = fir_deviation(closed_form([1, 1], tau), closed_form([1 + d0, 1 - d0], tau))
    np.testing.assert_allclose(deviation.mean, u2 * (3 - u2) / (1 - u2) ** 2, rtol=1e-12)


def test_figure_3b():
    """N(0, I_2) padded to 512 dimensions, of which d are kept."""
    tau = np.array([0.1, 1.0])
    for d in (2, 64, 256):
        data, latent = (closed_form([1, 1] + [0] * (n - 2), tau) for n in (512, d))
        expected = (512 - d) / (510 + 2 * tau**2 / (1 + tau) ** 2)
        np.testing.assert_allclose(fir_deviation(data, latent).mean, expected, rtol=1e-12)
        assert (fir_deviation(data, latent, signed=True).mean < 0).all()
        np.testing.assert_allclose(mmse_rate_deviation(data, latent).mean, 0, atol=1e-12)
    small = closed_form([1, 1] + [0] * 510, [1e-4]), closed_form([1, 1] + [0] * 62, [1e-4])
    assert fir_deviation(*small, "normal-dimension", intrinsic_dimension=2).mean[0] < 1e-6
    assert fir_deviation(*small, "per-dimension").mean[0] == pytest.approx(1 - 512 / 64 * 62 / 510, rel=1e-3)


def test_equal_signal_to_noise_forgives_a_scale():
    tau, c = np.array([0.1, 1.0]), 3.0
    data = closed_form([2.0, 0.5], tau)
    same_tau, same_ratio = (closed_form([c**2 * 2.0, c**2 * 0.5], t) for t in (tau, c**2 * tau))
    assert (fir_deviation(data, same_tau).mean > 0.5).all()
    np.testing.assert_allclose(fir_deviation(data, same_ratio, scale=c).mean, 0, atol=1e-12)
    np.testing.assert_allclose(mmse_rate_deviation(data, same_ratio, scale=c).mean, 0, atol=1e-12)


def test_standard_errors_of_deviations():
    """Against the spread of forty repeats."""
    x, z = GaussianMixture([[-1.0], [1.0]], [0.2, 0.2]), GaussianMixture([[-2.0], [1.0]], [0.1, 0.3])
    deviations = []
    for repeat in range(40):
        seeds = (2 * repeat, 2 * repeat + 1)
        curves = [
            fisher_curve(from_density(p), p.sample(1000, 7 * seed), 1.0, seed=seed, batch_size=1000)
            for p, seed in zip((x, z), seeds, strict=True)
        ]
        deviations.append(fir_deviation(*curves, signed=True))
    assert deviations[0].num_samples == 1000
    few = fisher_curve(from_density(x), x.sample(100), 1.0)
    assert fir_deviation(few, curves[1]).num_samples == fir_deviation(curves[1], few).num_samples == 100
    spread = np.std([d.mean[0] for d in deviations])
    assert 0.7 < spread / np.mean([d.sem[0] for d in deviations]) < 1.4
    exact = z.exact(1.0).fisher_information_rate / x.exact(1.0).fisher_information_rate - 1
    assert abs(np.mean([d.mean[0] for d in deviations]) - exact) < 4 * spread / 40**0.5


def test_a_pointwise_encoder_of_figure_2():
    """LeakyReLU of N(0, I_2): both rates by quadrature, twice those of a coordinate."""
    leaky = TransformedNormal(lambda x: torch.nn.functional.leaky_relu(x, 0.1), 2)
    data = closed_form([1, 1], [1.0])
    latent = fisher_curve(from_density(leaky), leaky.sample(2000, 0), 1.0)
    expected = 2 * 0.5753558626 / (2 / 4) - 1
    deviation = fir_deviation(data, latent, signed=True)
    assert abs(deviation.mean[0] - expected) < 5 * deviation.sem[0]


def test_curves_at_other_noise_are_refused_however_small_it_is():
    with pytest.raises(ValueError, match="latent must be a curve at"):
        fir_deviation(closed_form([1.0], [1e-9]), closed_form([1.0], [5e-9]))


def test_what_no_distribution_has_is_refused():
    data = closed_form([1.0, 0.5], [0.1, 1.0])
    lost = replace(data, fisher_information_rate=data.fisher_information_rate._replace(mean=np.array([0.0, 1.0])))
    with pytest.raises(ValueError, match=r"data must have FIR > 0, got 0 at tau = 0\.1\. Measure it in float64"):
        fir_deviation(lost, data)
    assert mmse_rate_deviation(lost, data).mean.tolist() == [0, 0]
    for pair, name in (((1, data), "data"), ((data, None), "latent")):
        with pytest.raises(TypeError, match=f"{name} must be a FisherCurve, got"):
            fir_deviation(*pair)


def test_the_last_of_a_curve():
    data = closed_form([1.0], [0.1, 1.0, 2.0])
    assert [data.last(num).tau.tolist() for num in (0, 1, 3)] == [[], [2.0], [0.1, 1.0, 2.0]]
    with pytest.raises(ValueError, match="num must be >= 0 and <= 3, got 4"):
        data.last(4)


def test_refusals():
    data, other = closed_form([1.0], [1.0]), closed_form([1.0], [2.0])
    with pytest.raises(ValueError, match="latent must be a curve at"):
        fir_deviation(data, other)
    with pytest.raises(ValueError, match="form must be"):
        fir_deviation(data, data, "other")
    with pytest.raises(ValueError, match="intrinsic_dimension must be given for the form normal-dimension, got None"):
        fir_deviation(data, data, "normal-dimension")
    with pytest.raises(ValueError, match=r"intrinsic_dimension must be in \[0, 1\), got 1"):
        fir_deviation(data, data, "normal-dimension", intrinsic_dimension=1)
    with pytest.raises(ValueError, match="scale must be > 0"):
        mmse_rate_deviation(data, data, scale=0.0)
    with pytest.raises(TypeError, match=r"scale must be a number, got \[1, 2\]"):
        fir_deviation(data, data, scale=[1, 2])
