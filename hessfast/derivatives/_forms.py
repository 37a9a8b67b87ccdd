"""Derivatives of a potential at many points: value, gradient, Hessian, and what geodesics need of the third.

A potential maps points `[n, dim]` to `[n]` or `[n, 1]`, each point for itself: a module or any other callable that
torch can differentiate. Three forms of one answer:

    fused      multilayer perceptrons in float32, by the kernel `mlp_hessian`: 2 + dim forward passes a Hessian;
               on a GPU by default up to dim = 8
    eager      anything: reverse mode over reverse mode, 2 + 2 dim forward passes
    compiled   what torch.compile takes, by torch.func.hessian inside it (on a CPU this needs a C++ compiler)

By default the first that can.
"""

import copy
import gc
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hessfast import _arrays, _checks, _perceptrons
from hessfast._dispatch import kernel
from hessfast._recording import recording

FORMS = ("fused", "eager", "compiled")
CHUNK = 4096  # points at a time: memory grows with this, not with the number of points
_MOST_ON_GPU = 8  # coordinates: Triton compiles 36 pairs of tangents in seconds, 136 in half a minute
_VERIFIED, _AGREES = 256, 1e-3  # points; relative to the largest entry, far beyond what float32 loses

Potential = Callable[[Tensor], Tensor]


class Derivatives(NamedTuple):
    """Of a potential at points `[*batch, dim]`: `[*batch]`, `[*batch, dim]` and `[*batch, dim, dim]`.

    All three are NaN where the value is not finite: beyond its domain a potential has no derivatives, whatever autograd
    makes of it. It gives the logarithm of a negative number a finite slope.
    """

    value: Any
    gradient: Any
    hessian: Any


def derivatives(
    potential: Potential, points: Any, *, form: str | None = None, chunk: int = CHUNK, verify: bool = False
) -> Derivatives:
    """Value, gradient and Hessian.

    Args:
        points: `[*batch, dim]`, tensor or array; tensors give tensors of their dtype, arrays give float64, computed in
            the dtype of the potential's weights.
        form: "fused", "eager" or "compiled"; None: fused for perceptrons it knows, else eager.
        chunk: points at a time; the fused form has blocks of its own.
        verify: compare some of the points with float64, eager.

    Raises:
        ValueError: for points that are not finite or have no dimension, or a form that the potential does not have.
        ArithmeticError: if `verify` finds a relative deviation of more than a thousandth.

    Example:
        >>> x = torch.tensor([[0.0, 1.0]])
        >>> at = derivatives(lambda x: (x**2).sum(dim=-1) + x[:, 0] * x[:, 1], x)
        >>> at.value.tolist(), at.gradient.tolist(), at.hessian.tolist()
        ([1.0], [[1.0, 2.0]], [[[2.0, 1.0], [1.0, 2.0]]])
    """
    flat, back = _flat(potential, points)
    function, chunk = _form(potential, flat, form), _checks.integer("chunk", chunk, 1)
    results = _each(function, max(len(flat), 1) if isinstance(function, _Fused) else chunk, flat)
    if verify:
        _verify(potential, flat, results)
    return Derivatives(*map(back, _where_defined(results[0], *results)))


def fisher_metric(potential: Potential, points: Any, **options: Any) -> Any:
    """The Hessian alone, `[*batch, dim, dim]`; options as of `derivatives`.

    Of a log partition function at natural parameters it is the Fisher metric. In place of the function `metric_tensor`
    of the released scripts, which takes minus the Hessian of its network: give it ``lambda x: -network(x.float())``.

    Example:
        >>> fisher_metric(lambda x: torch.log1p(x.exp()).sum(dim=-1), np.zeros((1, 2))).tolist()  # Bernoulli, p = 1/2
        [[[0.25, 0.0], [0.0, 0.25]]]
    """
    return derivatives(potential, points, **options).hessian


def gradient(potential: Potential, points: Any, *, chunk: int = CHUNK) -> Any:
    """The gradient alone, `[*batch, dim]`: of a log partition function the means eta of its statistics.

    Example:
        >>> gradient(lambda x: (x**3).sum(dim=-1), np.array([[1.0, 2.0]])).tolist()
        [[3.0, 12.0]]
    """
    flat, back = _flat(potential, points)

    def slope(x: Tensor) -> tuple[Tensor]:
        x = x.detach().requires_grad_()
        value = _values(potential, x)
        return _where_defined(value, _grad(value.sum(), x))

    return back(*_each(slope, chunk, flat))


def hvp(potential: Potential, points: Any, vectors: Any, *, chunk: int = CHUNK) -> Any:
    """Hessians times vectors, without the Hessians.

    Args:
        points: `[*batch, dim]`.
        vectors: `[*batch, dim]`, or `[*batch, k, dim]` for k vectors at each point.

    Returns:
        The shape of the vectors.

    Example:
        >>> hvp(lambda x: (x**4).sum(dim=-1), np.ones((1, 2)), np.array([[1.0, 2.0]])).tolist()
        [[12.0, 24.0]]
    """
    flat, back = _flat(potential, points)
    along, several = _vectors(vectors, points, flat, several=True)

    def products(x: Tensor, v: Tensor) -> tuple[Tensor]:
        x, value, gradient = _gradient(potential, x)
        rows = [_pull(gradient, x, v[:, k], last=k + 1 == v.shape[1]) for k in range(v.shape[1])]
        return _where_defined(value, torch.stack(rows, dim=1))

    (product,) = _each(products, chunk, flat, along)
    return back(product if several else product[:, 0])


def directional_third(potential: Potential, points: Any, vectors: Any, *, chunk: int = CHUNK) -> Any:
    """grad_x (v^T H(x) v) at points `[*batch, dim]` for vectors `[*batch, dim]`: what bends a geodesic.

    Example:
        >>> directional_third(lambda x: (x**3).sum(dim=-1), np.ones((1, 2)), np.array([[1.0, 2.0]])).tolist()
        [[6.0, 24.0]]
    """
    flat, back = _flat(potential, points)

    def bend(x: Tensor, v: Tensor) -> tuple[Tensor]:
        x, value, gradient = _gradient(potential, x)
        return _where_defined(value, _pull(_pull(gradient, x, v[:, 0], create=True), x, v[:, 0]))

    return back(*_each(bend, chunk, flat, _vectors(vectors, points, flat)[0]))


def hessian_along(potential: Potential, points: Any, vectors: Any, *, chunk: int = CHUNK) -> Any:
    """d/ds H(x + s v) at s = 0, `[*batch, dim, dim]`, for points and vectors `[*batch, dim]`.

    Example:
        >>> hessian_along(lambda x: (x**3).sum(dim=-1), np.ones((1, 2)), np.array([[1.0, 2.0]])).tolist()
        [[[6.0, 0.0], [0.0, 12.0]]]
    """
    flat, back = _flat(potential, points)

    def change(x: Tensor, v: Tensor) -> tuple[Tensor]:
        x, value, gradient = _gradient(potential, x)
        return _where_defined(value, _jacobian(_pull(gradient, x, v[:, 0], create=True), x))

    return back(*_each(change, chunk, flat, _vectors(vectors, points, flat)[0]))


def pullback_metric(decoder: Callable[[Tensor], Tensor], points: Any, *, chunk: int = 256) -> Any:
    """J^T J of a decoder `[n, dim]` to `[n, ...]`, each point for itself: `[*batch, dim, dim]`.

    The metric of the decoder's outputs, which geodesics of the Fisher metric are compared with. It costs dim passes in
    forward mode; the length of a curve under it is sum |f(x_k+1) - f(x_k)|, without any derivative.

    Example:
        >>> pullback_metric(lambda x: torch.cat([x.cos(), x.sin()], dim=1), np.zeros((1, 2))).tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
    """
    flat, back = _flat(decoder, points)

    def products(x: Tensor) -> tuple[Tensor]:
        axes = torch.eye(x.shape[1]).to(x)
        columns = [torch.func.jvp(decoder, (x,), (axis.expand_as(x),))[1].flatten(1) for axis in axes]
        jacobian = torch.stack(columns, dim=1)  # [n, dim, outputs]
        return (jacobian @ jacobian.mT,)

    return back(*_each(products, chunk, flat))


def _each(function: Callable[..., tuple[Tensor, ...]], chunk: int, *flat: Tensor) -> list[Tensor]:
    """`function` of `chunk` points at a time, with graphs whatever the caller's mode, its results without them."""
    chunk = _checks.integer("chunk", chunk, 1)
    with recording(flat[0].device.type):
        pieces = zip(*(x.clone().split(chunk) for x in flat), strict=True)
        parts = [[part.detach() for part in function(*piece)] for piece in pieces]
    return [torch.cat(results) for results in zip(*parts, strict=True)]


def _flat(potential: Potential, points: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """Points `[n, dim]` as the potential wants them, and the way back to the batch and the kind that came in."""
    like = _like(potential)
    _refuse_training(potential)
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

    return flat, back


def _refuse_training(potential: Potential) -> None:
    """Layers that mix the points of a batch, or draw numbers, in training."""
    if isinstance(potential, nn.Module):
        for part in potential.modules():
            mixing = isinstance(part, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd)
            if part.training and mixing:
                raise ValueError(f"potential must be in evaluation mode, got {type(part).__name__}; call its .eval().")


def _like(potential: Potential) -> Tensor | None:
    """A weight of the potential, which tells its dtype and device."""
    if not isinstance(potential, nn.Module):
        return None
    return next((x for x in (*potential.parameters(), *potential.buffers()) if x.is_floating_point()), None)


def _vectors(vectors: Any, points: Any, flat: Tensor, several: bool = False) -> tuple[Tensor, bool]:
    """`[n, k, dim]`, and whether they came as k a point, where `several` allows it."""
    given = torch.as_tensor(_checks.float_array("vectors", vectors))
    shape, more = tuple(np.shape(points)), given.ndim == np.ndim(points) + 1
    kept = given.shape[:-2] + given.shape[-1:] if more and several else given.shape
    if tuple(kept) != shape or 0 in given.shape[len(shape) - 1 :]:
        raise ValueError(f"vectors must have the shape of points, {shape}, got {tuple(given.shape)}.")
    return given.to(flat).reshape(len(flat), given.shape[-2] if more else 1, flat.shape[1]), more


def known_perceptron(potential: Potential) -> _perceptrons.Perceptron | None:
    """Its layers, if it is one that the kernel takes, in float32."""
    like = _like(potential)
    if like is None or like.dtype != torch.float32 or not isinstance(potential, nn.Module):
        return None
    return _perceptrons.layers(potential)


def _form(potential: Potential, flat: Tensor, form: str | None) -> Callable[[Tensor], tuple[Tensor, ...]]:
    if form is not None:
        _checks.choice("form", form, FORMS)
    known = known_perceptron(potential) if form in (None, "fused") else None
    if form == "fused" and known is None:
        raise ValueError(
            'form must be "eager" or "compiled" for this potential, got "fused": that takes Linear, LayerNorm and one '
            "of relu, softplus, silu, tanh, gelu in turn, in float32."
        )
    if known is not None:
        if form is None and flat.is_cuda and flat.shape[1] > _MOST_ON_GPU:
            return lambda x: _eager(potential, x)
        dim = known[0][0][1].shape[1]
        if flat.shape[1] != dim:
            raise ValueError(f"points must have {dim} coordinates, as the potential takes, got {flat.shape[1]}.")
        return _Fused(known)
    if form == "compiled":
        return _compiled(potential)
    return lambda x: _eager(potential, x)


def _compiled(potential: Potential) -> Callable[[Tensor], tuple[Tensor, ...]]:
    compiled = torch.compile(lambda x: _functional(potential, x), dynamic=False, fullgraph=True)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        try:
            return compiled(x)
        except Exception as error:  # of a dozen classes
            reason = str(error).strip().split("\n")[0]
        # Its frames hold open transforms: collected amid a later compilation they would close that one's.
        gc.collect()
        raise RuntimeError(f'form must be "eager" here: torch.compile failed, {reason:.200}')

    return run


class _Fused(NamedTuple):
    perceptron: _perceptrons.Perceptron

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return kernel("mlp_hessian", str(x.device))(x, *self.perceptron)


def _eager(potential: Potential, x: Tensor) -> tuple[Tensor, ...]:
    x = x.detach().requires_grad_()
    value = _values(potential, x)
    gradient = _grad(value.sum(), x, create=True)
    return value, gradient, _jacobian(gradient, x)


def _functional(potential: Potential, x: Tensor) -> tuple[Tensor, ...]:
    """The same by transforms of functions, inside of which torch.compile can look; around it they fail."""

    def f(y: Tensor) -> Tensor:
        return potential(y[None]).reshape(())

    return tuple(torch.func.vmap(g)(x) for g in (f, torch.func.grad(f), torch.func.hessian(f)))


def _values(potential: Potential, x: Tensor) -> Tensor:
    value = potential(x)
    if not _arrays.is_tensor(value) or value.shape not in ((len(x),), (len(x), 1)):
        shape = tuple(value.shape) if _arrays.is_tensor(value) else type(value).__name__
        raise ValueError(f"potential must map points [{len(x)}, {x.shape[1]}] to [{len(x)}], got {shape}.")
    if not value.requires_grad:
        raise ValueError("potential must be made of operations on its points that torch can differentiate.")
    return value.reshape(len(x))


def _gradient(potential: Potential, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, the value there, and the gradient, to be differentiated further."""
    x = x.detach().requires_grad_()
    with _PlainLayerNorm():
        value = _values(potential, x)
    return x, value, _grad(value.sum(), x, create=True)


def _where_defined(value: Tensor, *results: Tensor) -> tuple[Tensor, ...]:
    """The results, NaN at points where the value is not finite."""
    unknown = ~value.detach().isfinite()
    if not unknown.any():
        return results
    return tuple(x.masked_fill(unknown.reshape(-1, *(1,) * (x.ndim - 1)), torch.nan) for x in results)


class _PlainLayerNorm(TorchFunctionMode):
    """LayerNorm by elementary operations: torch's own is wrong, without a word, from the third derivative on.

    It keeps mean and standard deviation for its second derivative as if they were constants (seen in torch 2.14).
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.nn.functional.layer_norm, torch.layer_norm, torch.ops.aten.layer_norm):
            return _layer_norm(*args, **(kwargs or {}))
        if func in (torch.native_layer_norm, torch.ops.aten.native_layer_norm):
            raise NotImplementedError("potential must call torch.nn.functional.layer_norm for its third derivative.")
        return func(*args, **(kwargs or {}))


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):  # the names of torch
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dim=axes, keepdim=True)
    result = centred / (centred.square().mean(dim=axes, keepdim=True) + eps).sqrt()
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


def _grad(total: Tensor, x: Tensor, create: bool = False, keep: bool = False) -> Tensor:
    """d total / d x; zero where it does not depend on x."""
    if not total.requires_grad:
        return torch.zeros_like(x)
    try:
        (gradient,) = torch.autograd.grad(total, x, create_graph=create, retain_graph=create or keep, allow_unused=True)
    except RuntimeError as error:  # so it is of InstanceNorm at the third derivative, of fused attention at the second
        if not re.search("is not implemented|does not support .*derivatives", str(error)):
            raise
        raise ValueError(
            f"potential must be made of operations that torch can differentiate so often, got: {error} "
            "Write it with elementary ones."
        ) from error
    return torch.zeros_like(x) if gradient is None else gradient


def _pull(gradient: Tensor, x: Tensor, v: Tensor, last: bool = True, create: bool = False) -> Tensor:
    return _grad((gradient * v).sum(), x, create=create, keep=not last)


def _jacobian(gradient: Tensor, x: Tensor) -> Tensor:
    """`[n, dim, dim]`, row by row, symmetrised."""
    dim = x.shape[1]
    rows = [_pull(gradient, x, axis, last=k + 1 == dim) for k, axis in enumerate(torch.eye(dim).to(x))]
    hessian = torch.stack(rows, dim=1)
    return (hessian + hessian.mT) / 2


def _verify(potential: Potential, flat: Tensor, results: list[Tensor]) -> None:
    some = torch.linspace(0, len(flat) - 1, min(len(flat), _VERIFIED), device=flat.device).long()
    double = copy.deepcopy(potential).double() if isinstance(potential, nn.Module) else potential
    try:
        exact = _each(lambda x: _eager(double, x), _VERIFIED, flat[some].double())
    except RuntimeError as error:
        raise ValueError("potential must take float64 to be verified; pass the module itself.") from error
    for name, got, right in zip(Derivatives._fields, results, exact, strict=True):
        deviation = float((got[some].double() - right).abs().max() / (right.abs().max() + 1e-300)) if len(some) else 0.0
        if not deviation <= _AGREES:
            raise ArithmeticError(f"{name} must agree with float64, got a relative deviation of {deviation:.2g}.")
