"""Penalties of encoders against closed forms: isometries, linear maps, a cylinder, a sphere."""

import math

import numpy as np
import pytest
import torch

from hessfast.diffusability import encoder_penalties, gpe_cost
from hessfast.diffusability._curvature import quadrics
from hessfast.diffusability.penalties import _of_pairs


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
        assert getattr(penalties, name).max < 1e-6, name


def test_linear_maps():
    """Singular values 3 and 1/2 on the plane: the metric has eigenvalues 9 and 1/4."""
    matrix = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64)) @ rotation(2)
    penalties = encoder_penalties(lambda x: x @ matrix.T, plane(), 2)
    assert penalties.tangential_distortion.mean == pytest.approx(8, rel=1e-9)
    assert penalties.tangential_distortion.sem < 1e-9
    assert penalties.anisotropy.mean == pytest.approx((9 - 0.25) / 9.25, rel=1e-9)
    assert penalties.bending.max < 1e-6 and penalties.nonlinearity.max < 1e-9
    assert 0.5 < penalties.secant_distortion.mean < 2 and penalties.gpe_cost.mean > 0.1


def test_the_cylinder_bends_without_stretching():
    """(sin(e x) / e, y, (1 - cos(e x)) / e): along (v, w) it bends by e v^2, on average e / 2."""
    e = 1.5

    def cylinder(p):
        return torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)

    penalties = encoder_penalties(cylinder, plane(4000), 2, step=1e-3)
    assert penalties.tangential_distortion.max < 1e-6
    assert abs(penalties.bending.mean - e / 2) < 5 * penalties.bending.sem
    assert penalties.bending.max == pytest.approx(e, rel=1e-2)
    assert penalties.metric_change.max < 1e-3
    # And data on a cylinder have its curvature, whatever encodes them.
    along = encoder_penalties(lambda x: x, cylinder(plane(4000)), 2, frames=_frames_of_cylinder(plane(4000), e))
    assert along.data_curvature.max == pytest.approx(e, rel=0.02)
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


def test_frames_follow_a_surface_that_curves():
    """Unrolling a swiss roll is an isometry, projecting a sphere from a pole is conformal; principal axes miss both."""
    generator = torch.Generator().manual_seed(0)
    angle, height = torch.rand((2, 2000), generator=generator, dtype=torch.float64)
    angle = 1.5 * torch.pi * (1 + 2 * angle)
    roll = torch.stack([angle * angle.cos(), 20 * height, angle * angle.sin()], dim=1)

    def unroll(x):
        t = (x[:, 0] ** 2 + x[:, 2] ** 2).sqrt()
        return torch.stack([(t * (1 + t * t).sqrt() + torch.asinh(t)) / 2, x[:, 1]], dim=1)

    fitted, axes = (encoder_penalties(unroll, roll, 2, num_neighbours=k) for k in (None, 6))
    assert fitted.tangential_distortion.mean < 0.02 and fitted.anisotropy.mean < 0.01
    assert axes.tangential_distortion.mean > 0.3  # as documented
    for n, alike in ((299, True), (300, False)):  # of twenty for each of the fifteen of a quadric
        one, other = (encoder_penalties(unroll, roll[:n], 2, num_neighbours=k).anisotropy for k in (None, 6))
        assert (one == other) == alike
    sphere = torch.randn((2000, 3), generator=generator, dtype=torch.float64)
    sphere = sphere / sphere.norm(dim=1, keepdim=True)
    projected = encoder_penalties(lambda x: x[:, :2] / (1 - x[:, 2:]), sphere[sphere[:, 2] < 0.5], 2)
    assert projected.anisotropy.mean < 1e-3


def test_frames_are_of_one_sheet():
    """Of two flat sheets, less apart than the neighbours of a quadric, and of samples that determine none."""
    sheets = torch.cat([plane(2000), 0.05 * (torch.arange(2000) % 2)[:, None]], dim=1)
    assert encoder_penalties(lambda x: x[:, :2], sheets, 2).tangential_distortion.quantiles[1] < 1e-9
    line = torch.cat([torch.linspace(0, 1, 200, dtype=torch.float64)[:, None]] * 2, dim=1) @ torch.ones(2, 3).double()
    found = encoder_penalties(lambda x: x, line, 2)  # on a line no quadric of two directions is determined
    assert found.tangential_distortion.max < 1e-6 and found.data_curvature.num_samples == 0


def test_frames_of_neighbours_are_tangents():
    """On a noiseless surface of 5,000 points the principal axes of neighbours are tangents to a few degrees."""
    p = plane(5000)
    e = 1.0
    x = torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)
    known, found = (encoder_penalties(lambda x: x[:, :2], x, 2, frames=f) for f in (_frames_of_cylinder(p, e), None))
    assert found.tangential_distortion.mean == pytest.approx(known.tangential_distortion.mean, rel=0.02)


def circle(n):
    """Of radius 2, and unit tangents."""
    t = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 * math.pi
    return 2 * torch.stack([t.cos(), t.sin()], dim=1), torch.stack([-t.sin(), t.cos()], dim=1)[..., None]


def ball(n, dim):
    """On the sphere of radius 2."""
    y = torch.randn(n, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 2 * y / y.norm(dim=1, keepdim=True)


def curvature(x, m, **options):
    return encoder_penalties(lambda x: x, x, m, **options).data_curvature


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_curvature_of_a_circle(dtype):
    """1/2 everywhere, with frames and without, however near the nearest neighbours are."""
    x, frames = circle(2000)
    for options in ({}, {"frames": frames}):
        found = curvature(x.to(dtype), 1, **options)
        assert found.mean == pytest.approx(0.5, rel=1e-3) and found.num_samples == 2000
        assert found.max == pytest.approx(0.5, rel=0.05)


def test_the_curvature_of_spheres_converges():
    for m, few, many in ((2, 0.05, 0.01), (3, 0.15, 0.04)):
        errors = [abs(curvature(ball(n, m + 1), m).mean / 0.5 - 1) for n in (300, 2000)]
        assert errors[0] < few and errors[1] < min(many, errors[0] / 2)


def test_copies_and_uneven_samples_curve_alike():
    x, _ = circle(500)
    close = torch.randn(500, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1e-10
    found = curvature(torch.cat([x, x + close, x]), 1, step=0.1)
    assert found.mean == pytest.approx(0.5, rel=5e-3) and found.max < 0.55
    t = torch.rand(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3 * 2 * math.pi
    found = curvature(2 * torch.stack([t.cos(), t.sin()], dim=1), 1)
    assert found.mean == pytest.approx(0.5, rel=1e-3) and found.max == pytest.approx(0.5, rel=0.05)


def test_the_curvature_of_a_curve_in_twenty_dimensions():
    """|c'' - (c'' . e) e| / |c'|^2, e = c' / |c'|."""
    a, b = torch.randn(2, 4, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.rand(3000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 * math.pi
    k = torch.arange(1.0, 5.0, dtype=torch.float64)
    c = (k * t).cos() / k @ a + (k * t).sin() / k @ b
    c1, c2 = (k * t).cos() @ b - (k * t).sin() @ a, -(k * t).cos() * k @ a - (k * t).sin() * k @ b
    square = c1.square().sum(dim=1)
    exact = (c2 - ((c1 * c2).sum(dim=1) / square)[:, None] * c1).norm(dim=1) / square
    found = curvature(c, 1)
    assert found.mean == pytest.approx(float(exact.mean()), rel=1e-3)
    assert found.max == pytest.approx(float(exact.max()), rel=0.01)


def test_the_curvature_of_a_cylinder_depends_on_the_direction():
    e, p = 1.5, plane(2000)
    x = torch.stack([torch.sin(e * p[:, 0]) / e, p[:, 1], (1 - torch.cos(e * p[:, 0])) / e], dim=1)
    found = curvature(x, 2)
    assert abs(found.mean - e / 2) < 4 * found.sem and found.max == pytest.approx(e, rel=0.03)
    assert found.quantiles[0] < 0.05 * e


def test_a_quadric_is_that_of_least_squares():
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([plane(200), 0.01 * noise], dim=1)
    found = quadrics(x, 2, torch.eye(4, 2, dtype=torch.float64).expand(200, 4, 2), 0)
    apart = x - x[7]
    offset = apart[apart.norm(dim=1).argsort()[1 : found.num_neighbours + 1]].numpy()
    design = np.stack([offset[:, 0] ** 2, offset[:, 0] * offset[:, 1], offset[:, 1] ** 2], axis=1) / 2
    residual = np.linalg.lstsq(design, offset, rcond=None)[1].sum()
    assert len(offset) == 9 and found.determined.all()
    assert float(found.variance[7]) == pytest.approx(residual / (4 * (9 - 3)))


def test_copies_are_no_neighbours():
    """Six of one point on a circle have four others, where a curve asks for six."""
    angle = torch.tensor([0.0] * 6 + [-0.2, -0.1, 0.1, 0.2], dtype=torch.float64)
    found = quadrics(torch.stack([angle.cos(), angle.sin()], dim=1), 1, None, 0)
    assert found.num_neighbours == 6 and found.determined.tolist() == [False] * 6 + [True] * 4


def test_too_few_neighbours_tell_no_curvature():
    assert curvature(ball(20, 4), 3).num_samples == 0


def test_a_chart_that_loses_a_direction():
    """(x, x^2, 0) of the plane bends as with a height of 1e-6 y, whose image is all that is along it."""

    def bent(height):
        return encoder_penalties(
            lambda p: torch.stack([p[:, 0], p[:, 0] ** 2, height * p[:, 1]], dim=1), plane(2000), 2,
            frames=torch.eye(2, dtype=torch.float64).expand(2000, 2, 2), step=1e-3,
        )  # fmt: skip

    lost, kept = bent(0.0), bent(1e-6)
    assert kept.bending.mean > 0.6 and kept.metric_change.mean > 0.5
    assert lost.bending.mean == pytest.approx(kept.bending.mean, rel=1e-6)
    assert lost.metric_change.mean == pytest.approx(kept.metric_change.mean, rel=1e-6)


def test_compression_is_a_share_of_the_empty_directions():
    x = plane(50)
    embedded = torch.nn.functional.pad(x, (0, 3))
    for data, d, expected in ((embedded, 3, 2 / 3), (embedded, 1, 4 / 3), (x, 2, 0.0), (x, 1, math.inf)):
        assert encoder_penalties(lambda y, d=d: y[:, :d], data, 2).compression == pytest.approx(expected)


def test_rounding_makes_no_bends():
    """A rotation of the unit square at (10, 10) in float32, where neighbours are nearer than rounding allows for."""
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    penalties = encoder_penalties(lambda y: y @ turn, plane(5000).float() + 10, 2)
    assert penalties.metric_change.mean < 0.01


def test_networks_must_be_in_evaluation_mode_and_decide_the_dtype():
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    before = network[1].running_mean.clone()
    for encoder in (network, lambda y: network(y), network.forward):
        with pytest.raises(
            ValueError, match=r"encoder must be in evaluation mode, got BatchNorm1d; call its .eval\(\)"
        ):
            encoder_penalties(encoder, plane().float(), 2)
    assert (network[1].running_mean == before).all()
    network.eval()
    one, other = (encoder_penalties(network, x, 2) for x in (plane(), plane().float()))
    assert one.anisotropy == other.anisotropy
    with pytest.raises(TypeError, match=r"encoder must have the dtype of samples, torch.float64, got '.*Convert them"):
        encoder_penalties(lambda y: network(y), plane(), 2)
    with pytest.raises(TypeError, match=r"samples must be float32 or float64, got torch\.float16"):
        encoder_penalties(lambda y: y, plane().half(), 2)


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


def test_the_error_of_the_gpe_cost_is_that_of_its_samples():
    """Of 20,000 pairs of n samples, which are not 20,000 samples: the spread over sets of samples."""

    def cost(n, seed):
        x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return encoder_penalties(lambda x: 2 * torch.stack([x[:, 0] ** 2, x[:, 1]], dim=1), x, 2, seed=seed).gpe_cost

    for n in (30, 200):
        costs = [cost(n, seed) for seed in range(40)]
        spread = np.std([each.mean for each in costs], ddof=1)
        assert np.mean([each.sem for each in costs]) == pytest.approx(spread, rel=0.35)
        assert costs[0].num_samples == n


def test_the_error_of_pairs_is_at_least_that_of_independent_ones():
    """1 and 3 of two pairs that share a sample, whose deviations cancel in it."""
    found = _of_pairs(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), torch.tensor([1, 2]), 3)
    assert (found.mean, found.sem, found.num_samples) == (2, pytest.approx(2**0.5 / 2), 3)


def test_frames_need_more_neighbours_than_dimensions():
    """m neighbours less their mean span m - 1."""
    with pytest.raises(ValueError, match="num_neighbours must be >= 3, got 2"):
        encoder_penalties(lambda x: x, torch.rand(50, 3), 2, num_neighbours=2)


def test_pairs_that_are_counted_twice_are_one():
    """A hundred pairs far from each other: means of neighbours are means over pairs."""
    gaps = 0.1 + torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = 10 * torch.arange(100, dtype=torch.float64)
    x = torch.stack([places, places + gaps], dim=1).reshape(-1, 1)
    found = encoder_penalties(torch.tanh, x, 1).secant_distortion
    own = (torch.tanh(x[1::2]) - torch.tanh(x[::2])).abs()[:, 0] / gaps - 1
    assert found.mean == pytest.approx(float(own.abs().mean()), rel=1e-6)
    assert found.sem == pytest.approx(float(own.abs().std()) / 10, rel=0.01)


def test_directions_are_independent_of_data_of_the_same_seed():
    """E = |x| bends only across x: directions drawn as the samples were would find it flat."""
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, other = (encoder_penalties(lambda x: x.norm(dim=1, keepdim=True), x, 2, seed=s).metric_change for s in (0, 1))
    assert one.mean == pytest.approx(other.mean, abs=4 * np.hypot(one.sem, other.sem))
    assert other.mean > 0.5


def test_encoders_that_draw_numbers_are_refused():
    for unit in (1.0, 1e-6):
        with pytest.raises(ValueError, match=r"encoder must give the same answer twice.* Of a VAE pass the mean"):
            encoder_penalties(lambda x, unit=unit: unit * (x + 0.1 * torch.randn_like(x)), plane(), 2)


@pytest.mark.parametrize("wrap", [lambda z: z.detach().numpy(), lambda z: (z,)])
def test_encoders_return_tensors(wrap):
    with pytest.raises(TypeError, match=r"encoder must return a tensor, got (ndarray|tuple)\. Of diffusers' return"):
        encoder_penalties(lambda x: wrap(2 * x), plane(), 2)


def test_attention_in_encoders():
    """Its fast form has no second derivative."""

    def encode(x):
        heads = torch.nn.functional.scaled_dot_product_attention(*[x[:, None, :, None].float()] * 3)
        return heads[:, 0, :, 0].to(x) + x

    assert encoder_penalties(encode, plane(100), 2).tangential_distortion.mean > 0


def test_the_curvature_of_few_samples_is_unknown():
    """Twelve in thirty dimensions: fewer than a quadric in ten has coefficients."""
    x = torch.randn(12, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = encoder_penalties(lambda x: 2 * x, x, 10, num_neighbours=11)
    assert found.data_curvature.num_samples == 0 and math.isnan(found.data_curvature.mean)
    assert found.secant_distortion.mean == pytest.approx(1)


@pytest.mark.gpu
def test_penalties_on_a_gpu_are_those_on_the_host():
    matrix = torch.diag(torch.tensor([3.0, 0.5], dtype=torch.float64))
    host = encoder_penalties(lambda x: torch.tanh(x @ matrix), plane(200), 2)
    device = encoder_penalties(lambda x: torch.tanh(x @ matrix.cuda()), plane(200).cuda(), 2)
    for name in ("secant_distortion", "bending", "data_curvature", "gpe_cost"):
        one, other = getattr(host, name), getattr(device, name)
        assert (one.mean, one.sem) == pytest.approx((other.mean, other.sem), rel=1e-6), name


def test_samples_must_not_hear_of_one_another():
    mixing = torch.nn.BatchNorm1d(2, affine=False, track_running_stats=False).eval()
    with pytest.raises(ValueError, match="encoder must map each sample for itself"):
        encoder_penalties(lambda x: mixing(x.float()), plane(300).float(), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_an_encoder_collapses_has_no_shape(dtype):
    penalties = encoder_penalties(lambda x: 0 * x, plane(100).to(dtype), 2)
    assert penalties.tangential_distortion.mean == penalties.secant_distortion.mean == 1
    assert np.isnan([penalties.anisotropy.mean, penalties.nonlinearity.mean]).all()
    shifted = encoder_penalties(lambda x: 0 * x + 0.1, plane(100).to(dtype), 2)
    assert np.isnan(shifted.nonlinearity.mean)
    some = encoder_penalties(lambda x: x * (x[:, :1] > 0.5), plane(100).to(dtype), 2)
    assert some.anisotropy.mean < 1e-6 and 20 < some.anisotropy.num_samples < 80
    flat = encoder_penalties(lambda x: x * torch.tensor([1.0, 0.0], dtype=dtype), plane(100).to(dtype), 2)
    assert flat.anisotropy.mean == pytest.approx(1)
