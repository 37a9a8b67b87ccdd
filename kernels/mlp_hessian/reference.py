"""mlp_hessian by automatic differentiation of the formula, in the dtype of the points."""

import torch
from torch.nn import functional

from . import Layer

ACT = {"relu": torch.relu, "softplus": functional.softplus, "silu": functional.silu, "tanh": torch.tanh}
ACT["gelu"] = functional.gelu


def forward(x, hidden, last, activation):
    a = None
    for layer in hidden:
        z = _affine(layer, a, x)
        if layer.norm is not None:
            gain, shift, eps = layer.norm
            z = functional.layer_norm(z, z.shape[-1:], gain, shift, eps)
        a = ACT[activation](z)
    return _affine(last, a, x)[..., 0]


def _affine(layer, a, x):
    z = layer.bias
    z = z if layer.weight is None else z + a @ layer.weight.T
    return z if layer.skip is None else z + x @ layer.skip.T


def mlp_hessian(points, hidden, last, activation):
    hidden, last = [Layer(*layer) for layer in hidden], Layer(*last)

    def f(x):
        return forward(x, hidden, last, activation)

    each = (f, torch.func.grad(f), torch.func.hessian(f))
    return tuple(torch.func.vmap(g)(points) for g in each)
