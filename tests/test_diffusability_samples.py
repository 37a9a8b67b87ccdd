"""What every public function asks of the samples, images or latents that it is given, in the same words."""

import pytest
import torch

from hessfast import diffusability
from hessfast.diffusability import (
    assess,
    empirical_denoiser,
    encoder_penalties,
    energy_distance,
    fisher_curve,
    frechet_distance,
    from_denoiser,
    normalisation,
    snr_scale,
    train_denoiser,
    train_gpe,
    train_vae,
)

VECTORS, PICTURES = torch.rand(6, 3), torch.rand(6, 1, 8, 8)
OF_VECTORS = {
    "fisher_curve": ("samples", lambda x: fisher_curve(from_denoiser(lambda y, tau: y / 2), x, 1.0)),
    "train_denoiser": ("samples", lambda x: train_denoiser(x, num_steps=1, batch_size=4)),
    "empirical_denoiser": ("data", empirical_denoiser),
    "encoder_penalties": ("samples", lambda x: encoder_penalties(lambda y: 2 * y, x, 1)),
    "energy_distance": ("others", lambda x: energy_distance(VECTORS, x)),
    "frechet_distance": ("samples", lambda x: frechet_distance(x, VECTORS)),
    "normalisation": ("latents", normalisation),
    "snr_scale, data": ("data", lambda x: snr_scale(x, VECTORS)),
    "snr_scale, latents": ("latents", lambda x: snr_scale(VECTORS, x)),
}
OF_IMAGES = {
    "train_gpe": ("images", lambda x: train_gpe(x, 2, width=4, num_steps=1)),
    "train_vae": ("images", lambda x: train_vae(x, 2, width=4, num_steps=1)),
    "assess, train": ("train", lambda x: assess(x, PICTURES, {}, "never")),
    "assess, held_out": ("held_out", lambda x: assess(PICTURES, x, {}, "never")),
}
BOTH = OF_VECTORS | OF_IMAGES


def given(function):
    return PICTURES if function in OF_IMAGES else VECTORS


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("function", BOTH)
def test_they_must_be_finite(function, bad):
    (name, call), x = BOTH[function], given(function).clone()
    x.flatten()[-1] = bad
    with pytest.raises(ValueError, match=f"^{name} must be finite, got"):
        call(x)
    with pytest.raises(ValueError, match=f"^{name} must be finite, got"):
        call(x.numpy())


@pytest.mark.parametrize("function", BOTH)
def test_they_must_be_numbers_with_a_fraction(function):
    name, call = BOTH[function]
    whole = (10 * given(function)).long()
    with pytest.raises(TypeError, match=f"^{name} must be floating point, got torch.int64"):
        call(whole)
    with pytest.raises(TypeError, match=f"^{name} must be floating point, got int64"):
        call(whole.numpy())
    with pytest.raises(TypeError, match=f"^{name} must be a number or an array of numbers, got"):
        call("many")


@pytest.mark.parametrize("function", BOTH)
def test_they_must_be_several_and_have_numbers(function):
    (name, call), x = BOTH[function], given(function)
    for wrong in (x[0, 0] if function in OF_IMAGES else x[0], x[:0], x[:, :0]):
        with pytest.raises(ValueError, match=rf"^{name} must have shape \[n, .*\] with n >= \d.*, got \(.*\)"):
            call(wrong)
    if function != "encoder_penalties":  # which asks for more than neighbours
        with pytest.raises(ValueError, match=f"^{name} must have shape .* with n >= [24]"):
            call(x[:1])


@pytest.mark.parametrize("function", OF_IMAGES)
def test_images_must_be_square(function):
    name, call = OF_IMAGES[function]
    with pytest.raises(
        ValueError, match=rf"^{name} must have shape \[n, channels, side, side\] .*, got \(6, 1, 8, 7\)"
    ):
        call(PICTURES[..., :7])


@pytest.mark.parametrize("function", ["train_denoiser", "empirical_denoiser", *OF_IMAGES])
def test_they_must_be_finite_in_float32_where_that_is_used(function):
    name, call = BOTH[function]
    with pytest.raises(ValueError, match=f"^{name} must be finite, got"):
        call(given(function).double() * 1e39)


def test_what_a_loader_of_data_gives_is_not_one_sample():
    batch = [torch.zeros(64, 4)]
    with pytest.raises(TypeError, match=r"samples must be one tensor, got a list of 1\. Pass its first, x\[0\]\."):
        diffusability.fisher_curve(diffusability.from_denoiser(lambda y, tau: y), batch, [1.0])
