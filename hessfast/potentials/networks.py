"""Networks that map parameters `[..., dim]` to one number, candidates for log Z, to be differentiated twice."""

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hessfast import _checks

KINDS = ("convex", "softplus", "layernorm")


class ConvexPotential(nn.Module):
    """Input-convex network (Amos, Xu and Kolter 2017) with softplus: its Hessian is positive semi-definite everywhere.

    z_1 = softplus(W_1 x), z_k+1 = softplus(U_k z_k + W_k x) with U_k >= 0, f = <u, z> + <w, x> with u >= 0.
    """

    def __init__(self, dim: int, width: int = 64, depth: int = 3):
        super().__init__()
        self.skips = nn.ModuleList(nn.Linear(dim, width) for _ in range(depth))
        # softplus(-4) = 0.018 = O(1 / width): the sum over a layer starts of order one
        self.mixing = nn.ParameterList(nn.Parameter(torch.randn(width, width) * 0.3 - 4) for _ in range(depth - 1))
        self.out = nn.Parameter(torch.randn(width) * 0.3 - 4)
        self.linear = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = functional.softplus(self.skips[0](x))
        for skip, mixing in zip(self.skips[1:], self.mixing, strict=True):
            z = functional.softplus(functional.linear(z, functional.softplus(mixing)) + skip(x))
        return z @ functional.softplus(self.out) + self.linear(x)[..., 0]


class _Perceptron(nn.Sequential):
    """dim -> width x depth -> 1, each hidden layer followed by what `activation` makes of its width."""

    def __init__(self, dim: int, width: int, depth: int, activation: Callable[[int], Iterable[nn.Module]]):
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([dim] + [width] * depth):
            layers += [nn.Linear(inputs, outputs), *activation(outputs)]
        super().__init__(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x)[..., 0]


class SoftplusPotential(_Perceptron):
    """Plain multilayer perceptron with softplus; not convex by construction."""

    def __init__(self, dim: int, width: int = 64, depth: int = 3):
        super().__init__(dim, width, depth, lambda _: [nn.Softplus()])


class LayerNormPotential(_Perceptron):
    """The network of Lobashev et al. (2025): dim -> 512 x 4 -> 1, LayerNorm before every ReLU.

    For parity: its second derivatives come from LayerNorm alone, and those at the kinks of ReLU are lost to autograd.
    """

    def __init__(self, dim: int, width: int = 512, depth: int = 4):
        super().__init__(dim, width, depth, lambda outputs: [nn.LayerNorm(outputs), nn.ReLU()])


class Standardised(nn.Module):
    """height potential((x - centre) / width): a network sees and gives numbers of order one, whatever the units.

    The units are kept in float64: boxes may be far from the origin.
    """

    centre: Tensor
    width: Tensor
    height: Tensor

    def __init__(self, potential: nn.Module, centre: Sequence[float], width: Sequence[float]):
        super().__init__()
        self.potential = potential
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float64))
        self.register_buffer("width", torch.tensor(width, dtype=torch.float64))
        self.register_buffer("height", torch.tensor(1.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.height * self.potential(((x - self.centre) / self.width).to(x.dtype))


def build(kind: str, dim: int, width: int | None = None, depth: int | None = None) -> nn.Module:
    """A potential by its name in KINDS; sizes None: its own.

    Example:
        >>> build("softplus", dim=2, width=8, depth=1)
        SoftplusPotential(
          (0): Linear(in_features=2, out_features=8, bias=True)
          (1): Softplus(beta=1.0, threshold=20.0)
          (2): Linear(in_features=8, out_features=1, bias=True)
        )
    """
    _checks.choice("kind", kind, KINDS)
    sizes = {name: value for name, value in (("width", width), ("depth", depth)) if value is not None}
    kinds = {"convex": ConvexPotential, "softplus": SoftplusPotential, "layernorm": LayerNormPotential}
    return kinds[kind](dim, **sizes)
