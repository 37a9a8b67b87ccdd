"""A slice from a part of its images: made where features change, interpolated where they do not."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import griddata

from hessfast import _checks
from hessfast.log_partition import align
from hessfast.posterior import Grid

from .features import feature_map
from .generate import generate
from .generators import Generator
from .plan import SlicePlan

Cell = tuple[tuple[int, ...], tuple[int, ...]]  # its lowest and its highest corner, as indices of the grid


@dataclass(frozen=True, eq=False)
class AdaptiveSlice:
    """The images that were made of a slice, in the order of the rounds.

    Attributes:
        grid: all points of the slice.
        ids: of the points made, `[made]`.
        values: their features, `[made, d]`.
        rounds: how many were made after each round, ascending.
    """

    grid: Grid
    ids: np.ndarray
    values: np.ndarray
    rounds: tuple[int, ...]

    @property
    def fraction(self) -> float:
        """Of the images of the whole slice."""
        return len(self.ids) / self.grid.num_nodes

    def features(self, num: int | None = None) -> np.ndarray:
        """Features of all points of the grid, `[num_nodes, d]`, from the first `num` that were made; None: all.

        Those not made are interpolated linearly on a Delaunay triangulation, which does not overshoot beside jumps; and
        have the length of the made ones if these all have one, as features of CLIP.
        """
        num = len(self.ids) if num is None else _checks.integer("num", num, self.rounds[0], len(self.ids))
        made, values = self.ids[:num], self.values[:num].astype(np.float64)
        places = np.stack(np.unravel_index(np.arange(self.grid.num_nodes), self.grid.shape), axis=1).astype(float)
        every = np.asarray(griddata(places[made], values, places, method="linear")).reshape(-1, values.shape[1])
        lengths = np.linalg.norm(values, axis=1)
        if np.ptp(lengths) < 1e-3 * lengths.mean():
            every *= lengths.mean() / np.maximum(np.linalg.norm(every, axis=1, keepdims=True), 1e-9)
        every[made] = values
        return every

    def feature_errors(self, known: Any) -> tuple[np.ndarray, np.ndarray]:
        """Error of the features of all points against the number of images.

        Args:
            known: features of all points, `[num_nodes, d]`.

        Returns:
            The number of images after each round, and the root mean square distance of the interpolated features.
        """
        truth = _checks.float_array("known", known)
        found = [np.sqrt(np.mean(np.sum((self.features(num) - truth) ** 2, axis=1))) for num in self.rounds]
        return np.array(self.rounds), np.array(found)

    def errors(
        self, log_z: Callable[[np.ndarray], Any], theta: Any, reference: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Error of log Z against the number of images.

        Args:
            log_z: from features of all points `[num_nodes, d]` to log Z at `theta`, `[n]`.
            theta: where it is compared, `[n, dim]`; affine functions of theta do not count.
            reference: log Z that is taken for true, `[n]`; None: that of the last round.

        Returns:
            The number of images after each round, and the root mean square of the difference.
        """
        found = [np.asarray(log_z(self.features(num)), np.float64) for num in self.rounds]
        truth = found[-1] if reference is None else reference
        differences = [align(values, theta, truth) - truth for values in found]
        return np.array(self.rounds), np.sqrt(np.mean(np.square(differences), axis=1))


def adaptive(
    plan: SlicePlan,
    generator: Generator,
    out: str | Path,
    features: Any,
    *,
    fraction: float = 0.2,
    num_rounds: int = 8,
    stride: int = 8,
    progress: bool = False,
) -> AdaptiveSlice:
    """Make the images of a slice that say most about it.

    It begins with every `stride`-th point of each axis. In every round those cells are halved along all axes whose
    corners have the most different features, by squared distance times the points left out: what interpolation may get
    wrong there, summed over all points. The choice is a function of the features alone, and the rounds lie in `out` as
    stores of `generate`: a killed run goes on, and several processes choose the same. Without noise in the loop the
    images are those of the whole slice. Where a slice is smooth on the scale of its grid, an even part of it,
    interpolated, gives as good a log Z, though not as good features.

    Args:
        plan: its points must be a Grid.
        generator: by which.
        out: folder, created if need be.
        features: see `feature_map`.
        fraction: of the images of the whole slice, in (0, 1].
        num_rounds: after the first; more of them choose better, each leaves a micro-batch unfilled.
        stride: of the first round, >= 2.
        progress: show a bar for each round on stderr, if that is a terminal.

    Raises:
        ValueError: for other plans, or a fraction that the first round exceeds.
        ArithmeticError, OSError: see `generate`.

    Example:
        >>> import tempfile
        >>> from hessfast.slices import from_callable
        >>> anchors = [[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]]
        >>> plan = SlicePlan(anchors, Grid((0, 0), (1, 1), (33, 33)), normalise=False)
        >>> half = from_callable(lambda z: (z.sum(dim=3, keepdim=True) > 0.99).to(z.dtype), "half")
        >>> bright = feature_map(lambda images: images.flatten(1), "brightness")
        >>> found = adaptive(plan, half, tempfile.mkdtemp(), bright)
        >>> truth = plan.parameters.sum(axis=1) > 0.99
        >>> wrong = abs(found.features()[:, 0] - truth) > 0.5
        >>> found.fraction <= 0.2, bool(wrong.mean() < 0.002)
        (True, True)
    """
    if not isinstance(plan.points, Grid):
        raise ValueError(f"plan must have the points of a Grid, got a list of {plan.num}.")
    described = feature_map(features)

    def make(number: int, chosen: list[int]) -> np.ndarray:
        seed = (plan.seed + number) % 2**64  # other noise in every round
        store = generate(
            plan.at(plan.parameters[chosen], seed=seed), generator, Path(out) / f"round-{number:02d}", described,
            keep=["features"], progress=progress,
        )  # fmt: skip
        return np.asarray(store["features"][:])

    return _in_rounds(plan.points, make, fraction, num_rounds, stride)


def replayed(
    grid: Grid, features: Any, *, fraction: float = 0.5, num_rounds: int = 8, stride: int = 8
) -> AdaptiveSlice:
    """What `adaptive` would have made of a slice whose features are all known: how many images would have done?

    Args:
        grid: all points.
        features: of them, `[num_nodes, d]`.
        fraction, num_rounds, stride: see `adaptive`.

    Example:
        >>> grid = Grid((0, 0), (1, 1), (33, 33))
        >>> step = (grid.points.reshape(-1, 2).sum(axis=1) > 0.99)[:, None].astype(float)
        >>> numbers, errors = replayed(grid, step, fraction=0.3).feature_errors(step)
        >>> bool(numbers[-1] < 0.3 * 33**2), bool(errors[-1] < errors[0] / 10)
        (True, True)
    """
    known = _checks.float_array("features", features)
    if known.ndim != 2 or len(known) != grid.num_nodes:
        raise ValueError(f"features must have shape [{grid.num_nodes}, d] for this grid, got {known.shape}.")
    return _in_rounds(grid, lambda number, chosen: known[chosen], fraction, num_rounds, stride)


def subgrid(grid: Grid, features: Any, stride: int) -> AdaptiveSlice:
    """Every `stride`-th point of each axis and the last, to compare with; arguments as of `replayed`."""
    ids = np.array(_coarse(grid, stride)[1])
    return AdaptiveSlice(grid, ids, _checks.float_array("features", features)[ids], (len(ids),))


def _in_rounds(
    grid: Grid, make: Callable[[int, list[int]], np.ndarray], fraction: float, num_rounds: int, stride: int
) -> AdaptiveSlice:
    """`make` gives the features `[m, d]` of chosen points in a round."""
    budget = _budget(fraction, grid.num_nodes)
    num_rounds, stride = _checks.integer("num_rounds", num_rounds, 1), _checks.integer("stride", stride, 2)
    cells, chosen = _coarse(grid, stride)
    if len(chosen) > budget:
        raise ValueError(
            f"fraction must allow for the {len(chosen)} points of the first round, got {budget} of {grid.num_nodes}. "
            "Use a greater stride."
        )
    known: dict[int, np.ndarray] = {}
    rounds: list[int] = []
    for number in range(num_rounds + 1):
        if chosen:
            known |= dict(zip(chosen, make(number, chosen), strict=True))
            rounds.append(len(known))
        if number == num_rounds:
            break
        limit = rounds[0] + (budget - rounds[0]) * (number + 1) // num_rounds
        cells, chosen = _refine(cells, known, grid, limit)
    return AdaptiveSlice(grid, np.array(list(known)), np.array(list(known.values())), tuple(rounds))


def _coarse(grid: Grid, stride: int) -> tuple[list[Cell], list[int]]:
    """Cells of that many points an axis, the last ones narrower, and the ids of their corners."""
    lines = [[*range(0, n - 1, stride), n - 1] for n in grid.shape]
    pairs = [list(itertools.pairwise(line)) for line in lines]
    cells = [(tuple(a for a, _ in sides), tuple(b for _, b in sides)) for sides in itertools.product(*pairs)]
    return cells, [_id(grid, corner) for corner in itertools.product(*lines)]


def _refine(cells: list[Cell], known: dict[int, np.ndarray], grid: Grid, limit: int) -> tuple[list[Cell], list[int]]:
    """Cells after halving the most uncertain ones, and the points that this adds, up to `limit` points in all."""
    order = sorted(cells, key=lambda cell: (-_uncertainty(cell, known, grid), cell))
    added: dict[int, None] = {}
    kept: list[Cell] = []
    for cell in order:
        halves, new = _halved(cell, grid)
        new = [point for point in new if point not in known and point not in added]
        if len(halves) == 1 or len(known) + len(added) + len(new) > limit:
            kept.append(cell)
            continue
        added |= dict.fromkeys(new)
        kept += halves
    return kept, list(added)


def _uncertainty(cell: Cell, known: dict[int, np.ndarray], grid: Grid) -> float:
    """Greatest squared distance between features of corners, times the points that the cell leaves out."""
    inside = np.prod([b - a for a, b in zip(*cell, strict=True)]) - 1
    corners = np.array([known[_id(grid, corner)] for corner in itertools.product(*zip(*cell, strict=True))])
    return float(inside * ((corners[:, None] - corners) ** 2).sum(axis=2).max())


def _halved(cell: Cell, grid: Grid) -> tuple[list[Cell], list[int]]:
    """A cell cut in the middle of every axis that has points between, and all corners of its parts."""
    lines = [sorted({a, (a + b) // 2, b}) for a, b in zip(*cell, strict=True)]
    pairs = [list(itertools.pairwise(line)) for line in lines]
    parts = [(tuple(a for a, _ in sides), tuple(b for _, b in sides)) for sides in itertools.product(*pairs)]
    return parts, [_id(grid, corner) for corner in itertools.product(*lines)]


def _id(grid: Grid, place: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(place, grid.shape))


def _budget(fraction: Any, num: int) -> int:
    value = _checks.number("fraction", fraction, 0, 1)
    return int(_checks.positive("fraction", value) * num)
