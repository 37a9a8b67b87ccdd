"""Figures of the report of a slice; all axes are the slice's coordinates."""

import io
from typing import Any

import numpy as np

from hessfast._figures import as_picture
from hessfast._figures import figure as blank
from hessfast.posterior import Grid

SHOWN = 20  # images a side of the contact sheet
_COLOURS = {
    "levi-civita": "C1", "exponential": "white", "mixture": "C0", "released": "C2", "pullback of pixels": "C3",
}  # fmt: skip


def png(drawn: Any) -> bytes:
    whole = io.BytesIO()
    drawn.savefig(whole, format="png", dpi=110, metadata={"Software": None})
    return whole.getvalue()


def shown(image: np.ndarray) -> np.ndarray:
    """`[channels, rows, columns]` of uint8 as matplotlib takes it, framed; the first channel unless there are three."""
    image = np.moveaxis(image, 0, 2)
    image = image if image.shape[2] == 3 else np.repeat(image[:, :, :1], 3, axis=2)
    gap = max(1, image.shape[0] // 16)
    return np.pad(image, ((gap, gap), (gap, gap), (0, 0)), constant_values=255)


def contact(images: np.ndarray, grid: Grid) -> Any:
    """Evenly chosen images, each at its place, the first coordinate to the right, the second upwards."""
    places = [np.unique(np.linspace(0, n - 1, min(SHOWN, n)).round().astype(int)) for n in grid.shape]
    table = images.reshape(*grid.shape, *images.shape[1:])
    rows = [np.concatenate([shown(table[i, j]) for i in places[0]], axis=1) for j in places[1][::-1]]
    figure = blank(8.4, 8)
    axis = figure.subplots()
    (left, bottom), (right, top) = _cells(grid)
    axis.imshow(np.concatenate(rows), extent=(left, right, bottom, top), aspect="auto", interpolation="nearest")
    axis.set(xlabel="$u_1$", ylabel="$u_2$")
    return figure


def geometry(found: Any) -> Any:
    """log Z, the trace of the metric with its ridges, its volume, for every fit."""
    figure = blank(13, 4.1 * len(found.metric))
    axes = figure.subplots(len(found.metric), 3, squeeze=False, sharex=True, sharey=True)
    for row, (name, metric) in zip(axes, found.metric.items(), strict=True):
        trace = np.log10(np.maximum(np.trace(metric, axis1=-2, axis2=-1), 1e-12))
        volume = np.log10(np.maximum(np.linalg.det(metric), 1e-24)) / 2
        pictures = (
            (found.log_z[name], "viridis", r"$\log Z$, affine part removed"),
            (trace, "magma", r"$\log_{10}$ tr $g$; dots: its ridges"),
            (volume, "magma", r"$\log_{10}\sqrt{\det g}$"),
        )
        for axis, (values, colours, title) in zip(row, pictures, strict=True):
            figure.colorbar(picture(axis, found.grid, values, colours), ax=axis)
            axis.set_title(f"{name}: {title}", fontsize=10)
            if found.labels is not None:
                changes(axis, found.grid, found.labels, "white" if colours == "magma" else "black")
        points = found.grid.points[found.ridges[name]]
        row[1].plot(*points.T, ".", color="cyan", markersize=3.5)
    _labelled(axes)
    return figure


def boundaries(found: Any, labels: np.ndarray | None, grid: Grid, jump: np.ndarray, fit: str = "ours") -> Any:
    """Classes, jumps of the features between neighbours, and the ridges of the metric over both."""
    figure = blank(13, 4.6) if labels is not None else blank(6.6, 5)
    axes = np.atleast_1d(figure.subplots(1, 1 if labels is None else 2, sharex=True, sharey=True))
    if labels is not None:
        classes, places = np.unique(labels, return_inverse=True)
        picture(axes[0], grid, places.reshape(grid.shape).astype(float), "Pastel1", (-0.5, 8.5))
        for k, name in enumerate(classes):
            where = grid.points.reshape(-1, 2)[places.ravel() == k]
            centre = where[np.linalg.norm(where - where.mean(axis=0), axis=1).argmin()]
            axes[0].text(*centre, str(name), ha="center", va="center", fontsize=22)
        axes[0].set_title("classes of the images, and ridges of the metric", fontsize=10)
    figure.colorbar(picture(axes[-1], grid, np.log10(jump + 1e-6), "magma"), ax=axes[-1])
    axes[-1].set_title(r"$\log_{10}$ of the largest jump of features to a neighbour", fontsize=10)
    for axis in axes:
        colour = "black" if axis is axes[0] and labels is not None else "cyan"
        axis.plot(*found.grid.points[found.ridges[fit]].T, ".", color=colour, markersize=5)
    _labelled(axes[None])
    return figure


def maps(grid: Grid, constant: np.ndarray, floor: Any) -> Any:
    """The Lipschitz constant, the noise floor, and where which is greater."""
    figure = blank(13, 4.2)
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    resolved = floor["jump"] / np.maximum(floor["floor"], 1e-300)
    pictures = (
        (constant, r"$\log_{10}$ Lipschitz constant of the features"),
        (floor["floor"], r"$\log_{10}$ noise floor (other slot, batch, last bits, dtype)"),
        (resolved, r"$\log_{10}$ jump to neighbours / noise floor"),
    )
    for axis, (values, title) in zip(axes, pictures, strict=True):
        values = np.log10(np.maximum(values, 1e-12)).reshape(grid.shape)
        figure.colorbar(picture(axis, grid, values, "magma"), ax=axis)
        axis.set_title(title, fontsize=10)
    _labelled(axes[None])
    return figure


def parts(
    chosen: tuple[np.ndarray, np.ndarray], even: tuple[np.ndarray, np.ndarray], ids: np.ndarray, grid: Grid
) -> Any:
    """Error of features against the number of images, chosen or on an even subgrid; and which were chosen."""
    figure = blank(11, 4.4)
    left, right = figure.subplots(1, 2)
    left.loglog(*even, "o--", color="C1", label="even subgrid")
    left.loglog(*chosen, "o-", color="C0", label="chosen where features change")
    left.set(xlabel="images", ylabel="root mean square error of features")
    left.legend(fontsize=9)
    left.grid(alpha=0.3)
    right.plot(*grid.points.reshape(-1, 2)[ids].T, ".", color="black", markersize=2)
    right.set_title(f"{len(ids):,} of {grid.num_nodes:,} images", fontsize=10)
    right.set(xlabel="$u_1$", ylabel="$u_2$")
    return figure


def paths(grid: Grid, found: Any, curves: dict[str, np.ndarray], pair: np.ndarray) -> Any:
    """Some pairs' curves of every kind over the trace of the metric."""
    figure = blank(7.4, 6.4)
    axis = figure.subplots()
    trace = np.log10(np.maximum(np.trace(found.metric["ours"], axis1=-2, axis2=-1), 1e-12))
    figure.colorbar(picture(axis, found.grid, trace, "magma"), ax=axis, label=r"$\log_{10}$ tr $g$, ours")
    for name, colour in _COLOURS.items():
        for k in pair:
            label = name if k == pair[0] else None
            axis.plot(*curves[name][k].T, ".-", color=colour, linewidth=1.2, markersize=3, label=label)
    if found.labels is not None:
        changes(axis, found.grid, found.labels, "0.8")
    axis.legend(fontsize=8, facecolor="0.5")
    _labelled(np.array([[axis]]))
    return figure


def strips(images: np.ndarray, names: list[str], pair: np.ndarray) -> Any:
    """Images along the paths of some pairs: a row for each kind; `images` is `[kinds, pairs, points, c, h, w]`."""
    figure = blank(12.5, 0.72 * len(names) * len(pair))
    for axis, k in zip(np.atleast_1d(figure.subplots(len(pair), 1)), pair, strict=True):
        rows = [np.concatenate([shown(image) for image in each[k]], axis=1) for each in images]
        height = rows[0].shape[0]
        axis.imshow(np.concatenate(rows), interpolation="nearest", aspect="equal")
        axis.set_yticks([height * (row + 0.5) - 0.5 for row in range(len(rows))], names, fontsize=8)
        axis.set_xticks([])
        axis.spines[:].set_visible(False)
        axis.set_title(f"pair {k}", fontsize=9, loc="left")
    return figure


def zoom(levels: Any, dtype: str) -> Any:
    """Largest jump, noise floor and slope against the spacing of the window's points."""
    figure = blank(11, 4.2)
    left, right = figure.subplots(1, 2)
    spacing = [level.spacing for level in levels]
    left.loglog(spacing, [level.largest for level in levels], "o-", label="largest jump")
    left.loglog(spacing, [level.median for level in levels], ".--", label="median jump")
    left.loglog(spacing, [max(level.floor, 1e-17) for level in levels], "s-", color="C3", label="noise floor")
    left.set(xlabel="spacing of neighbours", title=f"jumps of features, {dtype}")
    left.legend(fontsize=8)
    known = [level for level in levels if level.resolved]
    right.loglog([level.spacing for level in known], [level.lipschitz for level in known], "o-")
    right.set(xlabel="spacing of neighbours", title="largest jump / spacing, where resolved")
    for axis in (left, right):
        axis.invert_xaxis()
        axis.grid(alpha=0.3)
    return figure


def windows(pictures: list[np.ndarray], spacings: list[float]) -> Any:
    """Contact sheets of the windows of a zoom."""
    columns = min(6, len(pictures))
    figure = blank(2.1 * columns, 2.3 * -(-len(pictures) // columns))
    axes = figure.subplots(-(-len(pictures) // columns), columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, images, spacing in zip(axes.flat, pictures, spacings, strict=False):
        rows = [np.concatenate([shown(image) for image in images[:, j]], axis=1) for j in range(images.shape[1])[::-1]]
        axis.imshow(np.concatenate(rows), interpolation="nearest")
        axis.set_title(f"spacing {spacing:.0e}", fontsize=8)
    return figure


def picture(axis: Any, grid: Grid, values: np.ndarray, colours: str, limits: tuple[float, float] | None = None) -> Any:
    limits = limits or (float(np.quantile(values, 0.01)), float(np.quantile(values, 0.995)))
    return as_picture(axis, values.reshape(grid.shape), _cells(grid), limits, colours)


def changes(axis: Any, grid: Grid, labels: np.ndarray, colour: str) -> None:
    for label in np.unique(labels):
        axis.contour(*grid.axes, (labels == label).T.astype(float), levels=[0.5], colors=colour, linewidths=0.7)


def _cells(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The box of the cells around the nodes."""
    half = (np.array(grid.upper) - grid.lower) / (np.array(grid.shape) - 1) / 2
    return grid.lower - half, grid.upper + half


def _labelled(axes: np.ndarray) -> None:
    for axis in axes[-1]:
        axis.set_xlabel("$u_1$")
    for axis in axes[:, 0]:
        axis.set_ylabel("$u_2$")
