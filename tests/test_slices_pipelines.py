"""Pipelines of diffusers as generators: what they are given, what a store knows of them, what is refused."""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers

from hessfast.slices import (
    DiffusionGenerator,
    PipelineGenerator,
    SlicePlan,
    from_pipeline,
    from_pretrained,
    random_anchors,
)
from hessfast.slices.digits import digit_unet
from hessfast.slices.loops import ddim, scheduler_of
from tests import tiny_diffusion

POINTS = [[0.2, 0.3], [0.5, 0.9]]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_diffusion.stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def pipeline(folder):
    return diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def text_plan(**changes):
    settings = {"num_steps": 3, "guidance": 5.0, "prompt": "high, 4k", "scheduler": "pipeline", "micro_batch": 2}
    return SlicePlan(random_anchors((4, 8, 8), seed=3), POINTS, **(settings | changes))


def images(generator, plan):
    return tiny_diffusion.made(generator, plan)[1]


def test_a_plan_leaves_the_pipeline_as_it_was(pipeline):
    """Neither the next plan nor its owner finds the scheduler that one plan named."""
    own, generator = pipeline.scheduler, PipelineGenerator(pipeline)
    before = images(generator, text_plan())
    other = images(generator, text_plan(scheduler="EulerDiscreteScheduler"))
    assert torch.equal(images(generator, text_plan()), before) and (other - before).abs().max() > 1e-3
    assert pipeline.scheduler is own


def test_the_noise_and_the_clipping_of_a_scheduler_are_those_of_the_model():
    """Of defaults that its file left unsaid: of LCM, DDIM's own would clip; of Heun it has other betas."""
    for name in ("LCMScheduler", "HeunDiscreteScheduler"):
        scheduler = getattr(diffusers, name)()
        assert ddim(scheduler, 4).clip is None
        made = scheduler_of("DDIMScheduler", scheduler)
        torch.testing.assert_close(made.alphas_cumprod, scheduler.alphas_cumprod)
        assert not made.config.clip_sample


def test_latents_are_decoded_in_the_units_of_their_autoencoder(tmp_path):
    folder = tiny_diffusion.stable_diffusion_xl(tmp_path)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.vae.register_to_config(latents_mean=[0.5, -0.5, 1.0, 0.0], latents_std=[2.0, 1.0, 3.0, 1.0])
    pipeline.set_progress_bar_config(disable=True)
    plan = text_plan()
    settings = {"num_inference_steps": plan.num_steps, "guidance_scale": plan.guidance, "output_type": "pt"}
    own = pipeline(prompt=[plan.prompt] * 2, latents=plan.z(plan.parameters).float(), **settings).images
    made = images(from_pipeline(pipeline), plan)
    torch.testing.assert_close(made.clamp(-1, 1), 2 * own - 1, atol=1e-4, rtol=0)


def test_distilled_guidance_is_left_to_the_pipeline(pipeline):
    pipeline.unet = tiny_diffusion.unet(time_cond_proj_dim=8)
    assert isinstance(from_pipeline(pipeline), PipelineGenerator)
    with pytest.raises(ValueError, match="unet must do without an embedding of the guidance"):
        DiffusionGenerator(pipeline.unet, pipeline.scheduler, pipeline=pipeline)


def test_a_bare_network_has_the_scheduler_of_its_file(tmp_path):
    digit_unet().save_pretrained(tmp_path)
    assert type(from_pretrained(tmp_path).scheduler).__name__ == "DDIMScheduler"
    diffusers.FlowMatchEulerDiscreteScheduler().save_pretrained(tmp_path)
    assert type(from_pretrained(tmp_path).scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"


@pytest.mark.parametrize("make", [from_pipeline, PipelineGenerator])
def test_other_words_are_another_model(pipeline, make):
    before = make(pipeline).identity
    assert make(pipeline).identity == before
    pipeline.tokenizer.add_tokens(["highest"])
    assert make(pipeline).identity != before


def test_settings_that_would_not_be_seen_are_refused(pipeline):
    plan = text_plan(scheduler="EulerDiscreteScheduler", eta=0.5)
    with pytest.raises(ValueError, match="eta must be 0 for EulerDiscreteScheduler"):
        from_pipeline(pipeline).prepare(plan)


def test_a_pipeline_is_in_evaluation_mode(pipeline):
    pipeline.unet.train()
    PipelineGenerator(pipeline)
    assert not pipeline.unet.training


def test_a_decoder_that_draws_noise_is_refused():
    class ConsistencyDecoderVAE(torch.nn.Module):
        pass

    with pytest.raises(ValueError, match="decoder must give one image for a latent"):
        DiffusionGenerator(digit_unet(), diffusers.DDIMScheduler(), decoder=ConsistencyDecoderVAE())
