"""Penalties of encoders against closed forms: isometries, linear maps, a cylinder, a sphere."""

import math

import pytest
import torch

from hessfast.diffusability import encoder_penalties, gpe_cost


def plane(n=400, seed=0):
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dim, seed=0):
    normal = torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(normal).Q


def test_isometries_cost_nothing():
    """A plane in five dimensions, turned, shifted, and projected back to three that hold it."""
    turn = rotation(5)
    x = torch.nn.functional.pad(plane(), (0, 3)) @ turn.T
    penalties = encoder_penalties(lambda x: (x @ turn)[:, :3] @ rotation(3, 1) + 2, x, 2)
    assert penalties.compression == pytest.approx(2 / 3)
    for name in (
        "tangential_distortion", "anisotropy", "secant_distortion", "bending", "metric_change", "nonlinearity",
        "data_curvature", "gpe_cost",
    ):  # fmt: skip
        assert getattr(penalties, name).greatest < 1e-6, name


def test_linear_maps():
    """Singular values 3 and 1/2 on the plane: the metric has eigenvalues 9 and 1/4."""
    matrix = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64)) @ rotation(2)
    penalties = encoder_penalties(lambda x: x @ matrix.T, plane(), 2)
    assert penalties.tangential_distortion.mean == pytest.approx(8, rel=1e-9)
    assert penalties.tangential_distortion.sem < 1e-9
    assert penalties.anisotropy.mean == pytest.approx((9 - 0.25) / 9.25, rel=1e-9)
    assert penalties.bending.greatest < 1e-6 and penalties.nonlinearity.greatest < 1e-9
    assert 0.5 < penalties.secant_distortion.mean < 2 and penalties.gpe_cost.mean > 0.1


def test_the_cylinder_bends_without_stretching():
    """(sin(e x) / e, y, (1 - cos(e x)) / e): along (v, w) it bends by e v^2, on average e / 2."""
    e = 1.5

    def cylinder(p):
        return torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)

    penalties = encoder_penalties(cylinder, plane(4000), 2, step=1e-3)
    assert penalties.tangential_distortion.greatest < 1e-6
    assert abs(penalties.bending.mean - e / 2) < 5 * penalties.bending.sem
    assert penalties.bending.greatest == pytest.approx(e, rel=1e-2)
    assert penalties.metric_change.greatest < 1e-3
    # And data on a cylinder have its curvature, whatever encodes them.
    along = encoder_penalties(lambda x: x, cylinder(plane(4000)), 2, frames=_frames_of_cylinder(plane(4000), e))
    assert along.data_curvature.greatest == pytest.approx(e, rel=0.02)
    assert along.compression == 0


def _frames_of_cylinder(p, e):
    zero, one = torch.zeros(len(p), dtype=p.dtype), torch.ones(len(p), dtype=p.dtype)
    first = torch.stack([torch.cos(e * p[:, 0]), zero, torch.sin(e * p[:, 0])], dim=1)
    return torch.stack([first, torch.stack([zero, one, zero], dim=1)], dim=2)


def test_a_chart_of_the_sphere():
    """Latitude and longitude to the unit sphere: metric 1 and cos^2(latitude)."""
    p = plane(500) * 0.9

    def sphere(p):
        latitude, longitude = p.T
        return torch.stack([latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()], dim=1)

    penalties = encoder_penalties(sphere, p, 2)
    least = p[:, 0].cos() ** 2
    assert penalties.tangential_distortion.mean == pytest.approx(float((1 - least).mean()), rel=1e-9)
    assert penalties.anisotropy.mean == pytest.approx(float(((1 - least) / (1 + least)).mean()), rel=1e-9)


def test_frames_of_neighbours_are_tangents():
    """On a noiseless surface of 5,000 points the principal axes of neighbours are tangents to a few degrees."""
    p = plane(5000)
    e = 1.0
    x = torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)
    known, found = (encoder_penalties(lambda x: x[:, :2], x, 2, frames=f) for f in (_frames_of_cylinder(p, e), None))
    assert found.tangential_distortion.mean == pytest.approx(known.tangential_distortion.mean, rel=0.02)


def test_gpe_cost_of_a_pair():
    x, z = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    cost = gpe_cost(x[:1], x[1:], z[:1], z[1:])
    assert float(cost) == pytest.approx((math.log(10) - math.log(2)) ** 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intrinsic_dimension": 0}, "intrinsic_dimension must be >= 1"),
        ({"intrinsic_dimension": 3}, "intrinsic_dimension must be >= 1 and <= 2"),
        ({"samples": plane(4)}, "samples must be more than"),
        ({"samples": torch.ones(50, 2)}, "repeated samples"),
        ({"encoder": lambda x: x.sum()}, "encoder must map"),
        ({"encoder": lambda x: x / 0 * 0}, "encoder must return finite"),
        ({"encoder": lambda x: x.detach()}, "torch can differentiate"),
        ({"frames": torch.ones(400, 2, 1, dtype=torch.float64)}, "frames must have shape"),
        ({"frames": torch.ones(400, 2, 2, dtype=torch.float64)}, "frames must be orthonormal"),
        ({"step": 0.0}, "step must be > 0"),
    ],
)
def test_refusals(change, message):
    arguments = {"encoder": lambda x: 2 * x, "samples": plane(), "intrinsic_dimension": 2} | change
    with pytest.raises(ValueError, match=message):
        encoder_penalties(**arguments)
