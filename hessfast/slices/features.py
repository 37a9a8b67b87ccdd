"""Features of images: the shipped digit classifier, pixels, CLIP by open_clip, any module, any function."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hessfast._fingerprint import fingerprint
from hessfast._modules import refuse_training

from . import _extra
from .digits import digit_classifier


@dataclass(frozen=True)
class Features:
    """A function of images `[n, channels, rows, columns]` in [-1, 1] to features `[n, dim]`, and what stands for it.

    Attributes:
        function: a module, or any function.
        identity: what decides the features, as JSON holds it; part of what a store is made of.
    """

    function: Callable[[Tensor], Tensor]
    identity: dict[str, Any]

    def prepare(self, dtype: str, device: Any) -> Callable[[Tensor], Tensor]:
        """On a device, for images of a plan's dtype: in float64 for those, else in float32."""
        precision = torch.float64 if dtype == "float64" else torch.float32
        function = self.function
        if isinstance(function, nn.Module):
            function = copy.deepcopy(function).to(device, precision).eval().requires_grad_(False)
        return lambda images: function(images.to(device, precision))


def feature_map(source: Any, name: str | None = None) -> Features:
    """Features by a module, a function with a name that stands for it, "digits", the shipped classifier, or "pixels".

    Pixels are means over 8 x 8 parts of an image, as a vector of length 1: for models without a network that sees more.

    Args:
        source: maps images `[n, channels, rows, columns]` in [-1, 1] to `[n, dim]`; called by several threads at a time
            on a CPU.
        name: needed for a function, and stands for it; a module is known by its structure, its weights and its plain
            attributes.

    Raises:
        TypeError: for anything else.

    Example:
        >>> bright = feature_map(lambda images: images.mean(dim=(1, 2, 3)).unsqueeze(1), "brightness")
        >>> bright.prepare("float32", "cpu")(torch.ones(2, 3, 4, 4)).tolist()
        [[1.0], [1.0]]
    """
    if isinstance(source, Features):
        return source
    if isinstance(source, str) and source == "digits":
        source = digit_classifier()
    if isinstance(source, str) and source == "pixels":
        source = _Pixels(8)
    if isinstance(source, nn.Module):
        identity: dict[str, Any] = {"module": type(source).__name__, "weights": fingerprint(source)}
        return Features(source, identity | ({"name": name} if name else {}))
    if not callable(source) or not name:
        raise TypeError(
            f'features must be "digits", "pixels", a module, or a function with a name, got {source!r:.80}.'
        )
    refuse_training("features", source)
    return Features(cast(Any, source), {"name": name})


def clip_features(model: str, checkpoint: str | Path) -> Features:
    """Image features of length 1 by a CLIP of open_clip, from a local checkpoint.

    Args:
        model: open_clip's name of the architecture, such as "ViT-B-32".
        checkpoint: file of its weights; nothing is downloaded.

    Raises:
        ImportError: without open_clip.
        FileNotFoundError: without the file.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint must be a file of CLIP weights, got {checkpoint}, which is not there.")
    network = _extra.open_clip().create_model(model, pretrained=str(checkpoint))
    size, mean, std = network.visual.image_size, network.visual.image_mean, network.visual.image_std
    side = size[0] if isinstance(size, (tuple, list)) else size
    return feature_map(_Clip(network, side, mean, std), model)


class _Pixels(nn.Module):
    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def extra_repr(self) -> str:
        return f"side={self.side}"

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(functional.adaptive_avg_pool2d(images, self.side).flatten(1), dim=1)


class _Clip(nn.Module):
    def __init__(self, network: Any, side: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network, self.side, self.mean, self.std = network, side, tuple(mean), tuple(std)

    def extra_repr(self) -> str:
        return f"side={self.side}, mean={self.mean}, std={self.std}"

    def forward(self, images: Tensor) -> Tensor:
        return self.network.encode_image(clip_input(images, self.side, self.mean, self.std), normalize=True)


def clip_input(images: Tensor, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """CLIP's preprocessing without leaving the device: what PIL makes of the 8-bit image, to its rounding.

    The shorter side is resized to `side`, bicubic with antialiasing, the centre cut out, colours normalised.

    Args:
        images: `[n, 3 or 1, rows, columns]` in [-1, 1]; beyond that they are clamped.
        side: of the square that comes out.
        mean, std: of each colour in [0, 1].

    Example:
        >>> white = torch.ones(1, 1, 12, 16)  # a grey image has three equal colours
        >>> ready = clip_input(white, 8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
        >>> bool((ready - 2).abs().max() < 1e-5), ready.shape
        (True, torch.Size([1, 3, 8, 8]))
    """
    x = ((images + 1) / 2).clamp(0, 1)
    rows, columns = x.shape[-2:]
    size = (side, side * columns // rows) if rows <= columns else (side * rows // columns, side)
    if size != (rows, columns):
        x = functional.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    x = x[..., top : top + side, left : left + side]
    return (x - x.new_tensor(mean)[:, None, None]) / x.new_tensor(std)[:, None, None]
