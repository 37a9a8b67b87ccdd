"""Whether the latent space of an encoder is fit for diffusion: everything this package measures, in one report."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hessfast import _arrays, _checks
from hessfast._steps import Steps

from . import _report_figures
from ._laws import broken_laws, disagreements
from ._report_table import table
from ._spaces import PRESETS, TAU_PAPER, Preset, Space
from .curves import FisherCurve
from .deviations import FORMS, fir_deviation, mmse_rate_deviation, snr_scale
from .image_encoder import ImageEncoder, decoded, fits, latents_of, scale_warnings
from .penalties import EncoderPenalties, Penalty, encoder_penalties
from .quality import energy_distance

SOURCES = {
    "stated": "FI, FIR = -dFI/dtau = E|Hess log p|^2, and the plain FIR deviation at equal tau: arXiv 2604.02751; "
    "the GPE's cost: arXiv 2501.09876",
    "inferred": "the forms of the FIR deviation per dimension and per normal dimension, comparison at equal SNR, the "
    "deviation of MMSE', and the measures of distortion and curvature: ours, not the paper's",
}
_SOME = 16  # images by which an encoder is known again
_PENALTY_NUMBERS = 2**21  # in the images that penalties are measured on: their graph is held in memory


def assess(
    train: Any,
    held_out: Any,
    encoders: Mapping[str, ImageEncoder],
    out: str | Path,
    *,
    preset: str = "quick",
    seed: int = 0,
    progress: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Train denoisers of data and latents, measure and compare their curves, and what encoders do to the data.

    Steps are kept in the folder `out` as they are done: a run that was interrupted goes on there, and one that is done
    is read. The folder then holds report.json (what is returned), table.txt, curves.npz, samples and, with matplotlib,
    figures. Images run where `train` is.

    The report's `spaces` are "data" and the encoders' names. Each has `curve`, on held-out samples; `empirical`, of the
    training samples alone from the tau on where those suffice; `laws`, those that the curve breaks; `warnings`; and
    `quality`, energy distances of generated images. Encoders also have `curve_equal_snr`, at the data's ratio of total
    variance to noise; `deviations`, signed; `penalties`; and `reconstruction`.

    Args:
        train, held_out: images `[n, channels, side, side]`, such as `digits()` or `read_images(folder)`.
        encoders: by name.
        preset: "quick" (minutes for small images) or "full".
        seed: of everything.
        changes: fields of the preset to replace.

    Raises:
        ValueError: for a folder of another run, images or encoders that do not fit, latents of a wrong scale.
        TypeError: for an encoder that lacks something.
    """
    _checks.choice("preset", preset, tuple(PRESETS))
    for name in changes:
        _checks.choice("changes", name, tuple(field.name for field in fields(Preset)))
    chosen = _preset(replace(PRESETS[preset], **changes))
    x, held = _images("train", train), _images("held_out", held_out)
    if held.shape[1:] != x.shape[1:]:
        raise ValueError(f"held_out must be images of train's shape {tuple(x.shape[1:])}, got {tuple(held.shape[1:])}.")
    for name, encoder in encoders.items():
        fits(name, encoder, x)
    steps = Steps(out)
    digest = hashlib.sha256(x.cpu().numpy().tobytes() + held.cpu().numpy().tobytes()).hexdigest()
    settings = {
        "data": digest, "encoders": {name: encoder.provenance for name, encoder in encoders.items()},
        "preset": asdict(chosen), "seed": _checks.seed(seed),
    }  # fmt: skip
    steps.claim(settings)
    tau = np.geomspace(*chosen.tau_range, chosen.num_tau)
    scales = {name: float(encoder.normalisation.scale) for name, encoder in encoders.items()}
    report: dict[str, Any] = {
        "shape": list(x.shape[1:]), "num_train": len(x), "num_held_out": len(held), "preset": preset,
        "settings": json.loads(json.dumps(settings)), "tau": tau.tolist(), "notes": _notes(chosen), "sources": SOURCES,
    }  # fmt: skip
    bar = tqdm(["data", *encoders], "spaces", disable=not progress)
    spaces: dict[str, dict[str, Any]] = {}
    pictures = {"held_out": held[: _report_figures.COLUMNS].cpu().numpy()}
    for name in bar:
        bar.set_postfix_str(name)
        if name == "data":
            space = Space(x, held, chosen, seed)
            report["dimension"] = found = steps.record("dimension", lambda space=space: space.dimension(tau))
            if found["tau"] < found["valid_from"] * (1 - 1e-9):
                ends = f"{found['tau']:.3g}, below {found['valid_from']:.3g}"
                report["notes"].append(f"m is taken at tau = {ends}, from where on the data tell it")
            spaces[name], shown = _of_data(steps, space, tau, x, held, progress)
        else:
            m = report["dimension"]["value"]
            spaces[name], shown = _of_encoder(
                steps, name, encoders[name], spaces["data"], tau, x, held, m, chosen, seed, progress
            )
        pictures |= {f"{name}.{kind}": images for kind, images in shown.items()}
    report |= {"scales": scales, "spaces": spaces}
    text, path = json.dumps(report, indent=1) + "\n", steps.folder / "report.json"
    if not path.exists() or path.read_text() != text:  # the report is the last to be written, and says that all is
        steps.write("table.txt", table(report) + "\n")
        steps.write_arrays("curves.npz", _flat_curves(report))
        if _report_figures.available():
            _report_figures.draw(report, pictures, steps.folder)
        steps.write("report.json", text)
    return report


def _of_data(steps: Steps, space: Space, tau, x, held, progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    entry, denoiser = _curves(steps, "data", space, tau, 1.0, progress)
    generated = steps.arrays("samples/data", lambda: {"generated": space.generated(denoiser()).cpu().numpy()})
    made = torch.as_tensor(generated["generated"])
    entry["quality"] = steps.record("quality/data", lambda: {
        "energy_distance": energy_distance(made, held.cpu()),
        "energy_distance_of_training_images": energy_distance(x[: len(held)].cpu(), held.cpu()),
        "num": len(made),
    })  # fmt: skip
    return entry, {"generated": made[: _report_figures.COLUMNS].numpy()}


def _of_encoder(
    steps: Steps, name: str, encoder: ImageEncoder, data: dict, tau, x, held, m: int, preset: Preset, seed, progress
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    kept = steps.arrays(f"latents/{name}", lambda: latents_of(name, encoder, x, held))
    z, z_held = (torch.as_tensor(kept[part]).to(x.device) for part in ("train", "held_out"))
    with torch.no_grad():
        again = encoder.latents(x[:_SOME]).float()
    if not torch.allclose(again, z[:_SOME], rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"encoder {name!r} must be the one whose latents are in {str(steps.folder)!r}. Choose another."
        )
    warnings, scale = scale_warnings(name, encoder, z), snr_scale(x, z)
    space = Space(z, z_held, preset, seed)
    entry, denoiser = _curves(steps, name, space, tau, scale, progress)
    entry["warnings"] = warnings + entry["warnings"]
    entry |= {"latent_shape": list(z.shape[1:]), "snr_scale": scale, "scale": float(encoder.normalisation.scale)}
    entry["deviations"] = {
        "equal_tau": _deviations(data["curve"], entry["curve"], 1.0, m),
        "equal_snr": _deviations(data["curve"], entry["curve_equal_snr"], scale, m),
        "equal_tau_empirical": _deviations(data["empirical"], entry["empirical"], 1.0, m),
        "equal_snr_empirical": _deviations(data["empirical"], entry["empirical_equal_snr"], scale, m),
    }
    entry["penalties"] = steps.record(f"penalties/{name}", lambda: _penalties(encoder, held, m, seed))

    def samples() -> dict[str, np.ndarray]:
        generated, latents = space.generated(denoiser()), z_held
        return {"generated": decoded(name, encoder, generated), "reconstructed": decoded(name, encoder, latents)}

    pictures = steps.arrays(f"samples/{name}", samples)
    made, again = (torch.as_tensor(pictures[part]) for part in ("generated", "reconstructed"))
    errors = (again - held.cpu()).double().square().flatten(1).mean(dim=1)
    entry["reconstruction"] = {"mean": float(errors.mean()), "sem": float(errors.std()) / math.sqrt(len(errors))}
    entry["quality"] = steps.record(f"quality/{name}", lambda: {
        "energy_distance": energy_distance(made, held.cpu()),
        "energy_distance_to_reconstructions": energy_distance(made, again),
        "energy_distance_of_reconstructions": energy_distance(again[::2], held[1::2].cpu()),  # of other images
        "num": len(made),
    })  # fmt: skip
    return entry, {part: images[: _report_figures.COLUMNS] for part, images in pictures.items()}


def _curves(steps: Steps, name: str, space: Space, tau: np.ndarray, scale: float, progress: bool):
    """Curves of a space, with what speaks against them, and its denoiser, trained when it is first asked for."""
    ends = min(1.0, scale**2) * tau[0], max(1.0, scale**2) * tau[-1]
    kept: list = []

    def denoiser():
        if not kept:
            kept.append(space.denoiser(ends, steps.folder / "denoisers" / name, progress))
        return kept[0]

    def measure(level: np.ndarray):
        return lambda: space.curve(denoiser(), level).to_dict()

    entry = {
        "curve": steps.record(f"curves/{name}/equal-tau", measure(tau)),
        "empirical": steps.record(f"curves/{name}/empirical", lambda: space.empirical_curve(tau)),
    }
    if name != "data":
        levels = scale**2 * tau
        entry["curve_equal_snr"] = steps.record(f"curves/{name}/equal-snr", measure(levels))
        entry["empirical_equal_snr"] = steps.record(
            f"curves/{name}/empirical-equal-snr", lambda: space.empirical_curve(levels)
        )
    curve, alone = FisherCurve.from_dict(entry["curve"]), entry["empirical"]
    entry["laws"] = broken_laws(curve, space.variance)
    entry["warnings"] = [*curve.warnings, *(disagreements(curve, FisherCurve.from_dict(alone)) if alone else [])]
    return entry, denoiser


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
            results[form] = fir_deviation(first, second, form, scale=scale, signed=True, dimension=m).to_dict()
    return results | {"mmse-rate": mmse_rate_deviation(first, second, scale=scale, signed=True).to_dict()}


def _penalties(encoder: ImageEncoder, held: Tensor, m: int, seed: int) -> dict[str, Any]:
    """Of raw latents."""
    some = held[: max(_PENALTY_NUMBERS // held[0].numel(), 64)]
    m = min(m, len(some) - 2)
    neighbours = min(2 * m + 2, len(some) - 1)
    made = encoder_penalties(encoder.encode, some, m, num_neighbours=neighbours, seed=seed)
    rows = {field.name: getattr(made, field.name) for field in fields(EncoderPenalties)}
    return {name: _penalty(row) if isinstance(row, Penalty) else row for name, row in rows.items()}


def _penalty(penalty: Penalty) -> dict[str, Any] | None:
    """None where no pair was apart."""
    return penalty._asdict() if penalty.num and math.isfinite(penalty.sem) else None


def _flat_curves(report: dict[str, Any]) -> dict[str, np.ndarray]:
    """`<space>.<curve>.<quantity>`, rows mean, sem and number of samples; and `.tau`."""
    arrays = {}
    for name, space in report["spaces"].items():
        for kind in ("curve", "empirical", "curve_equal_snr", "empirical_equal_snr"):
            if curve := space.get(kind):
                arrays[f"{name}.{kind}.tau"] = np.array(curve["tau"])
                arrays |= {
                    f"{name}.{kind}.{key}": np.array(list(row.values()))
                    for key, row in curve.items()
                    if isinstance(row, dict)
                }
    return arrays


def _preset(preset: Preset) -> Preset:
    ends = _checks.float_array("tau_range", preset.tau_range)
    if ends.shape != (2,) or not 0 < ends[0] < ends[1]:
        raise ValueError(f"tau_range must be two ascending positive numbers, got {preset.tau_range}.")
    least = {"num_tau": 2, "num_samples": 2, "num_generated": 2}
    counts = [field.name for field in fields(Preset) if field.name not in ("tau_range", "serpentine")]
    checked = {name: _checks.integer(name, getattr(preset, name), least.get(name, 1)) for name in counts}
    return replace(preset, tau_range=(float(ends[0]), float(ends[1])), serpentine=bool(preset.serpentine), **checked)


def _images(name: str, images: Any) -> Tensor:
    x = images if _arrays.is_tensor(images) else torch.as_tensor(_checks.float_array(name, images))
    if x.ndim != 4 or len(x) < 4 or not x[0].numel() or x.shape[2] != x.shape[3]:
        raise ValueError(f"{name} must have shape [n, channels, side, side] with n >= 4, got {tuple(x.shape)}.")
    if not torch.isfinite(x).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return x.detach().float()


def _notes(preset: Preset) -> list[str]:
    low, high = preset.tau_range
    whole = low <= TAU_PAPER[0] * (1 + 1e-9) and high >= TAU_PAPER[1] * (1 - 1e-9)
    clipped = f"sqrt(tau) runs from {low**0.5:.3g} to {high**0.5:.3g}; the paper's curves from .01 to 80"
    return [] if whole else [clipped]
