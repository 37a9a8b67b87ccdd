"""What the README says of geodesics across a first-order line, maps of distance, zooms and adaptive slices.

    python -m bench.claims        # a quarter of an hour; writes bench/results/reproduce/claims.json

Geodesics are those of the exact log Z, made convex as in `hessfast reproduce`; slices are of the shipped model.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from bench.report import RESULTS, provenance
from hessfast.cli.slice import DEMO
from hessfast.geodesic import connecting_geodesic
from hessfast.posterior import Grid
from hessfast.reproduce import geodesics
from hessfast.slices import SlicePlan, SliceProject, Zoom, adaptive, digit_generator, generate, random_anchors

MAPS = (257, 513, 1025)  # nodes along each axis
SOURCES = 8
SEEDS = (0, 1)  # of anchors
SIDE, EVEN, FRACTION = DEMO["points"], 29, 0.2
NUM_SITES = 128**2  # of the TASEP, as in `hessfast reproduce`


def table(name: str):
    diagram = geodesics.DIAGRAMS[name]
    axes = [np.linspace(a, b, geodesics.NODES) for a, b in zip(*diagram.box, strict=True)]
    return geodesics.convex(axes, geodesics.exact_log_z(diagram, axes, NUM_SITES))


def crossing(temperature: float = 1.5, fields: tuple[float, ...] = (0.03, 0.1, 0.3)) -> list[dict]:
    """Lengths from a field to its opposite, and by how much those of so few points exceed those of eight times more."""
    ends = np.array([[1 / temperature, h / temperature] for h in fields])
    exact = table("ising")
    few, many = (
        connecting_geodesic(exact, ends, ends * [1, -1], num_points=factor * geodesics.NUM_POINTS) for factor in (1, 8)
    )
    assert few.converged.all() and many.converged.all()
    return [
        {"field": h, "length": float(x), "excess": float(x / y - 1)}
        for h, x, y in zip(fields, few.length, many.length, strict=True)
    ]


def maps(name: str) -> list[dict]:
    """By how much distances on grids exceed those along geodesics, from a few sources to fifty nodes."""
    exact, box = table(name), geodesics.DIAGRAMS[name].box
    sources, ends = geodesics.random_pairs(box, SOURCES, 1)[0], geodesics.random_pairs(box, 50, 0)[1]
    rows = []
    for side in MAPS:
        found = [geodesics.against_map(exact, source, ends, (side, side))[1] for source in sources]
        excess = [each["excess"] for each in found]
        lowest, highest = min(each[0] for each in excess), max(each[-1] for each in excess)
        targets = [each["targets"] for each in found]
        rows.append({"side": side, "targets": targets, "lowest": lowest, "highest": highest})
        print(name, rows[-1], flush=True)
    return rows


def demo(folder: Path) -> dict:
    """What `hessfast slice demo` finds, and a zoom in float64: Lipschitz constants; whether geodesics are shorter."""
    project = SliceProject.begin(folder, points_per_axis=DEMO["points"], num_steps=DEMO["steps"])
    project.generate()
    project.fit(None, 1500, 0)
    zooms = {dtype: levels(project.zoom(dtype, DEMO["window"])) for dtype in ("float32", "float64")}
    project.report(DEMO["pairs"], maps=0)
    curves = json.loads((folder / "report.json").read_text())["curves"]
    return {
        "zooms": zooms,
        "pairs": curves["num_pairs"],
        "p": curves["tests"]["exponential"]["feature_length"]["p"],
    }


def levels(found: Zoom) -> list[dict]:
    return [{"spacing": x.spacing, "lipschitz": x.lipschitz, "smooth": x.smooth} for x in found.levels]


def sparse(seed: int, folder: Path) -> dict:
    """Root mean square distance of features, of norm 1, from those of images that were not made."""
    grid, model = Grid((0, 0), (1, 1), (SIDE, SIDE)), digit_generator()
    plan = SlicePlan(random_anchors((1, 8, 8), seed=seed), grid, num_steps=DEMO["steps"])
    features = generate(plan, model, folder / "whole", "digits", keep=["features"])["features"][:]
    part = adaptive(plan, model, folder / "part", "digits", fraction=FRACTION)
    chosen = np.linspace(0, SIDE - 1, EVEN).round().astype(int)
    axis, cube = np.linspace(0, 1, SIDE)[chosen], features.reshape(SIDE, SIDE, -1)
    even = RegularGridInterpolator((axis, axis), cube[np.ix_(chosen, chosen)])(grid.points.reshape(-1, 2))
    even /= np.linalg.norm(even, axis=1, keepdims=True)
    nodes = (chosen[:, None] * SIDE + chosen).ravel()

    def error(guess: np.ndarray, made: np.ndarray) -> float:
        rest = np.delete(np.arange(grid.num_nodes), made)
        return float(np.sqrt(((guess - features)[rest] ** 2).sum(axis=1).mean()))

    return {
        "seed": seed,
        "adaptive": {"num": len(part.ids), "error": error(part.features(), part.ids)},
        "even": {"num": len(nodes), "error": error(even, nodes)},
    }


def main() -> None:
    result: dict = {**provenance(), "crossing": crossing(), "maps": {name: maps(name) for name in ("ising", "tasep")}}
    print(result["crossing"], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result["demo"] = demo(Path(folder) / "demo")
        result["sparse"] = [sparse(seed, Path(folder) / str(seed)) for seed in SEEDS]
    print(result["demo"], result["sparse"], sep="\n")
    (RESULTS / "reproduce" / "claims.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
