"""Networks of autoencoders: convolutions from images to a vector and back, smooth (SiLU), alike for all methods."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Encoder(nn.Module):
    """Convolutions that halve the side down to 4 to 7, and a linear map: near to linear before it is trained.

    Args:
        shape: channels, side, side.
        latent_dim: numbers an image is mapped to.
        width: channels of the first layer, at most four times as many later.
    """

    centre: Tensor
    spread: Tensor
    gain: Tensor

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int = 32):
        super().__init__()
        self.shape, self.latent_dim, self.width = shape, latent_dim, width
        widths, sides = _stages(shape, width)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1)]
        for now, wide in zip(widths, [*widths[1:], None], strict=True):
            layers.append(_Block(now))
            if wide:
                layers.append(nn.Conv2d(now, wide, 3, stride=2, padding=1))
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * sides[-1] ** 2, latent_dim)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("gain", torch.tensor(1.0))

    def features(self, x: Tensor) -> Tensor:
        return self.layers((x - self.centre) / self.spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.head(self.features(x))


class Decoder(nn.Module):
    """The encoder's layers backwards, with nearest neighbours where it halves the side."""

    centre: Tensor
    spread: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int = 32):
        super().__init__()
        widths, self.sides = _stages(shape, width)
        self.first = nn.Linear(latent_dim, widths[-1] * self.sides[-1] ** 2)
        self.blocks = nn.ModuleList([_Block(wide) for wide in reversed(widths)])
        narrower = zip(reversed(widths), [*reversed(widths[:-1]), shape[0]], strict=True)
        self.convs = nn.ModuleList([nn.Conv2d(now, wide, 3, padding=1) for now, wide in narrower])
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("shift", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, z: Tensor) -> Tensor:
        side = self.sides[-1]
        h = self.first(self.scale * (z - self.shift)).unflatten(1, (-1, side, side))
        for block, conv, larger in zip(self.blocks, self.convs, [*reversed(self.sides[:-1]), None], strict=True):
            h = block(h)
            h = conv(functional.interpolate(h, size=larger) if larger else functional.silu(h))
        return self.centre + self.spread * h


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.silu(self.conv(functional.silu(x))))


def _stages(shape: tuple[int, int, int], width: int) -> tuple[list[int], list[int]]:
    """Channels and sides from the image's own side to the least one, 4 to 7."""
    sides = [shape[1]]
    while sides[-1] >= 8:
        sides.append((sides[-1] + 1) // 2)
    return [width * min(2**k, 4) for k in range(len(sides))], sides
