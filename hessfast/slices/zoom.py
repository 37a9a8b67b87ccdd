"""Zoom into a boundary: ever smaller windows around the largest jump, until what is seen there is rounding."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hessfast import _atomic, _checks, _distributed, _random
from hessfast.posterior import Grid

from . import _last_bits, _windows
from .features import feature_map
from .generate import generate
from .generators import Generator
from .plan import SlicePlan

FILE = "zoom.json"


@dataclass(frozen=True)
class Level:
    """One window of a zoom: what jumps in it, and how much of that is rounding.

    Jumps are distances between the features of neighbours along an axis, of latents where there are no features.

    Attributes:
        window: the nodes that were made.
        axis: along which the largest jump is.
        place: the point in the middle of that pair, `[dim]`.
        largest: jump of the window.
        median: of the jumps along `axis`.
        batching: greatest distance to the same point in another slot, among others, in a batch of another size and
            with the noise of another id.
        rounding: greatest distance to the same point with every element of z moved by -1, 0 or 1 machine epsilons.
        unmoved: fraction of the elements of z that do not change, in the dtype, from a point to its neighbour.
    """

    window: Grid
    axis: int
    place: tuple[float, ...]
    largest: float
    median: float
    batching: float
    rounding: float
    unmoved: float

    @property
    def spacing(self) -> float:
        """Distance between neighbours along `axis`, in the slice's coordinates."""
        return float(_windows.spacing(self.window)[self.axis])

    @property
    def lipschitz(self) -> float:
        """Largest jump over spacing."""
        return self.largest / self.spacing

    @property
    def floor(self) -> float:
        """The greater of `batching` and `rounding`."""
        return max(self.batching, self.rounding)

    @property
    def resolved(self) -> bool:
        """Whether the largest jump is of the slice: more than twice the floor."""
        return self.unmoved < 1 and self.largest > 2 * self.floor

    @property
    def smooth(self) -> bool:
        """Whether no boundary is left: the largest jump is at most twice the median along its axis."""
        return self.largest <= 2 * self.median


@dataclass(frozen=True)
class Zoom:
    """A series of levels, the last of which says why it ends there.

    Attributes:
        levels: from the widest window to the narrowest.
        reason: why there is no further level, in a sentence.
        dtype: of the plan.
    """

    levels: tuple[Level, ...]
    reason: str
    dtype: str

    @property
    def finest(self) -> float | None:
        """Spacing of the last resolved level; None if there is none."""
        return min((level.spacing for level in self.levels if level.resolved), default=None)

    @classmethod
    def load(cls, folder: str | Path) -> "Zoom":
        """The zoom of a folder that `zoom` filled, as far as it went.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if its file is damaged.
        """
        path = Path(folder) / FILE
        try:
            fields = json.loads(path.read_bytes())
            levels = [{**level, "window": Grid(**level["window"])} for level in fields["levels"]]
            return cls(
                tuple(Level(**{**level, "place": tuple(level["place"])}) for level in levels),
                fields["reason"],
                fields["dtype"],
            )
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder} holds no zoom: it has no {FILE}.") from None
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; delete it and zoom again.") from None

    def _save(self, folder: Path) -> None:
        _atomic.write(folder / FILE, [_atomic.json_bytes(dataclasses.asdict(self))])


def zoom(
    plan: SlicePlan,
    generator: Generator,
    out: str | Path,
    features: Any = None,
    *,
    points_per_axis: int = 9,
    max_levels: int = 64,
    keep: Sequence[str] = (),
    progress: bool = False,
) -> Zoom:
    """Narrow a window around the largest jump of features, to the floor of the dtype.

    Every level is a grid of `points_per_axis`, made three times: as it is; in another order and batch size; and with
    the last bits of z changed at random. The next window is two spacings wide, around the middle of the pair of
    neighbours whose features differ most but inside of the first window, (points_per_axis - 1) / 2 times smaller. The
    series ends where that jump is not above twice the floor, the greatest distance between repetitions: from there on
    differences are rounding, or the noise of the loop. A network of finitely many smooth steps is Lipschitz, so its
    jumps shrink with the spacing in the end; `Level.smooth` says where that begins, and a Lipschitz constant that grows
    again after it is the rounding of the dtype. Cost: 3 points_per_axis^dim images a level, in micro-batches: one that
    divides a level, such as 27 for 81, wastes nothing. 8 levels of 17 points or 12 of 9 lead to the floor of float32,
    about twice as many to that of float64.

    Levels lie in `out` as stores of `generate`, `level-00/points`, `batching` and `rounding`: a killed zoom goes on
    where it was, and several processes share its work. `zoom.json` holds what is known so far, see `Zoom.load`.

    Args:
        plan: settings; the box of its points is the first window. `steepest` gives the window around the largest jump
            of a slice that is there already. For another dtype: ``plan.at(plan.points, dtype="float64")``.
        generator: by which.
        out: folder, created if need be.
        features: see `feature_map`; None: compare latents.
        points_per_axis: of every window, >= 5.
        max_levels: at most so many.
        keep: arrays to keep of `level-*/points` beside what is compared, such as "images".
        progress: show a bar for each level on stderr, if that is a terminal.

    Raises:
        ValueError: for points without extent, or a folder with another zoom.
        ArithmeticError, OSError: see `generate`.

    Example:
        >>> import tempfile
        >>> from hessfast.slices import from_callable
        >>> plan = SlicePlan([[[[0.0, 1.0]]], [[[1.0, 1.0]]]], Grid((0.0,), (1.0,), (2,)), normalise=False)
        >>> step = from_callable(lambda z: (z > 1 / 3).to(z.dtype), "step")
        >>> found = zoom(plan, step, tempfile.mkdtemp())  # a true step: as sharp as float32 can show, 2^-25 at 1/3
        >>> bool(abs(found.levels[-1].place[0] - 1 / 3) < 2**-23), any(level.smooth for level in found.levels)
        (True, False)
    """
    points_per_axis = _checks.integer("points_per_axis", points_per_axis, 5)
    max_levels = _checks.integer("max_levels", max_levels, 1)
    folder, features = Path(out), None if features is None else feature_map(features)
    first = window = _windows.box(plan, points_per_axis)
    levels, end = [], f"max_levels allows no more than {max_levels} levels."
    for number in range(max_levels):
        if number > 0:
            window = _windows.around(np.array(levels[-1].place), _windows.spacing(window), window.shape, first)
            if any((np.diff(axis) <= 0).any() for axis in window.axes):
                end = f"Below spacing {levels[-1].spacing:.1e} float64 does not tell the coordinates of points apart."
                break
        levels.append(
            _level(plan.at(window), generator, folder / f"level-{number:02d}", features, tuple(keep), progress)
        )
        if not levels[-1].resolved:
            end = _unresolved(levels[-1], plan)
            break
        if _distributed.workers()[0] == 0:
            Zoom(tuple(levels), "The zoom has not come to its end.", plan.dtype)._save(folder)
    found = Zoom(tuple(levels), f"{end} {_shape(levels, plan.dtype)}", plan.dtype)
    if _distributed.workers()[0] == 0:
        found._save(folder)
    return found


def _level(
    plan: SlicePlan, generator: Generator, folder: Path, features: Any, keep: tuple[str, ...], progress: bool
) -> Level:
    name = "latents" if features is None else "features"
    order = np.argsort(_random.derive(plan.seed, *_random.ORDERS, 0, np.arange(plan.num)))

    def made(part: str, changed: SlicePlan, by: Generator, kept: tuple[str, ...] = ()) -> np.ndarray:
        store = generate(changed, by, folder / part, features, keep=(name, *kept), progress=progress)
        return np.asarray(store[name][:]).astype(np.float64).reshape(plan.num, -1)

    first = made("points", plan, generator, keep)
    batching = np.empty_like(first)
    batching[order] = made(
        "batching", plan.at(plan.parameters[order], micro_batch=_last_bits.other_size(plan)), generator
    )
    rounding = made("rounding", plan, _last_bits.Perturbed(generator))
    axis, place, jumps = _windows.largest_jump(plan.points, first)
    return Level(
        window=plan.points,
        axis=axis,
        place=tuple(place.tolist()),
        largest=float(jumps.max()),
        median=float(np.median(jumps)),
        batching=float(np.linalg.norm(batching - first, axis=1).max()),
        rounding=float(np.linalg.norm(rounding - first, axis=1).max()),
        unmoved=_last_bits.unmoved(plan),
    )


def _unresolved(last: Level, plan: SlicePlan) -> str:
    """Why a level is not resolved."""
    here = f"At spacing {last.spacing:.1e}"
    if last.unmoved == 1:
        return f"{here} z is the same for neighbours in {plan.dtype}: differences there are rounding."
    if last.largest == 0:
        return f"{here} all points are alike: nothing jumps."
    below = f"{here} the largest jump, {last.largest:.1e}, is not above twice the noise floor, {last.floor:.1e}"
    if last.rounding < last.batching:
        noise = f"the noise of the loop, of eta = {plan.eta:g}: each point has its own" if plan.eta else (
            "what the same point differs by in another batch and with other noise of the scheduler, if it draws some"
        )  # fmt: skip
        return f"{below}, which is {noise}."
    return (
        f"{below}, and {last.unmoved:.0%} of the elements of z are the same for neighbours in {plan.dtype}: "
        "differences there are rounding."
    )


def _shape(levels: list[Level], dtype: str) -> str:
    """What the resolved levels show in the end: a flank, or a boundary of no width."""
    resolved = [level for level in levels if level.resolved]
    if not resolved:
        return "Nothing is resolved."
    sharp = [level.spacing for level in resolved if not level.smooth]
    smooth = [level for level in resolved if not sharp or level.spacing < min(sharp)]
    if not smooth:
        return f"Down to {resolved[-1].spacing:.1e} the boundary has no width that {dtype} could show."
    return (
        f"From spacing {smooth[0].spacing:.1e} down to {smooth[-1].spacing:.1e} the slice is smooth there, of "
        f"Lipschitz constant {smooth[len(smooth) // 2].lipschitz:.3g}: no boundary is left to zoom into."
    )
