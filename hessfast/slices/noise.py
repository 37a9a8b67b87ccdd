"""The noise floor of a slice: how much of an image is rounding, told by the same points made again in other ways."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from hessfast import _checks, _random
from hessfast.posterior import Grid

from ._last_bits import Perturbed, other_size
from ._windows import spacing
from .features import feature_map
from .generate import Compute
from .generators import Generator
from .plan import SlicePlan


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """Distances between features, or latents where there are none, of points and of their repetitions `[num]`.

    Attributes:
        batching: greatest distance to the same point in another slot, among others, in a batch of another size.
        rounding: distance to the same point with every element of z moved by -1, 0 or 1 machine epsilons.
        precision: distance to the same point in `reference_dtype`; None if that is the plan's.
        jump: greatest distance to the nearest points, two an axis; near by steps of the grid, if it is one.
        threshold: a jump above it is a boundary of the slice, a distance between repetitions above it a flip.
        dtype: of the plan.
        reference_dtype: that it was compared with.
        num_repeats: how many repetitions `batching` is the greatest of.
    """

    batching: np.ndarray
    rounding: np.ndarray
    precision: np.ndarray | None
    jump: np.ndarray
    threshold: float
    dtype: str
    reference_dtype: str
    num_repeats: int

    @property
    def floor(self) -> np.ndarray:
        """The greatest of `batching`, `rounding` and `precision`, `[num]`."""
        known = [self.batching, self.rounding, *([] if self.precision is None else [self.precision])]
        return np.max(known, axis=0)

    @property
    def boundary(self) -> np.ndarray:
        """Points beside a jump, `[num]`."""
        return self.jump > self.threshold

    @property
    def flip(self) -> np.ndarray:
        """Points where rounding alone decides on which side of a jump they are, `[num]`."""
        return self.floor > self.threshold

    @property
    def resolved(self) -> np.ndarray:
        """Points whose jump is more than twice the floor: differences there are of the slice, `[num]`."""
        return self.jump > 2 * self.floor


def noise_floor(
    plan: SlicePlan,
    generator: Generator,
    features: Any = None,
    *,
    reference_dtype: str = "float64",
    num_repeats: int = 2,
    threshold: float | None = None,
) -> NoiseFloor:
    """Make every point of a plan again and again, and compare.

    Once as `generate` does; `num_repeats` times in a random order, every second time in batches of another size; once
    from a z of other last bits; and once in `reference_dtype`. But for rounding all of them are the same.

    Args:
        plan: points and settings.
        generator: by which.
        features: see `feature_map`; None: compare latents.
        reference_dtype: usually "float64".
        num_repeats: at least 1.
        threshold: None: five times the median jump.

    Raises:
        ValueError: for a plan of fewer points than two an axis and one more.

    Example:
        Twice z has no noise but that of float32.

        >>> from .generators import from_callable
        >>> plan = SlicePlan([[[[0.0, 1.0]]], [[[1.0, 0.0]]]], Grid((0.0,), (1.0,), (8,)), normalise=False)
        >>> found = noise_floor(plan, from_callable(lambda z: 2 * z, "doubled"))
        >>> bool((found.batching == 0).all()), bool(found.floor.max() < 1e-6), bool(found.resolved.all())
        (True, True, True)
    """
    num_repeats = _checks.integer("num_repeats", num_repeats, 1)
    if plan.num < 2 * plan.dim + 1:
        raise ValueError(f"plan must have at least {2 * plan.dim + 1} points, got {plan.num}.")
    described = None if features is None else feature_map(features)
    name = "latents" if described is None else "features"

    def make(changed: SlicePlan, order: np.ndarray, by: Generator = generator) -> np.ndarray:
        found = Compute(changed, by, described, [name])(order)[name].astype(np.float64).reshape(len(order), -1)
        made = np.empty_like(found)
        made[order] = found
        return made

    every = np.arange(plan.num)
    first = make(plan, every)
    batching = np.zeros(plan.num)
    for repeat in range(num_repeats):
        mixed = np.argsort(_random.derive(plan.seed, *_random.ORDERS, repeat, every))
        size = plan.micro_batch if repeat % 2 == 0 else other_size(plan)
        again = make(plan.at(plan.points, micro_batch=size), mixed)
        batching = np.maximum(batching, np.linalg.norm(again - first, axis=1))
    rounding = np.linalg.norm(make(plan, every, Perturbed(generator)) - first, axis=1)
    precision = None
    if reference_dtype != plan.dtype:
        precise = make(plan.at(plan.points, dtype=reference_dtype), every)
        precision = np.linalg.norm(precise - first, axis=1)
    places = plan.parameters / (spacing(plan.points) if isinstance(plan.points, Grid) else 1)
    near: Any = KDTree(places).query(places, k=2 * plan.dim + 1)[1]
    jump = np.linalg.norm(first[near[:, 1:]] - first[:, None], axis=2).max(axis=1)
    limit = 5 * float(np.median(jump)) if threshold is None else _checks.number("threshold", threshold)
    return NoiseFloor(batching, rounding, precision, jump, limit, plan.dtype, reference_dtype, num_repeats)
