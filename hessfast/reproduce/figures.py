"""Figures of a run: log Z, its derivatives, the metric, the phase boundaries it shows, maps of the errors, curves."""

from pathlib import Path

import numpy as np

from hessfast._figures import as_picture, available, save
from hessfast._figures import figure as new_figure
from hessfast.geodesic import KINDS

from .rows import aligned_values

__all__ = ["available", "draw", "natural_metric"]
_LABELS = {
    "ising": (r"$T$", r"$H$", [r"$F$", r"$\partial F/\partial T$", r"$\partial F/\partial H$"]),
    "tasep": (r"$\alpha$", r"$\beta$", [r"$J$", r"$\partial J/\partial\alpha$", r"$\partial J/\partial\beta$"]),
}
_ELLIPSES = 12  # a side


def draw(model, folder: Path, row: str = "ours") -> list[Path]:
    """Write figures of a row of known scale to `folder/figures`; the paths."""
    kept = np.load(folder / "rows" / f"{row}.npz")
    learned = aligned_values(model, kept["log_z"], kept["means"])
    truth = model.values(model.log_z, model.means)
    pictures = {"derivatives": _maps(model, learned, truth), "metric": _metric(model, kept["means"])}
    if row == "ours" and (folder / "geodesics.npz").exists():
        pictures["geodesics"] = _geodesics(model, kept["means"], np.load(folder / "geodesics.npz"))
    return save({f"{row}_{name}": drawn for name, drawn in pictures.items()}, folder / "figures")


def natural_metric(model, means: np.ndarray) -> np.ndarray:
    """The metric per site in the model's own parameters, `[*grid, 2, 2]`: differences of the means over cells.

    (d theta / d p)^T (d mean / d p), symmetrised: differences see the jump of the means at a first-order line.
    """
    p = model.grid.axes
    jacobians = []
    for values in (model.natural(model.grid.points), means.reshape(*model.grid.shape, 2)):
        jacobians.append(np.stack([np.gradient(values, p[k], axis=k) for k in range(2)], axis=-1))
    metric = np.einsum("xyak,xyal->xykl", *jacobians)
    return (metric + metric.swapaxes(-1, -2)) / 2


def _maps(model, learned: np.ndarray, truth: np.ndarray):
    x, y, names = _LABELS[model.name]
    figure = new_figure(11, 9)
    axes = figure.subplots(3, 3, sharex=True, sharey=True)
    for k, name in enumerate(names):
        low, high = np.quantile(truth[k], (0.01, 0.99))
        error = learned[k] - truth[k]
        width = np.quantile(np.abs(error), 0.99) + 1e-12
        columns = ((learned[k], low, high, "viridis", "learned"), (truth[k], low, high, "viridis", "exact"))
        for axis, (values, a, b, colours, title) in zip(
            axes[k], (*columns, (error, -width, width, "RdBu", "learned - exact")), strict=True
        ):
            picture = _picture(axis, model, values, (a, b), colours)
            figure.colorbar(picture, ax=axis)
            axis.set_title(f"{name}, {title}", fontsize=10)
        axes[k, 0].set_ylabel(y)
    for axis in axes[-1]:
        axis.set_xlabel(x)
    return figure


def _metric(model, means: np.ndarray):
    """Trace and volume density of the metric, whose ridges are the phase boundaries, with ellipses of equal length."""
    x, y, _ = _LABELS[model.name]
    metric = natural_metric(model, means)
    trace = np.log10(np.maximum(np.trace(metric, axis1=-2, axis2=-1), 1e-6))
    volume = np.log10(np.maximum(np.linalg.det(metric), 1e-12)) / 2
    figure = new_figure(11, 4.6)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    titles = r"$\log_{10}$ tr $g$ per site, ellipses of equal length", r"$\log_{10}\sqrt{\det g}$"
    for axis, values, title in zip(axes, (trace, volume), titles, strict=True):
        limits = float(np.quantile(values, 0.05)), float(np.quantile(values, 0.995))
        figure.colorbar(_picture(axis, model, values, limits, "magma"), ax=axis)
        axis.set(title=title, xlabel=x, ylabel=y)
    low, high = np.array(model.box)
    step = model.grid.shape[0] // _ELLIPSES
    places = slice(step // 2, None, step)
    few, points = metric[places, places].reshape(-1, 2, 2), model.grid.points[places, places].reshape(-1, 2)
    values, vectors = np.linalg.eigh(few * np.outer(high - low, high - low))  # in units of the box
    radii = np.minimum(1 / np.sqrt(np.maximum(values, 1e-12)) / _ELLIPSES / 4, 0.4 / _ELLIPSES)
    turn = np.linspace(0, 2 * np.pi, 40)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    for point, size, directions in zip(points, radii, vectors, strict=True):
        axes[0].plot(*(point + (directions @ (size[:, None] * circle)).T * (high - low)).T, color="w", linewidth=0.6)
    axes[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return figure


def _geodesics(model, means: np.ndarray, made):
    """Curves of every kind with ten equidistant points each over the trace of the metric, and a map of distances."""
    x, y, _ = _LABELS[model.name]
    trace = np.log10(np.maximum(np.trace(natural_metric(model, means), axis1=-2, axis2=-1), 1e-6))
    figure = new_figure(11, 4.6)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    limits = float(np.quantile(trace, 0.05)), float(np.quantile(trace, 0.995))
    figure.colorbar(_picture(axes[0], model, trace, limits, "Greys"), ax=axes[0])
    distances = axes[1].contourf(*made["nodes"].transpose(2, 0, 1), made["distances"], levels=24, cmap="viridis")
    figure.colorbar(distances, ax=axes[1])
    for k, (curves, marks) in enumerate(zip(made["curves"], made["marks"], strict=True)):
        for curve, points in zip(curves, marks, strict=True):
            axes[0].plot(*curve.T, color=f"C{k}", linewidth=1)
            axes[0].plot(*points.T, "o", color=f"C{k}", markersize=3)
        axes[0].plot([], [], "o-", color=f"C{k}", markersize=3, label=KINDS[k])
    axes[0].legend(fontsize=7)
    axes[1].plot(*made["curves"][0, 0, 0], "r*")
    titles = r"curves, ten equidistant points each; $\log_{10}$ tr $g$", "distance from the star, per site"
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlabel=x, ylabel=y)
    return figure


def _picture(axis, model, values: np.ndarray, limits: tuple[float, float], colours: str):
    return as_picture(axis, values.reshape(model.grid.shape), model.box, limits, colours)
