"""Derivatives of networks and of closed forms: every form against float64, and against formulas."""

import copy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch._dynamo.config
from torch import nn

import hessfast
from hessfast import potentials
from hessfast.derivatives import (
    _forms,
    derivatives,
    directional_third,
    fisher_metric,
    gradient,
    hessian_along,
    hvp,
    pullback_metric,
)

ACTIVATIONS = [nn.ReLU, nn.Softplus, nn.SiLU, nn.Tanh, nn.GELU]


def network(act=nn.Softplus, dim=2, norm=False, seed=0):
    torch.manual_seed(seed)
    layers = []
    for width in (24, 24):
        layers += [nn.Linear(dim if not layers else 24, width), *([nn.LayerNorm(width)] if norm else []), act()]
    return nn.Sequential(*layers, nn.Linear(24, 1))


def standardised(kind, dim=2):
    torch.manual_seed(0)
    inside = potentials.build(kind, dim, 20, 3)
    whole = potentials.Standardised(inside, [0.3] * dim, [1.7] * dim)
    whole.height.fill_(2.5)
    return whole


def points(num=100, dim=2):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(1))


def exact(potential, x):
    """Value, gradient and Hessian by nested forward and reverse mode in float64."""
    double = potential.double() if isinstance(potential, nn.Module) else potential

    def f(y):
        return double(y[None]).reshape(())

    results = [torch.func.vmap(g)(x.double()).detach() for g in (f, torch.func.grad(f), torch.func.hessian(f))]
    if isinstance(potential, nn.Module):
        potential.float()
    return results


NETWORKS = {f"{act.__name__}{' norm' * norm}": (act, norm) for act in ACTIVATIONS for norm in (False, True)}


@pytest.mark.parametrize("form", ["fused", "eager"])
@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, dim, form):
    act, norm = NETWORKS[name]
    net, x = network(act, dim, norm), points(dim=dim)
    got = derivatives(net, x, form=form, chunk=33, verify=True)
    for mine, right in zip(got, exact(net, x), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - right).abs().max() <= 1e-5 * (right.abs().max() + 1e-6)


@pytest.mark.parametrize("kind", potentials.KINDS)
def test_potentials_of_the_package_are_fused(kind):
    potential, x = standardised(kind), points()
    got = derivatives(potential, x, form="fused")
    for mine, right in zip(got, exact(potential, x), strict=True):
        assert (mine - right).abs().max() <= 1e-5 * right.abs().max()


def test_points_far_from_the_origin_keep_their_digits():
    """Folded into a float32 bias, the centre would leave H[1, 1] 31 % off; a centre within a centre is folded."""
    torch.manual_seed(0)
    near, far = (potentials.Standardised(potentials.build("softplus", 2, 16, 2), [c] * 2, [0.5] * 2) for c in (0, 1e6))
    far.potential.load_state_dict(near.potential.state_dict())
    x = torch.tensor([[0.25, -0.125]])
    for form in ("fused", "eager"):
        torch.testing.assert_close(fisher_metric(far, x + 1e6, form=form), fisher_metric(near, x), rtol=1e-4, atol=1e-7)
    nested = potentials.Standardised(standardised("convex"), [0.1, 0.2], [0.3, 0.4])
    derivatives(nested, points(), form="fused", verify=True)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@torch._dynamo.config.patch(recompile_limit=1)  # torch's own is eight
def test_compiled_takes_any_number_of_shapes():
    def potential(x):
        return x.sin().prod(-1)

    for num in (3, 4):
        x = points(num)
        got, right = (derivatives(potential, x, form=form) for form in ("compiled", "eager"))
        torch.testing.assert_close(tuple(got), tuple(right))


def test_modules_that_were_compiled_have_all_derivatives():
    net, x = network(), points(4)
    fast = torch.compile(net)
    for f in (gradient, fisher_metric, lambda f, x: fisher_metric(f, x, form="eager"), lambda f, x: hvp(f, x, x)):
        assert torch.equal(f(fast, x), f(net, x))


def test_compiled_says_where_torch_has_no_rule():
    with pytest.raises(RuntimeError, match=r'form must be "eager" here: torch\.compile failed'):
        derivatives(lambda x: (x**4).sum(-1) if x.sum().item() > 0 else x.sum(-1), points(64), form="compiled")


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("potential", [lambda x: (x**4).sum(-1), lambda x: x.logsumexp(-1), lambda x: x.cos().prod(-1)])
def test_compiled_functions(potential):
    x = points(64)
    got, right = (derivatives(potential, x, form=form) for form in ("compiled", "eager"))
    for one, other in zip(got, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", ["Softplus", "Tanh", "GELU"])
def test_compiled(name):
    act, norm = NETWORKS[name]
    net, x = network(act, 2, norm), points(64)
    got = derivatives(net, x, form="compiled", verify=True)
    for mine, right in zip(got, exact(net, x), strict=True):
        assert (mine - right).abs().max() <= 1e-5 * right.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_products_with_vectors(name):
    act, norm = NETWORKS[name]
    net, x = network(act, 3, norm), points(20, 3)
    v = torch.randn(20, 4, 3, generator=torch.Generator().manual_seed(2))
    right = exact(net, x)[2]
    size = right.abs().max() + 1e-6
    assert (hvp(net, x, v, chunk=7) - torch.einsum("nij,nkj->nki", right, v.double())).abs().max() < 1e-5 * size
    assert (hvp(net, x, v[:, 0]) - torch.einsum("nij,nj->ni", right, v[:, 0].double())).abs().max() < 1e-5 * size
    net.double()
    w, step = v[:, 0].double(), 1e-5
    ahead, behind = (derivatives(net, x.double() + s * w).hessian for s in (step, -step))
    slope = (ahead - behind) / (2 * step)
    third = hessian_along(net, x.double(), w)
    bend = directional_third(net, x.double(), w)
    # torch's own third derivative of LayerNorm is wrong; that of the package is not
    torch.testing.assert_close(third, slope, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(bend, torch.einsum("nij,nj->ni", third, w), rtol=1e-9, atol=1e-10)  # grad (w^T H w)


def test_closed_form_in_five_dimensions():
    """Softmax family: H = diag(p) - p p^T."""
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    metric = hessfast.fisher_metric(lambda t: torch.logsumexp(torch.nn.functional.pad(t, (0, 1)), dim=-1), x)
    p = np.exp(x) / (1 + np.exp(x).sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(metric, p[..., None] * np.eye(5) - p[..., None] * p[..., None, :], atol=1e-14)
    assert isinstance(metric, np.ndarray) and metric.dtype == np.float64


def test_it_takes_the_place_of_the_released_metric_tensor():
    def metric_tensor(x, convex_function):  # minus the Hessian, row by row
        x = x.detach().requires_grad_()
        slope = torch.autograd.grad(-convex_function(x).sum(), x, create_graph=True)[0]
        return torch.stack([torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)], dim=1)

    net, x = network(nn.ReLU, norm=True), points()
    torch.testing.assert_close(fisher_metric(lambda y: -net(y), x), metric_tensor(x, net), rtol=1e-4, atol=1e-6)


def test_batches_kinds_and_emptiness():
    net = network()
    for shape in ((2,), (0, 2), (4, 5, 2)):
        got = derivatives(net, torch.zeros(shape))
        assert got.value.shape == shape[:-1] and got.gradient.shape == shape and got.hessian.shape == (*shape, 2)
        other = derivatives(net, np.zeros(shape), form="eager")
        assert isinstance(other.hessian, np.ndarray) and other.hessian.shape == (*shape, 2)
    assert derivatives(lambda x: 3 * x[:, 0], np.ones((2, 2))).hessian.tolist() == [[[0, 0], [0, 0]]] * 2
    assert hvp(net, torch.zeros(0, 2), torch.zeros(0, 2)).shape == (0, 2)
    assert derivatives(net, torch.zeros(0, 2), verify=True).value.shape == (0,)
    assert {x.dtype for x in derivatives(net, np.zeros((3, 2), np.float32))} == {np.dtype(float)}
    with pytest.raises(TypeError, match=r"points must be floating point, got torch\.int64"):
        derivatives(net, torch.zeros(3, 2, dtype=torch.int64))


def test_shared_layers_count_each_time():
    shared = nn.Linear(4, 4), nn.Softplus()
    tied = nn.Sequential(nn.Linear(2, 4), nn.Softplus(), *shared, *shared, nn.Linear(4, 1))
    derivatives(tied, points(), form="fused", verify=True)


def test_layers_may_lack_weights():
    bare = nn.Linear(2, 8, bias=False), nn.LayerNorm(8, elementwise_affine=False), nn.Tanh()
    more = nn.Linear(8, 8), nn.LayerNorm(8, bias=False), nn.Tanh(), nn.Linear(8, 1, bias=False)
    derivatives(nn.Sequential(*bare, *more), points(), form="fused", verify=True)


def test_layers_that_do_not_fit_one_another_have_no_derivatives():
    for layers in ((nn.LayerNorm(2), nn.Tanh(), nn.Linear(4, 1)), (nn.Tanh(), nn.Linear(5, 1))):
        with pytest.raises(ValueError, match='form must be "eager" or "compiled" for this potential'):
            derivatives(nn.Sequential(nn.Linear(2, 4), *layers), points(), form="fused")


def test_training_mode_is_refused_where_it_matters():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1))
    with pytest.raises(ValueError, match=r"evaluation mode, got Dropout; call its \.eval"):
        derivatives(net, points())
    assert torch.isfinite(derivatives(net.eval(), points(), form="fused").hessian).all()


def test_what_is_not_known_is_not_fused():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    net = network()
    doubled = Doubled(*net)
    torch.testing.assert_close(derivatives(doubled, points()).value, 2 * derivatives(net, points()).value)

    class Steeper(nn.Linear):
        def forward(self, x):
            return 3 * super().forward(x)

    class Offset(nn.Identity):
        def forward(self, x):
            return x + 1

    hooked = network()
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    patched = network()
    patched.forward = lambda x: torch.nn.functional.softplus(x).sum(dim=1)
    unknown = [
        doubled,
        hooked,
        patched,
        nn.Sequential(Steeper(2, 4), nn.Tanh(), nn.Linear(4, 1)),
        nn.Sequential(Offset(), nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 4), nn.Softplus(beta=2), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 4), nn.Softplus(threshold=1), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 4), nn.GELU(approximate="tanh"), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4, eps=-1e-3), nn.Tanh(), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1)),
        nn.Sequential(nn.Linear(2, 1)),
        network().double(),
    ]
    for potential in unknown:
        with pytest.raises(ValueError, match='form must be "eager" or "compiled" for this potential'):
            derivatives(potential, points(), form="fused")
        right = exact(potential, points())[2]
        potential.to(torch.float64)
        torch.testing.assert_close(derivatives(potential, points().double()).hessian, right, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", ["fused", "eager"])
def test_the_callers_mode_changes_nothing(form, mode):
    net, right = network(), derivatives(network(), points())
    with mode():
        x = points()
        for mine, expected in zip(derivatives(net, x, form=form), right, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(hvp(net, x, x), torch.einsum("nij,nj->ni", right.hessian, x), rtol=1e-4, atol=1e-6)
        assert hessian_along(net, x, x).abs().max() > 0


@pytest.mark.parametrize("norm", [torch.nn.functional.layer_norm, torch.layer_norm])
def test_third_derivatives_go_through_layer_norm_by_any_name(norm):
    def f(x):
        return norm(torch.tanh(x) @ torch.ones(3, 5, dtype=x.dtype) * torch.arange(1.0, 6), (5,)).square()[:, 0]

    x, w, step = points(10, 3).double(), points(10, 3).double().flip(0), 1e-5
    ahead, behind = (derivatives(f, x + s * w).hessian for s in (step, -step))
    torch.testing.assert_close(hessian_along(f, x, w), (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6)


def test_verify_finds_a_wrong_form(monkeypatch):
    real = _forms.Fused.__call__
    monkeypatch.setattr(_forms.Fused, "__call__", lambda *a: [1.01 * part for part in real(*a)])
    with pytest.raises(ArithmeticError, match=r"value must agree with float64, got a relative deviation of 0\.01"):
        derivatives(network(), points(), verify=True)


def test_functions_of_another_dtype_are_told_what_to_do():
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Softplus(), torch.nn.Linear(8, 1))
    calls = (
        lambda x: derivatives(lambda y: -net(y), x),
        lambda x: potentials.Table(lambda y: -net(y)[:, 0], (0, 0), (1, 1)),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"potential must take points of torch\.float64, got .* lambda x: -network"):
            call(np.zeros((5, 2)))
    assert derivatives(lambda y: -net(y.float()), np.zeros((5, 2))).hessian.shape == (5, 2, 2)


def test_weights_of_inference_mode_are_told_the_remedy():
    with torch.inference_mode():
        net = network()
    for f in (gradient, lambda net, x: fisher_metric(net, x, form="eager"), lambda net, x: hessian_along(net, x, x)):
        with pytest.raises(ValueError, match=r"weights that autograd can record, .* Pass copy\.deepcopy\(potential\)"):
            f(net, points())
        f(copy.deepcopy(net), points())
    derivatives(net, points(), verify=True)


def test_attention_pulls_its_metric_back():
    def attention(x):
        q = torch.stack([x, x.sin()], dim=1)[:, None]
        return torch.nn.functional.scaled_dot_product_attention(q, q, q).flatten(1)

    x = points(4)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: attention(y[None])[0]))(x)
    torch.testing.assert_close(pullback_metric(attention, x), jacobian.mT @ jacobian)


def test_networks_that_cannot_be_copied_are_told_the_remedy():
    layer = torch.nn.utils.weight_norm(nn.Linear(2, 4))
    net = nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 1))
    with pytest.raises(TypeError, match=r"a module that can be copied, .* use torch\.nn\.utils\.parametrizations"):
        derivatives(net, points(), verify=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: derivatives(net, torch.full((1, 2), torch.nan)), "points must be finite"),
        (lambda net: derivatives(net, [[np.inf, 0.0]]), "points must be finite, got inf"),
        (lambda net: derivatives(net, np.zeros((3, 0))), r"points must have shape \[..., dim\]"),
        (lambda net: derivatives(net, points(), form="fast"), "form must be one of fused, eager, compiled"),
        (lambda net: derivatives(net, points(), chunk=0), "chunk must be >= 1, got 0"),
        (lambda net: derivatives(lambda x: x, points()), r"potential must map points \[100, 2\] to \[100\]"),
        (lambda net: derivatives(net, points(dim=3)), "points must have 2 coordinates, as the potential takes, got 3"),
        (lambda net: derivatives(lambda x: x.sum(dim=0), np.eye(2)), r"must map points \[3, 2\] to \[3\], got \(2,\)"),
        (lambda net: derivatives(lambda x: x.detach()[:, 0], points()), "potential must be made of operations"),
        (
            lambda net: derivatives(lambda x: np.sin(x).sum(-1), points()),
            "torch can differentiate, got NumPy's. Use tor",
        ),
        (lambda net: pullback_metric(lambda x: np.sin(x), points()), "decoder must be made of operations .* NumPy's"),
        (lambda net: hessian_along(net, points(), torch.zeros(100, 4, 2)), "vectors must have the shape of points"),
        (lambda net: hvp(net, points(), torch.zeros(100, 0, 2)), "vectors must have the shape of points"),
        (lambda net: hvp(net, points(), points(), chunk=0), "chunk must be >= 1, got 0"),
        (lambda net: hvp(net, points(), points(7)), r"vectors must have the shape of points, \(100, 2\), got \(7, 2\)"),
        (lambda net: directional_third(net, points(), points(dim=3)), "vectors must have the shape of points"),
        (lambda net: potentials.build("deep", 2), "kind must be one of convex, softplus, layernorm, got 'deep'"),
        (
            lambda net: pullback_metric(lambda x: x.sum(), points()),
            r"decoder must map points \[100, 2\] to \[100, ...\], got \(\)",
        ),
        (lambda net: pullback_metric(lambda x: (x, x), points()), r"decoder must map .*, got tuple"),
        (lambda net: derivatives(net, points(dim=3), form="eager"), "many coordinates as the potential takes, got 3: "),
        (lambda net: gradient(net, points(dim=3)), "points must have as many coordinates as the potential takes, got"),
        (lambda net: pullback_metric(net, points(dim=3)), "points must have as many coordinates"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(network())


@pytest.mark.parametrize("function", [lambda x: x @ x / 2, lambda x: torch.dot(x, x) / 2])
def test_functions_of_one_point_are_told_from_those_of_other_dimensions(function):
    """Matrices of shapes that do not fit are met in both."""
    message = r"potential must map points \[n, dim\] to \[n\], got a function of one point. Pass torch.vmap of it"
    for form in (None, "eager"):
        with pytest.raises(ValueError, match=message):
            derivatives(function, points(), form=form)
    np.testing.assert_array_equal(derivatives(torch.vmap(function), np.ones((3, 2))).hessian, np.stack([np.eye(2)] * 3))
    with pytest.raises(ValueError, match=r"to \[100\], got \(2,\)\. Of a function of one point pass torch\.vmap"):
        derivatives(lambda x: x[0] ** 2, points())
    with pytest.raises(ValueError, match=r"decoder must map points \[n, dim\] to \[n, \.\.\.\], got a function of one"):
        pullback_metric(lambda x: torch.eye(2) @ x, points())


def test_a_decoder_may_give_one_number_a_point():
    assert pullback_metric(lambda x: x[:, 0] + 2 * x[:, 1], np.zeros((1, 2))).tolist() == [[[1.0, 2.0], [2.0, 4.0]]]


def test_a_complex_decoder_has_the_metric_of_its_parts():
    """Of exp(i x), a circle; J J^T of complex numbers is cos 2 x."""
    metric = pullback_metric(lambda x: torch.exp(1j * x), np.array([[0.571]]))
    np.testing.assert_allclose(metric, [[[1.0]]])


def test_nothing_is_known_beyond_the_domain():
    """autograd makes -1 / x of the slope of log(-x), whatever the sign of x, and zeros of what is masked."""

    def phi(x):
        return -torch.log(-x[:, 0]) + torch.where(x[:, 1] > 0, x[:, 1] ** 2, torch.nan)

    x, v = np.array([[1.0, 1.0], [-2.0, 1.0], [-1.0, -1.0]]), np.ones((3, 2))
    at = derivatives(phi, x)
    assert at.value[1] == pytest.approx(1 - np.log(2))
    np.testing.assert_allclose(at.gradient[1], [0.5, 2])
    np.testing.assert_allclose(at.hessian[1], [[0.25, 0], [0, 2]])
    others = [gradient(phi, x), hvp(phi, x, v), directional_third(phi, x, v), hessian_along(phi, x, v)]
    np.testing.assert_allclose(others[2][1], [0.25, 0])
    for result in (*at, *others):
        assert np.isnan(result[[0, 2]]).all() and np.isfinite(result[1]).all()


@pytest.mark.parametrize("running", [False, True])
def test_instance_norm_has_its_third_derivative(running):
    """Of torch 2.11 it is wrong, of later ones there is none; by running averages it is linear."""
    torch.manual_seed(0)
    norm = torch.nn.InstanceNorm1d(2, affine=True, track_running_stats=running).eval()
    layers = torch.nn.Unflatten(1, (2, 3)), norm, torch.nn.Flatten()
    net = torch.nn.Sequential(*layers, torch.nn.Linear(6, 4), torch.nn.Softplus(), torch.nn.Linear(4, 1)).double()
    x, h = np.random.default_rng(0).normal(size=(4, 6)), 1e-5

    def curvature(x, v):
        return np.einsum("ni,nij,nj->n", v, fisher_metric(net, x), v)

    expected = [(curvature(x + h * e, x) - curvature(x - h * e, x)) / (2 * h) for e in np.eye(6)]
    np.testing.assert_allclose(directional_third(net, x, x), np.stack(expected, axis=1), rtol=1e-6, atol=1e-6)


def test_layers_without_so_many_derivatives_are_named():
    """torch has one derivative of fused attention."""

    def attention(x):
        q = torch.stack([x, x.sin()], dim=1)[:, None]
        return torch.nn.functional.scaled_dot_product_attention(q, q, q).sum(dim=(1, 2, 3))

    with pytest.raises(
        ValueError, match=r"made of operations that torch can differentiate so often, got: .* elementary"
    ):
        fisher_metric(attention, np.random.default_rng(0).normal(size=(4, 3)))


def test_errors_of_a_potential_of_its_own_are_left_alone():
    """Though it takes one point as well as many."""

    def full(x):
        if x.ndim == 2 and len(x) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return x[..., 0]

    with pytest.raises(torch.OutOfMemoryError):
        gradient(full, torch.zeros(3, 2))


def test_splines_and_polynomials_refuse_other_coordinates():
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    knots = torch.tensor([-1.0] * 4 + [1.0] * 4)
    for potential in (
        potentials.PolynomialPotential(low, high, torch.tensor([[1], [2]]), torch.tensor([1.0, 2.0])),
        potentials.SplinePotential([knots], torch.ones(4)),
    ):
        with pytest.raises(ValueError, match="points must have as many coordinates as the potential takes, 1, got 3"):
            gradient(potential, torch.zeros(2, 3))


@pytest.mark.parametrize(
    "program",
    [
        "import numpy as np; from hessfast.derivatives import pullback_metric\n"
        "print(pullback_metric(lambda x: 3 * x, np.zeros((1, 2)))[0, 1, 1])",
        "from hessfast.slices import SlicePlan, from_callable, lipschitz\n"
        "plan = SlicePlan([[[[0.0, 1.0]]], [[[9.0, 1.0]]]], [[0.5]], normalise=False)\n"
        "print(round(float(lipschitz(plan, from_callable(lambda z: z, 'same')).constant[0]), 4))",
    ],
)
def test_forward_derivatives_do_not_pass_on_torchs_own_warnings(program):
    """The first one of a process loads what torch itself calls deprecated."""
    done = subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("9.0\n", "")
