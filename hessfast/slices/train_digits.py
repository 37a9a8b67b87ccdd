"""Train the shipped networks of digits again: python -m hessfast.slices.train_digits [PATH], minutes on one core."""

import copy
import json
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hessfast import _atomic, _random
from hessfast._training import cosine, descend, steps
from hessfast.diffusability import digits

from ._extra import diffusers
from .digits import SCHEDULER, UNET, WEIGHTS, DigitClassifier

CHECKPOINT_EVERY = 250  # steps


def train(path: Path = WEIGHTS, *, num_steps: int = 2000, classifier_steps: int = 1200, seed: int = 0) -> float:
    """Train both networks on 1,437 digits and write them, in float16; the classifier's accuracy on the other 360.

    A function of its arguments, to the rounding of the processor's arithmetic. What is done is kept beside `path`, and
    gone on with after an interruption.
    """
    from safetensors.torch import save as to_bytes
    from sklearn.datasets import load_digits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order
    try:
        images, held_out = digits()
        labels = torch.as_tensor(cast(Any, load_digits(return_X_y=True))[1])
        order = torch.as_tensor(_random.derive(0, torch.arange(len(labels)).numpy()).argsort())  # that of `digits`
        classifier = _train_classifier(images, labels[order[360:]], classifier_steps, seed)
        with torch.no_grad():
            guess = classifier.logits(classifier(held_out)).argmax(1)
        unet = _train_unet(images, num_steps, seed, path.with_suffix(".checkpoint"))
    finally:
        torch.set_num_threads(threads)
    tensors = {}
    for part, module in (("unet", unet), ("classifier", classifier)):
        tensors |= {f"{part}.{name}": weight.half().contiguous() for name, weight in module.state_dict().items()}
    metadata = {
        "config": json.dumps({"unet": UNET, "scheduler": SCHEDULER}, sort_keys=True)
    }  # several come in any order
    _atomic.write(path, [to_bytes(tensors, metadata)])
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
    return float((guess == labels[order[:360]]).float().mean())


def _train_classifier(images: Tensor, labels: Tensor, num_steps: int, seed: int) -> DigitClassifier:
    with _random.seeded(seed):
        classifier = DigitClassifier()
    optimiser = torch.optim.AdamW(classifier.parameters(), 3e-3, weight_decay=0.05)
    for step in range(num_steps):
        generator = _generator(seed, 1, step)
        rows = torch.randint(len(images), (128,), generator=generator)
        noise = torch.randn((128, *images.shape[1:]), generator=generator)
        spread = 0.4 * torch.rand((128, 1, 1, 1), generator=generator)
        loss = functional.cross_entropy(classifier.logits(classifier(images[rows] + spread * noise)), labels[rows])
        descend(optimiser, loss, 3e-3 * cosine(step / num_steps))
    return classifier.eval()


def _train_unet(images: Tensor, num_steps: int, seed: int, checkpoint: Path) -> nn.Module:
    """Its weights averaged over the last few hundred steps."""
    package = diffusers()
    cumulative = package.DDIMScheduler(**SCHEDULER).alphas_cumprod
    with _random.seeded(seed):
        unet = package.UNet2DModel(**UNET)
    averaged = copy.deepcopy(unet)
    both, optimiser = nn.ModuleList([unet, averaged]), torch.optim.AdamW(unet.parameters(), 2e-3)
    plan = {"num_steps": num_steps, "seed": seed, "unet": UNET, "scheduler": SCHEDULER}
    for step in steps(both, optimiser, num_steps, plan, checkpoint, every=CHECKPOINT_EVERY):
        generator = _generator(seed, 2, step)
        rows = torch.randint(len(images), (128,), generator=generator)
        noise = torch.randn((128, *images.shape[1:]), generator=generator)
        # One time from each of 128 slices of the range: less noise in the loss than independent times have.
        time = ((torch.arange(128) + torch.rand(128, generator=generator)) * len(cumulative) / 128).long()
        a, s = (part.sqrt()[:, None, None, None] for part in (cumulative[time], 1 - cumulative[time]))
        predicted = unet(a * images[rows] + s * noise, time).sample
        loss = (predicted - (a * noise - s * images[rows])).square().mean()
        descend(optimiser, loss, 2e-3 * cosine(step / num_steps))
        decay = min(0.995, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, new in zip(averaged.parameters(), unet.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
    return averaged.eval()


def _generator(seed: int, *path: int) -> torch.Generator:
    return _random.generator(seed, *_random.SHIPPED_MODEL, *path)


if __name__ == "__main__":
    print(f"accuracy on held-out digits: {train(Path(sys.argv[1]) if sys.argv[1:] else WEIGHTS):.4f}")
