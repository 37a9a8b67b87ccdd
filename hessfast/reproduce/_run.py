"""One run: samples, rows, report; each kept as soon as it is there, so that a killed run goes on where it was."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hessfast import _atomic, _checks, _distributed, datasets, shards
from hessfast._dispatch import present
from hessfast._steps import Steps
from hessfast.log_partition import LogPartition

from . import figures, geodesics
from .models import MODELS, PUBLISHED
from .presets import NETWORKS, PRESETS, Preset
from .rows import BY_NETWORK, Learned, Study, errors, metric_errors, rows_of
from .table import table

_LEAST = {"held_out": 1, "network_steps": 1, "batch_size": 2, "vae_steps": 1, "potential_steps": 1, "splits": 1}
ALIGNMENT = (
    "an affine function of the natural parameters is added to log Z, three coefficients by least squares; the paper's "
    "three rows also get the best factor"
)


def run(
    model: str,
    preset: str,
    out: str | Path,
    *,
    num: int | None = None,
    size: int = 128,
    seed: int = 0,
    rows: Sequence[str] | None = None,
    pairs: int = 500,
    network: str | None = None,
    device: str = "cpu",
    progress: bool = True,
    **changes: Any,
) -> dict[str, Any]:
    """Reproduce a model's rows of Table 1 in the folder `out`, and return what `report.json` there holds.

    Args:
        model: "ising" or "tasep".
        preset: "quick" (20,000 samples, minutes) or "paper" (540,000 or 150,000 samples).
        out: the folder; a run that was interrupted goes on in it.
        num: samples, if not the preset's; 5,000 or more.
        size: side of the lattice, or of the square into which a chain is wrapped, a multiple of 32; the truth for
            lattices is that of size 128.
        seed: of everything.
        rows: names of those to learn; all of them if None. Others can follow later, in the same folder.
        pairs: of random points of the phase diagram, between which curves are drawn on what row "ours" learned, and on
            the truth; 0: none.
        network: of the paper's rows, if not the preset's: "tiny" or "small", on 32 x 32 pixels, or "full", for GPUs:
            images, network, training, bumps and potential as published.
        device: "cpu" or "cuda", where that network is trained.
        changes: other fields of the preset.

    In a process group all ranks make samples and train the network; the rest is made, and returned, by rank 0, and the
    others return {}.

    Raises:
        ValueError: for another run's folder, or values out of range.
        BackendUnavailableError: if there is no such device.
    """
    _checks.choice("model", model, tuple(MODELS))
    present(device)
    chosen = _chosen(preset, network, changes)
    if isinstance(rows, str):
        raise TypeError(f"rows must be a list of names, got {rows!r}. Pass [{rows!r}].")
    num = _checks.integer("num", (chosen.num or MODELS[model].num) if num is None else num, 5000)
    pairs = _checks.integer("pairs", pairs, 0)
    seed, size = _checks.seed(seed), _checks.integer("size", size, 1)
    if size < 32 or size % 32:
        raise ValueError(f"size must be a multiple of 32, got {size}.")
    settings = {"model": model, "preset": preset, "num": num, "size": size, "seed": seed}
    settings |= {"all": asdict(chosen)}
    how = NETWORKS[chosen.network]
    subject = MODELS[model](size, num, how.pixels)
    known = rows_of(subject)
    wanted = {_checks.choice("rows", name, tuple(known)): known[name] for name in (known if rows is None else rows)}
    plan = subject.plan(num, seed)
    folder, (rank, ranks) = Path(out), _distributed.ranks()
    if chosen.batch_size % ranks:
        raise ValueError(f"batch_size must give each of {ranks} ranks as many, got {chosen.batch_size}.")
    steps = Steps(folder)
    steps.claim(settings, beside=("samples",))
    start = time.perf_counter()
    store = shards.fill(
        folder / "samples", plan, datasets.maker(plan), rank=rank, world_size=ranks, progress=progress and rank == 0
    )
    sampling = steps.record("sampling", lambda: {"seconds": time.perf_counter() - start})  # of the first time
    study = _study(subject, chosen, store, seed, folder, device, progress)
    if ranks > 1 and not all(_whole(steps, name) for name in wanted if name in BY_NETWORK):
        study.network  # noqa: B018  # trained by all ranks, then kept by each
    if rank > 0:
        return {}
    bar = tqdm(wanted.items(), "rows", disable=not progress or sys.stderr is None)
    for name, function in bar:
        bar.set_postfix_str(name)
        if not _whole(steps, name):
            steps.keep(f"rows/{name}", _learned(steps, f"rows/{name}", study, function))
    learned = {name: row for name in known if (row := steps.read(f"rows/{name}"))}
    as_published = how.published and subject.pixels == how.pixels and how.training.items() <= asdict(chosen).items()
    report = {
        "model": model, "preset": preset, "num_samples": num, "size": size, "seed": seed, "alignment": ALIGNMENT,
        "quantities": subject.quantities, "network": chosen.network, "pixels": subject.pixels, "rows": learned,
        "published_network": as_published,
        "published": {row: dict(zip(("F", "dF_dp1", "dF_dp2"), x, strict=True)) for row, x in PUBLISHED[model].items()},
        "seconds": {"samples": sampling["seconds"], "rows": sum(row["seconds"] for row in learned.values())},
    }  # fmt: skip
    if pairs and "ours" in learned:
        report["geodesics"] = geodesics.keep(subject, folder, pairs, seed)
    steps.write("report.json", _atomic.json_bytes(report))
    steps.write("table.txt", table(report) + "\n")
    if figures.available() and "ours" in learned:
        figures.draw(subject, folder)
    return report


def _chosen(preset: str, network: str | None, changes: dict[str, Any]) -> Preset:
    """The preset with another network, what goes with that, and other changes."""
    chosen = PRESETS[_checks.choice("preset", preset, tuple(PRESETS))]
    for name, value in changes.items():
        _checks.choice("changes", name, tuple(_LEAST))
        changes[name] = _checks.integer(name, value, _LEAST[name])
    name = _checks.choice("network", chosen.network if network is None else network, tuple(NETWORKS))
    return replace(chosen, **({"network": name} | NETWORKS[name].training | changes))


def _study(model, preset: Preset, store, seed: int, folder: Path, device: str, progress: bool) -> Study:
    parameters = np.column_stack([np.asarray(store[name][:]) for name in model.parameters])
    return Study(model, preset, parameters, store, seed, folder, device, progress)


def _whole(steps: Steps, name: str) -> bool:
    """Whether a row and its log Z, of which figures and geodesics are made, are there."""
    if name == "ours":
        try:
            LogPartition.load(steps.folder / "log_partition")
        except (FileNotFoundError, ValueError):
            return False
    return bool(steps.read(f"rows/{name}")) and bool(steps.read_arrays(f"rows/{name}"))


def _learned(steps: Steps, name: str, study: Study, learn: Callable[[Study], Learned]) -> dict[str, Any]:
    """A row's errors, with its log Z beside them."""
    start = time.perf_counter()
    learned = learn(study)
    seconds = time.perf_counter() - start
    steps.write_arrays(f"{name}.npz", {"log_z": learned.log_z, "means": learned.means})
    gap = None
    if learned.gap is not None:
        gap = {"median": float(np.median(learned.gap)), "mean": float(learned.gap.mean())}
    row = errors(study.model, learned.log_z, learned.means, learned.free_scale)
    row["metric"] = metric_errors(study.model, learned)
    return row | {"nats_gap": gap, "num_samples": learned.num_samples, "seconds": seconds, "notes": learned.notes}
