"""A trained encoder of images with its decoder, and the file that it is kept in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _checkpoint
from hessfast._autograd import without_autocast
from hessfast._modules import dtype_of

from . import _samples
from .autoencoder_networks import Decoder, Encoder
from .image_encoder import ImageEncoder
from .latents import Normalisation

_AT_ONCE = 1024  # images through a network
_PARTS = ("encoder", "decoder")
_FORMAT = "hessfast.diffusability.Autoencoder 1"


@dataclass(frozen=True, eq=False)
class Autoencoder(ImageEncoder):
    """An encoder of images `[n, channels, side, side]` and its decoder, both fixed; differentiable in what they map.

    Attributes:
        encoder, decoder: the networks, smooth (SiLU).
        normalisation: of the training images' latents, for `latents`: their mean vector and one number.
        provenance: method, settings, seed and digest of the training images.
    """

    encoder: Encoder
    decoder: Decoder
    normalisation: Normalisation
    provenance: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        return self.encoder.shape

    @property
    def latent_dim(self) -> int:
        """Numbers that an image is encoded in."""
        return self.encoder.latent_dim

    def encode(self, x: Tensor) -> Tensor:
        """Raw latents `[n, latent_dim]` of images `[n, channels, side, side]`; of a VAE the mean, not a sample."""
        return applied(self.encoder, "x", x, self.shape)

    def decode(self, z: Tensor) -> Tensor:
        """Images `[n, channels, side, side]` of raw latents `[n, latent_dim]`."""
        return applied(self.decoder, "z", z, (self.latent_dim,))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        tensors = {f"{part}.{k}": v for part in _PARTS for k, v in getattr(self, part).state_dict().items()}
        settings = {"shape": self.shape, "latent_dim": self.latent_dim, "width": self.encoder.width}
        settings |= {"scale": self.normalisation.scale, "provenance": self.provenance}
        fields = {"format": _FORMAT, "settings": settings}
        _checkpoint.write(path, tensors | {"shift": self.normalisation.shift}, fields)

    @classmethod
    def load(cls, path: str | Path, device: Any = "cpu") -> "Autoencoder":
        """What `save` wrote.

        Raises:
            FileNotFoundError: without a file.
            ValueError: for a file of another kind.
        """
        fields, tensors = _checkpoint.read_as(_FORMAT, path, device)
        settings = fields["settings"]
        size = tuple(settings["shape"]), settings["latent_dim"], settings["width"]
        encoder, decoder = Encoder(*size).to(device), Decoder(*size).to(device)
        for part, network in zip(_PARTS, (encoder, decoder), strict=True):
            network.load_state_dict(_checkpoint.part(tensors, part))
        return fixed(encoder, decoder, Normalisation(tensors["shift"], settings["scale"]), settings["provenance"])


def fixed(encoder: Encoder, decoder: Decoder, normal: Normalisation, provenance: dict) -> Autoencoder:
    """The autoencoder of trained networks, whose weights stay as they are from now on."""
    return Autoencoder(encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False), normal, provenance)


def applied(network: nn.Module, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What a network makes of `[n, *shape]`, some at a time."""
    own = dtype_of(network)
    with without_autocast():
        return torch.cat([network(few.to(own)) for few in _samples.batch(name, x, shape).split(_AT_ONCE)])
