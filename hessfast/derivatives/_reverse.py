"""Reverse mode over reverse mode, as often as asked."""

import re

import torch
from torch import Tensor

from hessfast import _arrays, _checks
from hessfast._modules import uncompiled, weight_of

from ._norms import PlainNorms
from ._points import Potential


def eager(potential: Potential, x: Tensor) -> tuple[Tensor, ...]:
    x = x.detach().requires_grad_()
    value = values(potential, x)
    gradient = grad(value.sum(), x, create=True)
    return value, gradient, jacobian(gradient, x)


def values(potential: Potential, x: Tensor) -> Tensor:
    weight = weight_of(potential)
    if weight is not None and weight.is_inference():
        raise ValueError(
            "potential must have weights that autograd can record, got some of torch.inference_mode(). "
            "Pass copy.deepcopy(potential)."
        )
    # With as many points as coordinates one is repeated: sums over points would have the shape of values.
    given = torch.cat([x, x[:1]]) if len(x) == x.shape[1] > 1 else x
    value = _checks.called(uncompiled(potential), given)
    if not _arrays.is_tensor(value) or value.shape not in ((len(given),), (len(given), 1)):
        shape = tuple(value.shape) if _arrays.is_tensor(value) else type(value).__name__
        raise ValueError(
            f"potential must map points [{len(given)}, {x.shape[1]}] to [{len(given)}], got {shape}. "
            "Of a function of one point pass torch.vmap."
        )
    if not value.requires_grad:
        raise ValueError("potential must be made of operations on its points that torch can differentiate.")
    return value.reshape(len(given))[: len(x)]


def gradient_at(potential: Potential, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, the value there, and the gradient, to be differentiated further."""
    x = x.detach().requires_grad_()
    with PlainNorms():
        value = values(potential, x)
    return x, value, grad(value.sum(), x, create=True)


def where_defined(value: Tensor, *results: Tensor) -> tuple[Tensor, ...]:
    """The results, NaN at points where the value is not finite."""
    unknown = ~value.detach().isfinite()
    if not unknown.any():
        return results
    return tuple(x.masked_fill(unknown.reshape(-1, *(1,) * (x.ndim - 1)), torch.nan) for x in results)


def grad(total: Tensor, x: Tensor, create: bool = False, keep: bool = False) -> Tensor:
    """d total / d x; zero where it does not depend on x."""
    if not total.requires_grad:
        return torch.zeros_like(x)
    try:
        (gradient,) = torch.autograd.grad(total, x, create_graph=create, retain_graph=create or keep, allow_unused=True)
    except RuntimeError as error:  # so it is of InstanceNorm at the third derivative, of fused attention at the second
        if not re.search(
            "is not implemented|does not (currently )?support (.*derivatives|double backward)|donated buffers",
            str(error),
        ):
            raise
        raise ValueError(
            f"potential must be made of operations that torch can differentiate so often, got: {error} "
            "Write it with elementary ones."
        ) from error
    return torch.zeros_like(x) if gradient is None else gradient


def pull(gradient: Tensor, x: Tensor, v: Tensor, last: bool = True, create: bool = False) -> Tensor:
    return grad((gradient * v).sum(), x, create=create, keep=not last)


def jacobian(gradient: Tensor, x: Tensor) -> Tensor:
    """`[n, dim, dim]`, row by row, symmetrised."""
    dim = x.shape[1]
    rows = [pull(gradient, x, axis, last=k + 1 == dim) for k, axis in enumerate(torch.eye(dim).to(x))]
    hessian = torch.stack(rows, dim=1)
    return (hessian + hessian.mT) / 2
