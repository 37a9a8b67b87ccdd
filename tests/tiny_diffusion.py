"""Tiny pipelines of diffusers with random weights, made on the spot: the same classes and files as the large ones."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

SCHEDULER = {  # that of Stable Diffusion 1.5
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def tokenizer(folder: Path, length: int = 16) -> CLIPTokenizer:
    """One token a letter, with CLIP's file formats."""
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789,"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=length)


def text_encoder(words: CLIPTokenizer, pooled: bool = False, width: int = 16):
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=16,
        max_position_embeddings=words.model_max_length,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    return (CLIPTextModelWithProjection if pooled else CLIPTextModel)(config).eval()


def unet(**more) -> UNet2DConditionModel:
    settings = {"cross_attention_dim": 16, "attention_head_dim": 2} | more
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **settings,
    ).eval()


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        sample_size=16,
    ).eval()


def stable_diffusion(folder: Path, **scheduler) -> Path:
    """A pipeline of the kind of Stable Diffusion 1.5, saved below `folder`."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(words),
        tokenizer=words,
        unet=unet(),
        scheduler=DDIMScheduler(**SCHEDULER, **scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def stable_diffusion_xl(folder: Path) -> Path:
    """The same of Stable Diffusion XL: two text encoders, pooled text and the size of the picture."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(words),
        text_encoder_2=text_encoder(words, pooled=True),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        ),
        scheduler=DDIMScheduler(**SCHEDULER),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


def made(generator, plan):
    """Latents and images of all points of a plan."""
    prepared = generator.prepare(plan)
    with torch.no_grad():
        latents = prepared.latents(plan.z(plan.parameters), range(plan.num))
        return latents, prepared.decode(latents)
