"""Samples drawn with a denoiser, and how far samples are apart."""

import numpy as np
import pytest
import torch
from scipy.stats import foldnorm, norm

from hessfast.diffusability import (
    Denoiser,
    GaussianMixture,
    WrappedNormal,
    energy_distance,
    fisher_curve,
    frechet_distance,
    from_denoiser,
    from_density,
    generate,
)  # fmt: skip

mixture = GaussianMixture([[-1.0, 0.5], [1.0, 2.0]], [[0.05, 0.1], [0.2, 0.01]], [0.3, 0.7])
denoiser = from_denoiser(mixture.posterior_mean, (1e-4, 100.0))


def test_samples_of_a_mixture_are_its_own():
    made = generate(denoiser, 4000, (2,))
    own = mixture.sample(4000, seed=5)
    noise = abs(energy_distance(mixture.sample(4000, seed=6), own))
    assert made.dtype == torch.float32
    assert energy_distance(made, own) < 0.004 + 3 * noise
    assert energy_distance(0.9 * made, own) > 0.02  # would be seen
    assert (made[:, 0] > 0).double().mean() == pytest.approx(0.7, abs=0.03)


def test_the_step_is_of_second_order():
    errors = []
    exact = generate(denoiser, 64, (2,), num_steps=512)
    for num_steps in (16, 32, 64):
        errors.append(float((generate(denoiser, 64, (2,), num_steps=num_steps) - exact).abs().mean()))
    assert errors[0] / errors[1] > 2.5 and errors[1] / errors[2] > 2.5


def test_sample_k_is_a_function_of_the_seed_and_k():
    few, many = generate(denoiser, 70, (2,), batch_size=7), generate(denoiser, 200, (2,))
    assert torch.allclose(few, many[:70], atol=1e-5)
    assert not torch.allclose(few, generate(denoiser, 70, (2,), seed=1), atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num": 0}, "num must be >= 1"),
        ({"num_steps": 1}, "num_steps must be >= 2"),
        ({"tau_range": (1.0, 0.1)}, "tau_range must be two ascending positive numbers"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        generate(**{"denoiser": denoiser, "num": 4, "shape": (2,)} | change)


def test_without_a_range_or_with_a_broken_denoiser():
    with pytest.raises(ValueError, match="tau_range must be given"):
        generate(from_denoiser(mixture.posterior_mean), 4, (2,))
    broken = Denoiser(lambda y, tau: y * float("nan"), denoiser.coefficients, (0.1, 1.0))
    with pytest.raises(ArithmeticError, match="samples must be finite"):
        generate(broken, 4, (2,))


def test_energy_distance_of_normals():
    """N(0, 1) and N(m, 1) in one dimension: E|X - Y| is that of N(m, 2)."""
    rng, m = np.random.default_rng(0), 1.5
    x = norm.ppf((np.arange(3000) + 0.5) / 3000)[:, None]
    apart = foldnorm(m / 2**0.5, scale=2**0.5).mean()
    assert energy_distance(x, m + x) == pytest.approx(2 * apart - 2 * 2 / np.pi**0.5, abs=2e-3)
    same = [energy_distance(*rng.normal(size=(2, 100, 1))) for _ in range(200)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 200**0.5  # no bias


def test_frechet_distance_of_normals():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 3)) * [1, 2, 3]
    y = rng.normal(size=(20_000, 3)) * [2, 2, 1] + [1, 0, 0]
    assert frechet_distance(x, y) == pytest.approx(1 + 1 + 0 + 4, rel=0.03)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-9)


@pytest.mark.parametrize("distance", [energy_distance, frechet_distance])
def test_bad_samples(distance):
    with pytest.raises(ValueError, match=r"samples must have shape \[n, ...\] with n >= 2"):
        distance([[0.0]], [[0.0], [1.0]])
    with pytest.raises(ValueError, match="others must have as many numbers each"):
        distance([[0.0], [1.0]], [[0.0, 1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="others must be finite"):
        distance(torch.zeros(2, 1), torch.tensor([[0.0], [float("nan")]]))


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


def test_a_normal_that_is_wrapped_often_is_uniform():
    from hessfast.diffusability import Sphere

    y = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = WrappedNormal(1.0, 6.0).posterior_mean(y, 0.3)
    assert torch.allclose(wide, Sphere(2).posterior_mean(y, 0.3), atol=1e-6)
    with pytest.raises(ValueError, match="spread must be > 0"):
        WrappedNormal(1.0, 0.0)
