"""Denoisers trained on samples, as Karras et al. (2022) precondition them, with noise as wide as Fisher curves need."""

import contextlib
import copy
import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _arrays, _checks, _distributed, _random
from hessfast._autograd import recording
from hessfast._fingerprint import structure
from hessfast._modules import draws
from hessfast._training import cosine, descend, steps

from . import _samples
from ._predictions import of_edm
from .networks import MLP, UNet
from .trained import TrainedDenoiser

_CHECKPOINT_EVERY = 500  # steps
_WARM_UP = 200  # steps, or a tenth of them: Adam's first ones are large
_FEW = 4  # dimensions, for which a width of 64 is as good as 128 and half the work
_RATE_OF_VECTORS, _RATE_OF_IMAGES = 8e-3, 3e-4


@recording()
def train_denoiser(
    samples: Any,
    network: nn.Module | None = None,
    *,
    tau_range: tuple[float, float] = (4e-4, 100.0),
    num_steps: int = 5000,
    batch_size: int = 1024,
    learning_rate: float | None = None,
    ema_decay: float = 0.0,
    checkpoint: str | Path | None = None,
    device: Any = None,
    seed: int = 0,
    progress: bool = False,
) -> TrainedDenoiser:
    """A denoiser of the samples' distribution, with what it was trained for; its `save` keeps it in a file.

    The noise of a sample is log-uniform over `tau_range`: EDM's usual noise hardly covers what Fisher curves ask for.
    Every step's batch, noise and, on a CPU, dropout are a function of (seed, step) alone, so that training goes on
    where it was stopped; in a process group (torchrun) ranks share the batch.

    Args:
        samples: `[n, dim]` or images `[n, channels, rows, columns]`.
        network: ``network(c_in y, c_noise)``, c_noise `[batch]`; a copy is trained; None: an `MLP`, half as wide up to
            four dimensions, or a `UNet`.
        tau_range: least and greatest variance of the noise.
        num_steps, batch_size: of Adam; more steps do most for FIR where modes part.
        learning_rate: after some first steps, with cosine decay to zero from there; None: 8e-3 for vectors, 3e-4 for
            images.
        ema_decay: of a running average of the weights, used instead of the last ones; 0: none.
        checkpoint: file in which training is kept, and gone on with.
        device: None: that of the samples.

    Raises:
        ValueError: for samples or noise that do not fit, or a checkpoint of another training.
        ArithmeticError: for a loss or weights that are not finite.

    Example:
        >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(0))  # N(0, 1): D(y) = y / (1 + tau)
        >>> denoiser = train_denoiser(x, num_steps=300, batch_size=256)
        >>> bool((denoiser(torch.tensor([[-1.0], [2.0]]), 1.0) - torch.tensor([[-0.5], [1.0]])).abs().max() < 0.2)
        True
    """
    x = _samples.samples("samples", samples, ndim=(2, 4), dtype=torch.float32).cpu().contiguous()
    low, high = _checks.interval("tau_range", tau_range, positive=True)
    num_steps = _checks.integer("num_steps", num_steps, 1)
    batch_size, seed = _checks.integer("batch_size", batch_size, 1), _checks.seed(seed)
    ema_decay = _checks.number("ema_decay", ema_decay)
    if not 0 <= ema_decay < 1:
        raise ValueError(f"ema_decay must be in [0, 1), got {ema_decay}.")
    if learning_rate is None:
        learning_rate = _RATE_OF_VECTORS if x.ndim == 2 else _RATE_OF_IMAGES
    learning_rate = _checks.positive("learning_rate", learning_rate)
    if network is None:
        with _random.seeded(seed):
            network = MLP(x.shape[1], 64 if x.shape[1] <= _FEW else 128) if x.ndim == 2 else UNet(x.shape[1])
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a module, got {network!r:.80}.")
    sigma_data = float((x.double() - x.double().mean(dim=0)).square().mean()) ** 0.5
    if not sigma_data > 0:
        raise ValueError("samples must differ, got the same one throughout.")
    centre = x.mean(dim=0)
    device = (samples.device if _arrays.is_tensor(samples) else "cpu") if device is None else device
    network = copy.deepcopy(network).to(device)
    plan = {"tau_range": [low, high], "num_steps": num_steps, "batch_size": batch_size, "learning_rate": learning_rate}
    plan |= {"ema_decay": ema_decay, "seed": seed, "samples": _arrays.digest(x.numpy())}
    built = hashlib.sha256(structure(network).encode()).hexdigest()[:16]
    weights = sum(weight.numel() for weight in network.parameters())
    plan["network"] = f"{type(network).__name__} {built}, {weights} weights"
    trained = _train(network, (x - centre).to(device), sigma_data, plan, checkpoint, progress)
    return TrainedDenoiser.of(trained, centre.to(device), sigma_data, (low, high))


def _train(
    network: nn.Module, x: Tensor, sigma_data: float, plan: dict, checkpoint: str | Path | None, progress: bool
) -> nn.Module:
    rank, ranks = _distributed.ranks()
    if plan["batch_size"] % ranks:
        raise ValueError(f"batch_size must be a multiple of {ranks} ranks, got {plan['batch_size']}.")
    averaged = copy.deepcopy(network) if plan["ema_decay"] else network
    kept = nn.ModuleList([network, averaged] if plan["ema_decay"] else [network])
    optimiser = torch.optim.Adam(network.parameters(), plan["learning_rate"], fused=True)
    model = nn.parallel.DistributedDataParallel(network) if ranks > 1 else network
    network.train()
    dropping = draws(network)
    num_steps = plan["num_steps"]
    warm_up = min(_WARM_UP, num_steps / 10)
    for step in steps(
        kept, optimiser, num_steps, plan, checkpoint, every=_CHECKPOINT_EVERY, progress=progress, rank=rank
    ):
        clean, noise, levels = (part[rank::ranks] for part in _batch(x, plan, step))
        tau, variance = levels.reshape(-1, *[1] * (x.ndim - 1)), sigma_data**2
        y = clean + tau.sqrt() * noise
        skip, out, _ = of_edm(tau, variance)
        with _random.seeded(_dropout_seed(plan, step, rank)) if dropping else contextlib.nullcontext():
            predicted = model(y / (tau + variance).sqrt(), levels.log() / 8)
        loss = (predicted - (clean - skip * y) / out).square().mean()
        share = cosine(step / num_steps) * min((step + 1) / warm_up, 1)
        descend(optimiser, loss, plan["learning_rate"] * share)
        if plan["ema_decay"]:
            _average(averaged, network, min(plan["ema_decay"], (1 + step) / (10 + step)))
    return averaged


def _dropout_seed(plan: dict, step: int, rank: int) -> int:
    return int(_random.derive(plan["seed"], *_random.DROPOUT, step, rank)[0])


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, new in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(new, 1 - decay)
    for last, new in zip(averaged.buffers(), network.buffers(), strict=True):
        last.copy_(new)


def _batch(x: Tensor, plan: dict, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Samples, noise of variance one and its tau `[batch_size]`: a function of (seed, step)."""
    generator = _random.generator(plan["seed"], *_random.DENOISER_BATCHES, step)
    rows = torch.randint(len(x), (plan["batch_size"],), generator=generator)
    noise = torch.randn((len(rows), *x.shape[1:]), generator=generator)
    low, high = (math.log(tau) for tau in plan["tau_range"])
    levels = torch.exp(low + (high - low) * torch.rand(len(rows), generator=generator))
    return x[rows.to(x.device)], noise.to(x.device), levels.to(x.device)
