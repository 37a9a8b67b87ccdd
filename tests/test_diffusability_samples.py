"""What every public function asks of the samples, images or latents that it is given, in the same words."""

import pytest
import torch

from hessfast import diffusability
from hessfast.diffusability import (
    _samples,
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_nearest_samples_are_those_by_differences(shift, dtype):
    """In pieces and of copies, in two clusters of very different width, whatever they are far from."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((5000, 7), generator=generator)
    x[2500:] = 100 + 0.01 * x[2500:]
    x = (torch.cat([x, x[:20], x[:1].expand(20, 7)]) + shift).to(dtype)
    rows = torch.cat([torch.randint(5000, (1500,), generator=generator), torch.arange(5000, 5040)])
    distance, number = _samples.nearest(x, rows, 3)
    for some, found, which in zip(rows.split(200), distance.split(200), number.split(200), strict=True):
        apart = (x[some, None].double() - x.double()).square().sum(dim=2).sqrt()
        torch.testing.assert_close(apart.gather(1, which), found, rtol=1e-5, atol=0)  # copies' are those of its dtype
        apart[torch.arange(len(some)), some] = torch.inf
        torch.testing.assert_close(found, apart.topk(3, largest=False).values, rtol=1e-5, atol=0)
        assert (which != some[:, None]).all() and (which.sort(dim=1).values.diff(dim=1) > 0).all()


def test_nearest_samples_on_a_line():
    """Gaps 1, 2, 3 and on, in more pieces than one; of two samples each other."""
    x = torch.arange(9000).cumsum(dim=0)[:, None].double()
    distance, number = _samples.nearest(x, torch.arange(9000), 2)
    assert distance[3:-1].tolist() == [[k, k + 1] for k in range(3, 8999)]
    assert number[3:-1].tolist() == [[k - 1, k + 1] for k in range(3, 8999)]
    assert _samples.nearest(x[:2], torch.arange(2), 1)[1].tolist() == [[1], [0]]
