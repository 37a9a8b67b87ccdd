"""The intrinsic dimension of data from two neighbours."""

import math

import numpy as np
import pytest
import torch

from hessfast.diffusability import (
    Dimension,
    encoder_penalties,
    fir_deviation,
    fisher_curve,
    from_denoiser,
    intrinsic_dimension,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def circle(n, seed=0):
    angle = 2 * math.pi * torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1)


SETS = {
    "a circle": (1, circle(1000)),
    "a plane in ten dimensions": (2, torch.nn.functional.pad(normal(1000, 2), (0, 8))),
    "of two scales": (3, torch.cat([normal(500, 3), 100 + 0.01 * normal(500, 3, seed=1)])),
    "images": (4, (normal(1000, 4) @ normal(4, 64, seed=1)).reshape(-1, 1, 8, 8)),
}


@pytest.mark.parametrize("name", SETS)
def test_the_dimension_is_that_of_the_surface(name):
    m, x = SETS[name]
    found = intrinsic_dimension(x)
    assert round(found.mean) == m and abs(found.mean - m) < 4 * found.sem < 0.5 * m


def test_the_error_is_that_of_repeats():
    found = [intrinsic_dimension(normal(300, 2, seed=seed)) for seed in range(60)]
    assert np.std([one.mean for one in found]) < 1.3 * np.mean([one.sem for one in found])


def test_copies_and_a_shift_change_little():
    x = circle(1000).float()
    once, twice, far = (intrinsic_dimension(each).mean for each in (x, torch.cat([x, x[:300]]), x + 1000))
    assert twice == pytest.approx(once) and far == pytest.approx(once, rel=0.05)
    wide = normal(1000, 8)
    near, far = (intrinsic_dimension(each.float()).mean for each in (wide, wide + 1e4))
    assert far == pytest.approx(near, rel=1e-3)


def test_three_places_on_a_line():
    """Ratios 3, 2 and 3 / 2, of which two degrees of freedom are left; a place at no distance in float64 has none."""
    found = intrinsic_dimension([[0.0], [1.0], [3.0]])
    assert found.mean == pytest.approx(2 / math.log(9)) and found.sem == pytest.approx(1.5 * found.mean / 3**0.5)
    assert intrinsic_dimension([[0.0], [1e-200], [1.0], [3.0]]).mean == pytest.approx(1 / math.log(1.5))


def test_an_estimate_is_taken_as_the_dimension_that_it_rounds_to():
    """A plane in ten dimensions to three of them: of the empty directions 7 of 8 are removed, 1 of 8 is left."""
    plane = SETS["a plane in ten dimensions"][1]
    found = intrinsic_dimension(plane)
    assert encoder_penalties(lambda x: x[:, :3], plane, found).compression == 7 / 8
    x, z = (fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), torch.ones(9, d), 1.0) for d in (10, 3))
    one, other = (fir_deviation(x, z, "normal-dimension", intrinsic_dimension=m, signed=True) for m in (found, 2))
    assert one.mean == other.mean == pytest.approx(3 / 10 * 8 - 1)
    with pytest.raises(ValueError, match="intrinsic_dimension must be >= 1 and <= 10, got 0"):
        encoder_penalties(lambda x: x, plane, Dimension(0.3, 0.1))


def test_half_precision_is_that_of_its_numbers():
    x = circle(300).half()
    assert intrinsic_dimension(x) == intrinsic_dimension(x.float())


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"samples must have shape \[n, ...\] with n >= 3"):
        intrinsic_dimension(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="samples must be three or more that differ, got 1"):
        intrinsic_dimension(torch.zeros(5, 3))
    with pytest.raises(ValueError, match="samples must have neighbours at different distances, got equal ones"):
        intrinsic_dimension(torch.eye(3))
