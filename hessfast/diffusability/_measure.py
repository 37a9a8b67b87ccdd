"""The steps of an assessment, in the space of the data and in that of each encoder; each is kept when it is made."""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessfast._steps import Steps

from ._consistency import Doubt, broken_laws, disagreements
from ._report_figures import COLUMNS
from ._spaces import Space
from .curves import FisherCurve
from .denoisers import Denoiser
from .deviations import FORMS, fir_deviation, mmse_rate_deviation
from .image_encoder import ImageEncoder, decoded, latents_of, scale_warnings
from .latents import snr_scale
from .penalties import EncoderPenalties, Penalty, encoder_penalties
from .preset import Preset
from .quality import energy_distance

_SOME = 16  # images by which an encoder is known again
_PENALTY_NUMBERS = 2**21  # in the images that penalties are measured on: their graph is held in memory

Measured = tuple[dict[str, Any], dict[str, np.ndarray]]  # a space's entry in the report, and pictures to show


@dataclass(frozen=True, eq=False)
class Run:
    """What all steps share: where they are kept, noise variances, images, how much is spent."""

    steps: Steps
    tau: np.ndarray
    train: Tensor
    held_out: Tensor
    preset: Preset
    seed: int
    progress: bool

    def intrinsic_dimension(self) -> dict[str, Any]:
        """m of the data, and how it was found."""
        return self.steps.record("dimension", self._data_space.intrinsic_dimension)

    def data(self) -> Measured:
        """The images themselves."""
        space = self._diffused("data", self._data_space, 1.0)
        entry = self._curves("data", space, 1.0)
        made = self.steps.arrays("samples/data", lambda: {"generated": space.generated().cpu().numpy()})["generated"]
        held = self.held_out.cpu()
        entry["quality"] = self.steps.record("quality/data", lambda: {
            "energy_distance": energy_distance(torch.as_tensor(made), held),
            "energy_distance_of_training_images": energy_distance(self.train[: len(held)].cpu(), held),
            "num": len(made),
        })  # fmt: skip
        return entry, {"generated": made[:COLUMNS]}

    def encoder(self, name: str, encoder: ImageEncoder, data: dict[str, Any], m: int) -> Measured:
        """The latents of an encoder beside the data, whose entry is `data` and whose intrinsic dimension m."""
        z, z_held = self._latents(name, encoder)
        warnings, scale = scale_warnings(name, encoder, z), snr_scale(self.train, z)
        space = self._diffused(name, Space(z, z_held, self.preset, self.seed), scale)
        entry = self._curves(name, space, scale)
        entry["warnings"] = _plain(warnings) + entry["warnings"]
        entry |= {"latent_shape": list(z.shape[1:]), "snr_scale": scale, "scale": float(encoder.normalisation.scale)}
        entry["deviations"] = {
            "equal_tau": _deviations(data["curve"], entry["curve"], 1.0, m),
            "equal_snr": _deviations(data["curve"], entry["curve_equal_snr"], scale, m),
            "equal_tau_empirical": _deviations(data["empirical"], entry["empirical"], 1.0, m),
            "equal_snr_empirical": _deviations(data["empirical"], entry["empirical_equal_snr"], scale, m),
        }
        entry["penalties"] = self.steps.record(
            f"penalties/{name}", lambda: _penalties(encoder, self.held_out, m, self.seed)
        )
        pictures = self.steps.arrays(f"samples/{name}", lambda: {
            "generated": decoded(name, encoder, space.generated()), "reconstructed": decoded(name, encoder, z_held),
        })  # fmt: skip
        entry |= self._quality(name, *(torch.as_tensor(pictures[part]) for part in ("generated", "reconstructed")))
        return entry, {part: images[:COLUMNS] for part, images in pictures.items()}

    @cached_property
    def _data_space(self) -> Space:
        return Space(self.train, self.held_out, self.preset, self.seed)

    def _diffused(self, name: str, space: Space, scale: float) -> "_Diffused":
        """A space with the noise of all its curves: at equal tau, and at scale^2 tau."""
        ends = min(1.0, scale**2) * self.tau[0], max(1.0, scale**2) * self.tau[-1]
        return _Diffused(space, ends, self.steps.folder / "denoisers" / name, self.progress)

    def _latents(self, name: str, encoder: ImageEncoder) -> tuple[Tensor, Tensor]:
        """Normalised latents of both kinds of images; refused if they were kept of another encoder."""
        kept = self.steps.arrays(f"latents/{name}", lambda: latents_of(name, encoder, self.train, self.held_out))
        z, z_held = (torch.as_tensor(kept[part]).to(self.train.device) for part in ("train", "held_out"))
        with torch.no_grad():
            again = encoder.latents(self.train[:_SOME]).float()
        if not torch.allclose(again, z[:_SOME], rtol=1e-2, atol=1e-2):
            raise ValueError(
                f"encoder {name!r} must be the one whose latents are in {str(self.steps.folder)!r}. Choose another."
            )
        return z, z_held

    def _curves(self, name: str, space: "_Diffused", scale: float) -> dict[str, Any]:
        """Curves of a space, with what speaks against them."""
        kept = {"curve": ("equal-tau", space.curve, self.tau), "empirical": ("empirical", space.empirical, self.tau)}
        if name != "data":
            levels = scale**2 * self.tau
            kept["curve_equal_snr"] = "equal-snr", space.curve, levels
            kept["empirical_equal_snr"] = "empirical-equal-snr", space.empirical, levels
        entry: dict[str, Any] = {
            key: self.steps.record(f"curves/{name}/{file}", lambda measure=measure, tau=tau: measure(tau))
            for key, (file, measure, tau) in kept.items()
        }
        for suffix in ("", "_equal_snr"):
            if f"curve{suffix}" in entry:
                curve, alone = FisherCurve.from_dict(entry[f"curve{suffix}"]), entry[f"empirical{suffix}"]
                against = disagreements(curve, FisherCurve.from_dict(alone)) if alone else []
                entry[f"warnings{suffix}"] = _plain([*curve.warnings, *against])
                entry[f"laws{suffix}"] = _plain(broken_laws(curve, space.space.variance))
        return entry

    def _quality(self, name: str, made: Tensor, again: Tensor) -> dict[str, Any]:
        """Reconstruction error, and energy distances of generated images and of reconstructions."""
        held = self.held_out.cpu()
        errors = (again - held).double().square().flatten(1).mean(dim=1)
        quality = self.steps.record(f"quality/{name}", lambda: {
            "energy_distance": energy_distance(made, held),
            "energy_distance_to_reconstructions": energy_distance(made, again),
            "energy_distance_of_reconstructions": energy_distance(again[::2], held[1::2]),  # of other images
            "num": len(made),
        })  # fmt: skip
        reconstruction = {"mean": float(errors.mean()), "sem": float(errors.std()) / math.sqrt(len(errors))}
        return {"reconstruction": reconstruction, "quality": quality}


@dataclass(frozen=True, eq=False)
class _Diffused:
    """A space and its denoiser, which is trained when it is first asked for."""

    space: Space
    tau_range: tuple[float, float]
    checkpoint: Path
    progress: bool

    @cached_property
    def denoiser(self) -> Denoiser:
        return self.space.denoiser(self.tau_range, self.checkpoint, self.progress)

    def curve(self, tau: np.ndarray) -> dict[str, Any]:
        return self.space.curve(self.denoiser, tau).to_dict()

    def empirical(self, tau: np.ndarray) -> dict[str, Any] | None:
        return self.space.empirical_curve(tau)

    def generated(self) -> Tensor:
        return self.space.generated(self.denoiser)


def _plain(doubts: list[Doubt]) -> list[dict[str, Any]]:
    return [doubt.to_dict() for doubt in doubts]


def _deviations(data: dict | None, latent: dict | None, scale: float, m: int) -> dict[str, Any]:
    """Signed, at the greatest tau that both have; None without, or where latents have no direction but the data's."""
    results: dict[str, Any] = dict.fromkeys((*FORMS, "mmse-rate"))
    if data is None or latent is None:
        return results
    num = min(len(data["tau"]), len(latent["tau"]))
    first, second = (FisherCurve.from_dict(kept).last(num) for kept in (data, latent))
    for form in FORMS:
        if form != "normal-dimension":
            results[form] = fir_deviation(first, second, form, scale=scale, signed=True).to_dict()
        elif m < min(data["dim"], latent["dim"]):
            results[form] = fir_deviation(
                first, second, form, scale=scale, signed=True, intrinsic_dimension=m
            ).to_dict()
    return results | {"mmse-rate": mmse_rate_deviation(first, second, scale=scale, signed=True).to_dict()}


def _penalties(encoder: ImageEncoder, held: Tensor, m: int, seed: int) -> dict[str, Any]:
    """Penalties of the encoder's raw latents on held-out images."""
    some = held[: max(_PENALTY_NUMBERS // held[0].numel(), 64)]
    m = min(m, len(some) - 2)
    neighbours = None if 2 * m + 2 < len(some) else len(some) - 1
    made = encoder_penalties(encoder.encode, some, m, num_neighbours=neighbours, seed=seed)
    rows = {field.name: getattr(made, field.name) for field in fields(EncoderPenalties)}
    return {name: _penalty(row) if isinstance(row, Penalty) else row for name, row in rows.items()}


def _penalty(penalty: Penalty) -> dict[str, Any] | None:
    """None where no pair was apart."""
    return penalty._asdict() if penalty.num_samples and math.isfinite(penalty.sem) else None
