"""What trainings of autoencoders share: checked images, networks of the seed, steps that can be gone on with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _arrays, _checks, _random
from hessfast._training import cosine, descend, steps

from . import _samples
from .autoencoder import applied
from .autoencoder_networks import Decoder, Encoder
from .latents import Normalisation, normalisation

_CHECKPOINT_EVERY = 500  # steps


def prepare(images: Any, plan: dict, device: Any) -> tuple[Tensor, Encoder, Decoder, dict]:
    """Images and networks where they are to be trained, and the plan, checked."""
    x, plan = _checked(images, plan)
    encoder, decoder = _networks(x, plan)
    device = _arrays.device_of(images) if device is None else device
    return x.to(device), encoder.to(device), decoder.to(device), plan


def _networks(x: Tensor, plan: dict) -> tuple[Encoder, Decoder]:
    """Encoder and decoder of the seed, in units of the images."""
    size = (x.shape[1], x.shape[2], x.shape[3]), plan["latent_dim"], plan["width"]
    with _random.seeded(plan["seed"]):
        networks = Encoder(*size), Decoder(*size)
    centre = x.mean(dim=0)
    spread = float((x - centre).double().square().mean()) ** 0.5
    if not spread > 0:
        raise ValueError("images must differ, got the same one throughout.")
    for network in networks:
        network.centre.copy_(centre)
        network.spread.fill_(spread)
    return networks


def minimise(
    networks: nn.ModuleDict,
    x: Tensor,
    phases: list[tuple[Callable[[], None] | None, Callable[[Tensor, torch.Generator], Tensor]]],
    plan: dict,
    checkpoint: str | Path | None,
    progress: bool,
) -> None:
    """Minimise each phase's loss of a batch for `num_steps`; what a phase leaves without a gradient stays as it is."""
    optimiser = torch.optim.Adam(networks.parameters(), plan["learning_rate"])
    total, name = plan["num_steps"] * len(phases), plan["method"].upper()
    for step in steps(
        networks, optimiser, total, plan, checkpoint, every=_CHECKPOINT_EVERY, name=name, progress=progress
    ):
        phase, now = divmod(step, plan["num_steps"])
        begin, loss_of = phases[phase]
        if now == 0 and begin is not None:
            begin()
        rows, generator = _batch(len(x), plan, step)
        loss = loss_of(x[rows.to(x.device)], generator)
        descend(optimiser, loss, plan["learning_rate"] * cosine(now / plan["num_steps"]))


def _batch(n: int, plan: dict, step: int) -> tuple[Tensor, torch.Generator]:
    """Numbers of different images, and what else the step draws from: a function of (seed, step)."""
    generator = _random.generator(plan["seed"], *_random.AUTOENCODER_BATCHES, step)
    return torch.randperm(n, generator=generator)[: plan["batch_size"]], generator


def normalisation_of(encoder: Encoder, x: Tensor) -> Normalisation:
    """Normalisation of the latents of images; refused if training has made them infinite."""
    with torch.no_grad():
        z = applied(encoder, "images", x, encoder.shape)
    if not torch.isfinite(z).all():
        raise ArithmeticError("latents must be finite, got NaN or infinity. Lower learning_rate.")
    return normalisation(z)


def _checked(images: Any, plan: dict) -> tuple[Tensor, dict]:
    """Images in float32 on the host, and the plan with their digest."""
    x = _samples.images("images", images, least_side=8, dtype=torch.float32).cpu().contiguous()
    plan = plan | {"latent_dim": _checks.integer("latent_dim", plan["latent_dim"], 1, x[0].numel())}
    plan |= {name: _checks.integer(name, plan[name], 1) for name in ("width", "num_steps")}
    plan |= {"batch_size": _checks.integer("batch_size", plan["batch_size"], 2), "seed": _checks.seed(plan["seed"])}
    plan["learning_rate"] = _checks.positive("learning_rate", plan["learning_rate"])
    return x, plan | {"images": _arrays.digest(x.numpy())}
