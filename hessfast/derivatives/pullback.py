"""The metric that a decoder pulls back from its outputs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hessfast import _arrays, _checks
from hessfast._autograd import load_forward_mode, plain_attention

from ._points import each, flattened


def pullback_metric(decoder: Callable[[Tensor], Tensor], points: Any, *, chunk: int = 256) -> Any:
    """J^T J of a decoder `[n, dim]` to `[n, ...]`, each point for itself: `[*batch, dim, dim]`.

    Complex outputs count as pairs of real ones.

    The metric of the decoder's outputs, which geodesics of the Fisher metric are compared with. It costs dim passes in
    forward mode; the length of a curve under it is sum |f(x_k+1) - f(x_k)|, without any derivative.

    Example:
        >>> import numpy as np
        >>> pullback_metric(lambda x: torch.cat([x.cos(), x.sin()], dim=1), np.zeros((1, 2))).tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
    """
    decoder, flat, back = flattened(decoder, points)
    called = partial(_checks.called, decoder, name="decoder")

    def products(x: Tensor) -> tuple[Tensor, ...]:
        load_forward_mode()
        axes = torch.eye(x.shape[1]).to(x)
        with plain_attention():
            columns = [torch.func.jvp(called, (x,), (axis.expand_as(x),))[1] for axis in axes]
        if not _arrays.is_tensor(columns[0]) or columns[0].shape[:1] != x.shape[:1]:
            shape = tuple(columns[0].shape) if _arrays.is_tensor(columns[0]) else type(columns[0]).__name__
            raise ValueError(f"decoder must map points {list(x.shape)} to [{len(x)}, ...], got {shape}.")
        columns = [torch.view_as_real(column) if column.is_complex() else column for column in columns]
        jacobian = torch.stack([column[..., None].flatten(1) for column in columns], dim=1)  # [n, dim, outputs]
        return (jacobian @ jacobian.mT,)

    return back(*each(products, chunk, flat))
