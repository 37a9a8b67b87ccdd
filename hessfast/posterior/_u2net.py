"""The U2-Net: a U of small Us (Qin et al. 2020), here with one fused map as output and no sigmoid."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Depth (0: dilated), inner and outer width of each block, from the first encoder to the last.
ENCODERS = {
    "full": [(7, 32, 64), (6, 32, 128), (5, 64, 256), (4, 128, 512), (0, 256, 512), (0, 256, 512)],
    "small": [(7, 16, 64), (6, 16, 64), (5, 16, 64), (4, 16, 64), (0, 16, 64), (0, 16, 64)],
    "tiny": [(7, 8, 16), (6, 8, 16), (5, 8, 16), (4, 8, 16), (0, 8, 16), (0, 8, 16)],
}
# The decoders, from the lowest to the outermost.
DECODERS = {
    "full": [(0, 256, 512), (4, 128, 256), (5, 64, 128), (6, 32, 64), (7, 16, 64)],
    "small": [(0, 16, 64), (4, 16, 64), (5, 16, 64), (6, 16, 64), (7, 16, 64)],
    "tiny": [(0, 8, 16), (4, 8, 16), (5, 8, 16), (6, 8, 16), (7, 8, 16)],
}
_DILATIONS = (1, 2, 4, 8)  # of a dilated block


def _convolution(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _halved(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 2, ceil_mode=True)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class ResidualU(nn.Module):
    """A U of `depth` levels beside an identity; depth 0: four dilated levels of one resolution."""

    def __init__(self, inputs: int, depth: int, inner: int, outer: int):
        super().__init__()
        self.pooled = depth > 0
        dilations = [1] * (depth - 1) + [2] if depth else list(_DILATIONS)
        levels = len(dilations) - 1
        self.inlet = _convolution(inputs, outer)
        self.down = nn.ModuleList(
            _convolution(outer if k == 0 else inner, inner, d) for k, d in enumerate(dilations[:-1])
        )
        self.bottom = _convolution(inner, inner, dilations[-1])
        self.up = nn.ModuleList(
            _convolution(2 * inner, inner if k else outer, dilations[k]) for k in reversed(range(levels))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.inlet(x)
        passed = []
        for k, layer in enumerate(self.down):
            y = layer(_halved(y) if self.pooled and k else y)
            passed.append(y)
        y = self.bottom(y)
        for layer, beside in zip(self.up, reversed(passed), strict=True):
            y = layer(torch.cat([_enlarged(y, beside), beside], dim=1))
        return x + y


class U2Net(nn.Module):
    """Maps channels `[n, channels, rows, columns]` to one map of the same size, `[n, rows, columns]`."""

    def __init__(self, channels: int, size: str = "full"):
        super().__init__()
        encoders, decoders = ENCODERS[size], DECODERS[size]
        inputs = [channels, *(outer for *_, outer in encoders)]
        self.encoders = nn.ModuleList(ResidualU(n, *block) for n, block in zip(inputs, encoders, strict=False))
        below = [encoders[-1][2], *(outer for *_, outer in decoders)]
        beside = [outer for *_, outer in reversed(encoders[:-1])]
        widths = [a + b for a, b in zip(below, beside, strict=False)]
        self.decoders = nn.ModuleList(ResidualU(n, *block) for n, block in zip(widths, decoders, strict=True))
        self.sides = nn.ModuleList(nn.Conv2d(n, 1, 3, padding=1) for n in below)
        self.fuse = nn.Conv2d(len(below), 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        passed: list[Tensor] = []
        for k, block in enumerate(self.encoders):
            passed.append(block(_halved(passed[-1]) if k else x))
        maps = [passed.pop()]
        for block, beside in zip(self.decoders, reversed(passed), strict=True):
            maps.append(block(torch.cat([_enlarged(maps[-1], beside), beside], dim=1)))
        sides = [_enlarged(side(y), x) for side, y in zip(self.sides, maps, strict=True)]
        return self.fuse(torch.cat(sides, dim=1))[:, 0]
