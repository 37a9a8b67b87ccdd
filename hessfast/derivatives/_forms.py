"""The three forms of value, gradient and Hessian: fused, eager, compiled."""

import gc
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hessfast import _checks
from hessfast._compile import compiled, refusal
from hessfast._dispatch import kernel
from hessfast._modules import in_double

from ._points import Potential, each
from ._reverse import eager
from .perceptrons import Perceptron, known_perceptron

FORMS = ("fused", "eager", "compiled")
_MOST_ON_GPU = 8  # coordinates: Triton compiles 36 pairs of tangents in seconds, 136 in half a minute
_VERIFIED, _AGREES = 256, 1e-3  # points; relative to the largest entry, far beyond what float32 loses


def form_of(potential: Potential, flat: Tensor, form: str | None) -> Callable[[Tensor], tuple[Tensor, ...]]:
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
            return lambda x: eager(potential, x)
        dim = known[0][0][1].shape[1]
        if flat.shape[1] != dim:
            raise ValueError(f"points must have {dim} coordinates, as the potential takes, got {flat.shape[1]}.")
        return Fused(known)
    if form == "compiled":
        return _compiled(potential)
    return lambda x: eager(potential, x)


def _compiled(potential: Potential) -> Callable[[Tensor], tuple[Tensor, ...]]:
    fast = compiled(lambda x: _functional(potential, x), fullgraph=True)

    def run(x: Tensor) -> tuple[Tensor, ...]:
        try:
            return fast(x)
        except Exception as error:  # of a dozen classes
            refused = refusal('form must be "eager"', error)
        # Its frames hold open transforms: collected amid a later compilation they would close that one's.
        gc.collect()
        raise refused

    return run


class Fused(NamedTuple):
    perceptron: Perceptron

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        *network, centre = self.perceptron
        with torch.no_grad():
            return kernel("mlp_hessian", str(x.device))(x if centre is None else (x - centre).to(x), *network)


def _functional(potential: Potential, x: Tensor) -> tuple[Tensor, ...]:
    """The same by transforms of functions, inside of which torch.compile can look; around it they fail."""

    def f(y: Tensor) -> Tensor:
        return potential(y[None]).reshape(())

    return tuple(torch.func.vmap(g)(x) for g in (f, torch.func.grad(f), torch.func.jacrev(torch.func.grad(f))))


def verify_some(potential: Potential, flat: Tensor, results: list[Tensor]) -> None:
    some = torch.linspace(0, len(flat) - 1, min(len(flat), _VERIFIED), device=flat.device).long()
    double = in_double(potential)
    exact = each(lambda x: eager(double, x), _VERIFIED, flat[some].double())
    for name, got, right in zip(("value", "gradient", "hessian"), results, exact, strict=True):
        deviation = float((got[some].double() - right).abs().max() / (right.abs().max() + 1e-300)) if len(some) else 0.0
        if not deviation <= _AGREES:
            raise ArithmeticError(f"{name} must agree with float64, got a relative deviation of {deviation:.2g}.")
