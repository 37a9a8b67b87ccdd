"""Loops: diffusers' own outputs, formulas restated in float64, noise by point, nothing that waits for the host."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers

from hessfast.slices import (
    DiffusionGenerator,
    PipelineGenerator,
    SlicePlan,
    ddim,
    digit_generator,
    from_callable,
    from_pipeline,
    from_pretrained,
    generate,
    lipschitz,
    loops,
    noise_floor,
    random_anchors,
)
from hessfast.slices.diffusion import _channels_last, _guided
from hessfast.slices.loops import own_steps
from tests import tiny_diffusion
from tests.tiny_diffusion import made

POINTS = [[0.0, 0.0], [0.3, 0.5], [1.0, 0.0]]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def generator(folder):
    return from_pretrained(folder)


def text_plan(**changes):
    settings = {"num_steps": 8, "guidance": 5.0, "prompt": "high, 4k", "negative_prompt": "ugly", "seed": 1}
    return SlicePlan(random_anchors((4, 8, 8), seed=3), POINTS, **(settings | changes))


# --------------------------------------------------------------------------------------------------- diffusers' outputs


@pytest.mark.parametrize("scheduler", ["ddim", "EulerDiscreteScheduler"])
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_stable_diffusion_is_diffusers_own(folder, generator, guidance, scheduler):
    """The pipeline, loaded from its folder and called as its documentation says, gives these latents and images."""
    plan = text_plan(guidance=guidance, scheduler=scheduler)
    latents, images = made(generator, plan)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler != "ddim":
        pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config)
    settings = {
        "prompt": [plan.prompt] * 3,
        "negative_prompt": [plan.negative_prompt] * 3,
        "guidance_scale": guidance,
        "num_inference_steps": plan.num_steps,
        "latents": plan.z(plan.parameters).float(),
    }
    expected = pipeline(**settings, output_type="latent").images
    assert expected.std() > 0.5 and (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=0)
    pixels = pipeline(**settings, output_type="pt").images
    torch.testing.assert_close((images / 2 + 0.5).clamp(0, 1), pixels, atol=1e-4, rtol=0)


def test_stable_diffusion_xl_is_diffusers_own(tmp_path):
    path = tiny_diffusion.stable_diffusion_xl(tmp_path)
    generator, plan = from_pretrained(path), text_plan(num_steps=3)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(path)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt=[plan.prompt] * 3,
        negative_prompt=[plan.negative_prompt] * 3,
        guidance_scale=plan.guidance,
        num_inference_steps=plan.num_steps,
        latents=plan.z(plan.parameters).float(),
        output_type="latent",
    ).images
    torch.testing.assert_close(made(generator, plan)[0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", ["pipeline", "unet"])
def test_unconditional_models_are_diffusers_own(tmp_path, form):
    """Saved as a pipeline, or as a U-Net alone; x0 is clipped, as diffusers' default wants it."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    ).eval()
    pipeline = diffusers.DDIMPipeline(unet, diffusers.DDIMScheduler())
    (pipeline if form == "pipeline" else unet).save_pretrained(tmp_path)
    plan = SlicePlan(random_anchors((3, 8, 8)), POINTS, num_steps=7, dtype="float64")
    _, images = made(from_pretrained(tmp_path), plan)
    # The pipeline itself takes no latents, so its documented loop stands here.
    x, unet = plan.z(plan.parameters).double(), unet.double()
    pipeline.scheduler.set_timesteps(7)
    with torch.no_grad():
        for t in pipeline.scheduler.timesteps:
            x = pipeline.scheduler.step(unet(x, t).sample, t, x).prev_sample
    assert x.abs().max() > 0.5
    torch.testing.assert_close(images, x, atol=1e-6, rtol=0)


def test_other_pipelines_run_through_their_own_loop(folder):
    """What is not known by name, but takes latents; here a Stable Diffusion treated as if it were not known."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    plan = text_plan(scheduler="pipeline")
    _, images = made(PipelineGenerator(pipeline), plan)
    _, expected = made(from_pretrained(folder), text_plan(scheduler="ddim"))
    torch.testing.assert_close(images, expected.clamp(-1, 1), atol=1e-4, rtol=0)


def test_pipelines_are_called_by_one_thread_at_a_time(folder, tmp_path):
    """They have one scheduler, which counts its steps: the number of threads cannot be seen."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    points = np.random.default_rng(0).uniform(size=(6, 2))
    plan = text_plan(scheduler="EulerDiscreteScheduler", num_steps=4, micro_batch=1).at(points)
    stores = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            stores.append(generate(plan, PipelineGenerator(pipeline), tmp_path / str(threads))["latents"][:])
        finally:
            torch.set_num_threads(1)
    np.testing.assert_array_equal(*stores)
    assert stores[0].std(axis=0).max() > 0.01


# ------------------------------------------------------------------------------------------------------------- formulas


def linear(x, t):
    """A network in closed form: float64, dependent on time, not on the others in the batch."""
    return 0.3 * x + 0.1 * torch.roll(x, 1, dims=-1) * (1 + t / 1000)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize(
    "config",
    [
        tiny_diffusion.SCHEDULER,
        {"prediction_type": "v_prediction", "clip_sample": False, "timestep_spacing": "trailing"},
        {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "linspace"},
        {"clip_sample": True, "clip_sample_range": 0.8},
        {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    ],
    ids=lambda c: ",".join(map(str, c.values())),
)
def test_ddim_is_diffusers_own_step(config, eta):
    scheduler = diffusers.DDIMScheduler(**config)
    x = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn((9, *x.shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = ddim(scheduler, 9, eta).run(linear, x, noise if eta else None)
    scheduler.set_timesteps(9)
    for k, t in enumerate(scheduler.timesteps):
        more = {"variance_noise": noise[k]} if eta else {}
        x = scheduler.step(linear(x, t), t, x, eta=eta, **more).prev_sample
    torch.testing.assert_close(got, x, atol=1e-5, rtol=1e-5)  # diffusers' constants are float32


@pytest.mark.parametrize("kind", [diffusers.EulerDiscreteScheduler, diffusers.DPMSolverMultistepScheduler])
def test_schedulers_that_say_nothing_of_clipping_do_not_clip(kind):
    """DDIM with the noise levels of another scheduler: that of the same without clipping, for latents beyond 1."""
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    x = 5 * torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = ddim(kind(**betas), 5)
    assert got.clip is None and got.run(linear, x).abs().max() > 2
    expected = ddim(diffusers.DDIMScheduler(**betas, clip_sample=False), 5).run(linear, x)
    torch.testing.assert_close(got.run(linear, x), expected)
    for clip, limit in ((True, 1.0), (False, None)):
        assert ddim(diffusers.DDPMScheduler(**betas, clip_sample=clip), 5).clip == limit


@pytest.mark.parametrize(("eta", "num_steps"), [(0.0, 50), (0.1, 10)])
def test_the_released_variant_is_its_formula(generator, eta, num_steps):
    """The script's loop, written out in float64 NumPy around the same networks: text encoder, U-Net, guidance."""
    plan = text_plan(scheduler="released", eta=eta, num_steps=num_steps, dtype="float64")
    latents, _ = made(generator, plan)
    pipeline = generator.pipeline
    unet = tiny_diffusion.unet()
    unet.load_state_dict(pipeline.unet.state_dict())
    unet.double()
    with torch.no_grad():
        ids = [
            pipeline.tokenizer(t, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
            for t in (plan.negative_prompt, plan.prompt)
        ]
        negative, positive = (pipeline.text_encoder(i)[0].double().expand(3, -1, -1) for i in ids)
        betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        abar = np.cumprod(1 - betas)
        z0, z1, z2 = random_anchors((4, 8, 8), seed=3).double().numpy()
        z = np.stack([z0 + a * (z1 - z0) + b * (z2 - z0) for a, b in POINTS])
        x = z / z.std(axis=(1, 2, 3), ddof=1, keepdims=True)
        noise = plan.noise(range(3))
        stride = 1000 // num_steps
        for k, t in enumerate(range(1001 - stride, 0, -stride)):
            y = torch.from_numpy(x)
            out_n, out_p = (unet(y, t, encoder_hidden_states=e).sample.numpy() for e in (negative, positive))
            eps = out_n + 5.0 * (out_p - out_n)
            prev = abar[max(1, t - stride)]
            x0 = (x - np.sqrt(1 - abar[t]) * eps) / np.sqrt(abar[t])
            x = np.sqrt(prev) * x0 + np.sqrt(1 - eta**2) * np.sqrt(1 - prev) * eps
            if noise is not None:
                x = x + eta * np.sqrt(1 - prev) * noise[k].double().numpy()
    assert (noise is None) == (eta == 0)
    # The model's own abar is float32; its constants agree with these to 1e-6.
    np.testing.assert_allclose(latents.numpy(), x, atol=1e-4 * np.abs(x).max())


def test_the_last_released_step_does_nothing():
    schedule = ddim(diffusers.DDIMScheduler(**tiny_diffusion.SCHEDULER), 50, released=True)
    x = torch.randn((1, 1, 2, 2), dtype=torch.float64)
    last = torch.tensor(1)
    assert schedule.times[-1] == last
    one = type(schedule)(*(p[..., -1:] for p in vars(schedule).values() if torch.is_tensor(p)), clip=None)
    torch.testing.assert_close(one.run(linear, x), x)


def test_nothing_in_the_loop_waits_for_the_host():
    """On the meta device there are no numbers: a loop that asked for one, or a U-Net called as we do, would fail."""
    schedule = ddim(diffusers.DDIMScheduler(**tiny_diffusion.SCHEDULER), 4, 0.5, device="meta")
    unet = tiny_diffusion.unet().to("meta")
    text, x = torch.empty((2, 16, 16), device="meta"), torch.empty((2, 4, 8, 8), device="meta")
    out = schedule.run(lambda x, t: unet(x, t, text).sample, x, torch.empty((4, *x.shape), device="meta"))
    assert out.shape == x.shape and out.device.type == "meta"
    with pytest.raises(RuntimeError):
        schedule.run(lambda x, t: linear(x, float(t)), x)


def test_pictures_of_xl_are_told_their_rows_before_their_columns(tmp_path):
    generator = from_pretrained(tiny_diffusion.stable_diffusion_xl(tmp_path))
    plan = SlicePlan(random_anchors((4, 8, 16)), POINTS, guidance=5.0)
    for told in generator._text(plan, torch.float32):
        assert told["added_cond_kwargs"]["time_ids"].tolist() == [[16, 32, 0, 0, 16, 32]]


@pytest.mark.parametrize(("guidance", "num"), [(0.0, 2), (0.5, 2), (1.0, 1), (5.0, 2)])
def test_any_guidance_but_one_is_of_two_texts(generator, guidance, num):
    assert len(generator._text(text_plan(guidance=guidance), torch.float32)) == num


def test_a_variance_that_is_predicted_behind_the_mean_is_left():
    def learned(y, t, text, return_dict):
        return (torch.cat([text * y, 100 + y], dim=1),)

    x = torch.randn((3, 2, 4, 4), generator=torch.Generator().manual_seed(0))
    told = [{"text": torch.full((3, 1, 1, 1), value)} for value in (2.0, 5.0)]
    torch.testing.assert_close(_guided(learned, told[:1], 1.0, torch.float32)(x, torch.tensor(1)), 2 * x)
    # 2 x without the prompt and 5 x with it
    torch.testing.assert_close(_guided(learned, told, 3.0, torch.float32)(x, torch.tensor(1)), 11 * x)


@pytest.mark.parametrize(
    ("pipeline", "config", "expected"),
    [
        (None, {}, 3.0),
        (None, {"shift_factor": 0.5}, 3.5),
        (None, {"latents_mean": [1.0], "latents_std": [4.0]}, 13.0),
        (SimpleNamespace(), {"shift_factor": 0.5, "latents_mean": [1.0], "latents_std": [4.0]}, 3.0),
        (SimpleNamespace(text_encoder_2=1), {"latents_mean": [1.0], "latents_std": [4.0]}, 13.0),
    ],
)
def test_decoders_get_their_own_units(pipeline, config, expected):
    """Of a latent 6 and the factor 2; pipelines but that of XL know the factor alone."""
    generator = digit_generator()
    generator.pipeline = pipeline
    units = generator._units(SimpleNamespace(scaling_factor=2.0, **config))
    assert units(torch.full((1, 1, 2, 2), 6.0)).unique().tolist() == [expected]


def test_decoders_that_overflow_in_half_precision_are_in_single(generator):
    latents = torch.zeros((1, 4, 8, 8))
    dtypes = [generator._decode(dtype)(latents).dtype for dtype in (torch.float16, torch.bfloat16)]
    assert generator.pipeline.vae.config.force_upcast and dtypes == [torch.float32, torch.bfloat16]


def test_latents_have_rows_before_columns():
    unet = small_unet(sample_size=(8, 16))
    assert DiffusionGenerator(unet, diffusers.DDIMScheduler()).latent_shape == (1, 8, 16)


def test_own_steps_draw_the_noise_that_eta_asks_for():
    x = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    draw = lambda: [torch.Generator().manual_seed(k) for k in range(2)]  # noqa: E731
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    got = own_steps(scheduler, 5, linear, x, 0.7, draw())
    generators, still = draw(), own_steps(scheduler, 5, linear, x, 0.0, draw())
    scheduler.set_timesteps(5)
    for t in scheduler.timesteps:
        x = scheduler.step(linear(x, t), t, x, eta=0.7, generator=generators).prev_sample
    torch.testing.assert_close(got, x)
    assert (got - still).abs().max() > 0.1


# ---------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("scheduler", ["ddim", "released", "EulerAncestralDiscreteScheduler"])
def test_noise_belongs_to_the_point(generator, scheduler):
    """A point's latents do not depend on its slot, and change with the seed."""
    eta = 0.0 if scheduler.endswith("Scheduler") else 0.5
    plan = text_plan(scheduler=scheduler, eta=eta, num_steps=3)
    prepared = generator.prepare(plan)
    with torch.no_grad():
        z = plan.z(plan.parameters)
        forth, back = prepared.latents(z, [0, 1, 2]), prepared.latents(z.flip(0), [2, 1, 0]).flip(0)
        other = generator.prepare(text_plan(scheduler=scheduler, eta=eta, num_steps=3, seed=2)).latents(z, [0, 1, 2])
    torch.testing.assert_close(forth, back, atol=1e-5, rtol=1e-5)
    assert (forth - other).abs().max() > 0.1


def test_own_steps_leave_the_scheduler_as_it_was(generator):
    scheduler = diffusers.DPMSolverMultistepScheduler.from_config(generator.scheduler.config)
    x = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    first, second = (own_steps(scheduler, 4, linear, x, 0.0, []) for _ in range(2))
    assert torch.equal(first, second) and scheduler.step_index is None


def test_half_precision_keeps_latents_in_single(generator):
    """bfloat16 networks, float32 sums: near to float32, and not the same."""
    single, half = (made(generator, text_plan(dtype=dtype, num_steps=4))[0] for dtype in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert 0 < (single - half).norm() / single.norm() < 0.05


ROUNDING = ("EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep")  # their step() casts x to float32
OTHERS = ("DDIM", "DDPM", "DEISMultistep", "DPMSolverSinglestep", "HeunDiscrete", "KDPM2Discrete", "LMSDiscrete",
          "PNDM", "UniPCMultistep")  # fmt: skip


@pytest.mark.parametrize("name", (*ROUNDING, *OTHERS, "FlowMatchEulerDiscrete"))
def test_steps_in_float64_have_its_digits(name):
    """The network is linear, so the loop is: a change of 2^-40 of x changes what comes out by 2^-40 of it."""
    scheduler = getattr(diffusers, f"{name}Scheduler")
    scheduler = scheduler(clip_sample=False) if name in ("DDIM", "DDPM") else scheduler()
    x = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def run(x):
        return own_steps(scheduler, 6, linear, x, 0.0, [torch.Generator().manual_seed(k) for k in range(2)])

    small, whole = (run(x * (1 + 2.0**-40)) - run(x)) * 2.0**40, run(2 * x) - run(x)
    assert (small - whole).norm() / whole.norm() < 0.01  # in float32 it is 1, or any number: all changes are lost


@pytest.mark.parametrize("name", ROUNDING)
def test_steps_in_float64_are_diffusers_own_but_for_rounding(name):
    """Where they draw noise, it is that of float32, and diffusers' own in float64 is another."""
    scheduler = getattr(diffusers, f"{name}Scheduler")()
    x = torch.randn((2, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own_dtypes = (torch.float64, torch.float32) if name != "EulerAncestralDiscrete" else (torch.float32, torch.float32)
    for dtype, own_dtype, tolerance in zip((torch.float64, torch.float32), own_dtypes, (1e-6, 0.0), strict=True):
        given = x.to(dtype)
        got = own_steps(scheduler, 6, linear, given, 0.0, [torch.Generator().manual_seed(k) for k in range(2)])
        own = getattr(diffusers, f"{name}Scheduler")()
        own.set_timesteps(6)
        generators = {"generator": [torch.Generator().manual_seed(k) for k in range(2)]}
        given = given.to(own_dtype) * own.init_noise_sigma
        for t in own.timesteps:
            given = own.step(linear(own.scale_model_input(given, t), t), t, given, **generators).prev_sample
        assert got.dtype == dtype
        torch.testing.assert_close(got, given.to(dtype), atol=tolerance * float(given.abs().max()), rtol=0)


@pytest.mark.parametrize("scheduler", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_the_floor_of_float64_is_its_own_with_any_scheduler(generator, scheduler):
    """The other last bits of z are seen: not swallowed by steps in float32, nor 1e-7 where they cross a rounding."""
    plan = text_plan(scheduler=scheduler, num_steps=3, dtype="float64").at(np.random.default_rng(0).random((5, 2)))
    found = noise_floor(plan, generator)
    assert found.rounding.min() > 1e-17 and found.rounding.max() < 1e-12


@pytest.mark.parametrize(
    ("scheduler", "tolerance"),
    [("released", 1e-5), ("DPMSolverMultistepScheduler", 1e-5), ("EulerDiscreteScheduler", 1e-5)],
    ids=["released", "DPM", "Euler"],
)
def test_forward_mode_passes_guidance_cross_attention_and_decoder(generator, scheduler, tolerance):
    plan = text_plan(scheduler=scheduler, eta=0.1 if scheduler == "released" else 0.0, num_steps=3, dtype="float64")
    exact = lipschitz(plan, generator)
    assert exact.method == "jvp" and exact.of == "images" and (exact.singular_values > 1e-3).all()
    near = lipschitz(plan, generator, method="differences")
    np.testing.assert_allclose(near.singular_values, exact.singular_values, rtol=tolerance)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"scheduler": "DDIM"},
            "scheduler must be ddim, released, or the name of a scheduler of diffusers.*got 'DDIM'",
        ),
        ({"scheduler": "NoScheduler"}, "scheduler must be .*got 'NoScheduler'"),
        ({"num_steps": 1001}, "num_steps must be >= 1 and <= 1000, got 1001"),
    ],
)
def test_plans_that_the_loop_refuses(generator, changes, message):
    with pytest.raises(ValueError, match=message):
        generator.prepare(text_plan(**changes))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FlowMatchEulerDiscrete", "scheduler must be for what the model was trained on, noise that preserves the "
         "variance predicting epsilon, got FlowMatchEulerDiscreteScheduler for flow matching: its images would be"),
        ("FlowMatchHeunDiscrete", "for flow matching"),
        ("EDMEuler", "got EDMEulerScheduler for EDM's preconditioned noise"),
        ("EDMDPMSolverMultistep", "for EDM's preconditioned noise"),
        ("CMStochasticIterative", "for the noise of CMStochasticIterativeScheduler"),
        ("KarrasVe", "for the noise of KarrasVeScheduler"),
        ("ScoreSdeVe", "for the noise of ScoreSdeVeScheduler"),
        ("DDPMWuerstchen", "for the noise of DDPMWuerstchenScheduler"),
        ("RePaint", "scheduler must step from model_output, timestep and sample, got RePaintScheduler"),
        ("VQDiffusion", "scheduler must be made of the model's configuration, got VQDiffusionScheduler: .*num_vec"),
        ("DDIMInverse", "scheduler must go from noise to images, got DDIMInverseScheduler, which goes back"),
        ("CogVideoXDDIM", "scheduler must keep the model's noise levels, got CogVideoXDDIMScheduler, which makes its"),
    ],
)  # fmt: skip
def test_schedulers_for_models_of_another_kind(generator, name, message):
    """They would run: the first of them to images that are three quarters off."""
    with pytest.raises(ValueError, match=message):
        generator.prepare(text_plan(scheduler=f"{name}Scheduler"))


def test_a_schedulers_own_configuration_must_fit_too(generator):
    changed = {**generator.scheduler.config, "prediction_type": "v_prediction"}
    with pytest.raises(ValueError, match=r"predicting epsilon, got DDIMScheduler for .* predicting v_prediction"):
        generator.prepare(text_plan(scheduler=diffusers.DDIMScheduler.from_config(changed)))
    changed = diffusers.DDIMScheduler.from_config(generator.scheduler.config, beta_end=0.02)  # on purpose
    assert generator.prepare(text_plan(scheduler=changed, num_steps=2)).latent_shape == (4, 8, 8)
    flow = diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    match = loops.scheduler_of("FlowMatchEulerDiscreteScheduler", flow)
    assert type(match).__name__ == "FlowMatchEulerDiscreteScheduler"


def test_a_models_own_scheduler_may_be_none_for_this_loop(generator):
    painting = DiffusionGenerator(tiny_diffusion.unet(), diffusers.RePaintScheduler(), pipeline=generator.pipeline)
    with pytest.raises(ValueError, match="scheduler must step from model_output, timestep and sample, got RePaint"):
        painting.prepare(text_plan(scheduler="pipeline"))


def test_schedulers_that_are_not_ddim():
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="scheduler must have alphas_cumprod for DDIM, got FlowMatchEuler"):
        ddim(flow, 10)
    with pytest.raises(ValueError, match="scheduler must not threshold for DDIM"):
        ddim(diffusers.DDIMScheduler(thresholding=True), 10)
    offset = diffusers.DDIMScheduler(steps_offset=1)
    with pytest.raises(ValueError, match="num_steps must leave all times below 1000, got 1000"):
        ddim(offset, 1000)


@pytest.mark.parametrize("shape", [(3, 8, 8), (4, 9, 8), (4, 8)])
def test_anchors_of_another_shape(generator, shape):
    plan = SlicePlan(random_anchors(shape), POINTS)
    with pytest.raises(ValueError, match=r"anchors must have shape \[n, 4, rows, columns\], both multiples of 2"):
        generator.prepare(plan)


def test_folders_that_hold_no_model(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"path must be a folder or file of a diffusers model, got .*missing"):
        from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"path must hold model_index.json or a UNet2DModel"):
        from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="config must be given for a single file, got None"):
        from_pretrained(tmp_path / "model.safetensors")


@pytest.mark.parametrize("given", ["sd/pipeline", tiny_diffusion.unet()], ids=["path", "unet"])
def test_what_is_no_pipeline(given):
    with pytest.raises(
        TypeError, match=r"pipeline must be a pipeline of diffusers, got (str|UNet2D\w+)\. Use from_pretr"
    ):
        from_pipeline(given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_named(generator, folder):
    for make in (
        lambda device: from_pipeline(generator.pipeline, device=device),
        lambda device: PipelineGenerator(generator.pipeline, device),
        lambda device: from_pretrained(folder, device=device),
        lambda device: from_callable(torch.tanh, "tanh", device=device),
        lambda device: digit_generator(device),
    ):
        for device in ("cuda", torch.device("cuda:1")):
            with pytest.raises(RuntimeError, match='No CUDA device was found; use device="cpu"'):
                make(device)
        with pytest.raises(ValueError, match=r'device must be "cpu", "cuda" or "cuda:N", got .tpu.'):
            make("tpu")


def small_unet(**more):
    return diffusers.UNet2DModel(
        in_channels=1, out_channels=1, block_out_channels=(4,), norm_num_groups=2, layers_per_block=1,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), attention_head_dim=2,
        **{"sample_size": 8} | more,
    )  # fmt: skip


def test_prompts_for_models_without_text():
    generator = DiffusionGenerator(small_unet(), diffusers.DDIMScheduler())
    plan = SlicePlan(random_anchors((1, 8, 8)), POINTS, prompt="a digit")
    with pytest.raises(ValueError, match="guidance must be 1 and prompts empty for a model without text"):
        generator.prepare(plan)


@pytest.mark.parametrize("more", [{"num_class_embeds": 10}, {"class_embed_type": "timestep"}])
def test_unets_that_want_classes(tmp_path, more):
    small_unet(**more).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"unet must do without class labels, got one that wants them. Pass from_calla"
    ):
        from_pretrained(tmp_path)


def test_unets_that_want_text_without_any():
    with pytest.raises(ValueError, match="pipeline must be given for a UNet2DConditionModel, got None"):
        DiffusionGenerator(tiny_diffusion.unet(), diffusers.DDIMScheduler())


def test_pipelines_that_do_not_fit(folder, generator):
    with pytest.raises(ValueError, match=r"scheduler must be \"pipeline\" or one of diffusers.*got 'ddim'"):
        PipelineGenerator(generator.pipeline).prepare(text_plan())
    with pytest.raises(ValueError, match="dtype must be the pipeline's, got float64"):
        PipelineGenerator(generator.pipeline).prepare(text_plan(scheduler="pipeline", dtype="float64"))
    with pytest.raises(ValueError, match="pipeline must take latents, got DDIMPipeline"):
        PipelineGenerator(diffusers.DDIMPipeline(generator.pipeline.unet, generator.scheduler))


# --------------------------------------------------------------------------------------------------- compiled, captured


def test_what_is_compiled_is_what_is_called(generator, monkeypatch):
    from torch._dynamo import config

    compiled, called = [], []

    def compile(function, *, dynamic):
        assert dynamic is False
        compiled.append(function)

        def run(*args, **kwargs):
            assert config.recompile_limit > 1000  # else torch goes on without compiling after eight shapes
            called.append(function)
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    given, plan = from_pipeline(generator.pipeline, compile=True), text_plan(num_steps=3)
    assert given.identity["compile"] == ["decoder", "unet"] and generator.identity["compile"] is False
    assert all(torch.equal(*pair) for pair in zip(made(given, plan), made(generator, plan), strict=True))
    networks = generator.pipeline.unet, generator.pipeline.vae.decode
    assert compiled == [*networks] and called == [networks[0]] * 3 + [networks[1]]
    together = _channels_last(networks[0])
    assert together.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert networks[0].conv_in.weight.is_contiguous() and torch.equal(
        together.conv_in.weight, networks[0].conv_in.weight
    )
    assert together.time_embedding.linear_1.weight is networks[0].time_embedding.linear_1.weight
    given.prepare(plan).warm_up()
    assert len(compiled) == 2 and called[4:] == [networks[0]]
    assert generator.prepare(plan).warm_up is None and given.plain().prepare(plan).warm_up is None


@pytest.mark.gpu
def test_channels_lie_together_in_compiled_networks_alone(folder, monkeypatch):
    functions = []
    monkeypatch.setattr(torch, "compile", lambda function, **_: functions.append(function) or function)
    eager = from_pretrained(folder, device="cuda")
    expected = made(eager, text_plan())[0]
    compiled = from_pipeline(eager.pipeline, device="cuda", compile=True)
    torch.testing.assert_close(made(compiled, text_plan())[0], expected, atol=2e-2, rtol=0)
    assert [each.identity["layout"] for each in (eager, compiled)] == ["channels first", "channels last"]
    weights = [network.conv_in.weight for network in (functions[0], eager.pipeline.unet)]
    assert [w.is_contiguous(memory_format=torch.channels_last) for w in weights] == [True, False]
    assert functions[0].time_embedding.linear_1.weight is eager.pipeline.unet.time_embedding.linear_1.weight
    assert torch.equal(made(eager, text_plan())[0], expected)


@pytest.mark.slow
def test_compiled_networks_give_the_same_images(folder, generator, tmp_path):
    """Also from two threads; and bit for bit again after other shapes."""
    plan, compiled = text_plan(num_steps=3), from_pretrained(folder, compile=True)
    first, eager = made(compiled, plan), made(generator, plan)
    torch.testing.assert_close(first, eager, atol=1e-3, rtol=0)
    assert compiled.plain().compile is False and compiled.compile is True
    torch.set_num_threads(2)
    store = generate(text_plan(num_steps=3, micro_batch=2), compiled, tmp_path, shard_size=4)
    np.testing.assert_allclose(store["latents"][:], eager[0].numpy(), atol=1e-3)
    torch.set_num_threads(1)
    assert all(torch.equal(*pair) for pair in zip(made(compiled, plan), first, strict=True))


@pytest.mark.slow
def test_compile_is_refused_where_the_compiler_fails(generator):
    from torch._inductor import config

    torch.compiler.reset()
    compiled = from_pipeline(generator.pipeline, compile=True)
    with (
        config.patch({"cpp.cxx": (None, "/nowhere"), "force_disable_caches": True}),
        pytest.raises(RuntimeError, match=r"compile must be False here: torch.compile failed, .*/nowhere"),
    ):
        made(compiled, text_plan(num_steps=1))


def test_graphs_need_a_gpu(folder):
    with pytest.raises(ValueError, match="device must be a GPU for graph=True, got cpu"):
        from_pretrained(folder, graph=True)


@pytest.mark.gpu
def test_graphs_are_of_this_packages_loop(folder):
    with pytest.raises(ValueError, match='scheduler must be "ddim" or "released" for graph=True, got \'pipeline\''):
        from_pretrained(folder, device="cuda", graph=True).prepare(text_plan(scheduler="pipeline"))


@pytest.mark.gpu
@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("scheduler", ["ddim", "released"])
def test_a_captured_loop_gives_the_same_bits(folder, scheduler, eta):
    plan = text_plan(scheduler=scheduler, eta=eta)
    eager, captured = (from_pretrained(folder, device="cuda", graph=graph) for graph in (False, True))
    prepared = captured.prepare(plan)
    with torch.no_grad():
        z = plan.z(plan.parameters)
        prepared.latents(z.flip(0), [2, 1, 0])  # the capture; then other numbers go through it
        got = prepared.latents(z, [0, 1, 2])
    assert torch.equal(got, made(eager, plan)[0])
    on_cpu = made(from_pretrained(folder), plan)[0]
    torch.testing.assert_close(got.cpu(), on_cpu, atol=2e-2, rtol=0)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"])
def test_schedulers_whose_configuration_is_infinite(tmp_path, name):
    """lambda_min_clipped is -infinity, which JSON does not know."""
    from hessfast.slices import digit_unet, from_pipeline, generate, random_anchors

    own = getattr(diffusers, name)()
    pipeline = diffusers.DDPMPipeline(digit_unet(), own)
    plan = SlicePlan(random_anchors((1, 8, 8)), [[0.2, 0.3]], num_steps=4, scheduler=own)
    store = generate(plan, from_pipeline(pipeline), tmp_path)
    by_name = generate(plan.at(plan.points, scheduler=name), from_pipeline(pipeline), tmp_path / "name")
    np.testing.assert_array_equal(store["latents"][:], by_name["latents"][:])
