"""The autoencoders of latent diffusion models as diffusers keeps them, read from a folder: no network, no pickles."""

import contextlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hessfast import _atomic, _checks
from hessfast._autograd import plain_attention

from . import _samples
from .image_encoder import ImageEncoder
from .latents import Normalisation

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_NUMBERS_AT_ONCE = 2**20  # of images through the network


@dataclass(frozen=True, eq=False)
class KLAutoencoder(ImageEncoder):
    """diffusers' AutoencoderKL, fixed, for images `[n, channels, side, side]` in [-1, 1]; see `from_pretrained`.

    Attributes:
        network: of diffusers.
        shape: channels, rows and columns of an image.
        normalisation: shift_factor and scaling_factor of the config, with which diffusion models of it are trained.
        provenance: where it was read, with digests of the config and the weights.
    """

    network: Any
    shape: tuple[int, int, int]
    normalisation: Normalisation
    provenance: dict[str, Any]

    @classmethod
    def from_pretrained(cls, folder: str | Path, side: int | None = None, device: Any = "cpu") -> "KLAutoencoder":
        """What diffusers' `save_pretrained` wrote: config.json and one safetensors file.

        Args:
            folder: of the autoencoder; within a pipeline's folder that is `vae`.
            side: rows and columns of the images it is for; None: the config's sample_size.

        Raises:
            FileNotFoundError: without a folder or its files.
            ValueError: for files of another kind, damaged or incomplete ones, a side that does not fit.
            ImportError: without diffusers.
        """
        path, config = Path(folder), _config(Path(folder))
        halvings = len(config.get("block_out_channels", [0])) - 1
        given = config.get("sample_size", 32) if side is None else side
        side = _checks.integer("side", given[0] if isinstance(given, list | tuple) else given, 1)
        if side % 2**halvings:
            raise ValueError(f"side must be a multiple of {2**halvings} for this autoencoder, got {side}.")
        if config.get("latents_mean") or config.get("latents_std"):
            raise ValueError("config.json must scale latents by one number, got latents_mean and latents_std.")
        shift, scale = (config.get(key) for key in ("shift_factor", "scaling_factor"))
        shift = 0.0 if shift is None else _checks.number("shift_factor", shift)
        scale = _checks.number("scaling_factor", 0.18215 if scale is None else scale)  # as in diffusers
        if not scale > 0:
            raise ValueError(f"scaling_factor must be > 0, got {scale}. Correct {path / 'config.json'}.")
        network = _read(path).to(device).eval().requires_grad_(False)
        digests = {name: _atomic.checksum(path / name) for name in ("config.json", _WEIGHTS)}
        return cls(
            network,
            (config.get("in_channels", 3), side, side),
            Normalisation(torch.tensor(shift, device=device), scale),
            {"method": "AutoencoderKL", "side": side, "digests": digests},
        )

    def encode(self, x: Tensor) -> Tensor:
        """Raw latents `[n, channels, rows, columns]` of images: the mean of the posterior, not a sample."""
        return self._applied(
            lambda some: self.network.encode(some).latent_dist.mean, _samples.batch("x", x, self.shape)
        )

    def decode(self, z: Tensor) -> Tensor:
        """Images of raw latents."""
        return self._applied(lambda some: self.network.decode(some).sample, z)

    def _applied(self, function: Any, x: Tensor) -> Tensor:
        at_once = max(_NUMBERS_AT_ONCE // (self.shape[0] * self.shape[1] * self.shape[2]), 1)
        # Penalties differentiate twice.
        with plain_attention() if torch.is_grad_enabled() else contextlib.nullcontext():
            return torch.cat([function(some.to(self.network.dtype)) for some in x.split(at_once)])


def _config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise FileNotFoundError(f"folder must be that of an autoencoder of diffusers, got {str(path)!r}.")
    for name in ("config.json", _WEIGHTS):
        if not (path / name).is_file():
            inside = " Give its folder 'vae'." if (path / "vae" / name).is_file() else ""
            other = " Write it anew with save_pretrained; pickles are not read." if any(path.glob("*.bin")) else inside
            raise FileNotFoundError(f"folder must hold {name}, got {str(path)!r}.{other}")
    try:
        config = json.loads((path / "config.json").read_text())
    except ValueError:
        raise ValueError(f"config.json must be JSON, got {str(path / 'config.json')!r}, damaged.") from None
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != "AutoencoderKL":
        raise ValueError(f"config.json must be that of an AutoencoderKL, got {kind!r} in {str(path)!r}.")
    return config


def _read(path: Path) -> Any:
    if importlib.util.find_spec("diffusers") is None:
        raise ImportError("diffusers must be installed for its autoencoders. Run pip install diffusers.")
    import diffusers
    from safetensors import SafetensorError

    kind: Any = diffusers.AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]
    try:
        network, loaded = kind.from_pretrained(
            path, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )  # fmt: skip
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"folder must hold the weights of its config.json, got {str(path / _WEIGHTS)!r}, damaged or of another."
        ) from error
    if loaded["missing_keys"] or loaded["mismatched_keys"]:  # diffusers would go on with random weights
        raise ValueError(
            f"folder must hold all weights of its config.json, got none for {loaded['missing_keys'][:1]} "
            f"in {str(path / _WEIGHTS)!r}."
        )
    return network.float()
