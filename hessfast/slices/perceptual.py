"""Perceptual features of images: activations of a classifier's layers, as LPIPS compares those of AlexNet."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .digits import digit_classifier


def digit_perception() -> Callable[[Tensor], Tensor]:
    """Digits `[n, 1, 8, 8]` in [-1, 1] to the first two layers of the shipped classifier, `[n, d]`.

    Each pixel's channels are scaled to length 1, each layer by the root of its pixels: a squared distance is the sum
    over layers of the mean over pixels, as in LPIPS with unit weights (Zhang et al. 2018).

    Example:
        >>> perceive = digit_perception()
        >>> round(float(perceive(torch.zeros(1, 1, 8, 8)).norm()) ** 2, 4)  # one for each layer
        2.0
    """
    layers = digit_classifier().layers[:4]

    def perceive(images: Tensor) -> Tensor:
        x, seen = images, []
        for k, layer in enumerate(layers):
            x = layer(x)
            if k % 2:  # after the nonlinearity
                pixels = x.shape[2] * x.shape[3]
                seen.append((functional.normalize(x, dim=1) / pixels**0.5).flatten(1))
        return torch.cat(seen, dim=1)

    return perceive
