"""Points as a potential wants them, a chunk at a time, and results as they were given."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessfast import _arrays, _checks
from hessfast._autograd import recording
from hessfast._modules import refuse_training, weight_of
from hessfast.potentials.table import Table

CHUNK = 4096  # points at a time: memory grows with this, not with the number of points
Potential = Callable[[Tensor], Tensor]


def each(function: Callable[..., tuple[Tensor, ...]], chunk: int, *flat: Tensor) -> list[Tensor]:
    """`function` of `chunk` points at a time, with graphs whatever the caller's mode, its results without them."""
    chunk = _checks.integer("chunk", chunk, 1)
    with recording():
        pieces = zip(*(x.clone().split(chunk) for x in flat), strict=True)
        parts = [[part.detach() for part in function(*piece)] for piece in pieces]
    return [torch.cat(results) for results in zip(*parts, strict=True)]


def flattened(potential: Any, points: Any) -> tuple[Potential, Tensor, Callable[[Tensor], Any]]:
    """The potential, points `[n, dim]` as it wants them, and the way back to the batch and the kind that came in."""
    potential = _checks.potential(potential)
    like = weight_of(potential)
    if isinstance(potential, Table):
        raise TypeError(
            "potential must be differentiable by torch, got Table. Use its gradient, hessian or hessian_along."
        )
    refuse_training("potential", potential)
    if _arrays.is_tensor(points):
        if not points.is_floating_point():
            raise TypeError(f"points must be floating point, got {points.dtype}.")
        if not torch.isfinite(points).all():
            raise ValueError("points must be finite, got NaN or infinity.")
        given = points.detach()
    else:
        given = torch.as_tensor(_checks.float_array("points", points))
    if given.ndim < 1 or not given.shape[-1]:
        raise ValueError(f"points must have shape [..., dim], got {tuple(given.shape)}.")
    if like is not None and like.device != given.device and _arrays.is_tensor(points):
        raise ValueError(f"points must be on the device of the potential, {like.device}, got {given.device}.")
    batch, dim = given.shape[:-1], given.shape[-1]
    flat = given.reshape(-1, dim) if like is None else given.reshape(-1, dim).to(like.device, like.dtype)

    def back(result: Tensor) -> Any:
        return _arrays.as_given(result.reshape((*batch, *result.shape[1:])).to(given.dtype), points)

    return potential, flat, back


def vectors_at(vectors: Any, points: Any, flat: Tensor, several: bool = False) -> tuple[Tensor, bool]:
    """`[n, k, dim]`, and whether they came as k a point, where `several` allows it."""
    given = torch.as_tensor(_checks.float_array("vectors", vectors))
    shape, more = tuple(np.shape(points)), given.ndim == np.ndim(points) + 1
    kept = given.shape[:-2] + given.shape[-1:] if more and several else given.shape
    if tuple(kept) != shape or 0 in given.shape[len(shape) - 1 :]:
        raise ValueError(f"vectors must have the shape of points, {shape}, got {tuple(given.shape)}.")
    return given.to(flat).reshape(len(flat), given.shape[-2] if more else 1, flat.shape[1]), more
