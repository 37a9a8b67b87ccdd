"""Samples drawn with a denoiser: their distribution, the order of the step, and what they depend on."""

import pytest
import torch

from hessfast.diffusability import (
    Denoiser,
    GaussianMixture,
    empirical_denoiser,
    energy_distance,
    from_denoiser,
    generate,
)

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


def test_samples_begin_around_the_mean():
    """N(5, 1/4) from noise that is not much wider than that."""
    shifted = from_denoiser(lambda y, tau: 5 + (y - 5) / (1 + 4 * tau), (1e-4, 16.0))
    made = generate(shifted, 4000, (1,))
    assert float(made.mean()) == pytest.approx(5, abs=0.05) and float(made.std()) == pytest.approx(0.5, abs=0.02)


def test_levels_are_evenly_spaced_in_the_seventh_root_of_sigma():
    asked = []
    generate(from_denoiser(lambda y, tau: (asked.append(float(tau)), 0 * y)[1], (1e-4, 100.0)), 1, (1,), num_steps=3)
    middle = ((10 ** (1 / 7) + 0.01 ** (1 / 7)) / 2) ** 14
    assert sorted(set(asked)) == pytest.approx([1e-4, middle, 100.0])


def test_the_step_is_of_second_order():
    errors = []
    exact = generate(denoiser, 64, (2,), num_steps=512)
    for num_steps in (16, 32, 64):
        errors.append(float((generate(denoiser, 64, (2,), num_steps=num_steps) - exact).abs().mean()))
    assert errors[0] / errors[1] > 2.5 and errors[1] / errors[2] > 2.5


def test_denoisers_may_work_in_place():
    plain, in_place = (from_denoiser(shrink, (1e-4, 100.0)) for shrink in (
        lambda y, tau: y / (1 + 4 * tau), lambda y, tau: y.div_(1 + 4 * tau),
    ))  # fmt: skip
    made = generate(in_place, 200, (2,))
    assert torch.equal(made, generate(plain, 200, (2,))) and float(made.std()) == pytest.approx(0.5, rel=0.2)


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
    with pytest.raises(ValueError, match="tau_range must be given for this denoiser, got None"):
        generate(empirical_denoiser(mixture.sample(10)), 4, (2,))
    descending = Denoiser(denoiser.predict, denoiser.coefficients, (1.0, 0.1))
    with pytest.raises(ValueError, match=r"tau_range must be two ascending positive numbers, got \(1\.0, 0\.1\)"):
        generate(descending, 4, (2,))
    broken = Denoiser(lambda y, tau: y * float("nan"), denoiser.coefficients, (0.1, 1.0))
    with pytest.raises(ArithmeticError, match="samples must be finite"):
        generate(broken, 4, (2,))
