"""Densities whose denoiser is known: their curves by quadrature against other programs', and their posterior means."""

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import nn

from hessfast.diffusability import (
    GaussianMixture,
    Sphere,
    TransformedNormal,
    WrappedNormal,
    fisher_curve,
    from_density,
    gaussian_curves,
)


def leaky(x):
    return nn.functional.leaky_relu(torch.as_tensor(x), 0.1)


@pytest.mark.parametrize(
    ("density", "tau", "information", "rate"),  # by quadrature in other programs, to the digits shown
    [
        (GaussianMixture([[-1.0], [1.0]], [0.01, 0.01]), 0.1, 8.76442714, 91.40814780),
        (GaussianMixture([[-1.0], [1.0]], [0.01, 0.01]), 1.0, 0.54627292, 0.40821765),
        (GaussianMixture([[-1.0], [1.0]], [0.0, 0.0]), 0.25, 2.90244146, 17.50214164),
        (GaussianMixture([[-2.0], [1.0]], [0.25, 0.04], [0.3, 0.7]), 0.1, 5.7473823389, 39.7337110570),
        (GaussianMixture([[-2.0], [1.0]], [0.25, 0.04], [0.3, 0.7]), 1.0, 0.5490925617, 0.6004460164),
        (TransformedNormal(leaky), 0.01, 26.4597322493, 1956.0286112875),
        (TransformedNormal(leaky), 0.1, 4.0310313003, 31.8070526446),
        (TransformedNormal(leaky, 2), 1.0, 2 * 0.7431095161, 2 * 0.5753558626),
        (TransformedNormal(torch.tanh), 0.1, 2.971901909, 18.739867005),
        (TransformedNormal(torch.tanh), 1.0, 0.718991297, 0.521255899),
    ],
)
def test_quadrature(density, tau, information, rate):
    exact = density.exact(tau)
    assert exact.fisher_information == pytest.approx(information, rel=2e-8)
    assert exact.fisher_information_rate == pytest.approx(rate, rel=2e-8)
    assert exact.mmse == pytest.approx(density.dim * tau - tau**2 * information, rel=1e-6)
    assert exact.mmse_rate == pytest.approx(density.dim - 2 * tau * information + tau**2 * rate, rel=1e-5)


def test_two_points():
    """E[X | y] of two atoms at +-1 is tanh(y / tau)."""
    y = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    atoms = GaussianMixture([[-1.0], [1.0]], [0.0, 0.0])
    torch.testing.assert_close(atoms.posterior_mean(y, 0.3), torch.tanh(y / 0.3))
    assert atoms.exact(0.25).mmse == pytest.approx(0.06859741, abs=1e-8)
    assert atoms.exact(0.25).mmse_rate == pytest.approx(0.64266312, abs=1e-8)


@pytest.mark.parametrize(
    "density",
    [
        GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [[[1.0, 0.5], [0.5, 0.5]], [[0.2, 0.0], [0.0, 0.0]]], [1, 3]),
        GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [[0.3, 0.1], [0.2, 0.4]]),
        TransformedNormal(leaky, 2),
        Sphere(2, 0.7),
        Sphere(3),
    ],
)
def test_posterior_means_minimise_the_error(density):
    """E<X - D(Y), g(Y)> = 0 for any g, and no constant or shrinking of D does better."""
    x = density.sample(20_000, seed=3)
    y = x + math.sqrt(0.2) * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    mean = density.posterior_mean(y, 0.2)
    for g in (torch.ones_like(y), y, mean, torch.sin(3 * y)):
        product = ((x - mean) * g).sum(dim=1)
        assert abs(product.mean()) < 5 * product.std() / len(x) ** 0.5


def test_mixtures_have_the_score_of_their_density():
    mixture = GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [[[1.0, 0.5], [0.5, 0.5]], [[0.2, 0.0], [0.0, 0.1]]], [1, 3])
    y = torch.randn((5, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    (score,) = torch.autograd.grad(mixture.log_density(y, 0.3).sum(), y)
    torch.testing.assert_close(from_density(mixture).score(y, 0.3), score)


def test_a_normal_wrapped_around_a_circle():
    """Values of an independent quadrature, at radius 2 and a spread of 1 / 2 radian."""
    around = WrappedNormal(2.0, 0.5)
    for tau, rate in ((0.01, 10000.57237883), (0.1, 100.52361771), (1.0, 1.2323301)):
        assert around.exact(tau).fisher_information_rate == pytest.approx(rate, rel=1e-8)
    ends = [around.exact(tau).fisher_information for tau in (0.999, 1.001)]
    assert around.exact(1.0).fisher_information_rate == pytest.approx((ends[0] - ends[1]) / 0.002, rel=1e-5)
    exact = around.exact(0.1)
    assert exact.fisher_information == pytest.approx(10.81996662, rel=1e-9)
    assert exact.mmse == pytest.approx(2 * 0.1 - 0.01 * exact.fisher_information, rel=1e-9)
    curve = fisher_curve(from_density(around), around.sample(4000), [0.1])
    for name in exact._fields:
        estimate = getattr(curve, name)
        assert abs(estimate.mean[0] - getattr(exact, name)) < 5 * estimate.sem[0]


@pytest.mark.parametrize(("radius", "spread"), [(2.0, 0.5), (2 / 3, 1.5), (1.0, 3.0), (2.0, 0.01)])
@pytest.mark.parametrize("tau", [100.0, 1.0, 0.01, 1e-6])
def test_a_wrapped_normal_keeps_tweedie(radius, spread, tau):
    """MMSE = 2 tau - tau^2 FI, MMSE' = 2 - 2 tau FI + tau^2 FIR at small tau as quickly as at large."""
    exact = WrappedNormal(radius, spread).exact(tau)
    assert exact.mmse == pytest.approx(2 * tau - tau**2 * exact.fisher_information, rel=1e-9, abs=1e-13 * tau)
    expected = 2 - 2 * tau * exact.fisher_information + tau**2 * exact.fisher_information_rate
    assert exact.mmse_rate == pytest.approx(expected, abs=1e-9)


def test_a_normal_that_is_wrapped_often_is_uniform():
    y = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for spread in (9.0, 50.0):
        wide = WrappedNormal(1.0, spread).posterior_mean(y, 0.3)
        assert torch.allclose(wide, Sphere(2).posterior_mean(y, 0.3), atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_sphere_near_its_centre_and_under_much_noise(dim):
    """E[X | y] = R^2 y / (dim tau) to first order; its closed form is 0 / 0 there, and of dim 3 loses all digits."""
    sphere = Sphere(dim, 2.0)
    zero = torch.zeros(1, dim, dtype=torch.float64)
    assert (sphere.posterior_mean(zero, 0.5) == 0).all()
    slope = torch.autograd.functional.jacobian(lambda y: sphere.posterior_mean(y, 0.5), zero).reshape(dim, dim)
    torch.testing.assert_close(slope, torch.eye(dim, dtype=torch.float64) * 4 / (dim * 0.5))
    for tau in (1e6, 1e8, 1e12):
        curve = fisher_curve(from_density(Sphere(dim)), Sphere(dim).sample(100).float(), tau)
        assert curve.mmse_rate.mean[0] == pytest.approx(1 / (dim * tau**2), rel=1e-5)


def test_a_sphere_against_its_bessel_functions():
    """sqrt(pi / 2 k) I_{3/2} over that of I_{1/2}, in 40 digits, on both sides of where a series takes over."""
    with mpmath.workdps(40):
        for k in (1e-4, 0.01, 0.2, 0.2999, 0.3001, 1.0):
            for dim in (2, 3):
                y = torch.zeros(1, dim, dtype=torch.float64)
                y[0, 0] = k
                order = mpmath.mpf(dim) / 2
                exact = mpmath.besseli(order, k) / mpmath.besseli(order - 1, k)
                assert float(Sphere(dim).posterior_mean(y, 1.0)[0, 0]) == pytest.approx(float(exact), rel=1e-13)


def test_covariances_may_be_rounded():
    """Of rank one, with eigenvalues of either sign in place of 0, and not quite symmetric."""
    for direction in np.random.default_rng(0).normal(size=(10, 3)):
        covariance = np.outer(direction, direction)
        covariance[0, 1] *= 1 + 1e-9
        variances = GaussianMixture([[0.0] * 3], [covariance]).variances[0]
        assert (variances >= 0).all() and float(variances.sum()) == pytest.approx(direction @ direction)


def test_refusals():
    with pytest.raises(ValueError, match="covariances and weights must fit"):
        GaussianMixture([[0.0], [1.0]], [1.0])
    with pytest.raises(ValueError, match="positive semidefinite"):
        GaussianMixture([[0.0]], [[-1.0]])
    with pytest.raises(ValueError, match="dim must be >= 2 and <= 3, got 4"):
        Sphere(4)
    with pytest.raises(ValueError, match="radius must be > 0"):
        Sphere(3, -1.0)
    with pytest.raises(ValueError, match="spread must be > 0"):
        WrappedNormal(1.0, 0.0)
    with pytest.raises(ValueError, match=r"covariances must be symmetric, got entries that differ by 0\.5"):
        GaussianMixture([[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]])
    with pytest.raises(ValueError, match=r"samples must have shape \[n, 2\] for this density, got \(3, 1\)"):
        from_density(GaussianMixture([[0.0, 0.0]], [1.0]))(torch.ones(3, 1), 1.0)
    with pytest.raises(ValueError, match=r"exact must be .* got 2 dimensions\. Use fisher_curve of from_density"):
        GaussianMixture([[0.0, 0.0], [1.0, 0.0]], [1.0, 1.0]).exact(1.0)
    with pytest.raises(ValueError, match="eigenvalues must have shape"):
        gaussian_curves([[1.0, 0.5], [0.5, 1.0]], 1.0)
    with pytest.raises(ValueError, match="be >= 0"):
        gaussian_curves([1.0, -1.0], 1.0)


@pytest.mark.parametrize(
    "exact",
    [
        GaussianMixture([[0.0], [1.0]], [1.0, 1.0]).exact,
        TransformedNormal(leaky).exact,
        WrappedNormal(1.0, 0.5).exact,
        lambda tau: gaussian_curves([1.0], tau),
    ],
)
def test_exact_curves_are_of_one_positive_tau(exact):
    with pytest.raises(TypeError, match="tau must be a number"):
        exact([0.1, 1.0])
    with pytest.raises(ValueError, match="tau must be > 0"):
        exact(0.0)


@pytest.mark.parametrize(("slope", "tau"), [(10.0, 0.1), (1.0, 1e-5), (1.0, 10.0), (0.01, 1e-3)])
def test_quadrature_resolves_steep_functions_and_little_noise(slope, tau):
    curves = TransformedNormal(lambda n: slope * n, 3).exact(tau)
    np.testing.assert_allclose(curves, gaussian_curves([slope**2] * 3, tau), rtol=1e-10)


def test_noise_that_quadrature_does_not_resolve_is_refused():
    with pytest.raises(ValueError, match=r"tau must be at least \S+ for quadrature of this function, got 1e-09"):
        TransformedNormal(lambda n: n).exact(1e-9)


@pytest.mark.parametrize(
    ("means", "variances", "tau", "information", "rate"),
    [
        ([[0.0], [0.5]], [1e-12, 1.0], 1e-8, 4.98990e7, 4.99344e15),
        ([[0.0], [1.0]], [1e6, 1e-6], 1.0, 0.492991, 0.495760),
    ],
)
def test_components_of_very_different_width(means, variances, tau, information, rate):
    """The values: sums of p s^2 and p h^2 over a grid of its own for each component."""
    curves = GaussianMixture(means, variances).exact(tau)
    assert curves.fisher_information == pytest.approx(information, rel=2e-6)
    assert curves.fisher_information_rate == pytest.approx(rate, rel=2e-6)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("tau", [1e-7, 1e-4, 1.0])
def test_exact_denoisers_of_float32_lose_their_last_digits_only(dim, tau):
    sphere = Sphere(dim)
    x = sphere.sample(100)
    fine, coarse = (fisher_curve(from_density(sphere), y, tau) for y in (x, x.float()))
    assert coarse.mmse_rate.mean == pytest.approx(fine.mmse_rate.mean, rel=0.02)
    assert coarse.fisher_information.mean == pytest.approx(fine.fisher_information.mean, rel=0.02)


def test_heavy_tails_of_a_function():
    """Of exp the values are sums over a fine grid of n within 6.5."""
    curves = TransformedNormal(torch.exp).exact(0.1)
    n, y = np.linspace(-6.5, 6.5, 40_001), np.linspace(-1.5, 60, 6_001)
    weight, x = np.exp(-(n**2) / 2) / np.sqrt(2 * np.pi) * (n[1] - n[0]), np.exp(n)
    density, score = np.empty_like(y), np.empty_like(y)
    for k, at in enumerate(y):
        kernel = weight * np.exp(-((at - x) ** 2) / 0.2) / np.sqrt(0.2 * np.pi)
        density[k], score[k] = kernel.sum(), (kernel @ x / max(kernel.sum(), 1e-300) - at) / 0.1
    assert curves.fisher_information == pytest.approx(np.sum(density * score**2) * (y[1] - y[0]), rel=1e-3)


def test_densities_that_are_modules_keep_their_dtype():
    class Learned(nn.Module):
        dim = 2

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def posterior_mean(self, y, tau):
            return self.linear(y) / (1 + tau)

    density = Learned()
    y = torch.ones(3, 2)
    torch.testing.assert_close(from_density(density)(y, 1.0), density.linear(y) / 2)
