"""What all figures share: matplotlib if it is there, figures without a window, maps on a box, files of both kinds."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_UNDATED = {"CreationDate": None}  # the same file of the same figure


def available() -> bool:
    """Whether matplotlib, of the extra `plot`, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def figure(width: float, height: float) -> Any:
    """An empty figure, in inches, that lays out its axes itself; it needs no display and no pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def as_picture(axis: Any, values: np.ndarray, box: Any, limits: tuple[float, float], colours: str) -> Any:
    """Values `[first, second]` over a box (lower, upper), the first coordinate to the right, the second upwards."""
    (left, bottom), (right, top) = box
    return axis.imshow(
        values.T, origin="lower", extent=(left, right, bottom, top), aspect="auto", vmin=limits[0], vmax=limits[1],
        cmap=colours, interpolation="nearest",
    )  # fmt: skip


def save(figures: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every figure as NAME.png and NAME.pdf into a folder, created if need be; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, drawn in figures.items():
        for kind in ("png", "pdf"):
            paths.append(folder / f"{name}.{kind}")
            drawn.savefig(paths[-1], dpi=150, metadata=_UNDATED if kind == "pdf" else None)
    return paths
