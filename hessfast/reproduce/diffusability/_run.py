"""One run: exact lines, trained points, the digits in three spaces, the family of encoders; each kept when it is there.

Tasks are shared among processes of one thread, so that results do not depend on how many cores there are.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from hessfast import _atomic, _checks
from hessfast._steps import Steps
from hessfast.diffusability import Doubt, assess, digits

from . import family, figures, study, toys
from .records import Task, one_thread, run_tasks
from .table import table


@dataclass(frozen=True)
class Preset:
    """How much a run spends.

    Attributes:
        toy_steps: of the denoisers of figures 2 and 3; a quarter in 512 dimensions.
        points: settings of each figure at which denoisers are trained.
        assessment: preset of `hessfast.diffusability.assess` on the digits, and what is changed in it.
        encoder_steps: of the encoders of the digits.
        latent_dims, seeds, budget: of the family of encoders.
    """

    toy_steps: int
    points: dict[str, tuple]
    assessment: tuple[str, dict[str, Any]]
    encoder_steps: int
    latent_dims: tuple[int, ...]
    seeds: int
    budget: study.Budget


PRESETS = {
    "quick": Preset(
        toy_steps=1200,
        points={
            "2": ("identity", "LeakyReLU, slope .1", "tanh"), "3a": (0.0, 0.15, 0.3), "3b": (toys.PADDED, 256),
            "3c": (0.0, 1.0, 1.5),
        },
        assessment=("quick", {"num_tau": 13, "num_samples": 256, "num_generated": 200}),
        encoder_steps=200,
        latent_dims=(8,),
        seeds=1,
        budget=study.Budget((600,), 1000, 150),
    ),
    "full": Preset(
        toy_steps=3000,
        points={
            "2": tuple(toys.ACTIVATIONS), "3a": (0.0, 0.1, 0.2, 0.3, 0.45, 0.6),
            "3b": (toys.PADDED, 384, 256, 128, 2), "3c": (0.0, 0.5, 1.0, 1.5, 2.0),
        },
        assessment=("quick", {}),
        encoder_steps=2000,
        latent_dims=(4, 8, 16, 32),
        seeds=3,
        budget=study.Budget((400, 1200), 2000, 400),
    ),
}  # fmt: skip
PARTS = ("toys", "digits", "family")


def run(
    preset: str,
    out: str | Path,
    *,
    parts: Sequence[str] = PARTS,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Reproduce figures 2 to 5 of arXiv 2604.02751 in the folder `out`, and return what `report.json` there holds.

    Args:
        preset: "quick" (minutes) or "full" (hours on a few cores).
        out: the folder; a run that was interrupted goes on in it.
        parts: "toys", figures 2 and 3a to c; "digits", figures 3d, 4 and 5 on the digits of scikit-learn; "family",
            the rank correlations of diagnostics with the quality of samples over encoders. Others can follow later.
        seed: of everything.
        workers: processes at a time, one thread each; None: as many as there are cores. Results do not depend on it.
        changes: fields of the preset to replace.

    Raises:
        ValueError: for another run's folder, or values out of range.
    """
    _checks.choice("preset", preset, tuple(PRESETS))
    if isinstance(parts, str):
        raise TypeError(f"parts must be a list of names, got {parts!r}. Pass [{parts!r}].")
    for part in parts:
        _checks.choice("parts", part, PARTS)
    for name in changes:
        _checks.choice("changes", name, tuple(field.name for field in fields(Preset)))
    chosen, folder, seed = replace(PRESETS[preset], **changes), Path(out), _checks.seed(seed)
    workers = len(os.sched_getaffinity(0)) if workers is None else _checks.integer("workers", workers, 1)
    settings = {"reproduce": "diffusability", "preset": preset, "seed": seed, "all": asdict(chosen)}
    Steps(folder).claim(settings, beside=())
    if "toys" in parts:
        _toys(chosen, folder / "toys", seed, workers, progress)
    if "digits" in parts:
        with one_thread():
            _digits(chosen, folder / "digits", seed, progress)
    if "family" in parts:
        _family(chosen, folder / "family", seed, workers, progress)
    report = {"preset": preset, "seed": seed, "parts": {}, "sources": SOURCES}
    for part in PARTS:
        if (folder / part / "summary.json").exists():
            report["parts"][part] = json.loads((folder / part / "summary.json").read_text())
    path, text = folder / "report.json", json.dumps(report, indent=1) + "\n"
    if figures.available() and not (path.exists() and path.read_text() == text):
        figures.draw(folder, report)
    _atomic.write(path, [text.encode()])
    _atomic.write(folder / "table.txt", [(table(report) + "\n").encode()])
    return report


SOURCES = {
    "stated": "what figures 2, 3 and 4 show and which encoders 3a to c have (captions); FIR deviation at equal tau",
    "inferred": "|FIR_z - FIR_x| / FIR_x as the definition of the deviation, pinned by the line of figure 3b; the "
    "scaled deviation of figure 3d, of which two candidates are drawn",
    "ours": "exact lines, MMSE' and its deviation, comparison at equal signal-to-noise, digits instead of FFHQ (8 x 8 "
    "pixels, 16 latents), the family of encoders and its correlations",
}


def _toys(preset: Preset, folder: Path, seed: int, workers: int, progress: bool) -> None:
    points = {
        (figure, setting): folder / f"{figure}-{k}.json"
        for figure, settings in preset.points.items() for k, setting in enumerate(settings)
    }  # fmt: skip
    tasks: list[Task] = [(toys.exact_record, (folder / f"{figure}-exact.json", figure)) for figure in preset.points]
    for (figure, setting), path in points.items():
        steps = max(preset.toy_steps // 4, 1) if figure == "3b" else preset.toy_steps
        tasks.append((toys.trained_record, (path, figure, setting, steps, seed)))
    run_tasks(sorted(tasks, key=_size, reverse=True), "toys", workers, progress)
    summary: dict[str, Any] = {"lines": {}, "points": {}, "errors": {}, "warnings": {}}
    for figure, settings in preset.points.items():
        summary["lines"][figure] = json.loads((folder / f"{figure}-exact.json").read_text())
        records = [json.loads(points[figure, setting].read_text()) for setting in settings]
        summary["errors"][figure] = {
            str(setting): toys.errors(record) for setting, record in zip(settings, records, strict=True)
        }
        for setting, record in zip(settings, records, strict=True):
            if against := record["curve"]["warnings"]:
                sentences = (str(Doubt.from_dict(doubt)) for doubt in against)
                summary["warnings"][f"{figure}, {setting}"] = "; ".join(sentences)
        if figure == "2":
            summary["points"][figure] = {record["setting"]: record["curve"] for record in records}
        else:
            data = records[settings.index(toys.DATA[figure])]
            summary["points"][figure] = toys.trained_points(records, data)
    summary["closed_forms"] = toys.closed_form_gaps(summary["lines"])
    _atomic.write(folder / "summary.json", [(json.dumps(summary) + "\n").encode()])


def _size(task: Task) -> tuple:
    """Long tasks first, so that none is left alone at the end."""
    function, arguments = task
    setting = arguments[2] if function is toys.trained_record else 0
    return function is toys.exact_record, setting if isinstance(setting, int) else 0


def _digits(preset: Preset, folder: Path, seed: int, progress: bool) -> None:
    train, held_out = digits()
    made = {
        name: family.trained(full, train, 16, seed, preset.encoder_steps, folder / "encoders" / f"{name}.safetensors")
        for name, full in (("gpe", "gpe"), ("vae", "vae, beta 0.1"))
    }
    assessment, changes = preset.assessment
    report = assess(train, held_out, made, folder, preset=assessment, seed=seed, progress=progress, **changes)
    _atomic.write(folder / "summary.json", [(json.dumps(report) + "\n").encode()])


def _family(preset: Preset, folder: Path, seed: int, workers: int, progress: bool) -> None:
    seeds = range(seed, seed + preset.seeds)
    data = {s: folder / f"data-{s}.json" for s in seeds}
    run_tasks([(study.data_record, (data[s], s, preset.budget)) for s in seeds], "images", workers, progress)
    paths, tasks = [], []
    for d in sorted(preset.latent_dims, reverse=True):
        for name in sorted(family.NAMES, key=lambda name: name not in family.TRAINED):
            for s in seeds:
                paths.append(folder / f"{family.NAMES.index(name):02d}-d{d}-seed{s}.json")
                tasks.append((study.encoder_record, (paths[-1], name, d, s, preset.budget, data[s])))
    run_tasks(tasks, "encoders", workers, progress)
    records = [json.loads(path.read_text()) for path in paths]
    summary = {
        "images": {str(s): json.loads(path.read_text())[study.QUALITY] for s, path in data.items()},
        "budgets": [{"steps": steps} | study.correlations(records, k) for k, steps in enumerate(preset.budget.latent)],
        "encoders": study.by_encoder(records),
    }
    _atomic.write(folder / "summary.json", [(json.dumps(summary) + "\n").encode()])
