"""Denoisers of every make say the same of one distribution; the empirical one is that of its points."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hessfast.diffusability import (
    GaussianMixture,
    empirical_denoiser,
    fisher_curve,
    from_denoiser,
    from_density,
    from_diffusers,
    from_edm,
    from_edm_raw,
    from_flow,
    from_score,
    gaussian_curves,
)

ESTIMATES = ("fisher_information", "fisher_information_plug_in", "fisher_information_dsm")


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
    ours = empirical_denoiser(x, leave_one_out=leave_one_out)
    one, other = (fisher_curve(model, x, [0.1, 2.0], batch_size=64) for model in (ours, expected))
    for name in (*ESTIMATES, "fisher_information_rate", "mmse", "mmse_rate"):
        np.testing.assert_allclose(getattr(one, name).mean, getattr(other, name).mean, rtol=1e-4)
    assert ours.tau_range[0] == pytest.approx(
        0.75 * float(torch.cdist(x, x).fill_diagonal_(9).min(1).values.median()) ** 2
    )
    with pytest.raises(ValueError, match="samples must"):
        fisher_curve(ours, x[:30] if leave_one_out else x[:, :2], 1.0)


def test_where_the_empirical_denoiser_is_good_does_not_depend_on_a_shift():
    x = torch.randn((500, 3), generator=torch.Generator().manual_seed(0))
    near, far = (empirical_denoiser(x + shift).tau_range[0] for shift in (0.0, 1e4))
    assert near == pytest.approx(0.05, rel=0.3) and far == pytest.approx(near, rel=0.02)


def test_the_empirical_denoiser_finds_the_distribution_behind_its_data():
    density = GaussianMixture([[0.0, 0.0]], [1.0])
    data, held_out = density.sample(4000, 0).float(), density.sample(2000, 1).float()
    exact = gaussian_curves([1.0, 1.0], 1.0)
    curve = fisher_curve(empirical_denoiser(data), held_out, 1.0, batch_size=2000)
    assert curve.fisher_information.mean[0] == pytest.approx(exact.fisher_information, rel=0.05)
    assert curve.mmse_rate.mean[0] == pytest.approx(exact.mmse_rate, rel=0.1)
    assert curve.warnings == ()
    assert "good for" in fisher_curve(empirical_denoiser(data), held_out[:100], 1e-6).warnings[-1]


def test_no_digits_are_lost_at_the_ends():
    """In float32: the score at small tau through EDM, the Jacobian of the denoiser at large tau through a denoiser."""
    x = torch.randn((200, 3), generator=torch.Generator().manual_seed(0))
    edm = from_edm_raw(lambda scaled, noise: 0 * scaled, 1.0)  # exact for N(0, 1)
    small, large = fisher_curve(edm, x, 1e-6), fisher_curve(edm, x, 1e6)
    assert small.fisher_information.mean[0] == pytest.approx(3 / (1 + 1e-6), rel=1e-9)
    assert large.mmse_rate.mean[0] == pytest.approx(3e-12, rel=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="sigma_data must be > 0"):
        from_edm_raw(lambda x, t: x, 0.0)
    with pytest.raises(TypeError, match=r"sigma_data must be a number, got \[1, 2\]"):
        from_edm_raw(lambda x, t: x, [1, 2])
    with pytest.raises(ValueError, match="scheduler must have alphas_cumprod"):
        from_diffusers(lambda x, t: x, SimpleNamespace())
