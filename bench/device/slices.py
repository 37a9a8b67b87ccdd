"""Images of the configuration of Stable Diffusion 1.5, of random weights: the work of the real one, and no download."""

import importlib.util
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .measure import Row, rate

SIDE, STEPS, BATCH = 64, 50, 64  # of latents; images are 8 times as wide
GOAL = 4.8  # images/s: 40 % of an H100's dense bfloat16


def stable_diffusion() -> Iterator[Row]:
    """512 x 512, 50 guided steps and the decoder, bfloat16; eager, compiled, and as one CUDA graph."""
    if any(importlib.util.find_spec(name) is None for name in ("diffusers", "transformers")):
        print("without diffusers and transformers no image is made")
        return
    import torch

    from hessfast.posterior import Grid
    from hessfast.slices import SlicePlan, from_pipeline, random_anchors
    from hessfast.slices.generate import computing

    a = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    ceiling = rate("", lambda: a[0] @ a[1], 2 * 8192**3 / 1e12, "TFLOP/s", seconds=0.5)["rate"]
    anchors, grid = random_anchors((4, SIDE, SIDE)), Grid((0, 0), (1, 1), (8, 8))
    asked = {"guidance": 5.0, "prompt": "high, 4k", "negative_prompt": "ugly", "dtype": "bfloat16"}
    plan, short = (SlicePlan(anchors, grid, num_steps=num, micro_batch=BATCH, **asked) for num in (STEPS, 2))
    z = plan.z(plan.parameters)
    with torch.device("cuda"):
        pipeline = assembled(*networks())
    tflops = tflop()

    def images(prepared):
        with torch.no_grad(), computing(torch.device("cuda")):
            made = prepared.decode(prepared.latents(z, range(BATCH)))
        assert made.shape == (BATCH, 3, 8 * SIDE, 8 * SIDE) and bool(made.isfinite().all())

    for form, options in (("eager", {}), ("compiled", {"compile": True}), ("one graph", {"graph": True})):
        generator = from_pipeline(pipeline, device="cuda", **options)
        prepared = generator.prepare(plan)
        warm = prepared if form == "one graph" else generator.prepare(short)  # a graph is captured whole
        more = {"seconds": 0.0, "rounds": 1, "warm_up": partial(images, warm)}
        row = rate(f"slices: Stable Diffusion 1.5, {form}", partial(images, prepared), BATCH, "images/s", GOAL, **more)
        speed = tflops * row["rate"]
        yield row | {"tflop_per_s": speed, "of_bfloat16_products": speed / ceiling}


def assembled(unet, decoder):
    """Their pipeline in bfloat16; its text encoder is small, for it is called once."""
    import diffusers
    import torch

    from tests import tiny_diffusion

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        words = tiny_diffusion.tokenizer(Path(folder) / "words", length=77)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=decoder, text_encoder=tiny_diffusion.text_encoder(words, width=unet.config.cross_attention_dim),
        tokenizer=words, unet=unet, scheduler=diffusers.DDIMScheduler(**tiny_diffusion.SCHEDULER),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return pipeline.to(torch.bfloat16)


def networks():
    """U-Net and autoencoder of version 1.5, on torch's current device."""
    import diffusers

    unet = diffusers.UNet2DConditionModel(cross_attention_dim=768)
    decoder = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4,
    )  # fmt: skip
    return unet, decoder


def tflop() -> float:
    """Of one image, 10^12 floating-point operations of products and convolutions: counted, on no device."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        unet, decoder = networks()
        x = torch.empty(1, 4, SIDE, SIDE)
        unet(x, torch.empty(1), encoder_hidden_states=torch.empty(1, 77, 768))
        once = counter.get_total_flops()
        decoder.decode(x)
    return (2 * STEPS * once + counter.get_total_flops() - once) / 1e12
