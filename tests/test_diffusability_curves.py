"""Fisher curves against closed forms and quadrature; their errors, the stop rule and warnings; what must be refused."""

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from hessfast.diffusability import (
    Denoiser,
    Doubt,
    FisherCurveMetric,
    GaussianMixture,
    Sphere,
    _consistency,
    _sweep,
    fisher_curve,
    fisher_information,
    from_denoiser,
    from_density,
    from_edm,
    from_edm_raw,
    from_score,
    gaussian_curves,
)

ROOT = Path(__file__).resolve().parent.parent
ESTIMATES = ("fisher_information", "fisher_information_plug_in", "fisher_information_dsm")


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


def test_the_error_of_the_plug_in_is_that_of_a_regression():
    """Of n = 64 numbers on the control variate: residuals have n - 2 degrees of freedom, those of others n - 1."""
    values = np.random.default_rng(0).normal(size=(64, len(_sweep._QUANTITIES)))
    found = _sweep.estimates(_sweep._sums(values)[None, None], np.ones(1), dim=3)
    plug_in, control = values[:, _sweep._PLUG_IN], values[:, _sweep._CONTROL]
    slope, _ = np.polyfit(control, plug_in, 1)
    residuals = plug_in - plug_in.mean() - slope * (control - control.mean())
    estimate = found["fisher_information_plug_in"]
    assert estimate.mean[0] == pytest.approx(plug_in.mean() - slope * (control.mean() - 3))
    assert estimate.sem[0] == pytest.approx((residuals @ residuals / 62 / 64) ** 0.5)
    mmse = values[:, _sweep.ESTIMATES.index("mmse")]
    assert found["mmse"].sem[0] == pytest.approx(mmse.std(ddof=1) / 8)


def test_blocks_are_as_many_as_share_the_variance():
    values = np.random.default_rng(0).exponential(size=(5, 64, len(_sweep._QUANTITIES))) ** 3
    sums = np.stack([_sweep._sums(block) for block in values])[:, None]
    mmse = values[..., _sweep.ESTIMATES.index("mmse")]
    shares = ((mmse - mmse.mean()) ** 2).sum(axis=1)
    assert _sweep.effective_blocks(sums, "mmse")[0] == pytest.approx(shares.sum() ** 2 / (shares**2).sum())


def test_the_rate_is_the_slope():
    density = GaussianMixture([[-1.0], [1.0]], [0.01, 0.01])
    tau = np.geomspace(0.5, 2, 25)
    curve = fisher_curve(from_density(density), density.sample(4000, 0), tau, batch_size=4000)
    inner = slice(1, -1)
    slope = curve.fisher_information_rate_by_differences[inner]
    np.testing.assert_allclose(slope, curve.fisher_information_rate.mean[inner], rtol=0.05)


def test_slopes_that_differences_do_not_tell():
    """At one tau, and of an information below 0, which no distribution has."""
    x = torch.randn(64, 1)
    one = fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), x, 1.0)
    below = fisher_curve(from_denoiser(lambda y, tau: 2 * y), x, [1.0, 2.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for curve in (one, below):
            assert np.isnan(curve.fisher_information_rate_by_differences).all()


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
    call = f"_rank(int(sys.argv[1]), {world}, {str(tmp_path)!r})"
    code = f"import sys; from tests.test_diffusability_curves import _rank; {call}"
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
    assert "samples ran out" in short.warnings[0].sentence


def test_only_what_is_watched_stops():
    density = GaussianMixture([[-1.0], [1.0]], [0.01, 0.01])
    x, denoiser = density.sample(6000, 2), from_density(density)
    alone = fisher_curve(denoiser, x, [1.0], relative_error=0.02, watched=("fisher_information",))
    usual = fisher_curve(denoiser, x, [1.0], relative_error=0.02)
    assert alone.mmse_rate.num_samples[0] < usual.mmse_rate.num_samples[0]
    assert fisher_information(denoiser, x, [1.0], relative_error=0.02) == alone.fisher_information
    with pytest.raises(TypeError, match=r"watched must be a list of names, got 'mmse'\. Pass \['mmse'\]"):
        fisher_curve(denoiser, x, 1.0, watched="mmse")
    with pytest.raises(TypeError, match=r"watched must be left out for .*, got \['mmse'\]\. Use fisher_curve"):
        fisher_information(denoiser, x, 1.0, watched=["mmse"])


def test_rounding_is_told_and_is_in_the_errors():
    """In float32 of N(0, 1), and of one far from 0 and wide: 1 - tau H is 1 at small tau, 1 + tau H is 0 at large."""
    normal, wide = GaussianMixture([[0.0]], [1.0]), GaussianMixture([[128.0] * 64], [2500.0])
    score = from_score(lambda y, tau: -y / (1 + tau))
    edm = from_edm(lambda y, sigma: y / (1 + sigma[:, None] ** 2))
    for density, denoiser, tau, names, where in (
        (normal, from_density(normal), [1e-8, 1e-7, 1e-6, 1e-3], ("FI", "FIR"), "1e-08, 1e-07, 1e-06"),
        (wide, from_density(wide), [1e-4, 10.0], ("FI", "FIR"), "0.0001"),
        (normal, edm, [1e-12, 1.0], ("FI", "FIR"), "1e-12"),
        (normal, score, [1e8], ("MMSE'",), "1e+08"),
    ):
        x = density.sample(200)
        curve, fine = fisher_curve(denoiser, x.float(), tau), fisher_curve(from_density(density), x, tau)
        exact = [density.exact(t) for t in tau]
        for place, name in enumerate(("fisher_information", "fisher_information_rate", "mmse_rate")):
            estimate, truth = getattr(curve, name), np.array([each[(0, 1, 3)[place]] for each in exact])
            assert (np.abs(estimate.mean - truth) <= estimate.sem + 1e-3 * truth).all(), (name, tau)
        remedy = "use float64, or the raw network with from_edm_raw"
        told = [f"{name} is blurred by rounding at tau = {where}: {remedy}" for name in names]
        assert [doubt.sentence for doubt in curve.warnings if "rounding" in doubt.sentence] == told
        assert not any("rounding" in doubt.sentence for doubt in fine.warnings)
    single = fisher_curve(from_denoiser(lambda y, tau: y.float() / (1 + tau)), normal.sample(200), [1e-6])
    assert "FI is blurred by rounding" in str(single.warnings[0])
    raw = fisher_curve(from_edm_raw(lambda y, c_noise: 0 * y, 1.0), x.float(), [1e-12, 1e-6, 1.0, 1e8])
    assert raw.warnings == () and (raw.fisher_information.sem < 1e-8).all()


def test_few_samples_tell_errors_badly():
    normal = from_denoiser(lambda y, tau: y / (1 + tau))
    few = Doubt("standard errors of 4 samples may be several times too small")
    assert fisher_curve(normal, torch.randn(4, 1), 1.0).warnings == (few,) and few.about(np.ones(2)).all()
    assert fisher_curve(normal, torch.randn(20, 1), 1.0).warnings == ()


def test_warnings_fire_on_planted_failures():
    density = GaussianMixture([[-1.0], [1.0]], [0.01, 0.01])
    x = density.sample(4000, 0)
    wrong = from_denoiser(lambda y, tau: 0.5 * density.posterior_mean(y, tau))
    assert any("disagree" in doubt.sentence for doubt in fisher_curve(wrong, x, 0.1).warnings)
    worse = from_denoiser(lambda y, tau: 0 * y + 3 * torch.tanh(y))
    assert any("best linear" in doubt.sentence for doubt in fisher_curve(worse, x, 0.1).warnings)
    outside = Denoiser(from_density(density).predict, from_density(density).coefficients, tau_range=(0.01, 1.0))
    assert any("good for" in doubt.sentence for doubt in fisher_curve(outside, x, [0.1, 5.0]).warnings)
    assert fisher_curve(outside, x, [0.1, 0.9]).warnings == ()
    ends = np.geomspace(0.01, 1, 7)[[0, -1]] * [1 - 1e-15, 1 + 1e-15]
    assert not any("good for" in doubt.sentence for doubt in fisher_curve(outside, x, ends).warnings)


@pytest.mark.parametrize("num", [40, 10])
def test_the_best_linear_denoiser_is_judged_on_samples_that_it_has_not_seen(num):
    """Of twenty in three dimensions with their covariance, of five with their variances alone."""
    mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 2.0]], dtype=torch.float64)
    x = torch.randn((num, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ mix
    expected, tau = [], 0.7
    for fitted, judged in ((x[::2], x[1::2]), (x[1::2], x[::2])):
        covariance = torch.cov(fitted.T) if num == 40 else torch.diag(fitted.var(dim=0))
        gain = covariance @ torch.linalg.inv(covariance + tau * torch.eye(3).double())
        offset = judged - fitted.mean(dim=0)
        expected.append(float((offset - offset @ gain.T).square().sum(dim=1).mean() + tau * (gain**2).sum()))
    assert _consistency._linear_mmse(x, np.array([tau]))[0] == pytest.approx(sum(expected) / 2)


def test_a_score_may_be_a_little_wrong():
    """That of N(0, I) times 0.98 sets plug-in and DSM 4 % of FI apart, which errors of 1 % see; times 0.94 12 %."""
    x = torch.randn((2000, 100), generator=torch.Generator().manual_seed(0))
    for share, told in ((0.98, False), (0.94, True)):
        curve = fisher_curve(from_score(lambda y, tau, share=share: -share * y / (1 + tau)), x, 1.0)
        assert any("disagree" in doubt.sentence for doubt in curve.warnings) == told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "tau must be positive"),
        ({"tau": [1.0, 0.5]}, "tau must be positive and ascending"),
        ({"tau": []}, "tau must be"),
        ({"tau": float("nan")}, "tau must be finite"),
        ({"num_probes": 0}, "num_probes must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"relative_error": 0.0}, "relative_error must be > 0"),
        ({"watched": ("mmse", "FIR")}, "watched must be one of fisher_information, .*, got 'FIR'"),
        ({"denoiser": from_denoiser(lambda y, tau: y.sum(dim=1))}, "denoiser must return the shape"),
        ({"denoiser": from_denoiser(lambda y, tau: y / 0 * 0)}, "denoiser must return finite"),
        ({"denoiser": from_denoiser(lambda y, tau: y.detach() / 2)}, "torch can differentiate"),
    ],
)
def test_refusals(change, message):
    arguments = {"denoiser": from_denoiser(lambda y, tau: y / 2), "samples": torch.ones(5, 2), "tau": 1.0} | change
    with pytest.raises(ValueError, match=message):
        fisher_curve(**arguments)


def test_few_samples_of_an_exact_score_are_not_called_false():
    """No coefficient of a control variate is made of them, which would leave no error at all with two."""
    exact = from_denoiser(lambda y, tau: y / (1 + tau))
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        curve = fisher_curve(exact, torch.randn(2, 1, generator=generator), 1.0, seed=seed)
        assert curve.fisher_information_plug_in.mean >= 0
        assert curve.warnings == (Doubt("standard errors of 2 samples may be several times too small"),)


def test_the_stop_rule_does_not_trust_events_that_it_has_hardly_seen():
    """Modes at +-1 of variance .02, tau = .05: few samples lie between, and they make FIR and MMSE'."""
    density, offered = GaussianMixture([[-1.0], [1.0]], [0.02, 0.02]), 8192
    for seed in range(3):
        curve = fisher_curve(from_density(density), density.sample(offered, seed), [0.05], 1, seed, relative_error=0.1)
        assert curve.mmse_rate.num_samples[0] == offered  # with the sem of 1,024 it would often have stopped
        assert "samples ran out before the relative error was met" in curve.warnings[-1].sentence
    even = fisher_curve(from_denoiser(lambda y, tau: y / (1 + tau)), torch.randn(offered, 1), [1.0], relative_error=0.1)
    assert even.mmse_rate.num_samples[0] == 1024


def test_few_samples_may_be_enough_for_a_relative_error():
    normal = from_denoiser(lambda y, tau: y / (1 + tau) + 0.01 * y.sin())
    curve = fisher_curve(normal, torch.randn(400, 2), [1.0], relative_error=0.9)
    assert not [doubt for doubt in curve.warnings if "ran out" in doubt.sentence]


@pytest.mark.parametrize("batch_size", [8, 256])
def test_samples_must_not_hear_of_one_another(batch_size):
    """Batch statistics, a mean over the batch, random numbers: at 256 samples their curves are off without a word."""
    mixing = torch.nn.BatchNorm1d(4, affine=False, track_running_stats=False).eval()
    x = torch.randn((512, 4), generator=torch.Generator().manual_seed(0))
    for wrong in (
        lambda y, tau: mixing(y) / (1 + tau) ** 0.5,
        lambda y, tau: y / (1 + tau) - 0.3 * y.mean(dim=0),
        lambda y, tau: y / (1 + tau) + 0.1 * torch.randn_like(y),
    ):
        with pytest.raises(ValueError, match="denoiser must map each sample for itself, the same each time"):
            fisher_curve(from_denoiser(wrong), x, [1.0], batch_size=batch_size)
        with pytest.raises(ValueError, match="denoiser must map each sample for itself, the same each time"):
            FisherCurveMetric(from_denoiser(wrong), [1.0], batch_size=batch_size).update(x)
    for dtype in (torch.float16, torch.bfloat16):  # the last digit may be another beside others
        eps = torch.finfo(dtype).eps
        rounded = from_denoiser(lambda y, tau, eps=eps: y / (1 + tau) * (1 + eps * (y[0] != y[-1]).to(y)))
        fisher_curve(rounded, x.to(dtype), [1.0], batch_size=batch_size)
