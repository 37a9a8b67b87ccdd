"""A family of encoders of one data set: linear, bent and trained, built so that much of it differs in one thing alone.

Most are the principal axes followed by an invertible map of the d coordinates, so that they reconstruct alike: what
diffusion makes of them differs by the shape of their latents. The trained ones differ in their decoders, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hessfast import _random
from hessfast.diffusability import Autoencoder, train_gpe, train_vae

_POWERS = (0.0, 0.5, 1.0, 1.5, 2.0)  # of the standard deviations of the coordinates; 1: isometric, 0: white
_BETAS = (0.0, 0.01, 0.1, 1.0)
_BEND = 1.5  # standard deviations: where the nonlinear maps begin to be felt
TRAINED = ("gpe", *(f"vae, beta {beta:g}" for beta in _BETAS))
NAMES = (
    *(f"pca, power {power:g}" for power in _POWERS), "random axes", "pca, anisotropic", "pca, sheared",
    "pca, radial", "pca, squashed", "pca, stretched", *TRAINED,
)  # fmt: skip

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Linear:
    """Coordinates along some axes, and a map of them that can be undone: encode `[n, ...]` -> `[n, d]`, and decode."""

    mean: Tensor
    axes: Tensor  # [D, d]
    back: Tensor  # [d, D], of the decoder
    forward: Map
    inverse: Map
    shape: tuple[int, ...]

    def encode(self, x: Tensor) -> Tensor:
        return self.forward((x.flatten(1) - self.mean.to(x)) @ self.axes.to(x))

    def decode(self, z: Tensor) -> Tensor:
        return (self.mean.to(z) + self.inverse(z) @ self.back.to(z)).reshape(-1, *self.shape)


def encoder(name: str, train: Tensor, latent_dim: int, seed: int, num_steps: int, path: Path) -> Linear | Autoencoder:
    """One of NAMES for images `[n, channels, side, side]`; a trained one is kept at `path`."""
    if name in TRAINED:
        return trained(name, train, latent_dim, seed, num_steps, path)
    return _linear(name, train, latent_dim, seed)


def trained(name: str, train: Tensor, latent_dim: int, seed: int, num_steps: int, path: Path) -> Autoencoder:
    """One of TRAINED; its training is beside `path` as long as it lasts."""
    if path.exists():
        return Autoencoder.load(path)
    checkpoint = path.with_suffix(".training")
    settings: dict[str, Any] = {"width": 16, "num_steps": num_steps, "batch_size": 128, "seed": seed}
    if name == "gpe":
        made = train_gpe(train, latent_dim, checkpoint=checkpoint, **settings)
    else:
        made = train_vae(train, latent_dim, beta=float(name.rsplit(" ", 1)[1]), checkpoint=checkpoint, **settings)
    made.save(path)
    checkpoint.unlink(missing_ok=True)
    return made


def _linear(name: str, train: Tensor, d: int, seed: int) -> Linear:
    flat = train.flatten(1)
    mean, shape = flat.mean(dim=0), tuple(train.shape[1:])
    variances, vectors = torch.linalg.eigh(torch.cov(flat.T.double()))
    axes, spread = vectors.flip(1)[:, :d].float(), variances.flip(0)[:d].sqrt().float()
    if name == "random axes":
        normal = torch.randn((flat.shape[1], d), generator=_random.generator(seed, *_random.RANDOM_AXES))
        axes = torch.linalg.qr(normal).Q
        covariance = torch.cov(flat.T)
        back = torch.linalg.solve(axes.T @ covariance @ axes, axes.T @ covariance)  # the best linear decoder
        return Linear(mean, axes, back, _same, _same, shape)
    forward, inverse = _maps(name, spread, seed)
    return Linear(mean, axes, axes.T.contiguous(), forward, inverse, shape)


def _maps(name: str, spread: Tensor, seed: int) -> tuple[Map, Map]:
    """The map of the coordinates, whose standard deviations are `spread`, and its inverse."""
    kind = name.removeprefix("pca, ")
    if kind.startswith("power"):
        gain = spread ** (float(kind.split()[1]) - 1)
        return _scaled(gain)
    if kind == "anisotropic":
        generator = _random.generator(seed, *_random.RANDOM_GAINS)
        return _scaled(torch.exp((2 * torch.rand(len(spread), generator=generator) - 1) * 1.2))
    bend = _BEND * spread
    if kind == "squashed":
        return (lambda z: bend.to(z) * torch.asinh(z / bend.to(z))), (lambda z: bend.to(z) * torch.sinh(z / bend.to(z)))
    if kind == "stretched":
        return (lambda z: bend.to(z) * torch.sinh(z / bend.to(z))), (lambda z: bend.to(z) * torch.asinh(z / bend.to(z)))
    if kind == "radial":
        reach = _BEND * float(spread.square().sum().sqrt())

        def out(z: Tensor) -> Tensor:
            return z * (1 + z.square().sum(1, keepdim=True) / reach**2).sqrt()

        def back(z: Tensor) -> Tensor:
            square = ((1 + 4 * z.square().sum(1, keepdim=True) / reach**2).sqrt() - 1) / 2
            return z / (1 + square).sqrt()

        return out, back
    half = len(spread) - len(spread) // 2  # sheared: the first half moves the second, volumes stay

    def shift(z: Tensor) -> Tensor:
        moved = (
            1.5 * spread[half:].to(z) * torch.sin(2 * z[:, : len(spread) - half] / spread[: len(spread) - half].to(z))
        )
        return torch.cat([torch.zeros_like(z[:, :half]), moved], dim=1)

    return (lambda z: z + shift(z)), (lambda z: z - shift(z))


def _scaled(gain: Tensor) -> tuple[Map, Map]:
    return (lambda z: z * gain.to(z)), (lambda z: z / gain.to(z))


def _same(z: Tensor) -> Tensor:
    return z
