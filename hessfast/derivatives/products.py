"""The gradient alone, Hessians times vectors, and what geodesics need of the third derivative."""

from typing import Any

import torch
from torch import Tensor

from ._points import CHUNK, Potential, each, flattened, vectors_at
from ._reverse import grad, gradient_at, jacobian, pull, values, where_defined


def gradient(potential: Potential, points: Any, *, chunk: int = CHUNK) -> Any:
    """The gradient alone, `[*batch, dim]`: of a log partition function the means eta of its statistics.

    Example:
        >>> import numpy as np
        >>> gradient(lambda x: (x**3).sum(dim=-1), np.array([[1.0, 2.0]])).tolist()
        [[3.0, 12.0]]
    """
    potential, flat, back = flattened(potential, points)

    def slope(x: Tensor) -> tuple[Tensor, ...]:
        x = x.detach().requires_grad_()
        value = values(potential, x)
        return where_defined(value, grad(value.sum(), x))

    return back(*each(slope, chunk, flat))


def hvp(potential: Potential, points: Any, vectors: Any, *, chunk: int = CHUNK) -> Any:
    """Hessians times vectors, without the Hessians.

    Args:
        points: `[*batch, dim]`.
        vectors: `[*batch, dim]`, or `[*batch, k, dim]` for k vectors at each point.

    Returns:
        The shape of the vectors.

    Example:
        >>> import numpy as np
        >>> hvp(lambda x: (x**4).sum(dim=-1), np.ones((1, 2)), np.array([[1.0, 2.0]])).tolist()
        [[12.0, 24.0]]
    """
    potential, flat, back = flattened(potential, points)
    along, several = vectors_at(vectors, points, flat, several=True)

    def products(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        x, value, gradient = gradient_at(potential, x)
        rows = [pull(gradient, x, v[:, k], last=k + 1 == v.shape[1]) for k in range(v.shape[1])]
        return where_defined(value, torch.stack(rows, dim=1))

    (product,) = each(products, chunk, flat, along)
    return back(product if several else product[:, 0])


def directional_third(potential: Potential, points: Any, vectors: Any, *, chunk: int = CHUNK) -> Any:
    """grad_x (v^T H(x) v) at points `[*batch, dim]` for vectors `[*batch, dim]`: what bends a geodesic.

    Example:
        >>> import numpy as np
        >>> directional_third(lambda x: (x**3).sum(dim=-1), np.ones((1, 2)), np.array([[1.0, 2.0]])).tolist()
        [[6.0, 24.0]]
    """
    potential, flat, back = flattened(potential, points)

    def bend(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        x, value, gradient = gradient_at(potential, x)
        return where_defined(value, pull(pull(gradient, x, v[:, 0], create=True), x, v[:, 0]))

    return back(*each(bend, chunk, flat, vectors_at(vectors, points, flat)[0]))


def hessian_along(potential: Potential, points: Any, vectors: Any, *, chunk: int = CHUNK) -> Any:
    """d/ds H(x + s v) at s = 0, `[*batch, dim, dim]`, for points and vectors `[*batch, dim]`.

    Example:
        >>> import numpy as np
        >>> hessian_along(lambda x: (x**3).sum(dim=-1), np.ones((1, 2)), np.array([[1.0, 2.0]])).tolist()
        [[[6.0, 0.0], [0.0, 12.0]]]
    """
    potential, flat, back = flattened(potential, points)

    def change(x: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        x, value, gradient = gradient_at(potential, x)
        return where_defined(value, jacobian(pull(gradient, x, v[:, 0], create=True), x))

    return back(*each(change, chunk, flat, vectors_at(vectors, points, flat)[0]))
