"""What an encoder must have to be assessed, and that it has it: shapes, finite latents, and the scale of them."""

import re
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ._consistency import Doubt
from .latents import Normalisation

_AT_ONCE = 256  # images through an encoder
_TRIED = 1024  # images by which its scale is known to a few per cent
_WARN, _REFUSE = 1.5, 4.0  # factors by which normalised latents miss the mean square 1


@runtime_checkable
class ImageEncoder(Protocol):
    """What an assessed encoder must have, whether or not it is derived from this; `Autoencoder` is.

    Attributes:
        shape: channels, rows and columns of an image.
        normalisation: the shift and the one scale with which latents are diffused.
        provenance: JSON-able, tells this encoder from others.
    """

    shape: tuple[int, int, int]
    normalisation: Normalisation
    provenance: dict[str, Any]

    def encode(self, x: Tensor) -> Tensor:
        """Raw latents `[n, ...]` of images, differentiable by torch; of a random encoder the mean."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Images of raw latents."""
        ...

    def latents(self, x: Tensor) -> Tensor:
        """Normalised latents of images."""
        return self.normalisation(self.encode(x))

    def images(self, latents: Tensor) -> Tensor:
        """Images of normalised latents."""
        return self.decode(self.normalisation.inverse(latents))


def check_encoder(name: str, encoder: Any, x: Tensor) -> None:
    """Refuse a name that no file may have, what is no encoder, and one of other images than x or of a wrong scale."""
    if not re.fullmatch(r"\w[\w.-]*", name) or name == "data":
        raise ValueError(f"encoders must have names of letters, digits, '.' and '-', and not 'data', got {name!r}.")
    if not isinstance(encoder, ImageEncoder):
        lacks = [part for part in ("shape", "normalisation", "provenance", "encode", "decode", "latents", "images")
                 if not hasattr(encoder, part)]  # fmt: skip
        raise TypeError(f"encoder {name!r} must be like hessfast's Autoencoder, got one without {', '.join(lacks)}.")
    if tuple(encoder.shape) != tuple(x.shape[1:]):
        raise ValueError(
            f"encoder {name!r} must be one of images of shape {tuple(x.shape[1:])}, got {tuple(encoder.shape)}. "
            "Choose --side and grey or coloured images to fit."
        )
    scale_warnings(name, encoder, _latents(name, encoder, x[:_TRIED]))


def latents_of(name: str, encoder: ImageEncoder, x: Tensor, held: Tensor) -> dict[str, np.ndarray]:
    """Normalised latents of the images to learn from and of those held out; refused if they are not finite."""
    return {part: _latents(name, encoder, images).cpu().numpy() for part, images in (("train", x), ("held_out", held))}


def _latents(name: str, encoder: ImageEncoder, images: Tensor) -> Tensor:
    with torch.no_grad():
        z = torch.cat([encoder.latents(some) for some in images.split(_AT_ONCE)]).float()
    if z.ndim < 2 or len(z) != len(images) or not torch.isfinite(z).all():
        raise ValueError(f"encoder {name!r} must map [n, ...] to finite [n, ...], got {tuple(z.shape)} or NaN.")
    return z


def scale_warnings(name: str, encoder: ImageEncoder, z: Tensor) -> list[Doubt]:
    """Normalised latents of the training images have the mean 0 and the mean square 1, or are not what is diffused."""
    spread, shift = float((z - z.mean(dim=0)).double().square().mean()) ** 0.5, float(z.double().mean())
    scale = float(encoder.normalisation.scale)
    if not 1 / _REFUSE <= spread <= _REFUSE:
        raise ValueError(
            f"encoder {name!r} must have normalised latents of root mean square near 1, got {spread:.3g} with "
            f"scale {scale:.4g}. Correct its scale to {scale / max(spread, 1e-300):.4g}, or its images to [-1, 1]."
        )
    found = []
    if not 1 / _WARN <= spread <= _WARN:
        fits = f"scale {scale / spread:.4g} would make it 1"
        found.append(Doubt(f"normalised latents have the root mean square {spread:.3g}: {fits}"))
    if abs(shift) > _WARN:
        found.append(Doubt(f"normalised latents have the mean {shift:.3g}: the shift does not fit"))
    return found


def decoded(name: str, encoder: ImageEncoder, latents: Tensor) -> np.ndarray:
    """Images of normalised latents; refused if they are of another shape or not finite."""
    with torch.no_grad():
        images = torch.cat([encoder.images(some).float() for some in latents.split(_AT_ONCE)])
    if images.shape != (len(latents), *encoder.shape) or not torch.isfinite(images).all():
        raise ValueError(
            f"encoder {name!r} must decode latents to finite images {tuple(encoder.shape)}, got "
            f"{tuple(images.shape[1:])} or NaN."
        )
    return images.cpu().numpy()
