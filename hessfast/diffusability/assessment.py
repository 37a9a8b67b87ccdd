"""Whether the latent space of an encoder is fit for diffusion: everything this package measures, in one report."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from hessfast import _arrays, _checks
from hessfast._progress import hidden, tell
from hessfast._steps import Steps

from . import _report_figures, _samples
from ._measure import Run
from ._report_table import table
from .image_encoder import ImageEncoder, check_encoder
from .preset import PRESETS, Preset

SOURCES = {
    "stated": "FI, FIR = -dFI/dtau = E|Hess log p|^2, and the plain FIR deviation at equal tau: arXiv 2604.02751; "
    "the GPE's cost: arXiv 2501.09876",
    "inferred": "the forms of the FIR deviation per dimension and per normal dimension, comparison at equal SNR, the "
    "deviation of MMSE', and the measures of distortion and curvature: ours, not the paper's",
}


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
    figures. Computed on the device of `train`.

    The report's `intrinsic_dimension` is m of the data; its `spaces` are "data" and the names in `encoders`. Each has
    `curve`, on held-out samples; `empirical`, of the training samples alone from the tau on where those suffice;
    `laws`, those that the curve breaks; `warnings`; and `quality`, energy distances of generated images. Encoders have
    the first four also with the suffix `_equal_snr`, at the data's ratio of total variance to noise; `deviations`,
    signed; `penalties`; and `reconstruction`.

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
    chosen, x, held = _checked(train, held_out, encoders, preset, changes)
    settings = {
        "data": {name: _arrays.digest(part.cpu().numpy()) for name, part in (("train", x), ("held_out", held))},
        "encoders": {name: encoder.provenance for name, encoder in encoders.items()},
        "preset": asdict(chosen), "seed": _checks.seed(seed),
    }  # fmt: skip
    steps = Steps(out)
    steps.claim(settings)
    run = Run(steps, np.geomspace(*chosen.tau_range, chosen.num_tau), x, held, chosen, seed, progress)
    dimension, notes = run.intrinsic_dimension(), chosen.notes()
    spaces, pictures = _spaces(run, encoders, dimension["value"])
    report: dict[str, Any] = {
        "shape": list(x.shape[1:]), "num_train": len(x), "num_held_out": len(held), "preset": preset,
        "settings": json.loads(json.dumps(settings)), "tau": run.tau.tolist(), "notes": notes, "sources": SOURCES,
        "intrinsic_dimension": dimension, "encoders": list(encoders), "spaces": spaces,
    }  # fmt: skip
    _write(report, pictures, steps)
    return report


def _checked(
    train: Any, held_out: Any, encoders: Mapping[str, ImageEncoder], preset: str, changes: dict[str, Any]
) -> tuple[Preset, Tensor, Tensor]:
    """The preset with its changes, and both kinds of images; encoders are those of such images."""
    _checks.choice("preset", preset, tuple(PRESETS))
    for name in changes:
        _checks.choice("changes", name, tuple(field.name for field in fields(Preset)))
    chosen = replace(PRESETS[preset], **changes).checked()
    x, held = (
        _samples.images(name, images, least=4, dtype=torch.float32)
        for name, images in (("train", train), ("held_out", held_out))
    )
    if held.shape[1:] != x.shape[1:]:
        raise ValueError(f"held_out must be images of train's shape {tuple(x.shape[1:])}, got {tuple(held.shape[1:])}.")
    for name, encoder in encoders.items():
        check_encoder(name, encoder, x)
    return chosen, x, held.to(x.device)


def _spaces(run: Run, encoders: Mapping[str, ImageEncoder], m: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The report's entries of the data and of each encoder, and pictures to show."""
    spaces: dict[str, dict[str, Any]] = {}
    pictures = {"held_out": run.held_out[: _report_figures.COLUMNS].cpu().numpy()}
    bar = tqdm(["data", *encoders], "spaces", disable=hidden(run.progress))
    for name in bar:
        bar.set_postfix_str(name)
        if run.progress:
            tell(f"{name}: denoiser, curves and samples")
        spaces[name], shown = run.data() if name == "data" else run.encoder(name, encoders[name], spaces["data"], m)
        pictures |= {f"{name}.{kind}": images for kind, images in shown.items()}
    return spaces, pictures


def _write(report: dict[str, Any], pictures: dict[str, np.ndarray], steps: Steps) -> None:
    """The report is the last to be written, and says that all is."""
    text, path = json.dumps(report, indent=1) + "\n", steps.folder / "report.json"
    beside = ["table.txt", "curves.npz"] + (["figures"] if _report_figures.available() else [])
    there = all((steps.folder / name).exists() for name in beside)
    if not there or not path.exists() or path.read_bytes() != text.encode():
        steps.write("table.txt", table(report) + "\n")
        steps.write_arrays("curves.npz", _flat_curves(report))
        if _report_figures.available():
            _report_figures.draw(report, pictures, steps.folder)
        steps.write("report.json", text)


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
