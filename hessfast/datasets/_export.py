"""Export as the .npy files that the released training script of the paper loads.

train-posterior-unet-ising.py of alobashev/hessian-geometry-of-diffusion-models loads ising_states.npy [n, 128, 128],
ising_labels.npy [n, 2] and ising_targets.npy [n, 128, 128], turns each into float32, takes the first 80 % for training,
and looks for neighbours in the labels. Order and unit of the labels are not written there; here they are (T, H), and
(alpha, beta). A script for TASEP was not released; the same shapes serve the same network.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hessfast import _atomic
from hessfast._steps import npy_header
from hessfast.shards import Store

from ._batches import batch

LABELS = {"ising": ("temperature", "field"), "tasep": ("entry_rate", "exit_rate")}
TARGET_WIDTH = {"ising": 1 / 50, "tasep": 1 / 150}  # of the unit square, as in the paper
TARGET_GRID = 128
ROWS = 512  # converted at a time: 34 MB of targets
Batch = Any  # of ising or of tasep


def export_npy(store: Store, folder: str | Path, *, targets: bool = False) -> list[Path]:
    """Write a data set as ``<name>_states.npy``, ``<name>_labels.npy`` and, if asked, ``<name>_targets.npy``.

    states   int8. Ising: spins -1, +1, ``[n, size, size]``. TASEP: occupations 0, 1, ``[n, side, side]`` row after row
             if the number of sites is a square, as 16,384 = 128^2 is, else ``[n, num_sites]``.
    labels   float32 ``[n, 2]``: (T, H) or (alpha, beta).
    targets  float32 ``[n, 128, 128]``: the bump exp(-r^2 / 2 w^2) around the parameters, each scaled from its range to
             [0, 1], on the 128 x 128 points of the unit square, the first parameter along a row, the second along a
             column; w = 1/50 (Ising) or 1/150 (TASEP). 64 kB a sample: 35 GB for 540,000.

    Memory stays below 100 MB. Each file appears under its name only when it is whole.

    Returns:
        The files written.

    Raises:
        ValueError: for a store that is neither of the two data sets, or incomplete.
        OSError: if the folder cannot be written or the disk is full.
    """
    plan, folder = store.plan, Path(folder)
    if plan.name not in LABELS:
        raise ValueError(f"store must hold one of the data sets {', '.join(LABELS)}, got {plan.name!r}.")
    if len(store.shards) < plan.num_shards:
        raise ValueError(f"store must be complete for an export, got {store!r}.")
    shape, states = _states(plan.name, plan.parameters)
    names = LABELS[plan.name]
    jobs: list[tuple[str, type, tuple[int, ...], Callable[[slice], np.ndarray]]] = [
        ("states", np.int8, shape, lambda part: states(batch(store, part))),
        ("labels", np.float32, (2,), lambda part: np.stack([store[name][part] for name in names], axis=1)),
    ]
    if targets:
        ranges = [plan.parameters[name] for name in names]
        width = TARGET_WIDTH[plan.name]
        grid = (TARGET_GRID, TARGET_GRID)
        jobs.append(("targets", np.float32, grid, lambda p: _bumps([store[name][p] for name in names], ranges, width)))
    with _atomic.writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind, dtype, sample_shape, convert in jobs:
        path = folder / f"{plan.name}_{kind}.npy"
        try:
            _atomic.write(path, _npy(store, np.dtype(dtype), sample_shape, convert))
        except OSError as error:
            if error.errno not in _atomic.DISK_FULL:
                raise
            need = np.dtype(dtype).itemsize * math.prod(sample_shape) * plan.num
            raise OSError(error.errno, f"The disk of {folder} is full: {path.name} needs {need:,} bytes") from None
        written.append(path)
    return written


def _npy(
    store: Store, dtype: np.dtype, shape: tuple[int, ...], convert: Callable[[slice], np.ndarray]
) -> Iterator[bytes]:
    """The bytes of a .npy file, piece by piece. (A memory map would meet a full disk with SIGBUS, not an error.)"""
    yield npy_header(dtype, (store.plan.num, *shape))
    for start in range(0, store.plan.num, ROWS):
        yield np.ascontiguousarray(convert(slice(start, start + ROWS)), dtype=dtype).tobytes()


def _states(name: str, parameters: Mapping[str, Any]) -> tuple[tuple[int, ...], Callable[[Batch], np.ndarray]]:
    """Shape of a state, and the function that makes states of a batch."""
    if name == "ising":
        return (parameters["size"],) * 2, lambda some: some.spins()
    sites = parameters["num_sites"]
    side = math.isqrt(sites)
    shape = (side, side) if side * side == sites else (sites,)
    return shape, lambda some: some.occupations().reshape(-1, *shape)


def _bumps(values: list[np.ndarray], ranges: list[list[float]], width: float) -> np.ndarray:
    points = np.linspace(0, 1, TARGET_GRID)
    bumps = []
    for value, (low, high) in zip(values, ranges, strict=True):
        centre = (value - low) / ((high - low) or 1.0)
        bumps.append(np.exp(-0.5 * ((points - centre[:, None]) / width) ** 2).astype(np.float32))
    return bumps[1][:, :, None] * bumps[0][:, None, :]
