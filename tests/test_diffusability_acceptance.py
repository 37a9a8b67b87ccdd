"""What Fisher curves promise, measured: errors of errors, the stop rule, trained toys, warnings, memory, asymmetry."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hessfast.diffusability import (
    GaussianMixture,
    Sphere,
    TransformedNormal,
    _samples,
    empirical_denoiser,
    from_denoiser,
    from_density,
    gaussian_curves,
    train_denoiser,
)
from hessfast.diffusability.curves import fisher_curve, fisher_information, fisher_information_rate, mmse_rate
from hessfast.diffusability.networks import MLP, UNet

NAMES = ("fisher_information", "fisher_information_rate", "mmse_rate")
ANGLES = 2 * np.pi * np.arange(8) / 8
RING, WIDTH = 2 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1), 0.2  # eight Gaussians on a circle of radius 2
LEVELS = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]


pytestmark = pytest.mark.usefixtures("one_thread")


def ring(tau):
    """FI, FIR and MMSE' of the eight Gaussians on a grid in the plane, by the sums over components written out."""
    variance = WIDTH**2 + tau
    places, step = np.linspace(-2 - 9 * variance**0.5, 2 + 9 * variance**0.5, 601, retstep=True)
    total = np.zeros(3)
    for row in np.array_split(places, 8):
        y = np.stack(np.meshgrid(row, places, indexing="ij"), axis=-1).reshape(-1, 1, 2)
        share = np.exp(-((y - RING) ** 2).sum(axis=2) / (2 * variance)) / (16 * np.pi * variance)
        density, pull = share.sum(axis=1), (RING - y) / variance
        share /= np.maximum(density, 1e-300)[:, None]
        score = (share[..., None] * pull).sum(axis=1)
        hessian = np.einsum("nk,nki,nkj->nij", share, pull, pull) - np.einsum("ni,nj->nij", score, score)
        hessian -= np.eye(2) / variance
        parts = score[:, :, None], hessian, np.eye(2) + tau * hessian
        total += step**2 * density @ np.stack([(part**2).sum(axis=(1, 2)) for part in parts], axis=1)
    return total


def line(means, variances, weights=None):
    return GaussianMixture(np.reshape(means, (-1, 1)), variances, weights)


def exact(density, tau):
    """FI, FIR and MMSE' by quadrature or in closed form."""
    curves = density.exact(tau)
    return np.array([getattr(curves, name) for name in NAMES])


def of_normal(eigenvalues, tau):
    curves = gaussian_curves(eigenvalues, tau)
    return np.array([getattr(curves, name) for name in NAMES])


def in_64_dimensions(plane, eigenvalues, seed=0):
    """A mixture along few axes times a normal distribution along the rest, turned at random: sampler and denoiser."""
    means, variances = plane.means.numpy(), plane.variances.numpy()
    k, rest = len(means), len(eigenvalues)
    whole = GaussianMixture(
        np.hstack([means, np.zeros((k, rest))]), np.hstack([variances, np.tile(eigenvalues, (k, 1))]),
        plane.log_weights.exp().numpy(),
    )  # fmt: skip
    normal = torch.randn((64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    turn = torch.linalg.qr(normal).Q
    denoiser = from_denoiser(lambda y, tau: whole.posterior_mean(y @ turn, tau) @ turn.T)
    return lambda num, seed: whole.sample(num, seed) @ turn.T, denoiser


DECAYING = np.geomspace(4, 0.02, 64)  # variances along the axes of a set of images
ONE, OTHER = line([-2, 1], [0.25, 0.04], [0.3, 0.7]), line([0, 0], [0.01, 9], [0.9, 0.1])  # the latter heavy-tailed
PRODUCT = GaussianMixture(
    [[m, 0] for m in (-2, 1) for _ in range(2)], [[v, w] for v in (0.25, 0.04) for w in (0.01, 9)],
    [a * b for a in (0.3, 0.7) for b in (0.9, 0.1)],
)  # fmt: skip
MIXTURES = {  # along how many axes it is one, variances of the rest, and the truth
    "two on a line": (ONE, DECAYING[:63], lambda tau: exact(ONE, tau) + of_normal(DECAYING[:63], tau)),
    "eight on a circle": (
        GaussianMixture(RING, [WIDTH**2] * 8), DECAYING[:62] / 8,
        lambda tau: ring(tau) + of_normal(DECAYING[:62] / 8, tau),
    ),
    "four, heavy-tailed": (
        PRODUCT, np.full(62, 0.3), lambda tau: exact(ONE, tau) + exact(OTHER, tau) + of_normal(np.full(62, 0.3), tau)
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
def test_the_stop_rule_reaches_one_per_cent(name):
    """Fifty seeds at three tau: the truth is within three standard errors, as often as it is of normal errors."""
    plane, eigenvalues, truth = MIXTURES[name]
    sample, denoiser = in_64_dimensions(plane, eigenvalues)
    tau = [0.03, 0.3, 3.0]
    expected = np.stack([truth(t) for t in tau], axis=1)
    scores, errors, used = [], [], []
    for seed in range(50):
        curve = fisher_curve(denoiser, sample(40_000, seed), tau, seed=seed, relative_error=0.01, batch_size=2048)
        assert curve.warnings == ()
        estimates = [getattr(curve, each) for each in NAMES]
        mean, sem = (np.stack([e[part] for e in estimates]) for part in (0, 1))
        scores.append((mean - expected) / sem)
        errors.append(mean / expected - 1)
        used.append(curve.mmse_rate.num_samples)
    scores, errors = np.array(scores), np.array(errors)
    beyond = np.abs(scores) > 3
    rms = np.sqrt((errors**2).mean(axis=(0, 2))).round(4)
    print(f"\n{name}: {beyond.sum()} of {beyond.size} beyond 3 sem, greatest {np.abs(scores).max():.2f}")
    print(f"  rms relative error of FI, FIR, MMSE' {rms}; median samples at each tau {np.median(used, axis=0)}")
    assert beyond.mean() < 0.01 and np.abs(scores).max() < 4.5
    assert np.abs(errors).max() < 0.04


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
def test_the_rate_of_the_mmse_is_best_measured_as_such(name):
    """Variances over a hundred seeds, against D - 2 tau FI + tau^2 FIR with FI = E|s|^2.

    What is lost by cancellation grows with tau. With -v^T H v for FI, of the same probes as FIR, the combination is
    the direct estimate itself, but for rounding.
    """
    plane, eigenvalues, _ = MIXTURES[name]
    sample, denoiser = in_64_dimensions(plane, eigenvalues)
    tau, direct, combined, controlled = np.array([0.03, 0.3, 3.0]), [], [], []
    for seed in range(100):
        x, noise = sample(1024, seed), torch.randn((1024, 64), generator=torch.Generator().manual_seed(seed))
        curve = fisher_curve(denoiser, x, tau, seed=seed, batch_size=1024)
        direct.append(curve.mmse_rate.mean)
        square = [float(denoiser.score(x + t**0.5 * noise, t).square().sum(dim=1).mean()) for t in tau]
        rate = curve.fisher_information_rate.mean
        combined.append(64 - 2 * tau * square + tau**2 * rate)
        controlled.append(64 - 2 * tau * curve.fisher_information_plug_in.mean + tau**2 * rate)
        same = 64 - 2 * tau * curve.fisher_information.mean + tau**2 * rate
        np.testing.assert_allclose(same, curve.mmse_rate.mean, rtol=1e-6)
    plain, less = (np.var(each, axis=0) / np.var(direct, axis=0) for each in (combined, controlled))
    print(f"\n{name}: variance over that of the direct estimate at tau = {tau}: {plain.round(1)}, {less.round(1)} with "
          "the control variate")  # fmt: skip
    assert (plain > [2, 5, 50]).all() and (less > [2, 4, 10]).all()


@pytest.mark.slow
def test_standard_errors_cover():
    """Of 200 repeats the truth is within two standard errors in 95.4 %, for each estimate."""
    tau, covered = [0.3, 3.0], []
    truth = [ONE.exact(t) for t in tau]
    places = {"fisher_information": 0, "fisher_information_plug_in": 0, "fisher_information_dsm": 0}
    places |= {"fisher_information_rate": 1, "mmse": 2, "mmse_rate": 3}
    for seed in range(200):
        curve = fisher_curve(from_density(ONE), ONE.sample(640, seed), tau, seed=seed, batch_size=640)
        estimates = {name: getattr(curve, name) for name in places}
        scores = [(e.mean - [t[places[name]] for t in truth]) / e.sem for name, e in estimates.items()]
        covered.append(scores)
    share = np.mean(np.abs(covered) < 2, axis=0)
    assert (np.abs(np.std(covered, axis=0) - 1) < 0.25).all()  # neither too small nor too large
    print(f"\nwithin 2 sem, by estimate and tau: {share.tolist()}")
    assert (np.abs(share - 0.9545) < 4.5 * (0.9545 * 0.0455 / 200) ** 0.5).all()


@pytest.mark.parametrize(
    ("dim", "tau", "expected"),  # I, R - (D - m) / tau^2 of the leading 1e4, MMSE / tau, MMSE'
    [(2, 0.01, (99.48691197, 1.37177, 1.00513088, 1.01039894)),
     (3, 0.01, (101.01031616, -1.06497, 1.98989684, 1.97968718))],
)  # fmt: skip
def test_spheres_by_quadrature(dim, tau, expected):
    """Along a radius: p_tau is a Bessel function or a hyperbolic sine, score and Jacobian are the denoiser's."""
    sphere = Sphere(dim)
    nodes, weight = np.polynomial.legendre.leggauss(200)
    reach = 12 * tau**0.5
    radius = torch.as_tensor(1 + reach * nodes).clamp(min=1e-6)
    gap = torch.exp(-((radius - 1) ** 2) / (2 * tau)) / (2 * math.pi * tau) ** (dim / 2)
    bessel = torch.special.i0e(radius / tau) if dim == 2 else (1 - torch.exp(-2 * radius / tau)) * tau / (2 * radius)
    area = 2 * math.pi * radius if dim == 2 else 4 * math.pi * radius**2
    share = torch.as_tensor(weight * reach) * gap * bessel * area
    assert float(share.sum()) == pytest.approx(1, abs=1e-12)
    y = torch.nn.functional.pad(radius[:, None], (0, dim - 1)).requires_grad_()
    score = from_density(sphere).score(y, tau)
    hessian = torch.stack([torch.autograd.grad(score[:, k].sum(), y, retain_graph=True)[0] for k in range(dim)], dim=1)
    information = float(share @ score.detach().square().sum(dim=1))
    rate = float(share @ hessian.square().sum(dim=(1, 2)))
    jacobian = torch.eye(dim, dtype=torch.float64) + tau * hessian
    assert information == pytest.approx(expected[0], rel=1e-9)
    assert rate - 1e4 == pytest.approx(expected[1], abs=1e-5)
    assert dim - tau * information == pytest.approx(expected[2], rel=1e-7)
    assert float(share @ jacobian.square().sum(dim=(1, 2))) == pytest.approx(expected[3], rel=1e-8)


def test_encoders_with_bounded_stretch_bound_the_information():
    """hi^-2 I(mu, tau / lo^2) <= I(A mu, tau) <= lo^-2 I(mu, tau / hi^2); not so at the same tau."""
    low, high = 0.5, 3.0
    data, latent = np.array([2.0, 0.7, 0.1]), np.array([high**2 * 2.0, 1.2**2 * 0.7, low**2 * 0.1])
    for tau in np.geomspace(0.01, 100, 9):
        information = gaussian_curves(latent, tau).fisher_information
        assert gaussian_curves(data, tau / low**2).fisher_information / high**2 <= information
        assert information <= gaussian_curves(data, tau / high**2).fisher_information / low**2
    twice = gaussian_curves(4 * data, 1.0).fisher_information
    assert twice < gaussian_curves(data, 1.0).fisher_information / 1.5  # E = 2 x, against lo = hi = 1


def leaky(x):
    return nn.functional.leaky_relu(torch.as_tensor(x), 0.1)


TOYS = {  # density, truth, steps and the bounds on FI and FIR
    "normal": (GaussianMixture([[0.0, 0.0]], [1.0]), None, 1000, 0.02, 0.05),
    "LeakyReLU": (TransformedNormal(leaky, 2), None, 2500, 0.02, 0.05),
    "eight on a circle": (GaussianMixture(RING, [WIDTH**2] * 8), ring, 7000, 0.03, 0.10),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_trained_toys(name):
    """From a million samples; seconds are of the processor, one thread."""
    import time

    density, truth, num_steps, of_information, of_rate = TOYS[name]
    drawn = density.sample(1_000_000, seed=0).float()
    begun = time.process_time()
    denoiser = train_denoiser(drawn, num_steps=num_steps)
    seconds = time.process_time() - begun
    held_out = density.sample(100_000, seed=1).float()
    curve = fisher_curve(denoiser, held_out, LEVELS, batch_size=4096, asymmetry=True)
    expected = np.stack([truth(t) if truth else exact(density, t) for t in LEVELS], axis=1)
    information, rate = (getattr(curve, each) for each in NAMES[:2])
    errors = np.stack([information.mean, rate.mean]) / expected[:2] - 1
    assert curve.asymmetry is not None
    with np.printoptions(precision=2, suppress=True):
        print(f"\n{name}: {num_steps} steps, {seconds:.1f} s\n  FI  {100 * errors[0]} %\n  FIR {100 * errors[1]} %"
              f"\n  sem {100 * information.sem / information.mean} %, {100 * rate.sem / rate.mean} %"
              f"\n  asymmetry {100 * curve.asymmetry.mean / rate.mean} % of FIR")  # fmt: skip
    assert curve.warnings == ()
    assert np.abs(errors[0]).max() < of_information and np.abs(errors[1]).max() < of_rate


def test_asymmetry_of_a_rotation():
    """s = -y / (1 + tau) + w R y with R a quarter turn: |A|^2 = 2 w^2; the curl of a gradient is 0."""
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    x = torch.randn((200, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for w in (0.3, 0.0):
        field = from_denoiser(lambda y, tau, w=w: y / (1 + tau) + tau * w * y @ turn.T)
        curve = fisher_curve(field, x, [0.5, 2.0], asymmetry=True)
        np.testing.assert_allclose(curve.asymmetry.mean, 2 * w**2, rtol=1e-12, atol=1e-30)
        symmetric = 2 / (1 + curve.tau) ** 2
        np.testing.assert_allclose(curve.fisher_information_rate.mean - curve.asymmetry.mean, symmetric, rtol=1e-12)
        assert fisher_curve(field, x, 0.5).asymmetry is None
    density = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.1]]])
    curve = fisher_curve(from_density(density), density.sample(500, 0), [0.1, 1.0], asymmetry=True)
    assert (curve.asymmetry.mean < 1e-25 * curve.fisher_information_rate.mean).all()


def test_asymmetry_of_a_network():
    """Against the Jacobians of a perceptron, row by row; and attention does not stand in the way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, image = MLP(5).double(), UNet(1, width=16, levels=2, blocks=1)
    x = torch.randn((32, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = from_denoiser(lambda y, tau: network(y, y.new_zeros(len(y))))
    tau = 1e-12  # y is x to the digits asked for
    curve = fisher_curve(field, x, tau, num_probes=200, asymmetry=True)
    y = x.clone().requires_grad_()
    outputs = network(y, y.new_zeros(len(y))).sum(dim=0)
    jacobians = torch.stack([torch.autograd.grad(output, y, retain_graph=True)[0] for output in outputs], dim=1)
    turning = ((jacobians - jacobians.mT) / 2).square().sum(dim=(1, 2))
    assert curve.asymmetry.mean[0] * tau**2 == pytest.approx(float(turning.mean()), rel=0.05)
    for weight in image.parameters():
        nn.init.normal_(weight, 0, 0.05, generator=torch.Generator().manual_seed(1))
    pictures = torch.randn((8, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    curve = fisher_curve(from_denoiser(lambda y, tau: image(y, y.new_zeros(len(y)))), pictures, 1.0, asymmetry=True)
    assert curve.asymmetry.mean[0] > 0
    with pytest.raises(ValueError, match="denoiser must be twice differentiable"):
        fisher_curve(empirical_denoiser(x), x[:10], 1.0, asymmetry=True)


def test_one_curve_alone():
    """The same numbers; a standard error is watched for itself, and warnings are given."""
    x, denoiser = ONE.sample(20_000, 0), from_density(ONE)
    curve = fisher_curve(denoiser, x[:500], [0.3, 3.0], seed=3)
    for name, function in zip(NAMES, (fisher_information, fisher_information_rate, mmse_rate), strict=True):
        alone = function(denoiser, x[:500], [0.3, 3.0], seed=3)
        np.testing.assert_array_equal(alone, getattr(curve, name))
    single = fisher_information(denoiser, x, 3.0, relative_error=0.01)
    assert single.sem < 0.01 * single.mean
    assert single.num_samples < fisher_curve(denoiser, x, 3.0, relative_error=0.01).fisher_information.num_samples
    with pytest.warns(UserWarning, match="samples ran out"):
        fisher_information(denoiser, x[:100], 3.0, relative_error=1e-4)


def test_memory_does_not_grow_with_the_samples(monkeypatch):
    """Beyond the samples themselves: the largest tensor made, and all that Python and NumPy hold."""
    monkeypatch.setattr(_samples, "_NUMBERS_AT_ONCE", 2**14)
    peaks = []
    for num in (512, 2048):
        x = torch.randn((num, 4, 4, 4), generator=torch.Generator().manual_seed(0))
        with _Allocations(x) as made:
            tracemalloc.start()
            fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), x, [1.0], batch_size=64)
            held = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        peaks.append((made.largest, held))
    (tensor, python), (tensor_of_more, python_of_more) = peaks
    assert tensor_of_more == tensor < 8 * 2**14 + 1
    assert python_of_more < python + x.numel() * 4 / 10


class _Allocations(TorchDispatchMode):
    """Bytes of the largest tensor that any operation makes, but for views of one."""

    def __init__(self, known):
        super().__init__()
        self.known, self.largest = known.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if torch.is_tensor(result) and result.untyped_storage().data_ptr() != self.known:
            self.largest = max(self.largest, result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("num", [130, 360, 1000])
def test_exact_denoisers_are_not_worse_than_linear_ones(num):
    """Though linear ones that are fitted to few samples of many dimensions seem better on those."""
    x = torch.randn(num, 64, generator=torch.Generator().manual_seed(num))
    levels = [0.18, 0.8, 3.6]
    assert fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), x, levels, 4).warnings == ()
    worse = fisher_curve(from_denoiser(lambda y, tau: 0.3 * y / (1 + tau)), x, levels, 4).warnings
    assert any("worse than the best linear one" in doubt.sentence for doubt in worse)


def test_refusals():
    x = torch.randn((20, 2), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="learning_rate must be > 0"):
        train_denoiser(x, num_steps=1, learning_rate=0.0)
