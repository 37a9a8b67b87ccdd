"""Value, gradient and Hessian, in the first form that can."""

from typing import Any, NamedTuple

from hessfast import _checks

from ._forms import Fused, form_of, verify_some
from ._points import CHUNK, Potential, each, flattened
from ._reverse import where_defined


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
        >>> import torch
        >>> x = torch.tensor([[0.0, 1.0]])
        >>> at = derivatives(lambda x: (x**2).sum(dim=-1) + x[:, 0] * x[:, 1], x)
        >>> at.value.tolist(), at.gradient.tolist(), at.hessian.tolist()
        ([1.0], [[1.0, 2.0]], [[[2.0, 1.0], [1.0, 2.0]]])
    """
    potential, flat, back = flattened(potential, points)
    function, chunk = form_of(potential, flat, form), _checks.integer("chunk", chunk, 1)
    results = each(function, max(len(flat), 1) if isinstance(function, Fused) else chunk, flat)
    if verify:
        verify_some(potential, flat, results)
    return Derivatives(*map(back, where_defined(results[0], *results)))


def fisher_metric(potential: Potential, points: Any, **options: Any) -> Any:
    """The Hessian alone, `[*batch, dim, dim]`; options as of `derivatives`.

    Of a log partition function at natural parameters it is the Fisher metric. In place of the function `metric_tensor`
    of the released scripts, which takes minus the Hessian of its network: give it ``lambda x: -network(x.float())``.

    Example:
        >>> import numpy as np, torch
        >>> fisher_metric(lambda x: torch.log1p(x.exp()).sum(dim=-1), np.zeros((1, 2))).tolist()  # Bernoulli, p = 1/2
        [[[0.25, 0.0], [0.0, 0.25]]]
    """
    return derivatives(potential, points, **options).hessian
