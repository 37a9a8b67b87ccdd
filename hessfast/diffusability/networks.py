"""Networks F(c_in y, c_noise) for denoisers of vectors and of images, in the form of Karras et al. (2022)."""

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEAST, _GREATEST = math.log(1e-4) / 8, math.log(1e4) / 8  # c_noise = ln(tau) / 8; constant beyond
_KNOTS = 24


class MLP(nn.Module):
    """Vectors `[n, dim]`: a perceptron whose hidden layers are scaled and shifted by functions of c_noise.

    These are linear between knots, of which each noise has two to itself: what is learnt of one noise disturbs others
    little. As inputs beside x, the noise leaves the network several times farther from the truth after as many steps.

    Args:
        dim: numbers in a vector.
        width, depth: of hidden layers.
        skip: adds x, each coordinate times such a function of c_noise: for vectors wider than the network, in which
            most directions are nothing but noise.
    """

    def __init__(self, dim: int, width: int = 128, depth: int = 3, *, skip: bool = False):
        super().__init__()
        self.settings = {"dim": dim, "width": width, "depth": depth, "skip": skip}
        sizes = itertools.pairwise([dim] + [width] * depth)
        self.layers, self.last = nn.ModuleList([nn.Linear(a, b) for a, b in sizes]), nn.Linear(width, dim)
        self.scales = nn.Parameter(torch.ones(_KNOTS, depth * width))
        self.shifts = nn.Parameter(torch.zeros(_KNOTS, depth * width))
        self.gains = nn.Parameter(torch.zeros(_KNOTS, dim)) if skip else None

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        place = ((c_noise - _LEAST) / (_GREATEST - _LEAST)).clamp(0, 1) * (_KNOTS - 1)
        share = functional.relu(1 - (place[:, None] - torch.arange(_KNOTS, device=x.device)).abs())
        depth = len(self.layers)
        scales, shifts = ((share @ knots).chunk(depth, dim=1) for knots in (self.scales, self.shifts))
        h = x
        for layer, scale, shift in zip(self.layers, scales, shifts, strict=True):
            h = functional.silu(torch.addcmul(shift, layer(h), scale))
        return self.last(h) if self.gains is None else self.last(h) + (share @ self.gains) * x


class UNet(nn.Module):
    """Images `[n, channels, rows, columns]`, padded to multiples of 2^(levels - 1): a U-Net with residual blocks.

    Args:
        channels: of an image.
        width: channels of the first level; doubled at the second and skips from there.
        levels: resolutions; the lowest has self-attention.
        blocks: residual blocks a level and direction.
    """

    frequencies: Tensor

    def __init__(self, channels: int, width: int = 64, levels: int = 3, blocks: int = 2):
        super().__init__()
        self.settings = {"channels": channels, "width": width, "levels": levels, "blocks": blocks}
        self.levels = levels
        widths = [width * min(2**k, 2) for k in range(levels)]
        size = 4 * width
        frequencies = 2 * math.pi * torch.exp(torch.linspace(0, math.log(16), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embedding = nn.Sequential(nn.Linear(width // 2 * 2, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skips, now = [width], width
        for level, wide in enumerate(widths):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(_Block(now, wide, size, attention=level + 1 == levels))
                now = wide
                skips.append(now)
            self.down_blocks.append(stage)
            if level + 1 < levels:
                skips.append(now)
        self.mid_block = _Block(now, now, size, attention=True)
        for level, wide in reversed(list(enumerate(widths))):
            stage = nn.ModuleList()
            for _ in range(blocks + 1):
                stage.append(_Block(now + skips.pop(), wide, size, attention=level + 1 == levels))
                now = wide
            self.up_blocks.append(stage)
        self.conv_out = nn.Sequential(
            nn.GroupNorm(_groups(now), now), nn.SiLU(), nn.Conv2d(now, channels, 3, padding=1)
        )
        for zero in self.conv_out[-1].parameters():
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        phase = c_noise[:, None] * self.frequencies / 4
        emb = self.embedding(torch.cat([phase.sin(), phase.cos()], dim=1))
        (rows, columns), fit = x.shape[2:], 2 ** (self.levels - 1)
        h = self.conv_in(functional.pad(x, (0, -columns % fit, 0, -rows % fit)))
        skips = [h]
        for level, stage in enumerate(cast(list[nn.ModuleList], self.down_blocks)):
            for block in stage:
                h = block(h, emb)
                skips.append(h)
            if level + 1 < self.levels:
                h = functional.avg_pool2d(h, 2)
                skips.append(h)
        h = self.mid_block(h, emb)
        for level, stage in enumerate(cast(list[nn.ModuleList], self.up_blocks)):
            for block in stage:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
            if level + 1 < self.levels:
                h = functional.interpolate(h, scale_factor=2.0, mode="nearest")
        return self.conv_out(h)[..., :rows, :columns]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int, attention: bool):
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(_groups(inputs), inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.scale_shift = nn.Linear(size, 2 * outputs)
        self.norm2, self.conv2 = nn.GroupNorm(_groups(outputs), outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.attention = _Attention(outputs) if attention else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv(functional.silu(self.norm(x)))
        scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(functional.silu(self.norm2(h) * (1 + scale) + shift))
        return self.attention(self.skip(x) + h)


class _Attention(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.norm, self.heads = nn.GroupNorm(_groups(channels), channels), max(channels // 64, 1)
        self.qkv, self.proj_out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, rows, columns = x.shape
        parts = self.qkv(self.norm(x)).reshape(n, 3, self.heads, channels // self.heads, rows * columns)
        q, k, v = parts.transpose(-1, -2).unbind(dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(mixed.transpose(-1, -2).reshape(n, channels, rows, columns))


def _groups(channels: int) -> int:
    """Greatest number of groups of at least four channels, at most 32, that divides them."""
    return max(g for g in range(1, min(32, max(channels // 4, 1)) + 1) if channels % g == 0)
