"""Denoisers of every make say the same of one distribution; the empirical one is that of its points."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hessfast.diffusability import (
    FisherCurveMetric,
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
    generate,
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
    fourth = torch.cdist(x, x).sort(dim=1).values[:, 4]  # the first is the point itself
    assert ours.tau_range[0] == pytest.approx(float(fourth.median()) ** 2)
    with pytest.raises(ValueError, match="samples must"):
        fisher_curve(ours, x[:30] if leave_one_out else x[:, :2], 1.0)


def test_where_the_empirical_denoiser_is_good_does_not_depend_on_a_shift():
    x = torch.randn((500, 3), generator=torch.Generator().manual_seed(0))
    near, far = (empirical_denoiser(x + shift).tau_range[0] for shift in (0.0, 1e4))
    assert near == pytest.approx(0.22, rel=0.1) and far == pytest.approx(near, rel=0.02)


def test_neighbours_are_at_a_distance():
    """Of copies, and of fewer than are asked for."""
    for copies in (1, 6):
        points = torch.tensor([[0.0], [2.0]]).repeat(copies, 1)
        assert empirical_denoiser(points).tau_range == (4, math.inf)


def test_the_empirical_denoiser_finds_the_distribution_behind_its_data():
    density = GaussianMixture([[0.0, 0.0]], [1.0])
    data, held_out = density.sample(4000, 0).float(), density.sample(2000, 1).float()
    exact = gaussian_curves([1.0, 1.0], 1.0)
    curve = fisher_curve(empirical_denoiser(data), held_out, 1.0, batch_size=2000)
    assert curve.fisher_information.mean[0] == pytest.approx(exact.fisher_information, rel=0.05)
    assert curve.mmse_rate.mean[0] == pytest.approx(exact.mmse_rate, rel=0.1)
    assert curve.warnings == ()
    doubts = fisher_curve(empirical_denoiser(data), held_out[:100], 1e-6).warnings
    assert "good for" in " ".join(map(str, doubts)) and "MMSE' is not that" in " ".join(map(str, doubts))


def test_no_digits_are_lost_at_the_ends():
    """In float32: the score at small tau through EDM, the Jacobian of the denoiser at large tau through a denoiser."""
    x = torch.randn((200, 3), generator=torch.Generator().manual_seed(0))
    edm = from_edm_raw(lambda scaled, noise: 0 * scaled, 1.0)  # exact for N(0, 1)
    small, large = fisher_curve(edm, x, 1e-6), fisher_curve(edm, x, 1e6)
    assert small.fisher_information.mean[0] == pytest.approx(3 / (1 + 1e-6), rel=1e-9)
    assert large.mmse_rate.mean[0] == pytest.approx(3e-12, rel=1e-5)


class Network(torch.nn.Module):
    """D(y) for N(0, 1) at tau = 1, of EDM's signature."""

    def __init__(self, layer):
        super().__init__()
        self.share, self.layer = torch.nn.Parameter(torch.tensor(0.5)), layer

    def forward(self, y, sigma):
        return self.share * self.layer(y)


MAKES = {
    "edm": from_edm,
    "raw": from_edm_raw,
    "flow": from_flow,
    "denoiser": lambda network: from_denoiser(lambda y, tau: network(y, None)),
    "score": lambda network: from_score(lambda y, tau: network(y, None)),
    "partial": lambda network: from_score(partial(network, sigma=None)),
    "bound": lambda network: from_edm(network.forward),
}


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.001), torch.nn.BatchNorm1d(3)])
@pytest.mark.parametrize("make", MAKES)
def test_networks_in_training_are_refused(make, layer):
    """Dropout of a thousandth made FIR eleven times the truth."""
    denoiser, name = MAKES[make](Network(layer).train()), type(layer).__name__
    x = torch.randn(40, 3)
    metric = FisherCurveMetric(denoiser, 1.0)
    for call in (lambda: fisher_curve(denoiser, x, 1.0), lambda: metric.update(x),
                 lambda: generate(denoiser, 2, (3,), tau_range=(0.1, 1.0))):  # fmt: skip
        with pytest.raises(ValueError, match=rf"denoiser must be in evaluation mode, got {name}; call its .eval\(\)"):
            call()
    assert not isinstance(layer, torch.nn.BatchNorm1d) or layer.num_batches_tracked == 0


def test_networks_decide_the_dtype():
    """What densities sample is float64, weights are float32."""
    x, network = torch.randn(40, 3), Network(torch.nn.Dropout(0.0)).train()
    one, other = (fisher_curve(from_edm(network), each, 1.0) for each in (x, x.double()))
    assert one.mmse == other.mmse and one.fisher_information.mean[0] == pytest.approx(1.5)
    linear = torch.nn.Linear(3, 3)
    with pytest.raises(TypeError, match=r"denoiser must have the dtype of samples, torch.float64, got 'mat1"):
        fisher_curve(from_denoiser(lambda y, tau: linear(y)), x.double(), 1.0)


def test_what_is_no_denoiser_is_told_how_to_be_one():
    x = torch.randn(40, 3)
    for given, kind in ((lambda y, tau: y, "function"), (torch.nn.Linear(3, 3), "a network")):
        for call in (lambda d: fisher_curve(d, x, 1.0), lambda d: FisherCurveMetric(d, 1.0),
                     lambda d: generate(d, 2, (3,))):  # fmt: skip
            with pytest.raises(
                TypeError, match=rf"denoiser must be a Denoiser, got {kind}\. Wrap it, by what it predicts"
            ):
                call(given)
    for answer, kind in ((lambda y: y.detach().numpy(), "ndarray"), (lambda y: SimpleNamespace(sample=y), "SimpleNam")):
        with pytest.raises(TypeError, match=rf"denoiser must return tensors, got {kind}.* or return its \.sample"):
            fisher_curve(from_flow(lambda y, t, answer=answer: answer(y)), x, 1.0)


@pytest.mark.parametrize("change", [lambda y: y.div_(2), lambda y: y.view(-1, 3).div_(2), lambda y: y.__itruediv__(2)])
def test_what_works_in_place_is_told_so(change):
    in_place = from_denoiser(lambda y, tau: change(y))
    for n in (1, 40):  # one alone is not asked whether samples hear of one another
        with pytest.raises(ValueError, match=r"denoiser must leave y as it is, got an operation in place\. Write"):
            FisherCurveMetric(in_place, 1.0).update(torch.randn(n, 3))
    with pytest.raises(ValueError, match="denoiser must leave y as it is"):
        fisher_curve(in_place, torch.randn(40, 3), 1.0)


def test_refusals():
    with pytest.raises(ValueError, match="sigma_data must be > 0"):
        from_edm_raw(lambda x, t: x, 0.0)
    with pytest.raises(TypeError, match=r"sigma_data must be a number, got \[1, 2\]"):
        from_edm_raw(lambda x, t: x, [1, 2])
    with pytest.raises(ValueError, match="scheduler must have alphas_cumprod"):
        from_diffusers(lambda x, t: x, SimpleNamespace())


def test_one_condition_is_that_of_all_samples():
    """A number, one of a text, and what is nested; for the last and smaller batch, too."""
    seen = []

    def model(x, time, class_labels, text, added):
        seen.append((len(x), class_labels.tolist(), text.shape, added["ids"].shape))
        return 0 * x

    text, added = torch.zeros(1, 3, 8), {"ids": torch.zeros(1, 6)}
    scheduler = SimpleNamespace(
        alphas_cumprod=torch.linspace(0.999, 0.01, 50), config=SimpleNamespace(prediction_type="epsilon")
    )
    denoiser = from_diffusers(model, scheduler, class_labels=3, text=text, added=added)
    fisher_curve(denoiser, torch.randn(100, 2), [1.0], batch_size=64)
    sizes = [(n, shape[0], more[0]) for n, _, shape, more in seen]
    assert sizes == [(2, 2, 2)] * 2 + [(64, 64, 64), (36, 36, 36)]  # first two, do samples hear of one another?
    assert seen[3][1] == [3] * 36
    wrong = from_diffusers(model, scheduler, class_labels=torch.arange(99), text=text, added=added)
    with pytest.raises(ValueError, match=r"class_labels must be one condition .* for each of 100, got \(99,\)\."):
        fisher_curve(wrong, torch.randn(100, 2), [1.0])


def test_each_sample_may_have_its_condition():
    """A network that answers with the label, of data that are their labels, errs by nothing, in batches of any size."""
    labels = torch.arange(100) % 7
    scheduler = SimpleNamespace(
        alphas_cumprod=torch.linspace(0.999, 0.01, 50), config=SimpleNamespace(prediction_type="sample")
    )

    def model(x, time, class_labels, nested):
        assert torch.equal(class_labels, nested["same"][0])
        return 0 * x + class_labels[:, None]

    for given in (labels, labels.numpy()):
        denoiser = from_diffusers(model, scheduler, class_labels=given, nested={"same": [labels]})
        curve = fisher_curve(denoiser, labels[:, None].float().repeat(1, 3), [0.5, 1.0], batch_size=64)
        assert (curve.mmse.mean == 0).all()
    assert denoiser(torch.ones(100, 3), 1.0)[:, 0].tolist() == labels.tolist()
    with pytest.raises(ValueError, match=r"class_labels must be one condition .* each of 5, got \(100,\)"):
        denoiser(torch.ones(5, 3), 1.0)


def diffusers_of_a_normal(variance):
    """Schedulers of flow matching and EDM, and what a model of theirs would predict of N(0, variance), by formula."""
    diffusers = pytest.importorskip("diffusers")

    def velocity(x, time, **_):  # E[z - x0 | x_s] for x_s = (1 - s) x0 + s z
        s = (time / 1000).view(-1, *[1] * (x.ndim - 1))
        return (s - (1 - s) * variance) / ((1 - s) ** 2 * variance + s**2) * x

    def raw(x, time, sign=1):  # D(y) = c_skip y + c_out F(c_in y) with sigma_data = 1/2, D(y) = variance / (..) y
        sigma = (4 * time).exp().view(-1, *[1] * (x.ndim - 1))
        total = sigma**2 + 0.25
        return sign * (variance / (variance + sigma**2) - 0.25 / total) * total / (sigma * 0.5) * x

    for shift in (1.0, 3.0):
        yield diffusers.FlowMatchEulerDiscreteScheduler(shift=shift), velocity
    yield diffusers.FlowMatchHeunDiscreteScheduler(), velocity
    for name in ("UniPCMultistep", "DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "SASolver"):
        make = getattr(diffusers, f"{name}Scheduler")
        yield make(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0), velocity
    for make in (diffusers.EDMEulerScheduler, diffusers.EDMDPMSolverMultistepScheduler):
        yield make(), raw
        yield make(prediction_type="v_prediction"), partial(raw, sign=-1)


def test_flow_matching_and_edm_of_diffusers():
    """FI = D / (variance + tau) from model and scheduler alone, with a time that does not depend on the shift."""
    x, tau = math.sqrt(2) * torch.randn((64, 3), dtype=torch.float64), np.array([1e-3, 0.3, 20.0])
    for scheduler, model in diffusers_of_a_normal(2.0):
        denoiser = from_diffusers(model, scheduler)
        curve = fisher_curve(denoiser, x, tau)
        np.testing.assert_allclose(curve.fisher_information.mean, 3 / (2 + tau), rtol=1e-9)
        np.testing.assert_allclose(curve.mmse_rate.mean, 3 * (2 / (2 + tau)) ** 2, rtol=1e-9)
        edm = hasattr(scheduler, "precondition_outputs")
        shift = 1 if edm else getattr(scheduler.config, "flow_shift", None) or scheduler.config.shift
        ends = (0.002, 80.0) if edm else (shift / 999, 999 * shift)
        assert denoiser.tau_range == pytest.approx([end**2 for end in ends], rel=1e-2 if shift == 3 else 1e-3)


def test_times_are_not_rounded_to_bfloat16():
    diffusers = pytest.importorskip("diffusers")
    times = []
    denoiser = from_diffusers(lambda x, time: times.append(time) or x, diffusers.DDIMScheduler())
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        denoiser(torch.ones(2, 1, dtype=dtype), 1.0)
    exact, single, half = times
    assert half.dtype == single.dtype == torch.float32 and half.tolist() == single.tolist()
    torch.testing.assert_close(exact, single.double(), rtol=1e-6, atol=0)
    assert exact.shape == (2,) and not bool((half.bfloat16() == half).any())


def test_a_step_of_diffusers_to_no_noise_is_the_denoiser():
    x, z = torch.randn((2, 5, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    for scheduler, model in diffusers_of_a_normal(2.0):
        if "Euler" not in type(scheduler).__name__:
            continue
        denoiser, edm = from_diffusers(model, scheduler), hasattr(scheduler, "precondition_outputs")
        scheduler.set_timesteps(sigmas=torch.tensor([0.6]) if edm else [0.6])
        time, s = scheduler.timesteps, float(scheduler.sigmas[0])
        noisy = (scheduler.add_noise if edm else scheduler.scale_noise)(x, *((z, time) if edm else (time, z)))
        asked, sigma, y = (
            (scheduler.scale_model_input(noisy, time[0]), s, noisy) if edm else (noisy, s / (1 - s), noisy / (1 - s))
        )
        torch.testing.assert_close(y, x + sigma * z, rtol=1e-4, atol=1e-4)
        clean = scheduler.step(model(asked, time.expand(5)), time[0], noisy).prev_sample
        torch.testing.assert_close(denoiser(y, sigma**2), clean, rtol=1e-4, atol=1e-4)


def test_a_step_of_a_solver_of_flows_to_no_noise_is_the_denoiser():
    diffusers = pytest.importorskip("diffusers")
    kind = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0, "solver_order": 1}
    x = torch.randn((5, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    for make in (diffusers.UniPCMultistepScheduler, diffusers.DPMSolverMultistepScheduler):
        scheduler = make(**kind)
        denoiser = from_diffusers(lambda x, time: torch.sin(x) * time.view(-1, 1, 1, 1), scheduler)
        scheduler.set_timesteps(4)
        scheduler.set_begin_index(3)
        s = float(scheduler.sigmas[3])
        clean = scheduler.step(torch.sin(x) * 1000 * s, scheduler.timesteps[3], x).prev_sample
        torch.testing.assert_close(denoiser(x / (1 - s), (s / (1 - s)) ** 2), clean, rtol=1e-4, atol=1e-2)


def test_flow_matching_backwards_is_refused():
    diffusers = pytest.importorskip("diffusers")
    with pytest.raises(ValueError, match="flow sigmas or EDM, got UniPC"):  # its sigmas are not those of a flow
        from_diffusers(lambda x, time: x, diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction"))
    stages = SimpleNamespace(config=SimpleNamespace(prediction_type="flow_prediction", use_flow_sigmas=True))
    with pytest.raises(ValueError, match="flow sigmas or EDM, got SimpleNamespace"):  # as Helios, whose shift varies
        from_diffusers(lambda x, time: x, stages)
    with pytest.raises(
        ValueError, match=r"scheduler must have .* or be of flow matching, flow sigmas or EDM, got FlowMatchEuler"
    ):
        from_diffusers(lambda x, time: x, diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


def test_transformers_get_their_time_by_name_and_each_sample_its_condition():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=8,
    ).eval()  # fmt: skip
    x, text, pooled = torch.randn(6, 4, 8, 8), torch.randn(6, 3, 16), torch.randn(6, 8)
    conditions = {"encoder_hidden_states": text, "pooled_projections": pooled}
    ours = from_diffusers(transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), **conditions)
    plain = from_flow(lambda y, t: transformer(y, text, pooled, 1000 * t).sample)
    torch.testing.assert_close(ours(x, 0.7), plain(x, 0.7), rtol=1e-4, atol=1e-5)
    of_all, of_some = fisher_curve(ours, x, 0.7), fisher_curve(ours, x, 0.7, batch_size=4)
    assert of_all.mmse.mean == pytest.approx(of_some.mmse.mean, rel=1e-4)


def test_a_model_that_looks_times_up_says_so():
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        time_embedding_type="learned", num_train_timesteps=1000,
    ).eval()  # fmt: skip
    with pytest.raises(TypeError, match="model must not look up numbers that are no integers"):
        fisher_curve(from_diffusers(unet, diffusers.DDIMScheduler()), torch.randn(4, 3, 8, 8), [1.0])


def test_conditions_of_samples_that_are_to_come_are_refused():
    scheduler = SimpleNamespace(
        alphas_cumprod=torch.linspace(0.999, 0.01, 50), config=SimpleNamespace(prediction_type="sample")
    )
    each, one = (from_diffusers(lambda x, time, label: 0 * x, scheduler, label=label) for label in (torch.arange(9), 3))
    with pytest.raises(ValueError, match=r"label must be one condition for all samples, .*, got \(9,\)"):
        FisherCurveMetric(each, [1.0])
    FisherCurveMetric(one, [1.0]).update(torch.randn(9, 2))
    x = torch.randn(9, 2)
    zero = replace(one, predict=lambda y, tau: 0 * y)  # what replaces the network is asked, conditions or not
    np.testing.assert_allclose(fisher_curve(zero, x, [1.0]).mmse.mean, float(x.square().sum(dim=1).mean()), rtol=1e-5)
    with torch.inference_mode():
        made = [from_diffusers(lambda x, time, label: label * x, scheduler, label=torch.ones(n, 1)) for n in (9, 1)]
        found, of_one = (fisher_curve(each, x, [1.0], batch_size=4).mmse for each in made)
    plain = from_diffusers(lambda x, time, label: label * x, scheduler, label=torch.ones(1, 1))
    assert found == of_one == fisher_curve(plain, x, [1.0], batch_size=4).mmse


def test_traced_models_get_the_time_by_place():
    diffusers = pytest.importorskip("diffusers")

    class Zero(torch.nn.Module):
        def forward(self, x, timestep):
            return 0 * x + 0 * timestep[:, None]

    traced = torch.jit.trace(Zero(), (torch.ones(1, 2), torch.ones(1)))
    assert from_diffusers(traced, diffusers.DDIMScheduler())(torch.ones(1, 2), 3.0).tolist() == [[1.0, 1.0]]


def test_a_variance_preserving_scheduler_is_asked_for_its_own_tau():
    cumulative = 1 / (1 + torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64))
    scheduler = SimpleNamespace(alphas_cumprod=cumulative, config=SimpleNamespace(prediction_type="epsilon"))
    assert from_diffusers(lambda x, time: x, scheduler).tau_range == pytest.approx((0.01, 100.0))


def test_conditions_stay_lists_and_tuples():
    seen = []
    scheduler = SimpleNamespace(
        alphas_cumprod=torch.tensor([0.9, 0.1]), config=SimpleNamespace(prediction_type="sample")
    )
    one = torch.zeros(1, 2)
    denoiser = from_diffusers(
        lambda x, time, **given: seen.append(given) or x, scheduler, two=(one, one), some=[one, one]
    )
    denoiser(torch.ones(5, 3), 1.0)
    assert {name: (type(value), value[1].shape) for name, value in seen[0].items()} == {
        "two": (tuple, (5, 2)), "some": (list, (5, 2))
    }  # fmt: skip
