"""One process of many that fill a slice, as torchrun would start it; imported once, by the server that forks them."""

import os
import time

import torch

from hessfast.slices import SlicePlan, digit_generator, generate, random_anchors

torch.set_num_threads(1)
GENERATOR = digit_generator()  # diffusers takes seconds to import, once and before the fork


def plan(**changes) -> SlicePlan:
    """22 points in micro-batches of 4: the last is padded."""
    points = [[k / 21, (k * 5 % 22) / 21] for k in range(22)]
    return SlicePlan(
        **{"anchors": random_anchors((1, 8, 8)), "points": points, "num_steps": 3, "micro_batch": 4} | changes
    )


def fill(folder: str, rank: int = 0, world_size: int = 1, seconds: float = 0.0) -> None:
    """What every rank runs; `seconds` of sleep before each step leave time to kill it."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size))
    if seconds:
        unet = next(iter(GENERATOR._unet.values()))
        unet.register_forward_pre_hook(lambda *_: time.sleep(seconds))
    generate(plan(), GENERATOR, folder, "digits", keep=("latents", "features", "images"), shard_size=4)
