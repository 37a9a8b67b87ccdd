"""Which modules are multilayer perceptrons in the form that the kernel `mlp_hessian` takes, and their layers."""

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from hessfast import potentials
from hessfast._modules import uncompiled, weight_of

from ._points import Potential

_ACTIVATIONS = {nn.ReLU: "relu", nn.Softplus: "softplus", nn.SiLU: "silu", nn.Tanh: "tanh", nn.GELU: "gelu"}
_SEQUENCES = nn.Sequential, potentials.SoftplusPotential, potentials.LayerNormPotential

# weight, skip, bias, norm of every hidden layer and of the last, as in hessfast.kernels.mlp_hessian.Layer; the
# activation's name; what is subtracted from points before, or None
Perceptron = tuple[list[tuple], tuple, str, Tensor | None]


def known_perceptron(potential: Potential) -> Perceptron | None:
    """Its layers, if it is one that the kernel takes, in float32."""
    potential = uncompiled(potential)
    like = weight_of(potential)
    if like is None or like.dtype != torch.float32 or not isinstance(potential, nn.Module):
        return None
    return layers(potential)


def layers(module: nn.Module) -> Perceptron | None:
    """Hidden layers, the last one, the activation's name and the centre; None if the module is something else.

    Subclasses and modules with hooks are something else, too: what they compute may be.
    """
    hooked = (part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in module.modules())
    if any(hooked):
        return None
    with torch.no_grad():
        if type(module) is potentials.Standardised:
            inner = layers(module.potential)
            return None if inner is None else _standardised(module, *inner)
        if type(module) is potentials.ConvexPotential:
            return _convex(module)
        if type(module) in _SEQUENCES:
            return _sequence(_flattened(module))
    return None


def _flattened(module: nn.Module) -> list[nn.Module]:
    if type(module) in _SEQUENCES:
        return [leaf for child in module._modules.values() if child is not None for leaf in _flattened(child)]
    return [] if type(module) is nn.Identity or (type(module) is nn.Dropout and not module.training) else [module]


def _sequence(modules: list[nn.Module]) -> Perceptron | None:
    """Linear, perhaps LayerNorm, activation, again and again, and a Linear to one number."""
    hidden, names, rest = [], set(), list(modules)
    while len(rest) > 1:
        linear = rest.pop(0)
        norm = rest.pop(0) if type(rest[0]) is nn.LayerNorm else None
        act = rest.pop(0) if rest else nn.Identity()
        if not _is_linear(linear) or type(act) not in _ACTIVATIONS or not _is_plain(act):
            return None
        if isinstance(norm, nn.LayerNorm) and (norm.normalized_shape != (linear.out_features,) or norm.eps < 0):
            return None
        names.add(_ACTIVATIONS[type(act)])
        weight = (linear.weight, None) if hidden else (None, linear.weight)
        hidden.append((*weight, _bias(linear), _norm(norm, linear) if isinstance(norm, nn.LayerNorm) else None))
    last = rest[0] if rest else None
    if not hidden or len(names) > 1 or not _is_linear(last) or last.out_features != 1:
        return None
    weights = [first for first, *_ in hidden[1:]] + [last.weight]
    if any(weight.shape[1] != len(bias) for weight, (_, _, bias, _) in zip(weights, hidden, strict=True)):
        return None
    return hidden, (last.weight, None, _bias(last), None), names.pop(), None


def _is_linear(module: nn.Module | None) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear


def _is_plain(act: nn.Module) -> bool:
    """Whether its parameters are the usual ones; the threshold of Softplus is where float32 sees no difference."""
    if type(act) is nn.Softplus:
        return act.beta == 1 and act.threshold >= 20
    return type(act) is not nn.GELU or act.approximate == "none"


def _bias(linear: nn.Linear) -> Tensor:
    return linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias


def _norm(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor, float]:
    one = linear.weight.new_ones(linear.out_features)
    return one if norm.weight is None else norm.weight, 0 * one if norm.bias is None else norm.bias, norm.eps


def _convex(module: potentials.ConvexPotential) -> Perceptron:
    mixing = [None, *(functional.softplus(weight) for weight in module.mixing)]
    hidden = [(weight, skip.weight, skip.bias, None) for weight, skip in zip(mixing, module.skips, strict=True)]
    last = functional.softplus(module.out)[None], module.linear.weight, module.linear.bias, None
    return hidden, last, "softplus", None


def _standardised(
    module: potentials.Standardised, hidden: list[tuple], last: tuple, activation: str, inner_centre: Tensor | None
) -> Perceptron:
    """height f((x - centre) / width): width into what meets x, height into the last layer.

    The centre stays outside: in a bias it would take the digits of points far from the origin.
    """
    folded = [_in_units_of(module, inner_centre, *layer) for layer in (*hidden, last)]
    weight, skip, bias, _ = (None if x is None else module.height * x for x in folded[-1])
    return folded[:-1], (weight, skip, bias, None), activation, module.centre


def _in_units_of(module: potentials.Standardised, inner_centre: Tensor | None, weight, skip, bias, norm) -> tuple:
    if skip is None:
        return weight, None, bias, norm
    bias = bias if inner_centre is None else bias - skip @ inner_centre.to(skip)
    return weight, (skip / module.width).to(skip), bias, norm
