"""The shipped model: a diffusion U-Net of scikit-learn's 8 x 8 digits and a classifier whose features stand for CLIP's.

python -m hessfast.slices.train_digits    trains both again, minutes on one core, and writes digits.safetensors
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from hessfast import _checkpoint

from ._extra import diffusers

WEIGHTS = Path(__file__).with_name("digits.safetensors")
UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 1,
    "block_out_channels": [24, 48, 48],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "norm_num_groups": 8,
    "attention_head_dim": 8,
}
# v instead of epsilon: x0 = a x - s v loses no digits at the first steps, where (x - s eps) / a divides by 0.01.
SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "prediction_type": "v_prediction", "clip_sample": False}
SCHEDULER |= {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


class DigitClassifier(nn.Module):
    """Digits `[n, 1, 8, 8]` in [-1, 1] -> 32 features of length 1, and from them the logits of ten classes.

    Called it gives the features, as CLIP's image encoder does; `logits` classifies.

    Example:
        >>> from hessfast.diffusability import digits
        >>> _, held_out = digits()
        >>> classifier = digit_classifier()
        >>> logits = classifier.logits(classifier(held_out))
        >>> logits.shape
        torch.Size([360, 10])
    """

    num_features = 32

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1),
            nn.SiLU(),  # smooth: the Lipschitz constant is a derivative
            nn.Conv2d(24, 48, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(48, 48, 3, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(48 * 4 * 4, self.num_features),
        )
        self.head = nn.Linear(self.num_features, 10)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1:] != (1, 8, 8):
            got = f"{tuple(images.shape)}. Choose other features"
            raise ValueError(f"images must have shape [n, 1, 8, 8] for this classifier, got {got}.")
        return functional.normalize(self.layers(images), dim=1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits `[n, 10]` of features `[n, 32]`."""
        return self.head(8 * features)


def digit_classifier() -> DigitClassifier:
    """The shipped classifier, in float32.

    Example:
        >>> from hessfast.diffusability import digits
        >>> digit_classifier()(digits()[1]).norm(dim=1).sub(1).abs().max() < 1e-6  # features have length 1
        tensor(True)
    """
    classifier = DigitClassifier()
    classifier.load_state_dict(_weights("classifier"))
    return classifier.eval().requires_grad_(False)


def digit_unet() -> nn.Module:
    """The shipped UNet2DModel, in float32; it predicts v, see `SCHEDULER`.

    Raises:
        ImportError: without diffusers.

    Example:
        >>> import torch
        >>> digit_unet()(torch.zeros(2, 1, 8, 8), 500).sample.shape
        torch.Size([2, 1, 8, 8])
    """
    unet = diffusers().UNet2DModel(**UNET)
    unet.load_state_dict(_weights("unet"))
    return unet.eval().requires_grad_(False)


def _weights(part: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{part}."): tensor.float()
        for name, tensor in _checkpoint.read(WEIGHTS)[1].items()
        if name.startswith(f"{part}.")
    }
