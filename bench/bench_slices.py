"""Slices of diffusion models: images a second, and what the engine adds to the calls of the U-Net that it must make."""

import os
import time

import pytest

pytest.importorskip("diffusers")

import diffusers
import numpy as np
import torch

from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, digit_generator, generate, random_anchors

STEPS, BATCH, ROUNDS = 50, 64, 9
GOAL_OVERHEAD, GOAL_RELEASED = 1.05, 3.0


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    yield
    torch.set_num_threads(before)


def plan(shape=(1, 8, 8), **more):
    return SlicePlan(random_anchors(shape), Grid((0, 0), (1, 1), (8, 8)), num_steps=STEPS, micro_batch=BATCH, **more)


def calls(generator, this):
    """The U-Net as often as a micro-batch needs it, with inputs that are there already."""
    unet = next(iter(generator._unet.values()))
    x, t = this.z(this.parameters).float(), torch.arange(STEPS)
    guided = this.guidance != 1
    x = torch.cat([x, x]) if guided else x
    more = {"encoder_hidden_states": torch.randn(len(x), 16, 16)} if guided else {}
    with torch.no_grad():
        for k in range(STEPS):
            unet(x, t[k], return_dict=False, **more)


def ratio(first, second, clock):
    """Of the least second to the least first, measured in turns: what else runs on the machine only adds."""
    seconds = {first: [], second: []}
    for _ in range(ROUNDS + 1):  # the first is not counted
        for call, times in seconds.items():
            start = clock()
            call()
            times.append(clock() - start)
    return min(seconds[second][1:]) / min(seconds[first][1:])


def test_digits(record_rate, tmp_path):
    """64 points x 50 steps, features and store included."""
    generator, this, folders = digit_generator(), plan(), iter(range(10**6))
    store = generate(this, generator, tmp_path / "first", "digits")
    assert np.isfinite(store["latents"][:]).all()

    def job():
        generate(this, generator, tmp_path / str(next(folders)), "digits")

    overhead = ratio(lambda: calls(generator, this), job, time.process_time)
    print(f"\ndigits: {overhead:.3f} x the bare calls of the U-Net")
    assert overhead < GOAL_OVERHEAD
    record_rate(job, work=this.num, unit="us/image/core")


def test_tiny_stable_diffusion(record_rate, tmp_path):
    """The same of a guided pipeline of random weights, text and decoder included."""
    pytest.importorskip("transformers")
    from hessfast.slices import from_pretrained
    from tests import tiny_diffusion

    generator = from_pretrained(tiny_diffusion.stable_diffusion(tmp_path))
    this, folders = plan((4, 8, 8), guidance=5.0, prompt="high, 4k", negative_prompt="ugly"), iter(range(10**6))

    def job():
        generate(this, generator, tmp_path / str(next(folders)))

    overhead = ratio(lambda: calls(generator, this), job, time.process_time)
    print(f"\ntiny Stable Diffusion: {overhead:.3f} x the bare calls of the U-Net")
    assert overhead < GOAL_OVERHEAD
    record_rate(job, work=this.num, unit="us/image/core")


def test_released_structure(record_rate, tmp_path):
    """As the paper's script is built, one image at a time by a loop written out; and how much faster the engine is."""
    generator, this, folders = digit_generator(), plan(scheduler="released"), iter(range(10**6))
    unet = next(iter(generator._unet.values()))
    scheduler = diffusers.DDIMScheduler.from_config(generator.scheduler.config)

    def one_by_one(num=8):
        scheduler.set_timesteps(STEPS)
        images = []
        with torch.no_grad():
            for k in range(num):
                x = this.z(this.parameters[k : k + 1]).float()
                for t in scheduler.timesteps:
                    a = scheduler.alphas_cumprod[t]
                    previous = scheduler.alphas_cumprod[max(1, t.item() - 1000 // STEPS)]
                    v = unet(x, t).sample
                    eps = a.sqrt() * v + (1 - a).sqrt() * x
                    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
                    x = previous.sqrt() * x0 + (1 - previous).sqrt() * eps
                images.append(x)
        return torch.cat(images)

    def engine():
        return generate(this, generator, tmp_path / str(next(folders)), "digits")

    np.testing.assert_allclose(engine()["latents"][:8], one_by_one().numpy(), atol=2e-3)
    faster = 8 * ratio(engine, one_by_one, time.process_time)  # eight images against sixty-four
    print(f"\nreleased structure: {faster:.2f} x slower")
    assert faster > GOAL_RELEASED
    record_rate(one_by_one, work=8, unit="us/image/core")
