"""Curves in geometries whose geodesics are known, and what is reported where there are none."""

import copy
import math

import numpy as np
import pytest
import torch

from hessfast import derivatives, fisher_metric
from hessfast.geodesic import (
    KINDS,
    connecting_geodesic,
    curve_energy,
    curve_length,
    distance_map,
    equidistant,
    expmap,
    logmap,
)
from hessfast.geodesic.shooting import _aimed
from hessfast.log_partition import LogPartition
from hessfast.posterior import ExponentialFamilyPosterior
from hessfast.potentials import ConvexPotential, SoftplusPotential, Table


def softmax(x):
    """log Z of dim + 1 classes."""
    return torch.logsumexp(torch.nn.functional.pad(x, (0, 1)), dim=-1)


def probabilities(x):
    e = np.exp(np.concatenate([x, np.zeros_like(x[..., :1])], axis=-1))
    return e / e.sum(axis=-1, keepdims=True)


def sphere(a, b):
    """The distance of two distributions over classes: the angle between the roots of their probabilities, twice."""
    return 2 * np.arccos((np.sqrt(probabilities(a)) * np.sqrt(probabilities(b))).sum(axis=-1))


def normal(x):
    """log Z of the normal distribution in natural parameters (mean / variance, -1 / (2 variance))."""
    return -(x[..., 0] ** 2) / (4 * x[..., 1]) - torch.log(-2 * x[..., 1]) / 2


def hyperbolic(m, s, n, t):
    """Fisher's distance of N(m, s^2) and N(n, t^2): the half-plane of (mean / sqrt 2, deviation), times sqrt 2."""
    return 2**0.5 * np.arccosh(1 + ((m - n) ** 2 / 2 + (s - t) ** 2) / (2 * s * t))


def pairs(num, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(2, num, dim))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_sphere(dim):
    a, b = pairs(20, dim)
    curves = connecting_geodesic(softmax, a, b)
    assert curves.converged.all()
    np.testing.assert_allclose(curves.length, sphere(a, b), rtol=2e-4)
    np.testing.assert_allclose(curves.energy, curves.length**2, rtol=2e-4)
    assert (curves.energy <= curve_energy(softmax, np.stack([a, b], axis=1)) * (1 + 1e-12)).all()
    middle = np.sqrt(probabilities(a)) + np.sqrt(probabilities(b))
    middle = (middle / np.linalg.norm(middle, axis=1, keepdims=True)) ** 2
    got = probabilities(equidistant(softmax, curves.points, 3)[:, 1])
    np.testing.assert_allclose(got, middle, atol=1e-3)


@pytest.mark.parametrize("box", [None, ([-50, -50], [50, -1e-3])])
def test_half_plane(box):
    """With a box within the domain of phi, and without, where its values tell where it ends."""
    rng = np.random.default_rng(1)
    (m, n), (s, t) = rng.normal(size=(2, 20)), rng.uniform(0.5, 2, (2, 20))
    a, b = (np.stack([x / y**2, -1 / (2 * y**2)], axis=1) for x, y in ((m, s), (n, t)))
    a, b = np.vstack([a, [0, -0.5]]), np.vstack([b, [5, -0.5]])  # a long way beside the edge of the domain
    curves = connecting_geodesic(normal, a, b, box=box)
    assert curves.converged.all()
    np.testing.assert_allclose(curves.length, [*hyperbolic(m, s, n, t), hyperbolic(0, 1, 5, 1)], rtol=1e-3)
    velocity = logmap(normal, a[-1], b[-1], num_steps=40, box=box)
    metric = np.array([[1.0, 0.0], [0.0, 2.0]])  # of theta = (0, -1/2)
    assert np.sqrt(velocity @ metric @ velocity) == pytest.approx(hyperbolic(0, 1, 5, 1), rel=1e-4)


@pytest.mark.parametrize("kind", ["mixture", "released"])
def test_other_curves_keep_to_the_domain(kind):
    curve = connecting_geodesic(normal, [0.0, -0.5], [5.0, -0.5], kind)
    assert curve.converged and (curve.points[:, 1] < 0).all()
    # eta = (mean, mean^2 + variance): Jeffreys' divergence of N(0, 1) and N(5, 1) is 25
    assert curve.energy == pytest.approx(25, rel=1e-4 if kind == "mixture" else 0.05)
    assert curve.energy > hyperbolic(0, 1, 5, 1) ** 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("box", [([-10, -0.6], [10, -0.4]), ([-10, -0.505], [3, -0.4])])
def test_curves_keep_to_the_box(kind, box):
    """Through which the straight line goes, and the curves that would be go above, and in eta beside."""
    start, end = ([0.0, -0.5], [5.0, -0.5]) if box[1][0] > 5 else ([0.0, -0.45], [2.9, -0.5])
    curve = connecting_geodesic(normal, start, end, kind, box=box, num_points=20)
    assert ((curve.points >= box[0]) & (curve.points <= box[1])).all() and np.isfinite(curve.length)
    outside = connecting_geodesic(normal, start, end, kind, num_points=20).points
    assert kind == "exponential" or ((outside < box[0]) | (outside > box[1])).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_across_a_hole_has_no_curve(kind):
    """And the pair beside it has one."""

    def bowl(x):
        square = (x**2).sum(dim=1)
        return torch.where(square < 0.1, torch.nan, square / 2)

    curves = connecting_geodesic(bowl, [[-1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.5, 1.0]], kind)
    assert curves.converged.tolist() == [False, True]
    assert np.isnan(curves.length[0]) and curves.length[1] == pytest.approx(0.5)


def test_product_of_exponentials_is_flat_in_logarithms():
    a, b = -np.exp(pairs(10, 2))
    curves = connecting_geodesic(lambda x: -torch.log(-x).sum(dim=-1), a, b, box=([-60, -60], [-1e-4, -1e-4]))
    np.testing.assert_allclose(curves.length, np.linalg.norm(np.log(-a) - np.log(-b), axis=1), rtol=1e-3)
    np.testing.assert_allclose(np.log(-curves.points[:, 45]), (44 * np.log(-a) + 45 * np.log(-b)) / 89, atol=0.02)


def test_flat():
    a, b = pairs(5, 3)
    for kind in KINDS:
        curves = connecting_geodesic(lambda x: (x**2).sum(dim=-1) / 2, a, b, kind)
        np.testing.assert_allclose(curves.points[:, 30], a + 30 / 89 * (b - a), atol=1e-9)
        np.testing.assert_allclose(curves.length, np.linalg.norm(b - a, axis=1), rtol=1e-9)
        assert curves.converged.all()


def test_kinds():
    a, b = pairs(10, 2)
    levi_civita, exponential, mixture, released = (connecting_geodesic(softmax, a, b, kind) for kind in KINDS)
    np.testing.assert_allclose(exponential.points[:, 10], a + 10 / 89 * (b - a))
    eta = probabilities(mixture.points)[..., :2]
    straight = eta[:, :1] + np.linspace(0, 1, 90)[:, None] * (eta[:, -1:] - eta[:, :1])
    assert mixture.converged.all() and np.abs(eta - straight).max() < 1e-6
    np.testing.assert_allclose(mixture.energy, exponential.energy, rtol=1e-6)  # both are Jeffreys' divergence
    for other in (exponential, mixture, released):
        assert (levi_civita.energy <= other.energy * (1 + 1e-9)).all()
    assert released.converged.all()


@pytest.mark.parametrize("num_points", [20, 21])
def test_released_is_where_its_descent_rests(num_points):
    a, b = pairs(3, 2)
    curves = connecting_geodesic(softmax, a, b, "released", num_points=num_points)
    assert curves.converged.all()
    x = torch.tensor(curves.points[:, 1:-1], requires_grad=True)
    whole = torch.cat([torch.tensor(a)[:, None], x, torch.tensor(b)[:, None]], dim=1)
    middles, steps = (whole[:, 1:] + whole[:, :-1]) / 2, whole[:, 1:] - whole[:, :-1]
    p = torch.tensor(probabilities(middles.detach().numpy())[..., :2])
    metric = torch.diag_embed(p) - p[..., None] * p[..., None, :]
    loss = torch.einsum("pki,pkij,pkj->", steps, metric, steps) + 0.1 * (steps[:, 1:] - steps[:, :-1]).square().sum()
    loss.backward()
    assert x.grad.abs().max() < 1e-5 * torch.einsum("pkij,pkj->pki", metric, steps).abs().max()


@pytest.mark.parametrize("dim", [1, 2, pytest.param(5, marks=pytest.mark.slow)])
def test_expmap_and_logmap_invert_each_other(dim):
    a, b = pairs(6, dim)
    velocity = logmap(softmax, a, b, num_steps=80)
    np.testing.assert_allclose(expmap(softmax, a, velocity, num_steps=80), b, atol=1e-6)
    p = probabilities(a)[:, :dim]
    metric = p[:, :, None] * np.eye(dim) - p[:, :, None] * p[:, None, :]
    speed = np.sqrt(np.einsum("ni,nij,nj->n", velocity, metric, velocity))
    np.testing.assert_allclose(speed, sphere(a, b), rtol=1e-6)


def test_the_error_of_shots_falls_with_the_fourth_power_of_steps():
    """Geodesics of -log(-x) are straight in log(-x)."""
    few, many = (
        abs(expmap(lambda x: -torch.log(-x[:, 0]), [-1.0], [0.5], num_steps=num)[0] + math.exp(-0.5)) for num in (4, 8)
    )
    assert many < 1e-6 and 12 < few / many < 20


def test_shots_of_networks_are_those_of_their_copies_in_float64():
    """Whose kernel is too coarse for them."""
    torch.manual_seed(0)
    network = ConvexPotential(2, 8, 1)
    ours, exact = (expmap(f, [0.5, 0.2], [0.3, -0.4], num_steps=3) for f in (network, copy.deepcopy(network).double()))
    np.testing.assert_array_equal(ours, exact)


def test_shots_arrive_far_from_the_origin():
    """Rounding of x, 1e-8 a step, is more than the tolerance, 1e-9."""
    a, b = pairs(4, 2)
    a, b = a + 1e8, b + 1e8

    def far(x):
        return softmax(x - 1e8)

    right = logmap(softmax, a - 1e8, b - 1e8)
    np.testing.assert_allclose(logmap(far, a, b), right, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(expmap(far, a, right), b, rtol=0, atol=5e-8)


def test_lengths_lost_to_rounding_are_not_converged():
    """eta is 1e7 and more, and changes by 1e-7: the length of the first curve comes out 12 % off."""
    a = np.array([[0.3, 0.7]] * 2)
    curves = connecting_geodesic(lambda x: x.exp().sum(-1) + 1e7 * x.sum(-1), a, a + np.array([[1e-7], [1e-2]]))
    assert curves.converged.tolist() == [False, True]


def test_table_and_distance_map():
    table = Table(softmax, [-3, -3], [3, 3], (64, 64))
    a, b = np.clip(pairs(50, 2), -2.9, 2.9)
    through, direct = connecting_geodesic(table, a, b), connecting_geodesic(softmax, a, b)
    np.testing.assert_allclose(through.length, direct.length, rtol=1e-5)
    assert through.converged.all()
    distances = distance_map(table, a[0], (129, 129))
    nodes = np.stack(np.meshgrid(*[np.linspace(-3, 3, 129)] * 2, indexing="ij"), axis=-1)
    source = nodes.reshape(-1, 2)[distances.argmin()]
    as_tensor = distance_map(table, torch.tensor(a[0], dtype=torch.float32), (129, 129))
    assert as_tensor.dtype == torch.float32
    np.testing.assert_allclose(as_tensor, distances, rtol=1e-6)
    right = sphere(np.broadcast_to(source, nodes.shape), nodes)
    far = right > 0.2
    assert (distances[far] > 0.999 * right[far]).all() and (distances[far] < 1.02 * right[far]).all()


def test_tables_end_at_their_box():
    """Whatever box is asked for, and for geodesics that are shot."""
    table = Table(lambda x: (x**2).sum(dim=-1) / 2, [-1, -1], [1, 1], (8, 8))
    np.testing.assert_allclose(expmap(table, [0.5, 0.0], [0.25, 0.5]), [0.75, 0.5])
    assert np.isnan(expmap(table, [0.5, 0.0], [1.0, 0.0])).all()
    with pytest.raises(ValueError, match=r"end must be in the box, got \[1.5, 0.0\]"):
        connecting_geodesic(table, [0.0, 0.0], [1.5, 0.0], box=([-2, -2], [2, 2]))


@pytest.mark.parametrize("kind", KINDS)
def test_flat_potentials_have_no_length(kind):
    """As the metric of the maximal-current phase: directly and through a table, whose spline makes noise of it."""
    plane = Table(lambda x: 0.3 * x[:, 0] + 0.7 * x[:, 1], [-1, -1], [1, 1], (16, 16))
    for potential in (plane, lambda x: 0.3 * x[:, 0] + 0.7 * x[:, 1]):
        curve = connecting_geodesic(potential, [[-0.5, 0.3]], [[0.7, -0.2]], kind)
        assert curve.converged.all() and curve.length[0] < 1e-5


@pytest.mark.parametrize(
    ("potential", "length"),
    [(lambda x: x[:, 0] ** 2, 0.6 * 2**0.5), (lambda x: x.sum(dim=1).exp(), 2 * (math.exp(0.55) - math.exp(0.1)))],
)
def test_a_singular_metric_has_its_curve(potential, length):
    curve = connecting_geodesic(potential, [0.1, 0.1], [0.7, 0.4])
    assert curve.converged and curve.length == pytest.approx(length, rel=1e-4)


def test_networks_are_as_good_as_their_copies_in_float64():
    """The kernel's metric and differences of it against double backward and third derivatives: the same curves."""
    torch.manual_seed(0)
    network = ConvexPotential(2, 16, 2)
    start, end = np.random.default_rng(0).uniform(-2, 2, (2, 12, 2))
    ours, exact = (connecting_geodesic(f, start, end) for f in (network, copy.deepcopy(network).double()))
    np.testing.assert_array_equal(ours.converged, exact.converged)
    np.testing.assert_allclose(ours.length, exact.length, rtol=1e-6)
    assert ours.converged.all() and ours.iterations.mean() <= exact.iterations.mean() + 1


def test_tables_of_networks_and_of_whole_numbers():
    torch.manual_seed(0)
    network = SoftplusPotential(2, 16, 2)
    table = Table(network, [-1, -1], [1, 1], (48, 48))
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    np.testing.assert_allclose(table.hessian(x), fisher_metric(copy.deepcopy(network).double(), x), atol=1e-5)
    values = Table(softmax, [0, 0], [2, 2], (32, 32))(torch.tensor([[1, 1]]))
    assert float(values) == pytest.approx(math.log(1 + 2 * math.e), rel=1e-6)


def test_derivatives_of_tables_come_as_points_do():
    table = Table(softmax, [0, 0], [1, 1], (8, 8))
    x = np.random.default_rng(0).uniform(0, 1, (2, 3, 2))
    for values, single in (
        (table.gradient, table.gradient(x[1, 2])),
        (table.hessian, table.hessian(x[1, 2])),
        (lambda x: table.hessian_along(x, x), table.hessian_along(x[1, 2].tolist(), x[1, 2])),
    ):
        np.testing.assert_array_equal(values(x)[1, 2], single)
        tensors = values(torch.tensor(x, dtype=torch.float32))
        assert tensors.dtype == torch.float32
        np.testing.assert_allclose(tensors, values(x), rtol=1e-4, atol=1e-5)


def test_a_map_of_a_saddle_is_refused():
    with pytest.raises(ValueError, match="table must be of a convex potential"):
        distance_map(Table(lambda x: x[:, 0] ** 2 - x[:, 1] ** 2, [-1, -1], [1, 1], (16, 16)), [0, 0])


@pytest.mark.parametrize("unit", [1, 1e6])
@pytest.mark.parametrize("slope", [0, 1, math.sqrt(2)])
def test_a_map_of_flat_coordinates(slope, unit):
    """Their means are rounding alone, of either sign, or the same everywhere."""
    x, y = np.linspace(-1, 1, 41)[:, None], np.linspace(-1, 1, 51)
    for bend in (0, 0.5):
        table = Table.from_values((-unit, -1 / unit), (unit, 1 / unit), bend * x**2 + slope * (x / 3 + y))
        expected = np.broadcast_to(np.sqrt(2 * bend) * np.abs(np.linspace(-1, 1, 9))[:, None], (9, 9))
        np.testing.assert_allclose(distance_map(table, [0.0, 0.0], (9, 9)), expected, atol=1e-5)


def test_a_map_goes_around_a_pocket():
    """A dent that is not convex over some edges in a thousand: distances beyond it are those of the bowl."""

    def dented(x):
        return (x**2).sum(dim=1) / 2 + 0.01 * torch.exp(-((x - 0.8) ** 2).sum(dim=1) / (2 * 0.05**2))

    table = Table(dented, [-1, -1], [1, 1], (161, 161))
    distances = distance_map(table, [0.0, 0.0], (161, 161))
    nodes = np.stack(np.meshgrid(*[np.linspace(-1, 1, 161)] * 2, indexing="ij"), axis=-1)
    assert np.linalg.eigvalsh(table.hessian(np.array([[0.8, 0.8]])))[0, 0] < 0
    far = np.linalg.norm(nodes - 0.8, axis=-1) > 0.4
    np.testing.assert_allclose(distances[far], np.linalg.norm(nodes, axis=-1)[far], rtol=0.01, atol=1e-3)


def test_a_sharp_ridge_is_crossed():
    """Curie-Weiss spins below the critical temperature: phi of two parameters with a first-order ridge at h = 0."""
    m = torch.linspace(-1, 1, 257, dtype=torch.float64)
    entropy = -(torch.special.xlogy((1 + m) / 2, (1 + m) / 2) + torch.special.xlogy((1 - m) / 2, (1 - m) / 2))

    def phi(x):
        return torch.logsumexp(256 * (entropy + x[:, :1] * m**2 / 2 + x[:, 1:] * m), dim=1) / 256

    rng = np.random.default_rng(2)
    a, b = (np.column_stack([rng.uniform(0.3, 1.8, 12), side * rng.uniform(0.05, 0.5, 12)]) for side in (-1, 1))
    curves = connecting_geodesic(phi, a, b)
    assert curves.converged.all()
    assert (curves.energy < curve_energy(phi, np.stack([a, b], axis=1))).all()
    assert (curves.energy < connecting_geodesic(phi, a, b, "exponential").energy).all()


def test_singular_and_indefinite_metrics_are_named():
    def plateau(x):
        return torch.relu(x[:, 0] - 0.5) ** 4

    within, out = connecting_geodesic(plateau, [[0.1, 0.1], [0.1, 0.1]], [[0.4, 0.4], [0.9, 0.4]]).length
    assert within == 0
    assert abs(out - 3**0.5 * 0.4**2) < 1e-3  # the integral of sqrt(12) (x - 1/2)
    saddle = connecting_geodesic(lambda x: (x[:, 0] ** 2 - x[:, 1] ** 2) / 2, [[0.0, 0.0]], [[0.1, 1.0]])
    assert np.isnan(saddle.length).all() and np.isfinite(saddle.points).all()
    beside = connecting_geodesic(
        lambda x: (x[:, 0] ** 2 - x[:, 1] ** 2) / 2,
        [[0.0, 0.0], [0.0, 0.0]],
        [[1e-5, 1e-4], [100.0, 0.0]],
        "exponential",
    )
    assert np.isnan(beside.length[0]) and not beside.converged[0] and beside.converged[1]
    assert np.isnan(expmap(lambda x: (x**2).sum(dim=-1) - 2 * x[:, 0] ** 2, [0.0, 0.0], [1.0, 1.0])).all()
    there = expmap(normal, [[0.0, -0.5], [0.0, -0.5]], [[0.0, 60.0], [0.0, 0.0]], num_steps=10)
    assert np.isnan(there[0]).all()  # its first steps leave the domain
    np.testing.assert_array_equal(there[1], [0.0, -0.5])  # whatever the others do
    with pytest.raises(ValueError, match="potential must be convex along the curve"):
        curve_length(lambda x: -(x**2).sum(dim=-1), np.zeros((3, 2)) + np.arange(3)[:, None])


def test_a_matrix_of_distances_has_a_diagonal_of_zeros():
    points = np.array([[0.0, -0.5], [0.3, -0.4], [-0.5, -1.0]])
    for kind in KINDS:
        curves = connecting_geodesic(normal, points[:, None], points, kind, num_points=20)
        assert curves.converged.all() or kind == "released"
        np.testing.assert_array_equal(np.diagonal(curves.length), 0)
        np.testing.assert_array_equal(curves.points[1, 1], np.tile(points[1], (20, 1)))
        apart = connecting_geodesic(normal, points[[0]], points[[2]], kind, num_points=20)
        np.testing.assert_array_equal(curves.points[0, 2], apart.points[0])


def test_a_pair_out_of_reach_costs_the_others_nothing():
    """Beyond x = 1 the metric is negative along x; before, it is flat."""

    def potential(x):
        return (x**2).sum(dim=-1) / 2 - torch.relu(x[:, 0] - 1) ** 2 * 2

    v = logmap(potential, np.zeros((3, 2)), np.array([[0.5, 0.5], [3.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(v[0], [0.5, 0.5], atol=1e-9)
    assert np.isnan(v[1]).all()
    np.testing.assert_array_equal(v[2], [0.0, 0.0])


def test_shots_that_do_not_arrive_are_nan():
    """Of two at distances 1/2 and 2, where none goes beyond 1."""
    x, goal, one = np.zeros((2, 1)), np.array([[0.5], [2.0]]), np.ones((2, 1))
    v = _aimed(lambda _, v: np.tanh(v), x, goal, one / 2, one, 1e-9)
    np.testing.assert_allclose(v, [[np.arctanh(0.5)], [np.nan]])


def test_batches_and_tensors():
    a, b = torch.zeros(2, 3, 2), torch.ones(2, 3, 2)
    curves = connecting_geodesic(softmax, a, b, num_points=11)
    assert curves.points.shape == (2, 3, 11, 2) and curves.length.shape == (2, 3)
    assert curves.points.dtype == torch.float32 and curves.converged.dtype == torch.bool
    whole = torch.tensor([0, 0]), torch.tensor([1, 1])
    torch.testing.assert_close(
        connecting_geodesic(softmax, *whole).length.float(), curves.length[0, 0], rtol=1e-2, atol=0
    )
    assert equidistant(softmax, curves.points, 4).shape == (2, 3, 4, 2)
    assert connecting_geodesic(softmax, np.zeros((0, 2)), np.ones((0, 2))).points.shape == (0, 90, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connecting_geodesic(softmax, [0.0, 0.0], [1.0, 1.0], "straight"), "kind must be one of levi-civita"),
        (lambda: connecting_geodesic(softmax, [0.0, np.nan], [0.0, 0.0]), "start must be finite, got nan"),
        (lambda: connecting_geodesic(softmax, [0.0, 0.0], [1.0, 1.0, 1.0]), "start and end must have shapes"),
        (lambda: connecting_geodesic(softmax, [0.0], [2.0], box=([-1], [1])), r"end must be in the box, got \[2.0\]"),
        (
            lambda: connecting_geodesic(softmax, [-2.0], [0.0], box=([-1], [1])),
            r"start must be in the box, got \[-2.0\]",
        ),
        (lambda: connecting_geodesic(softmax, [0.0], [2.0], num_points=2), "num_points must be >= 3, got 2"),
        (lambda: connecting_geodesic(softmax, [0.0], [2.0], box=([1], [1])), "box must be lowest and highest"),
        (lambda: Table(softmax, [0, 0], [1, 0]), "lower and upper must be corners of a box"),
        (
            lambda: connecting_geodesic(Table(softmax, [0, 0], [1, 1], (8, 8)), [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
            "start must have two coordinates for a Table, got 3",
        ),
        (lambda: curve_length(softmax, [0.0, 1.0]), r"points must have shape \[\*batch, num_points, dim\]"),
        (lambda: distance_map(Table(softmax, [0, 0], [1, 1], (8, 8)), [2, 2]), "source must be a point in the table's"),
        (lambda: distance_map(Table(softmax, [0, 0], [1, 1], (8, 8)), [0, 0], (4, 9)), "shape must be >= 5, got 4"),
        (lambda: Table(lambda x: x.log().sum(dim=-1), [-1, 0], [1, 1]), "potential must be finite all over the box"),
        (lambda: Table(softmax, [0, 0], [1, 1], (8, 8))([2.0, 0.0]), "in the box of the table, .* got"),
        (lambda: Table(softmax, [0, 0], [1, 1], (8, 8)).gradient([[2.0, 0.0]]), "in the box of the table, .* got"),
        (lambda: Table(softmax, [0, 0], [1, 1], (8, 8)).hessian([[0.5, -1.0]]), "in the box of the table, .* got"),
        (
            lambda: Table(softmax, [0, 0], [1, 1], (8, 8)).hessian_along([[0.5, 0.5]], [1.0, 1.0]),
            r"vectors must have the shape of points, \(1, 2\), got \(2,\)",
        ),
        (
            lambda: curve_length(Table(softmax, [0, 0], [1, 1], (8, 8)), [[0, 0], [2, 2]]),
            "points must be in the table's",
        ),
        (lambda: Table(softmax, [0, 0], [1, 1], (8, 8))([[0.5]]), r"points must have shape .*, got \(1, 1\)"),
        (lambda: Table(softmax, [0, 0], [1, 1], 8), "shape must be two numbers of nodes, got 8"),
        (lambda: Table.from_values([0, 0], [1, 1], np.zeros(8)), r"values must have shape \[m, n\], got \(8,\)"),
        (lambda: connecting_geodesic(softmax, [0.0], [2.0], tolerance=0), "tolerance must be > 0, got 0"),
        (lambda: logmap(softmax, [0.0], [2.0], box=([-1], [1])), r"end must be in the box, got \[2.0\]"),
        (lambda: logmap(softmax, [0.0], [2.0], tolerance=-1), "tolerance must be > 0, got -1"),
        (lambda: logmap(softmax, [0.0], [2.0], num_steps=0), "num_steps must be >= 1, got 0"),
        (
            lambda: Table(lambda x: x.sum(), [0, 0], [1, 1], (8, 8)),
            r"potential must map points \[64, 2\] to \[64\], got 1 num",
        ),
        (lambda: expmap(softmax, 0.0, 1.0), r"start must have shape \[\*batch, dim\], got \(\)"),
        (lambda: equidistant(softmax, np.zeros((5, 2)), 1), "num must be >= 2, got 1"),
        (
            lambda: connecting_geodesic(normal, [0, 0.5], [0, -1]),
            r"start must be where the .* finite, got \[0.0, 0.5\]",
        ),
        (
            lambda: connecting_geodesic(normal, [0, -1], [0, 0]),
            r"end must be where the potential is finite, got \[0.0, 0",
        ),
        (
            lambda: curve_length(normal, [[0, 0.5], [0, 1]]),
            r"points must be where the potential is finite, got \[0.0, 0",
        ),
        (lambda: curve_energy(normal, [[0, 0.5], [0, 1]]), "points must be where the potential is finite"),
        (lambda: equidistant(normal, [[0, -0.5], [0, 1]]), r"points must be where .* got \[0.0, 1.0\]. Choose others"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_tolerance_is_one_number():
    with pytest.raises(TypeError, match=r"tolerance must be a number, got \[1, 2\]"):
        connecting_geodesic(softmax, [0.0], [2.0], tolerance=[1, 2])


@pytest.mark.parametrize("scale", [1e-3, 1e2, 1e6])
def test_the_units_of_coordinates_do_not_matter(scale):
    """Lengths are invariant under theta -> S theta, eta -> eta / S, and so is every decision on the way."""

    def phi(x):
        a, b = x[:, 0], x[:, 1]
        soft = torch.nn.functional.softplus
        return soft(3 * (a + b)) + soft(2 * (a - 2 * b)) + 0.05 * (x**2).sum(dim=1)

    start, end, unit = np.array([[-1.0, 0.5], [-1.0, -1.0]]), np.array([[1.0, 1.0], [1.0, 0.3]]), [scale, 1 / scale]
    scaled = lambda x: phi(x / torch.tensor(unit, dtype=x.dtype))  # noqa: E731
    for kind in ("levi-civita", "mixture"):
        expected, got = (
            connecting_geodesic(phi, start, end, kind),
            connecting_geodesic(scaled, start * unit, end * unit, kind),
        )
        assert expected.converged.all() and got.converged.all()
        np.testing.assert_array_equal(got.iterations, expected.iterations)
        np.testing.assert_allclose(got.length, expected.length, rtol=1e-9)
        np.testing.assert_allclose(got.points / unit, expected.points, atol=1e-6)
    expected, got = logmap(phi, start, end), logmap(scaled, start * unit, end * unit)
    np.testing.assert_allclose(got / unit, expected, rtol=1e-6)
    bowl = Table(lambda x: ((x / torch.tensor(unit, dtype=x.dtype)) ** 2).sum(dim=-1) / 2, (0, 0), unit, (8, 8))
    np.testing.assert_allclose(distance_map(bowl, [0, 0], (9, 9))[[-1, 0, -1], [0, -1, -1]], [1, 1, 2**0.5], rtol=1e-9)


@pytest.mark.parametrize("kind", ["levi-civita", "mixture"])
def test_a_coordinate_whose_metric_is_rounding(kind):
    """log(e^(x + y) + e^y) = y + softplus(x): the curves are those of softplus, with y straight."""
    flat = lambda p: torch.logsumexp(torch.stack([p[:, 0] + p[:, 1], p[:, 1]]), dim=0)  # noqa: E731
    start, end = [[-2.0, 0.0], [-3.0, 1.0], [0.0, 0.0], [-2.0, 0.0]], [[2.0, 1.0], [1.0, 1.0], [1.0, 2.0], [2.0, 0.0]]
    curves = connecting_geodesic(flat, start, end, kind)
    alone = connecting_geodesic(
        lambda p: torch.nn.functional.softplus(p[:, 0]), *(np.array(x)[:, :1] for x in (start, end))
    )
    assert curves.converged.all() and np.abs(curves.points).max() <= 3
    if kind == "levi-civita":
        np.testing.assert_allclose(curves.length, alone.length, rtol=1e-5)


@pytest.mark.parametrize("far", [10.0, 20.0, 30.0])
def test_mixture_curves_between_plateaus_are_straight_in_every_coordinate(far):
    """At both ends the first coordinate is flat, where its unit must not be taken from."""
    phi = lambda p: torch.nn.functional.softplus(p[:, 0]) + p[:, 1] ** 4 / 4 + p[:, 1] ** 2 / 2  # noqa: E731
    curve = connecting_geodesic(phi, [-far, 0.0], [far, 2.0], "mixture")
    eta = np.stack([1 / (1 + np.exp(-curve.points[:, 0])), curve.points[:, 1] ** 3 + curve.points[:, 1]], axis=1)
    straight = eta[0] + np.linspace(0, 1, len(eta))[:, None] * (eta[-1] - eta[0])
    assert curve.converged
    np.testing.assert_allclose(eta, straight, atol=1e-4)


def test_what_has_learned_a_potential_is_one():
    """A straight line in x^2 / 2, learned of x ~ N(t, 1) in two dimensions, is as long as the distance."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, (2000, 2))
    posterior = ExponentialFamilyPosterior(kink=False, resolution=2).fit(t + rng.normal(size=t.shape), t)
    start, end = [-0.6, 0.0], [0.6, 0.9]
    for model, own in ((posterior, posterior.potential()), (fitted := LogPartition.from_posterior(posterior), None)):
        own = fitted.potential_ if own is None else own
        np.testing.assert_allclose(curve_length(model, [start, end]), 1.5, rtol=0.1)
        lengths = [connecting_geodesic(phi, start, end, num_points=5).length for phi in (model, own)]
        assert lengths[0] == lengths[1]
        np.testing.assert_array_equal(*(expmap(phi, start, end, num_steps=1) for phi in (model, own)))
        for function in (fisher_metric, derivatives.gradient):
            np.testing.assert_array_equal(function(model, start), function(own, start))
        for function in (derivatives.hvp, derivatives.directional_third, derivatives.hessian_along):
            np.testing.assert_array_equal(function(model, start, end), function(own, start, end))
        box = [-1.0, -1.0], [1.0, 1.0], (8, 8)
        np.testing.assert_array_equal(Table(model, *box)(start), Table(own, *box)(start))


def test_what_is_no_potential():
    with pytest.raises(TypeError, match=r"potential must be a module or a function of points, got float\.$"):
        fisher_metric(1.0, [0.0])
    for model in (LogPartition(), LogPartition(torch.nn.Linear(1, 1)), ExponentialFamilyPosterior()):
        with pytest.raises(ValueError, match=rf"fit must be called first, got {type(model).__name__} without it"):
            fisher_metric(model, [0.0])
    with pytest.raises(
        TypeError, match=r"differentiable by torch, got Table[.] Use its gradient, hessian or hessian_al"
    ):
        fisher_metric(Table(softmax, [0, 0], [1, 1], (8, 8)), [0.5, 0.5])


def test_a_way_along_the_edge_of_a_table_is_for_maps_of_distance():
    """At most S wide, normal distributions are joined by two arcs that touch S and a straight line along it."""
    table = Table(normal, (-8.0, -2.0), (8.0, -0.45), (64, 64))
    start, end, S = [-4.0, -0.5], [4.0, -0.5], 0.9**-0.5
    assert not connecting_geodesic(table, start, end).converged
    distances = distance_map(table, start, (129, 129))
    node = tuple(abs(axis - x).argmin() for axis, x in zip(table.axes((129, 129)), end, strict=True))
    length = 2**0.5 * (2 * math.acosh(S) + (8 / 2**0.5 - 2 * (S**2 - 1) ** 0.5) / S)
    assert length * 0.998 < distances[node] < length * 1.01


def test_long_curves_need_more_points():
    ends = [[-300 / 0.01**2, -0.5 / 0.01**2], [300 / 0.01**2, -0.5 / 0.01**2]]  # N(-300, 0.01^2) and N(300, 0.01^2)
    coarse, fine = (connecting_geodesic(normal, *ends, num_points=num) for num in (10, 90))
    assert fine.converged and not coarse.converged
    np.testing.assert_allclose(fine.length, hyperbolic(-300, 0.01, 300, 0.01), rtol=0.01)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_curves_say_in_a_line_what_they_are(kind):
    """Of |x|^2 / 2 lengths are distances."""
    square = lambda x: (x**2).sum(dim=-1) / 2  # noqa: E731
    curves = connecting_geodesic(square, kind([[0.0, 0.0], [0.0, 0.0]]), [[3.0, 4.0], [0.0, 2.5]], num_points=5)
    assert repr(curves) == "Curves(2 of 5 points in 2 dimensions, 2 converged, length 2.5 to 5)"
    curve = connecting_geodesic(square, kind([0.0, 0.0]), [0.0, 2.0], num_points=5)
    assert repr(curve) == "Curves(1 of 5 points in 2 dimensions, 1 converged, length 2)"


def test_equidistant_points_begin_and_end_with_the_curve():
    """Where the first and last segments have no length: |x| - 1/2, squared, beyond 1/2."""
    points = equidistant(lambda x: torch.relu(x[:, 0].abs() - 0.5) ** 2, np.linspace([-0.4], [1.0], 15), 3)
    np.testing.assert_allclose(points, [[-0.4], [0.75], [1.0]])
    points = equidistant(lambda x: torch.relu(x[:, 0].abs() - 0.5) ** 2, np.linspace([1.0], [-0.4], 15), 3)
    np.testing.assert_allclose(points, [[1.0], [0.75], [-0.4]])


@pytest.mark.parametrize("kind", KINDS)
def test_no_pairs(kind):
    curves = connecting_geodesic(softmax, np.zeros((0, 2)), np.ones((0, 2)), kind)
    assert curves.points.shape == (0, 90, 2) and curves.length.shape == (0,)


def test_curves_of_an_indefinite_metric_have_not_converged():
    """Straight lines, which are stationary and no shortest paths: a detour along the other sign is shorter."""
    for potential, start, end in (
        (lambda x: x[..., 0] ** 2 - x[..., 1] ** 2, [0.0, 0.0], [1.0, 0.2]),
        (lambda x: x[..., 0] ** 2 / 2 + 0.6 * torch.sin(2 * x[..., 1]), [0.0, 0.8], [1.0, 0.8]),
    ):
        curve = connecting_geodesic(potential, start, end)
        assert not curve.converged and curve.residual == np.inf
    flat = connecting_geodesic(lambda x: x[..., 0] ** 2 + 0 * x[..., 1], [0.0, 0.0], [1.0, 0.2])
    assert flat.converged and flat.length == pytest.approx(2**0.5)


@pytest.mark.parametrize("phi", [lambda x, y: x + 2 * y, lambda x, y: (x + 0.3 * y) ** 2, lambda x, y: x**2 + 5 * y])
def test_curves_of_a_flat_table_converge(phi):
    """Its second derivatives are rounding, of both signs."""
    axis, rng = np.linspace(-1, 1, 41), np.random.default_rng(0)
    table = Table.from_values((-1, -1), (1, 1), phi(axis[:, None], axis))
    start, end = rng.uniform(-0.9, 0.9, (2, 20, 2))
    assert connecting_geodesic(table, start, end).converged.all()


def test_maps_of_distance_do_not_know_the_slope():
    """A plane added to phi leaves lengths as they are, 1e-3 where the metric is 1e-6, beside means of 1e6."""
    tilted = Table(lambda x: 1e6 * x[:, 0] + (x[:, 0] ** 2 + 1e-6 * x[:, 1] ** 2) / 2, (0, 0), (1, 1), (33, 33))
    assert distance_map(tilted, (0.0, 0.0), (65, 65))[0, -1] == pytest.approx(1e-3, rel=1e-2)
