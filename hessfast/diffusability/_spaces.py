"""What an assessment measures in one space, of data or of latents: its denoiser, curves and samples."""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from hessfast import _random

from .curves import FisherCurve, fisher_curve
from .denoisers import Denoiser
from .dimension import intrinsic_dimension
from .empirical import empirical_denoiser
from .latents import serpentine
from .networks import MLP, UNet
from .preset import Preset
from .sampling import generate
from .training import train_denoiser

_FLAT = 256  # numbers in an image up to which a perceptron serves it better than a U-Net
_NUMBERS_AT_ONCE = 2**18  # through a network with its graph
_SQUARE = 64  # numbers in a latent vector from which it may be an image


class Space:
    """Samples `[n, ...]` to learn from and held-out ones, arranged for the network that is to denoise them."""

    def __init__(self, train: Tensor, held_out: Tensor, preset: Preset, seed: int):
        self.shape, self.preset, self.seed = tuple(train.shape[1:]), preset, seed
        self.numbers = math.prod(self.shape)
        side = math.isqrt(self.numbers)
        square = len(self.shape) == 1 and side**2 == self.numbers >= _SQUARE
        self.side = side if preset.serpentine and square else None
        self.as_image = self.side is not None or (len(self.shape) == 3 and self.numbers > _FLAT)
        self.train, self.held_out = (self._arranged(x) for x in (train, held_out[: preset.num_samples]))
        self.batch_size = min(256, max(_NUMBERS_AT_ONCE // self.numbers, 1))

    @property
    def variance(self) -> float:
        """E|X - E X|^2 of the held-out samples that curves are measured on."""
        apart = (self.held_out - self.train.mean(dim=0)).double()
        return float((apart**2).flatten(1).sum(dim=1).mean())

    def denoiser(self, tau_range: tuple[float, float], checkpoint: Path | None, progress: bool) -> Denoiser:
        preset = self.preset
        settings = {"tau_range": tau_range, "checkpoint": checkpoint, "progress": progress, "seed": self.seed}
        if not self.as_image:
            with _random.seeded(self.seed):
                network: nn.Module = MLP(self.numbers, preset.mlp_width)
            return train_denoiser(self.train, network, num_steps=preset.mlp_steps, **settings)
        channels, side = self.train.shape[1:3]
        levels = max(k for k in (1, 2, 3) if side % 2 ** (k - 1) == 0)
        with _random.seeded(self.seed):
            network = UNet(channels, preset.unet_width, levels)
        settings |= {"ema_decay": 0.999, "batch_size": 64}
        return train_denoiser(self.train, network, num_steps=preset.unet_steps, **settings)

    def curve(self, denoiser: Denoiser, tau: np.ndarray) -> FisherCurve:
        return fisher_curve(
            denoiser, self.held_out, tau, self.preset.num_probes, self.seed, batch_size=self.batch_size
        )  # fmt: skip

    @cached_property
    def alone(self) -> Denoiser:
        """The samples' empirical denoiser."""
        return empirical_denoiser(self.train)

    def empirical_curve(self, tau: np.ndarray) -> dict[str, Any] | None:
        """The curve of the data alone, from the tau on where it is that of the distribution behind them."""
        assert self.alone.tau_range is not None
        valid = tau[tau >= self.alone.tau_range[0]]
        return self.curve(self.alone, valid).to_dict() if len(valid) else None

    def intrinsic_dimension(self) -> dict[str, Any]:
        """m of the surface that the training samples lie near, at the scale of their neighbours."""
        mean, sem = intrinsic_dimension(self.train)
        return {
            "value": min(max(round(mean), 1), self.numbers - 1),
            "mean": mean,
            "sem": sem,
            "how": "ratio of the distances of two neighbours",
        }

    def generated(self, denoiser: Denoiser) -> Tensor:
        shape = tuple(self.train.shape[1:])
        made = generate(
            denoiser, self.preset.num_generated, shape, batch_size=4 * self.batch_size, device=self.train.device,
            seed=self.seed,
        )  # fmt: skip
        if self.side is not None:
            made = serpentine(made.flatten(1), self.side)  # its own inverse
        return made.reshape(-1, *self.shape)

    def _arranged(self, x: Tensor) -> Tensor:
        if self.side is not None:
            return serpentine(x, self.side)
        return x if self.as_image else x.flatten(1)
