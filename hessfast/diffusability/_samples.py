"""One check of samples, `[n, ...]`: what every public function asks of the data that it is given."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hessfast import _arrays, _checks

_NUMBERS_AT_ONCE = 2**22  # some megabytes
_ROWS = 1024  # whose neighbours are looked for at once
_SPARE = 5  # beyond the neighbours asked for: the row itself, and those that show that no other is nearer
_SHAPES = {2: "[n, dim]", 4: "[n, channels, side, side]"}


def samples(
    name: str, value: Any, *, least: int = 2, ndim: Sequence[int] = (), dtype: torch.dtype | None = None
) -> Tensor:
    """Floating point and finite, in `dtype` if one is given; a tensor stays where it is, without its graph.

    Args:
        least: samples.
        ndim: 2 or 4, if not all numbers of axes will do.
    """
    x = _floating(name, value)
    if x.ndim < 2 or (ndim and x.ndim not in ndim) or len(x) < least or not math.prod(x.shape[1:]):
        shapes = " or ".join(_SHAPES[each] for each in ndim) or "[n, ...]"
        raise ValueError(f"{name} must have shape {shapes} with n >= {least}, got {tuple(x.shape)}.")
    return _finite(name, x, dtype)


def images(name: str, value: Any, *, least: int = 2, least_side: int = 1, dtype: torch.dtype | None = None) -> Tensor:
    """`samples` that are square images of so many pixels a side."""
    x = _floating(name, value)
    if x.ndim != 4 or len(x) < least or not x.shape[1] or x.shape[2] != x.shape[3] or x.shape[2] < least_side:
        raise ValueError(
            f"{name} must have shape {_SHAPES[4]} with n >= {least} and side >= {least_side}, got {tuple(x.shape)}."
        )
    return _finite(name, x, dtype)


def batch(name: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    """A floating point tensor `[n, *shape]`, with its graph, as an encoder maps it; any number of rows."""
    if not _arrays.is_tensor(value) or value.shape[1:] != shape or not value.is_floating_point():
        got = f"{value.dtype} {tuple(value.shape)}" if _arrays.is_tensor(value) else type(value).__name__
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} must be a floating point tensor of shape [n, {wanted}], got {got}.")
    return value


def chunks(x: Tensor) -> Sequence[Tensor]:
    """Rows of x, some megabytes at a time."""
    return x.split(max(_NUMBERS_AT_ONCE // math.prod(x.shape[1:]), 1))


def distances(x: Tensor, rows: Tensor) -> Tensor:
    """Of some rows of x `[n, D]` to all, `[len(rows), n]`; infinite to themselves."""
    # By a matrix product, far from 0, rounding would be all that is left.
    apart = torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")
    apart[torch.arange(len(rows)), rows] = math.inf
    return apart


def nearest(x: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances in float64 of some rows of x `[n, D]` to the k < n nearest others, ascending, and their numbers.

    Products of matrices choose a few more than k, whose distances are then those of differences. Where the products'
    rounding could hide one that is nearer, as among copies, all distances are.
    """
    n, wide = x.shape
    most, origin, found = min(k + _SPARE, n), x.mean(dim=0).double(), []
    for some in rows.to(x.device).split(_at_once(_ROWS, wide)):
        place = x[some].double()
        least, few = _fewest(place - origin, x, origin, most)
        size = (place - origin).square().sum(dim=1)
        apart = torch.stack([(x[near] - place).square().sum(dim=1).sqrt() for near in few.unbind(dim=1)], dim=1)
        distance, order = apart.where(few != some[:, None], math.inf).topk(k, largest=False)
        number = few.gather(1, order)
        # What is nearer than the k-th has at most the size |a| + distance.
        rounding = (wide + 8) * torch.finfo(torch.float64).eps * (2 * size.sqrt() + distance[:, -1]) ** 2
        hidden = ~(distance[:, -1] ** 2 + rounding < least + size)
        if hidden.any():
            whole = distances(x, some[hidden]).topk(k, largest=False)
            distance[hidden], number[hidden] = whole.values.double(), whole.indices
        found.append((distance, number))
    distance, number = zip(*found, strict=True)
    return torch.cat(distance), torch.cat(number)


def _at_once(most: int, numbers: int) -> int:
    """Rows of so many numbers that are not too large together."""
    return max(min(most, 4 * _NUMBERS_AT_ONCE // numbers), 1)


def _fewest(a: Tensor, x: Tensor, origin: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Numbers of the x of least |a - b|^2 - |a|^2 for b = x - origin, `[len(a), most]`, and the greatest of these."""
    values, numbers = [], []
    for part in torch.arange(len(x), device=x.device).split(_at_once(4 * _ROWS, x.shape[1])):
        b = x[part].double() - origin
        near = torch.addmm(b.square().sum(dim=1), a, b.mT, alpha=-2).topk(min(most, len(b)), largest=False)
        values.append(near.values)
        numbers.append(part[near.indices])
    least, chosen = torch.cat(values, dim=1).topk(most, largest=False)
    return least[:, -1], torch.cat(numbers, dim=1).gather(1, chosen)


def _floating(name: str, value: Any) -> Tensor:
    if getattr(getattr(value, "dtype", None), "kind", None) in ("b", "i", "u"):  # pixels from 0 to 255, like as not
        raise _not_floating(name, value.dtype)
    if isinstance(value, list | tuple) and any(_arrays.is_tensor(each) and each.ndim > 1 for each in value):
        raise TypeError(
            f"{name} must be one tensor, got a {type(value).__name__} of {len(value)}. Pass its first, x[0]."
        )
    if hasattr(value, "dataset"):
        raise TypeError(f"{name} must be an array or a tensor, got a {type(value).__name__}. Use FisherCurveMetric.")
    x: Any = value if _arrays.is_tensor(value) else torch.as_tensor(_checks.float_array(name, value))
    if not x.is_floating_point():
        raise _not_floating(name, x.dtype)
    return x.detach()


def _not_floating(name: str, dtype: Any) -> TypeError:
    return TypeError(f"{name} must be floating point, got {dtype}. Map pixels to [-1, 1] by x / 127.5 - 1.")


def _finite(name: str, x: Tensor, dtype: torch.dtype | None) -> Tensor:
    x = x if dtype is None else x.to(dtype)
    if not all(bool(torch.isfinite(part).all()) for part in chunks(x)):
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return x
