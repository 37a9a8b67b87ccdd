"""Fisher curves against closed forms and quadrature, through every adapter; their errors; what must be refused."""

import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from hessfast.diffusability import (
    Activated,
    Denoiser,
    GaussianMixture,
    Sphere,
    empirical,
    fisher_curve,
    from_denoiser,
    from_density,
    from_diffusers,
    from_edm,
    from_edm_raw,
    from_flow,
    from_score,
    gaussian_curves,
    train_denoiser,
)
from hessfast.diffusability.networks import UNet

ROOT = Path(__file__).resolve().parent.parent
ESTIMATES = ("fisher_information", "fisher_information_plug_in", "fisher_information_dsm")


def leaky(x):
    return nn.functional.leaky_relu(torch.as_tensor(x), 0.1)


@pytest.mark.parametrize(
    ("density", "tau", "information", "rate"),  # by quadrature in other programs, to the digits shown
    [
        (GaussianMixture([[-1.0], [1.0]], [0.01, 0.01]), 0.1, 8.76442714, 91.40814780),
        (GaussianMixture([[-1.0], [1.0]], [0.01, 0.01]), 1.0, 0.54627292, 0.40821765),
        (GaussianMixture([[-1.0], [1.0]], [0.0, 0.0]), 0.25, 2.90244146, 17.50214164),
        (GaussianMixture([[-2.0], [1.0]], [0.25, 0.04], [0.3, 0.7]), 0.1, 5.7473823389, 39.7337110570),
        (GaussianMixture([[-2.0], [1.0]], [0.25, 0.04], [0.3, 0.7]), 1.0, 0.5490925617, 0.6004460164),
        (Activated(leaky), 0.01, 26.4597322493, 1956.0286112875),
        (Activated(leaky), 0.1, 4.0310313003, 31.8070526446),
        (Activated(leaky, 2), 1.0, 2 * 0.7431095161, 2 * 0.5753558626),
        (Activated(torch.tanh), 0.1, 2.971901909, 18.739867005),
        (Activated(torch.tanh), 1.0, 0.718991297, 0.521255899),
    ],
)
def test_quadrature(density, tau, information, rate):
    exact = density.exact(tau)
    assert exact.fisher_information == pytest.approx(information, rel=2e-8)
    assert exact.fisher_information_rate == pytest.approx(rate, rel=2e-8)
    assert exact.mmse == pytest.approx(density.dim * tau - tau**2 * information, rel=1e-6)
    assert exact.mmse_rate == pytest.approx(density.dim - 2 * tau * information + tau**2 * rate, rel=1e-5)


def test_two_points():
    """E[X | y] of two atoms at +-1 is tanh(y / tau)."""
    y = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    atoms = GaussianMixture([[-1.0], [1.0]], [0.0, 0.0])
    torch.testing.assert_close(atoms.posterior_mean(y, 0.3), torch.tanh(y / 0.3))
    assert atoms.exact(0.25).mmse == pytest.approx(0.06859741, abs=1e-8)
    assert atoms.exact(0.25).mmse_rate == pytest.approx(0.64266312, abs=1e-8)


@pytest.mark.parametrize(
    "density",
    [
        GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [[[1.0, 0.5], [0.5, 0.5]], [[0.2, 0.0], [0.0, 0.0]]], [1, 3]),
        GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [[0.3, 0.1], [0.2, 0.4]]),
        Activated(leaky, 2),
        Sphere(2, 0.7),
        Sphere(3),
    ],
)
def test_posterior_means_minimise_the_error(density):
    """E<X - D(Y), g(Y)> = 0 for any g, and no constant or shrinking of D does better."""
    x = density.sample(20_000, seed=3)
    y = x + math.sqrt(0.2) * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    mean = density.posterior_mean(y, 0.2)
    for g in (torch.ones_like(y), y, mean, torch.sin(3 * y)):
        product = ((x - mean) * g).sum(dim=1)
        assert abs(product.mean()) < 5 * product.std() / len(x) ** 0.5


def test_mixtures_have_the_score_of_their_density():
    mixture = GaussianMixture([[0.0, 1.0], [1.0, -1.0]], [[[1.0, 0.5], [0.5, 0.5]], [[0.2, 0.0], [0.0, 0.1]]], [1, 3])
    y = torch.randn((5, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    (score,) = torch.autograd.grad(mixture.log_density(y, 0.3).sum(), y)
    torch.testing.assert_close(from_density(mixture).score(y, 0.3), score)


@pytest.mark.parametrize("tau", [0.01, 1.0, 100.0])
def test_a_gaussian_sweep(tau):
    """Eigenvalues 4, 1, 1/4 and a flat direction; signs see a diagonal Jacobian without error."""
    eigenvalues = [4.0, 1.0, 0.25, 0.0]
    density = GaussianMixture([[0.0] * 4], [eigenvalues])
    curve, exact = fisher_curve(from_density(density), density.sample(3000, 1), tau), gaussian_curves(eigenvalues, tau)
    assert curve.fisher_information.mean[0] == pytest.approx(exact.fisher_information, rel=1e-9)
    assert curve.fisher_information_rate.mean[0] == pytest.approx(exact.fisher_information_rate, rel=1e-9)
    assert curve.mmse_rate.mean[0] == pytest.approx(exact.mmse_rate, rel=1e-7)
    assert abs(curve.mmse.mean[0] - exact.mmse) < 5 * curve.mmse.sem[0]
    for name in ESTIMATES[1:]:
        estimate = getattr(curve, name)
        assert abs(estimate.mean[0] - exact.fisher_information) < 5 * estimate.sem[0]
    assert curve.warnings == ()


def test_a_mixture_sweep_and_its_standard_errors():
    """Forty repeats: z-scores of every estimate against quadrature are those of a normal distribution."""
    density, tau = GaussianMixture([[-2.0], [1.0]], [0.25, 0.04], [0.3, 0.7]), np.array([1.0, 4.0])
    exact = [density.exact(t) for t in tau]
    names = {name: 0 for name in ESTIMATES} | {"fisher_information_rate": 1, "mmse": 2, "mmse_rate": 3}
    scores = []
    for repeat in range(40):
        curve = fisher_curve(
            from_density(density), density.sample(1500, 100 + repeat), tau, seed=repeat, batch_size=2000
        )
        for name, place in names.items():
            estimate = getattr(curve, name)
            scores.append((estimate.mean - [e[place] for e in exact]) / estimate.sem)
    scores = np.array(scores).reshape(40, len(names), 2)
    assert np.abs(scores).max() < 5.5
    assert (scores.std(axis=0) > 0.7).all() and (scores.std(axis=0) < 1.45).all()
    assert (np.abs(scores.mean(axis=0)) < 4.5 / np.sqrt(40)).all()


def test_plug_in_profits_from_its_control_variate():
    density = GaussianMixture([[0.0] * 16], [1e-3])
    curve = fisher_curve(from_density(density), density.sample(500, 1), 1.0)
    assert curve.fisher_information_plug_in.sem[0] < 0.1 * np.sqrt(2 * 16 / 500)  # of |Z|^2 alone


def test_the_rate_is_the_slope():
    density = GaussianMixture([[-1.0], [1.0]], [0.01, 0.01])
    tau = np.geomspace(0.5, 2, 25)
    curve = fisher_curve(from_density(density), density.sample(4000, 0), tau, batch_size=4000)
    inner = slice(1, -1)
    slope = curve.fisher_information_rate_by_differences[inner]
    np.testing.assert_allclose(slope, curve.fisher_information_rate.mean[inner], rtol=0.05)


def test_intrinsic_dimension():
    """Three of five dimensions are filled."""
    density = GaussianMixture([[0.0] * 5], [[1.0, 1.0, 1.0, 0.0, 0.0]])
    curve = fisher_curve(from_density(density), density.sample(4000, 0), 1e-4)
    for estimate in curve.intrinsic_dimension.values():
        assert estimate[0] == pytest.approx(3, rel=0.1)


def test_the_circle():
    exact = {"fisher_information": 99.48691197, "fisher_information_rate": 1e4 + 1.37177, "mmse_rate": 1.01039894}
    curve = fisher_curve(from_density(Sphere(2)), Sphere(2).sample(20_000, 0), 0.01, num_probes=4, batch_size=4000)
    for name, value in exact.items():
        estimate = getattr(curve, name)
        assert abs(estimate.mean[0] - value) < 5 * estimate.sem[0]
    assert abs(curve.mmse.mean[0] / 0.01 - 1.00513088) < 5 * curve.mmse.sem[0] / 0.01


def adapters(density):
    """One density as what every kind of model would predict of it."""

    def clean(y, tau):
        return density.posterior_mean(y, tau)

    def per_row(function):  # networks are told the time of each row, which here is the same for all
        return lambda x, time: function(x, float(time[0]))

    def raw(scaled, noise):  # F of EDM with sigma_data = 1/2
        tau = math.exp(8 * noise)
        y, total = scaled * math.sqrt(tau + 0.25), tau + 0.25
        return (clean(y, tau) - 0.25 / total * y) / math.sqrt(tau * 0.25 / total)

    def velocity(x, t):
        y, tau = x / (1 - t), (t / (1 - t)) ** 2
        return (x - clean(y, tau)) / t

    cumulative = torch.linspace(-6, 12, 1000, dtype=torch.float64).exp().add(1).reciprocal()  # tau from e^-6 to e^12

    def diffusion(kind):
        def model(x, time):
            k = float(time[0])
            low = min(int(k), 998)
            log_tau = [math.log((1 - float(a)) / float(a)) for a in cumulative[low : low + 2]]
            tau = math.exp(log_tau[0] + (k - low) * (log_tau[1] - log_tau[0]))
            a = 1 / math.sqrt(1 + tau)
            x0 = clean(x / a, tau)
            eps = (x - a * x0) / math.sqrt(1 - a * a)
            prediction = {"epsilon": eps, "v_prediction": a * eps - math.sqrt(1 - a * a) * x0, "sample": x0}[kind]
            return SimpleNamespace(sample=prediction)

        scheduler = SimpleNamespace(alphas_cumprod=cumulative, config=SimpleNamespace(prediction_type=kind))
        return from_diffusers(model, scheduler)

    yield "denoiser", from_denoiser(clean)
    yield "score", from_score(lambda y, tau: (clean(y, tau) - y) / tau)
    yield "edm", from_edm(lambda y, sigma: clean(y, float(sigma[0]) ** 2))
    yield "raw edm", from_edm_raw(per_row(raw), 0.5)
    yield "flow", from_flow(per_row(velocity))
    yield from ((kind, diffusion(kind)) for kind in ("epsilon", "v_prediction", "sample"))


def test_every_adapter_says_the_same():
    density = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.3])
    x, tau = density.sample(300, 0), [0.05, 1.0, 30.0]
    expected = fisher_curve(from_density(density), x, tau)
    for name, model in adapters(density):
        curve = fisher_curve(model, x, tau)
        for field in (*ESTIMATES, "fisher_information_rate", "mmse", "mmse_rate"):
            np.testing.assert_allclose(
                getattr(curve, field).mean, getattr(expected, field).mean, rtol=1e-6, err_msg=f"{name}: {field}"
            )


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_the_empirical_denoiser_is_that_of_its_points(leave_one_out):
    """A mixture of points, in float64 and by automatic differentiation, with and without each sample's own point."""
    x = torch.randn((60, 3), generator=torch.Generator().manual_seed(0))
    every = torch.arange(60)
    points = GaussianMixture(x.double(), torch.zeros(60))

    def without(y, tau):
        rows = [GaussianMixture(x[every != i].double(), torch.zeros(59)).posterior_mean(y[i, None], tau) for i in every]
        return torch.cat(rows)

    expected = from_denoiser(without if leave_one_out else points.posterior_mean)
    ours = empirical(x, leave_one_out=leave_one_out)
    one, other = (fisher_curve(model, x, [0.1, 2.0], batch_size=64) for model in (ours, expected))
    for name in (*ESTIMATES, "fisher_information_rate", "mmse", "mmse_rate"):
        np.testing.assert_allclose(getattr(one, name).mean, getattr(other, name).mean, rtol=1e-4)
    assert ours.tau_range[0] == pytest.approx(
        0.75 * float(torch.cdist(x, x).fill_diagonal_(9).min(1).values.median()) ** 2
    )
    with pytest.raises(ValueError, match="samples must"):
        fisher_curve(ours, x[:30] if leave_one_out else x[:, :2], 1.0)


def test_the_empirical_denoiser_finds_the_distribution_behind_its_data():
    density = GaussianMixture([[0.0, 0.0]], [1.0])
    data, held_out = density.sample(4000, 0).float(), density.sample(2000, 1).float()
    curve, exact = fisher_curve(empirical(data), held_out, 1.0, batch_size=2000), gaussian_curves([1.0, 1.0], 1.0)
    assert curve.fisher_information.mean[0] == pytest.approx(exact.fisher_information, rel=0.05)
    assert curve.mmse_rate.mean[0] == pytest.approx(exact.mmse_rate, rel=0.1)
    assert curve.warnings == ()
    assert "good for" in fisher_curve(empirical(data), held_out[:100], 1e-6).warnings[-1]


def test_training():
    """N(0, I) shifted by 3: FI within 5 %, FIR within 10 % after some seconds, and again after an interruption."""
    x = 3 + torch.randn((4000, 2), generator=torch.Generator().manual_seed(0))
    trained = train_denoiser(x, num_steps=600, batch_size=512)
    tau = np.array([0.1, 1.0])
    curve = fisher_curve(
        trained, 3 + torch.randn((2000, 2), generator=torch.Generator().manual_seed(1)), tau, batch_size=2000
    )
    np.testing.assert_allclose(curve.fisher_information.mean, 2 / (1 + tau), rtol=0.05)
    np.testing.assert_allclose(curve.fisher_information_rate.mean, 2 / (1 + tau) ** 2, rtol=0.1)
    assert curve.warnings == () and trained.tau_range == pytest.approx((4e-4, 100.0))


def test_interrupted_training_is_like_any_other(tmp_path, monkeypatch):
    from hessfast.diffusability import training

    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 4)
    x, file = torch.randn((50, 2), generator=torch.Generator().manual_seed(0)), tmp_path / "denoiser"
    y = torch.ones((1, 2))
    options = {"num_steps": 10, "batch_size": 16, "ema_decay": 0.9}
    whole = train_denoiser(x, **options)(y, 1.0)
    draw = training._batch

    def interrupted(x, plan, step):
        if step == 6:
            raise KeyboardInterrupt
        return draw(x, plan, step)

    monkeypatch.setattr(training, "_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(x, checkpoint=file, **options)
    monkeypatch.setattr(training, "_batch", draw)
    assert torch.equal(train_denoiser(x, checkpoint=file, **options)(y, 1.0), whole)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        train_denoiser(x, checkpoint=file, **options | {"num_steps": 11})


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 16, 16)])
def test_networks_of_images(shape):
    network = UNet(shape[1], width=32)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert (network(x, torch.zeros(len(x))) == 0).all()  # so that training begins at the best linear denoiser
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    out = network(x, torch.zeros(len(x)))
    assert out.shape == x.shape and (out - network(x, torch.ones(len(x)))).std() > 1e-3 * out.std()
    torch.testing.assert_close(network(x[:1], torch.zeros(1)), out[:1], rtol=1e-4, atol=1e-4)


def test_refusals_of_training():
    x = torch.randn((20, 2), generator=torch.Generator().manual_seed(0))
    for change, message in (
        ({"samples": torch.ones(5)}, "samples must have shape"),
        ({"samples": torch.full((5, 2), torch.nan)}, "samples must be finite"),
        ({"samples": torch.ones(5, 2)}, "samples must differ"),
        ({"tau_range": (1.0, 0.5)}, "tau_range must be two ascending"),
        ({"ema_decay": 1.0}, "ema_decay must be"),
        ({"num_steps": 0}, "num_steps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            train_denoiser(**{"samples": x, "num_steps": 1, "batch_size": 4} | change)
    with pytest.raises(ArithmeticError, match="loss must be finite"):
        train_denoiser(x, num_steps=50, batch_size=4, learning_rate=1e30)
    with pytest.raises(ValueError, match="data must be"):
        empirical(torch.ones(5))
    with pytest.raises(ValueError, match="data must be finite"):
        empirical(torch.full((5, 2), torch.nan))


def test_no_digits_are_lost_at_the_ends():
    """In float32: the score at small tau through EDM, the Jacobian of the denoiser at large tau through a denoiser."""
    x = torch.randn((200, 3), generator=torch.Generator().manual_seed(0))
    edm = from_edm_raw(lambda scaled, noise: 0 * scaled, 1.0)  # exact for N(0, 1)
    small, large = fisher_curve(edm, x, 1e-6), fisher_curve(edm, x, 1e6)
    assert small.fisher_information.mean[0] == pytest.approx(3 / (1 + 1e-6), rel=1e-9)
    assert large.mmse_rate.mean[0] == pytest.approx(3e-12, rel=1e-5)


def test_batches_change_nothing():
    density = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.3])
    x = density.sample(331, 0)
    whole, parts = (fisher_curve(from_density(density), x, [0.1, 1.0], 2, seed=5, batch_size=b) for b in (1000, 7))
    for name in (*ESTIMATES, "fisher_information_rate", "mmse", "mmse_rate"):
        np.testing.assert_allclose(getattr(parts, name).mean, getattr(whole, name).mean, rtol=1e-12)
        np.testing.assert_allclose(getattr(parts, name).sem, getattr(whole, name).sem, rtol=1e-9)
    other = fisher_curve(from_density(density), x, [0.1, 1.0], 2, seed=6)
    assert (other.mmse.mean != whole.mmse.mean).all()


def _rank(rank, world, folder):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    density = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.3])
    curve = fisher_curve(from_density(density), density.sample(331, 0), [0.1, 1.0], seed=5, relative_error=0.2)
    np.save(f"{folder}/{world}-{rank}.npy", np.stack([curve.fisher_information.mean, curve.mmse_rate.sem]))
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_change_nothing(world, tmp_path):
    code = (
        f"from tests.test_diffusability import _rank; import sys; _rank(int(sys.argv[1]), {world}, {str(tmp_path)!r})"
    )
    ranks = [subprocess.Popen([sys.executable, "-c", code, str(rank)], cwd=ROOT) for rank in range(world)]
    assert [process.wait(120) for process in ranks] == [0] * world
    density = GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], [0.1, 0.3])
    alone = fisher_curve(from_density(density), density.sample(331, 0), [0.1, 1.0], seed=5, relative_error=0.2)
    for rank in range(world):
        together = np.load(tmp_path / f"{world}-{rank}.npy")
        np.testing.assert_allclose(together[0], alone.fisher_information.mean, rtol=1e-13)
        np.testing.assert_allclose(together[1], alone.mmse_rate.sem, rtol=1e-9)


def test_the_stop_rule():
    density = GaussianMixture([[-1.0], [1.0]], [0.01, 0.01])
    x = density.sample(30_000, 2)
    curve = fisher_curve(from_density(density), x, [1.0, 10.0], relative_error=0.02)
    used = curve.fisher_information.num_samples
    assert (used < 30_000).all() and curve.warnings == ()
    for name, place in {"fisher_information": 0, "fisher_information_rate": 1, "mmse_rate": 3}.items():
        estimate = getattr(curve, name)
        assert (estimate.sem <= 0.02 * estimate.mean).all()
        exact = np.array([density.exact(t)[place] for t in curve.tau])
        assert (np.abs(estimate.mean - exact) < 4.5 * estimate.sem).all()
    short = fisher_curve(from_density(density), x[:200], [1.0], relative_error=0.002)
    assert "samples ran out" in short.warnings[0]


def test_warnings_fire_on_planted_failures():
    density = GaussianMixture([[-1.0], [1.0]], [0.01, 0.01])
    x = density.sample(4000, 0)
    wrong = from_denoiser(lambda y, tau: 0.5 * density.posterior_mean(y, tau))
    assert any("disagree" in text for text in fisher_curve(wrong, x, 0.1).warnings)
    worse = from_denoiser(lambda y, tau: 0 * y + 3 * torch.tanh(y))
    assert any("best linear" in text for text in fisher_curve(worse, x, 0.1).warnings)
    outside = Denoiser(from_density(density).predict, from_density(density).coefficients, tau_range=(0.01, 1.0))
    assert any("good for" in text for text in fisher_curve(outside, x, [0.1, 5.0]).warnings)
    assert fisher_curve(outside, x, [0.1, 0.9]).warnings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "tau must be positive"),
        ({"tau": [1.0, 0.5]}, "tau must be positive and ascending"),
        ({"tau": []}, "tau must be"),
        ({"tau": float("nan")}, "tau must be finite"),
        ({"samples": torch.ones(1, 2)}, "samples must have shape"),
        ({"samples": torch.ones(5)}, "samples must have shape"),
        ({"samples": torch.full((5, 2), torch.nan)}, "samples must be finite"),
        ({"num_probes": 0}, "num_probes must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"relative_error": 0.0}, "relative_error must be > 0"),
        ({"denoiser": from_denoiser(lambda y, tau: y.sum(dim=1))}, "denoiser must return the shape"),
        ({"denoiser": from_denoiser(lambda y, tau: y / 0 * 0)}, "denoiser must return finite"),
        ({"denoiser": from_denoiser(lambda y, tau: y.detach() / 2)}, "torch can differentiate"),
    ],
)
def test_refusals(change, message):
    arguments = {"denoiser": from_denoiser(lambda y, tau: y / 2), "samples": torch.ones(5, 2), "tau": 1.0} | change
    with pytest.raises(ValueError, match=message):
        fisher_curve(**arguments)


def test_refusals_of_models():
    with pytest.raises(ValueError, match="covariances and weights must fit"):
        GaussianMixture([[0.0], [1.0]], [1.0])
    with pytest.raises(ValueError, match="positive semidefinite"):
        GaussianMixture([[0.0]], [[-1.0]])
    with pytest.raises(ValueError, match="sigma_data must be > 0"):
        from_edm_raw(lambda x, t: x, 0.0)
    with pytest.raises(ValueError, match="scheduler must have alphas_cumprod"):
        from_diffusers(lambda x, t: x, SimpleNamespace())
    with pytest.raises(ValueError, match="dim must be 2 or 3"):
        Sphere(4)
