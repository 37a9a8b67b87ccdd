"""Box counting: the dimension of a boundary, with the range of box sizes that it is fitted over and its error."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hessfast import _arrays, _checks

FULL = 0.9  # of all boxes: what is counted is then the picture
ALONE = 0.9  # of the boxes of half the size: what is counted is then the marks
OFFSETS = 8  # of the tiling, an axis


@dataclass(frozen=True, eq=False)
class BoxDimension:
    """A fit of log count = constant - dimension log size.

    Attributes:
        dimension: the slope.
        sem: its standard error by the slopes between consecutive sizes; or, if that is more, half of what the slope
            changes by over the range in a quadratic fit, which no number of sizes averages out.
        sizes: sides of the boxes, in pixels, ascending.
        counts: boxes of each size with a mark in them.
        fitted: which sizes the line was fitted to, bool.
    """

    dimension: float
    sem: float
    sizes: np.ndarray
    counts: np.ndarray
    fitted: np.ndarray

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest size of the fit."""
        used = self.sizes[self.fitted]
        return int(used[0]), int(used[-1])

    @property
    def slopes(self) -> np.ndarray:
        """Dimension from each size to the next, `[num - 1]`: where they are not alike there is no single one."""
        return -np.diff(np.log(self.counts)) / np.diff(np.log(self.sizes))


def boundary(values: Any, threshold: float | None = None) -> np.ndarray:
    """Pixels at which a boundary goes through the block of the pixel and those before it along the axes.

    So a slanted boundary is connected by sides, not corners, whichever way it slants, and a straight one is one wide.

    Args:
        values: a map of classes, integers or bool of any shape, or with a `threshold` features `[*shape, d]`.
        threshold: pixels differ if the distance of their features is above it.

    Returns:
        bool, of the map's shape.

    Example:
        >>> boundary([[0, 0, 1], [0, 0, 1]]).astype(int).tolist()
        [[0, 0, 1], [0, 0, 1]]
    """
    array = _arrays.to_numpy(values)
    if threshold is None and array.dtype.kind not in "biu":
        raise TypeError(f"values must be integers or bool without a threshold, got {array.dtype}. Give a threshold.")
    if threshold is not None:
        array, threshold = _checks.float_array("values", array), _checks.number("threshold", threshold)
    shape = array.shape if threshold is None else array.shape[:-1]
    if not shape or 0 in shape:
        raise ValueError(f"values must be a map of one pixel or more, got shape {array.shape}.")
    marks = np.zeros(shape, bool)
    for axis in range(len(shape)):
        one = np.take(array, range(shape[axis] - 1), axis)
        other = np.take(array, range(1, shape[axis]), axis)
        differs = one != other if threshold is None else np.linalg.norm(other - one, axis=-1) > threshold
        found = np.zeros(shape, bool)
        found[_part(len(shape), axis, slice(1, None))] = differs
        for beside in set(range(len(shape))) - {axis}:  # the pair may be any of the block
            found[_part(len(shape), beside, slice(1, None))] |= found[_part(len(shape), beside, slice(-1))]
        marks |= found
    return marks


def _part(dim: int, axis: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if k == axis else slice(None) for k in range(dim))


def box_counting(marks: Any, sizes: Any = None) -> BoxDimension:
    """The box-counting dimension of marked pixels: how the number of boxes that hold some falls with their size.

    Boxes tile the picture, cut at its edges; of eight offsets of the tiling along each axis that of the fewest boxes
    counts, so that a line is not counted twice where it runs between two rows of boxes.

    Not fitted are sizes at which counts saturate: where 90 % of all boxes hold a mark (unless 90 % of the pixels do),
    and where twice the size would still take more than 90 % as many boxes, because marks lie singly. A dimension is
    worth its error and its range: fewer than three sizes are refused, and a sem that is not small says that no power
    law was seen. What a small picture biases all sizes alike is not in it.

    Args:
        marks: bool `[rows, columns]`, or in any other number of dimensions; see `boundary`.
        sizes: sides of boxes in pixels; None: powers of two up to a quarter of the shortest side.

    Raises:
        ValueError: without marks, or with fewer than three sizes to fit.

    Example:
        >>> square = box_counting(np.ones((64, 64), bool))
        >>> round(square.dimension, 9), square.range
        (2.0, (1, 16))
    """
    array = _arrays.to_numpy(marks)
    if array.dtype != bool:
        raise TypeError(f"marks must be bool, got {array.dtype}. Compare with a threshold, or use boundary.")
    if not array.ndim or not array.any():
        raise ValueError(f"marks must hold a marked pixel, got none in shape {array.shape}.")
    side = min(array.shape)
    tried = 2 ** np.arange(max(1, side // 4).bit_length()) if sizes is None else _checks.whole("sizes", sizes)
    if not tried.size:
        raise ValueError("sizes must be three or more, got none.")
    tried = np.unique(_checks.integer_array("sizes", tried, tried.shape, 1))
    if tried[-1] > side:
        raise ValueError(f"sizes must be at most the shortest side, {side}, got {tried[-1]}.")
    counts, boxes = np.array([_count(array, int(size)) for size in tried]).T
    fitted = (counts < FULL * boxes) | (array.mean() >= FULL)
    fitted[:-1] &= counts[1:] <= ALONE ** np.log2(tried[1:] / tried[:-1]) * counts[:-1]
    if fitted.sum() < 3:
        raise ValueError(
            f"marks must scale over three box sizes or more, got {fitted.sum()} of {len(tried)} that are not "
            "saturated. Use a larger map."
        )
    x, y = np.log(tried[fitted]), np.log(counts[fitted])
    x = x - x.mean()
    slope = x @ y / (x @ x)
    local = np.diff(y) / np.diff(x)
    scatter = local.std(ddof=1) / np.sqrt(len(local))
    drift = abs(np.polyfit(x, y, 2)[0]) * (x[-1] - x[0])
    return BoxDimension(float(-slope), float(max(scatter, drift)), tried, counts, fitted)


def _count(array: np.ndarray, size: int, axis: int = 0) -> tuple[int, int]:
    """The fewest boxes of that side with a mark in them over offsets of the tiling, and all boxes of that tiling."""
    if axis == array.ndim:
        return int(array.sum()), array.size
    offsets = sorted({size * k // OFFSETS for k in range(OFFSETS)})
    starts = [[0, *range(offset, array.shape[axis], size)][offset == 0 :] for offset in offsets]
    return min(_count(np.logical_or.reduceat(array, start, axis), size, axis + 1) for start in starts)
