"""Sums of products of splines and polynomials as modules: what posteriors of an exponential family make of log Z."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class SplinePotential(nn.Module):
    """Sums of products of one cubic B-spline for each coordinate.

    Args:
        knots: of each coordinate, ascending, the first and last four times.
        coefficients: `[len(knots[0]) - 4, len(knots[1]) - 4, ...]`.
    """

    coefficients: Tensor

    def __init__(self, knots: Sequence[Tensor], coefficients: Tensor):
        super().__init__()
        for axis, ascending in enumerate(knots):
            self.register_buffer(f"knots_{axis}", ascending)
        self.register_buffer("coefficients", coefficients)

    def forward(self, x: Tensor) -> Tensor:
        _refuse_other(x, self.coefficients.ndim)
        weights, places = torch.ones_like(x[..., :1]), torch.zeros_like(x[..., :1], dtype=torch.int64)
        for axis, size in enumerate(self.coefficients.shape):
            knots, position = self.get_buffer(f"knots_{axis}"), x[..., axis : axis + 1]
            interval = ((position >= knots).sum(dim=-1, keepdim=True) - 1).clamp(3, size - 1)
            columns = interval + torch.arange(-3, 1, device=x.device)
            splines = _cubic_splines(position, knots, interval)
            weights = (weights[..., :, None] * splines[..., None, :]).flatten(-2)
            places = (places[..., :, None] * size + columns[..., None, :]).flatten(-2)
        return (self.coefficients.flatten()[places] * weights).sum(dim=-1)


def _refuse_other(x: Tensor, dim: int) -> None:
    if x.shape[-1] != dim:
        raise ValueError(f"points must have as many coordinates as the potential takes, {dim}, got {x.shape[-1]}.")


def _cubic_splines(x: Tensor, knots: Tensor, interval: Tensor) -> Tensor:
    """The four that are not zero at x `[..., 1]`, `[..., 4]`, by the recursion of Cox and de Boor."""
    splines = [torch.ones_like(x)]
    for degree in (1, 2, 3):
        higher = [torch.zeros_like(x) for _ in range(degree + 1)]
        for k, lower in enumerate(splines):
            left, right = knots[interval + 1 + k - degree], knots[interval + 1 + k]
            share = lower / (right - left)
            higher[k] = higher[k] + (right - x) * share
            higher[k + 1] = (x - left) * share
        splines = higher
    return torch.cat(splines, dim=-1)


class PolynomialPotential(nn.Module):
    """Sums of products of Legendre polynomials in (2 x - low - high) / (high - low).

    Args:
        low, high: `[dim]`.
        degrees: int, of the factors of each product, `[num_products, dim]`.
        coefficients: `[num_products]`.
    """

    low: Tensor
    high: Tensor
    degrees: Tensor
    coefficients: Tensor

    def __init__(self, low: Tensor, high: Tensor, degrees: Tensor, coefficients: Tensor):
        super().__init__()
        for name, tensor in (("low", low), ("high", high), ("degrees", degrees), ("coefficients", coefficients)):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        _refuse_other(x, len(self.low))
        x = (2 * x - self.low - self.high) / (self.high - self.low)
        legendre = [torch.ones_like(x), x]
        for n in range(1, int(self.degrees.max())):
            legendre.append(((2 * n + 1) * x * legendre[-1] - n * legendre[-2]) / (n + 1))
        table = torch.stack(legendre, dim=-1)  # [..., dim, degrees]
        factors = [table[..., axis, degree] for axis, degree in enumerate(self.degrees.T)]
        return torch.stack(factors).prod(dim=0) @ self.coefficients


class KinkedPotential(nn.Module):
    """smooth(x) + width log(2 cosh(s / width)) bent(x), s = normal . x - offset: |s| rounded over a width.

    The gradient turns across the hyperplane s = 0.
    """

    normal: Tensor
    offset: Tensor
    width: Tensor

    def __init__(self, smooth: nn.Module, bent: nn.Module, normal: Tensor, offset: Tensor, width: Tensor):
        super().__init__()
        self.smooth, self.bent = smooth, bent
        for name, tensor in (("normal", normal), ("offset", offset), ("width", width)):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        s = (x @ self.normal - self.offset) / self.width
        # log(2 cosh s), exact in float64, with derivatives that stay finite
        return self.smooth(x) + self.width * (nn.functional.softplus(2 * s, threshold=40) - s) * self.bent(x)


CLOSED_FORMS = SplinePotential, PolynomialPotential, KinkedPotential


def restored(state: Mapping[str, Tensor]) -> nn.Module:
    """The one of CLOSED_FORMS whose `state_dict()` this is.

    Example:
        >>> low, high, degrees = torch.tensor([-1.0]), torch.tensor([1.0]), torch.tensor([[1], [2]])
        >>> legendre = PolynomialPotential(low, high, degrees, torch.tensor([1.0, 2.0]))  # x + 3 x^2 - 1
        >>> restored(legendre.state_dict())(torch.tensor([0.5])).item()
        0.25
    """
    if "normal" in state:
        smooth, bent = (
            restored({name.removeprefix(part): x for name, x in state.items() if name.startswith(part)})
            for part in ("smooth.", "bent.")
        )
        return KinkedPotential(smooth, bent, *(state[name] for name in ("normal", "offset", "width")))
    if "knots_0" in state:
        knots = [state[f"knots_{axis}"] for axis in range(state["coefficients"].ndim)]
        return SplinePotential(knots, state["coefficients"])
    return PolynomialPotential(**state)
