"""Latents as diffusion takes them: normalised by one number, at the data's signal-to-noise, laid out as images."""

from typing import Any, NamedTuple

from torch import Tensor

from hessfast import _checks

from . import _samples


class Normalisation(NamedTuple):
    """z' = scale (z - shift), shift like one z."""

    shift: Tensor
    scale: float

    def __call__(self, z: Tensor) -> Tensor:
        return self.scale * (z - self.shift)

    def inverse(self, z: Tensor) -> Tensor:
        """z of z'."""
        return z / self.scale + self.shift


def normalisation(latents: Any) -> Normalisation:
    """The mean vector, and ONE number that makes the mean square of a coordinate 1: sqrt(d / E|z - mean|^2).

    Standardising each coordinate instead would change the geometry that encoders are judged by.

    Args:
        latents: `[n, ...]`.

    Example:
        >>> import torch
        >>> normalisation(torch.tensor([[0.0, 0.0], [2.0, 4.0]])).scale.__round__(6)
        0.632456
    """
    z = _samples.samples("latents", latents)
    shift = z.mean(dim=0)
    square = float(((z - shift).double() ** 2).mean())
    if not square > 0:
        raise ValueError("latents must differ, got the same vector throughout.")
    return Normalisation(shift, square**-0.5)


def snr_scale(data: Tensor, latents: Tensor) -> float:
    """RMS spread of the latents over that of the data.

    At noise variance scale^2 tau the latents have the signal-to-noise ratio that the data have at tau.

    Args:
        data, latents: `[n, ...]`.

    Example:
        >>> import torch
        >>> snr_scale(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0], [4.0]]))
        2.0
    """
    return (_variance("latents", latents) / _variance("data", data)) ** 0.5


def _variance(name: str, value: Any) -> float:
    """E|x - E x|^2."""
    x = _samples.samples(name, value).double()
    variance = float((x - x.mean(dim=0)).flatten(1).square().sum(1).mean())
    if not variance > 0:
        raise ValueError(f"{name} must differ, got the same one throughout.")
    return variance


def serpentine(latents: Tensor, side: int) -> Tensor:
    """Vectors `[n, side^2]` as images `[n, 1, side, side]`, every other row from right to left.

    Example:
        >>> import torch
        >>> serpentine(torch.arange(4.0)[None], 2).tolist()
        [[[[0.0, 1.0], [3.0, 2.0]]]]
    """
    side = _checks.integer("side", side, 1)
    if latents.ndim != 2 or latents.shape[1] != side**2:
        raise ValueError(f"latents must have shape [n, {side**2}], got {tuple(latents.shape)}.")
    image = latents.reshape(-1, 1, side, side).clone()
    image[:, :, 1::2] = image[:, :, 1::2].flip(-1)
    return image
