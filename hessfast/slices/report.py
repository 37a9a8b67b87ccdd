"""The report of a slice: one HTML page with its pictures in it, and the same pictures as PNG files."""

import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import hessfast
from hessfast import _atomic, shards
from hessfast._figures import available
from hessfast._steps import Steps
from hessfast.posterior import Grid

from . import _report_figures as draw
from . import _windows
from .adaptive import replayed, subgrid
from .box_counting import boundary, box_counting
from .features import feature_map
from .fit import Geometry
from .generators import Generator
from .lipschitz import lipschitz
from .noise import noise_floor
from .paths import LINEAR, OURS, PATHS, QUANTITIES
from .plan import SlicePlan

STRIDE, FRACTION = 8, 0.2  # of the part of the images that would have done
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
h1,h2{line-height:1.2}h2{margin-top:2em}img{max-width:100%;height:auto}table{border-collapse:collapse;font-size:13px}
td,th{padding:.25em .6em;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child{text-align:left}
.scroll{overflow-x:auto}.note{background:#f4f4ef;padding:.6em 1em}code{font-size:12px;overflow-wrap:anywhere}"""


def measure_maps(
    plan: SlicePlan, generator: Generator, out: str | Path, features: Any, points_per_axis: int = 24
) -> dict[str, Any]:
    """Lipschitz constants and noise floor over the slice's box, each kept in `out` once made."""
    grid = _windows.box(plan, points_per_axis)
    coarse, steps = plan.at(grid), Steps(out)
    described = feature_map(features)
    steps.claim({"plan": coarse.hash, "generator": generator.identity, "features": described.identity})

    def slopes() -> dict[str, np.ndarray]:
        found = lipschitz(coarse, generator, described)
        return {"singular_values": found.singular_values, "method": np.array(found.method)}

    def floors() -> dict[str, np.ndarray]:
        found = noise_floor(coarse, generator, described)
        return {"floor": found.floor, "jump": found.jump, "flip": found.flip, "threshold": np.array(found.threshold)}

    return {"grid": grid, "lipschitz": steps.arrays("lipschitz", slopes), "noise": steps.arrays("noise", floors)}


def write_report(
    folder: str | Path,
    plan: SlicePlan,
    store: shards.Store,
    geometry: Geometry,
    *,
    maps: dict[str, Any] | None = None,
    compared: dict[str, Any] | None = None,
    curves: str | Path | None = None,
    zoomed: dict[str, str | Path] | None = None,
    classes: np.ndarray | None = None,
    provenance: dict[str, Any] | None = None,
) -> Path:
    """Write `report.html`, `report.json` and `figures/*.png` into a folder, and return the page's path.

    Args:
        folder: where to write.
        plan, store: of the slice, a grid of two dimensions, with images and features.
        geometry: learned of it.
        maps: by `measure_maps`.
        compared, curves: what `compare` returned, and the folder it was given.
        zoomed: folders of `zoom` by dtype.
        classes: of the slice's points.
        provenance: more entries for the end of the page.

    Raises:
        ImportError: without matplotlib.
        ValueError: for a slice without images, or of other points than a 2-D grid.
    """
    if not available():
        raise ImportError("matplotlib must be installed for reports. Run pip install 'hessfast[plot]'.")
    grid = plan.points
    if not isinstance(grid, Grid) or grid.dim != 2:
        raise ValueError("plan must have the points of a Grid of two dimensions for a report, got others.")
    if "images" not in store:
        raise ValueError('store must hold images for a report, got none. Generate it with keep=(..., "images").')
    page = _Page(Path(folder))
    labels = None if classes is None else classes.reshape(grid.shape)
    features = np.asarray(store["features"][:], np.float64)
    jump = _windows.jumps(features.reshape(*grid.shape, -1))
    page.section("The slice", "Every image at the place of its point; anchors are at (0, 0), (1, 0) and (0, 1).")
    page.picture("slice", draw.contact(np.asarray(store["images"][:]), grid))
    dimension = None if labels is None else _dimension(labels)
    page.section("Boundaries", " ".join(filter(None, [_boundary_text(geometry), _dimension_text(dimension)])))
    page.picture("boundaries", draw.boundaries(geometry, labels, grid, jump))
    page.section("log Z and the Fisher metric", _fit_text(geometry))
    page.picture("geometry", draw.geometry(geometry))
    if maps:
        page.section("Lipschitz constant and noise floor", _maps_text(maps))
        page.picture("maps", draw.maps(maps["grid"], maps["lipschitz"]["singular_values"][:, 0], maps["noise"]))
    _parts(page, grid, features)
    if compared and curves:
        _curves(page, geometry, grid, compared, Path(curves))
    for dtype, place in (zoomed or {}).items():
        _zoom(page, dtype, Path(place))
    page.section("Plan and provenance", "")
    record = {"plan": plan.to_dict(), "plan_hash": plan.hash, "store_hash": store.plan.hash,
              "hessfast": hessfast.__version__, **(provenance or {})}  # fmt: skip
    page.add(f"<pre><code>{html.escape(json.dumps(record, indent=1))}</code></pre>")
    results = {"held_out": geometry.held_out, "agreement": geometry.agreement, "box_dimension": dimension,
               "curves": compared, **record}  # fmt: skip
    _atomic.write(page.folder / "report.json", [_atomic.json_bytes(results)])
    return page.write("A slice of latent space")


def verdict(compared: dict[str, Any]) -> str:
    """Whether Levi-Civita geodesics beat linear and pullback paths, in which quantities, and if not, why."""
    lines, lost = [], False
    for other, words in ((LINEAR, "linear paths"), ("pullback of pixels", "pullback paths of the pixels")):
        for key in ("feature_length", "curvature"):
            test = compared["tests"][other][key]
            whole, p = compared["table"][other][key]["mean"], test["p"]
            won = test["mean"] < 0 and p < 0.05 and test["shorter"] > 0.5
            lost |= not won
            lines.append(
                f"{key.replace('_', ' ')} against {words}: {test['mean'] / whole:+.1%} ± {test['sem'] / whole:.1%}, "
                f"less in {test['shorter']:.0%} of pairs, p = {p:.2g}: {'beaten' if won else 'not beaten'}"
            )
    why, pairs = compared["why"], compared["num_pairs"]
    which = "random pairs" if compared.get("ends") == "random" else "pairs that cross a boundary"
    text = f"Levi-Civita geodesics over {pairs} {which}. " + "; ".join(lines) + "."
    if lost:
        chord = why["chord"]["mean"] / compared["table"][LINEAR]["feature_length"]["mean"]
        text += (
            f" Why not: {chord:.0%} of a linear path's feature length is the distance between its ends, which no path "
            f"avoids; paths that are shortest in the features, in whatever metric, save {why['to_gain']:.1%}, and "
            f"the learned geodesics {why['gained']:.1%}. A Hessian metric has one function, log Z, where the metric "
            "that features pull back has three, so that it can only come near it: lengths of linear paths under it and "
            f"in the features have rank correlation {why['rank_correlation']:.2f} over the pairs."
        )
    return text


class _Page:
    def __init__(self, folder: Path):
        self.folder, self.parts = folder, []
        (folder / "figures").mkdir(parents=True, exist_ok=True)

    def add(self, text: str) -> None:
        self.parts.append(text)

    def section(self, title: str, text: str) -> None:
        self.add(f"<h2>{html.escape(title)}</h2>" + (f"<p>{html.escape(text)}</p>" if text else ""))

    def picture(self, name: str, drawn: Any) -> None:
        content = draw.png(drawn)
        _atomic.write(self.folder / "figures" / f"{name}.png", [content])
        self.add(f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(content).decode()}">')

    def write(self, title: str) -> Path:
        path = self.folder / "report.html"
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        _atomic.write(path, [f"{head}<h1>{title}</h1>{''.join(self.parts)}</html>\n".encode()])
        return path


def _parts(page: _Page, grid: Grid, features: np.ndarray) -> None:
    """How many images would have done."""
    if min(grid.shape) < 2 * STRIDE + 1:
        return
    found = replayed(grid, features, fraction=FRACTION, stride=STRIDE)
    numbers, errors = found.feature_errors(features)
    even = [subgrid(grid, features, stride).feature_errors(features) for stride in (STRIDE, 6, 4, 3, 2)]
    sizes, misses = np.concatenate(even, axis=1)
    same = float(np.exp(np.interp(np.log(numbers[-1]), np.log(sizes), np.log(np.maximum(misses, 1e-300)))))
    page.section(
        "Adaptive sampling",
        f"With {len(found.ids):,} of the {grid.num_nodes:,} images, chosen where features change (`adaptive`), the "
        f"others' features are interpolated to {errors[-1]:.2g}, root mean square; with as many on an even subgrid to "
        f"{same:.2g}.",
    )
    page.picture("adaptive", draw.parts((numbers, errors), (sizes, misses), found.ids, grid))


def _curves(page: _Page, geometry: Geometry, grid: Grid, compared: dict[str, Any], folder: Path) -> None:
    page.section("Geodesics", "")
    page.add(f'<p class="note">{html.escape(verdict(compared))}</p>')
    with np.load(folder / "paths.npz") as file:
        made = {name: file[name] for name in PATHS}
    # pairs whose geodesic strays farthest from the straight line show best what the kinds are
    strays = np.linalg.norm(made[OURS] - made[LINEAR], axis=2).max(axis=1)
    pair = np.argsort(-strays)[: min(12, len(strays))]
    page.picture("geodesics", draw.paths(grid, geometry, made, pair))
    store = shards.open(folder / "images")
    images = np.asarray(store["images"][:])
    images = images.reshape(len(PATHS), compared["num_pairs"], -1, *images.shape[1:])
    kept = [k for k, name in enumerate(PATHS) if PATHS[name].fit == "ours"]
    page.picture("images_along", draw.strips(images[kept], [list(PATHS)[k] for k in kept], pair[:3]))
    page.section("Table 2", "Mean and standard error over pairs; below, Levi-Civita less the other, and Wilcoxon's p.")
    page.add(table_html(compared))


def table_html(compared: dict[str, Any]) -> str:
    """Both tables as HTML."""
    keys = [key for key in QUANTITIES if key in compared["table"][OURS]]
    head = "".join(f"<th>{html.escape(QUANTITIES[key])}</th>" for key in keys)

    def rows(entries: dict[str, Any], cell: Callable[[dict[str, float]], str]) -> str:
        return "".join(
            f'<tr><td title="{html.escape(PATHS[name].meaning)}">{html.escape(name)}</td>'
            + "".join(f"<td>{cell(row[key])}</td>" for key in keys) + "</tr>" for name, row in entries.items()
        )  # fmt: skip

    means = rows(compared["table"], lambda x: f"{x['mean']:.3f} ± {x['sem']:.3f}")
    tests = rows(
        compared["tests"],
        lambda x: f"{x['mean']:+.3f} ± {x['sem']:.3f}<br>less in {x['shorter']:.0%}, p = {x['p']:.1g}",
    )
    begin = '<div class="scroll"><table><tr><th>'
    return f"{begin}path</th>{head}</tr>{means}</table></div>{begin}against</th>{head}</tr>{tests}</table></div>"


def _zoom(page: _Page, dtype: str, folder: Path) -> None:
    from .zoom import Zoom

    found = Zoom.load(folder)
    page.section(f"Zoom in {dtype}", found.reason)
    page.picture(f"zoom_{dtype}", draw.zoom(found.levels, dtype))
    pictures, spacings = [], []
    for number, level in enumerate(found.levels):
        store = shards.open(folder / f"level-{number:02d}" / "points")
        if "images" in store and level.window.dim == 2:
            images = np.asarray(store["images"][:])
            pictures.append(images.reshape(*level.window.shape, *images.shape[1:]))
            spacings.append(level.spacing)
    if pictures:
        page.picture(f"zoom_windows_{dtype}", draw.windows(pictures, spacings))


def _fit_text(found: Geometry) -> str:
    chosen = found.held_out
    text = (
        f"Coordinates are taken for natural parameters. Of both kernels and all scales the held-out likelihood chose "
        f"{chosen['kernel']} at scale {chosen['scale']:g} ({chosen['nats']:.2f} nats above the prior)"
    )
    if chosen["at_the_end"]:
        text += ", the largest at which every sample still has a neighbour: what limits it is the spacing of samples"
    return text + ". Lines: changes of class. The published kernels stand at their published scales, 10 and 1/2."


def _boundary_text(found: Geometry) -> str:
    text = "Dots: ridges of the trace of the metric, ours."
    if found.agreement is None or found.agreement["ours"]["found"] is None:
        return text
    each = found.agreement["ours"]
    real = "no ridge was found" if each["real"] is None else (
        f"{each['real']:.0%} of the ridges lie within 1.5 cells of a change of class, where {each['by_chance']:.0%} "
        "would by chance"
    )  # fmt: skip
    return (
        f"{text} Of the classes, which the fit has not seen: {real}; {each['found']:.0%} of the changes have a ridge."
    )


def _dimension(labels: np.ndarray) -> dict[str, Any]:
    """Box dimension of the boundaries between classes, or why they have none."""
    try:
        found = box_counting(boundary(labels))
    except ValueError as error:
        return {"refused": str(error)}
    return {"dimension": found.dimension, "sem": found.sem, "range": list(found.range)}


def _dimension_text(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if "refused" in found:
        return "No box dimension of the boundaries between classes can be told from these points."
    low, high = found["range"]
    return (
        f"Boundaries between classes have box dimension {found['dimension']:.2f} ± {found['sem']:.2f} over boxes of "
        f"{low} to {high} points, where smooth curves have 1; whether they are smooth on finer scales a zoom tells."
    )


def _maps_text(maps: dict[str, Any]) -> str:
    method = str(maps["lipschitz"]["method"])
    how = "exactly, by forward mode" if method == "jvp" else "by central differences"
    flips = int(np.sum(maps["noise"]["flip"]))
    return (
        f"Lipschitz constants {how}. The noise floor is the largest distance between features of one point made again "
        f"in other batches, from other last bits of z and in float64: {flips} of {maps['noise']['flip'].size} points "
        "flip by rounding alone."
    )
