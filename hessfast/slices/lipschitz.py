"""How strongly a slice is stretched: singular values of the Jacobian with respect to the slice coordinates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from hessfast import _checks
from hessfast._autograd import load_forward_mode, plain_attention

from . import _windows
from .features import feature_map
from .generate import computing
from .generators import Generator, known
from .plan import SlicePlan

METHODS = ("auto", "jvp", "differences")
OUTPUTS = ("latents", "images", "features")


@dataclass(frozen=True, eq=False)
class Lipschitz:
    """Stretch of a slice at some points.

    Attributes:
        singular_values: `[m, dim]`, descending; the first is the local Lipschitz constant in the slice's coordinates.
        method: "jvp", exact to rounding, or "differences", central ones.
        step: of the differences; None for jvp.
        of: "latents", "images" or "features".
    """

    singular_values: np.ndarray
    method: str
    step: float | None
    of: str

    @property
    def constant(self) -> np.ndarray:
        """Largest singular value of each point, `[m]`."""
        return self.singular_values[:, 0]


def lipschitz(
    plan: SlicePlan,
    generator: Generator,
    features: Any = None,
    *,
    of: str | None = None,
    method: str = "auto",
    step: float | None = None,
) -> Lipschitz:
    """Singular values of the Jacobian d output / d u at every point of a plan, u its coordinates.

    Forward mode goes once a coordinate through z(u), the loop, the decoder and the features: exact, and about 4 times
    the work of an image for each coordinate. Attention is computed by its plain formula, for which there is a forward
    derivative. Where some operation has none, "auto" takes central differences and says so in the result; their error
    is of order step^2, and the rounding of the dtype over step.

    Args:
        plan: points and settings; noise, if there is any, is held fixed.
        generator: by which.
        features: see `feature_map`.
        of: "latents", "images" or "features"; None: features if they are given, else images.
        method: "auto", "jvp" or "differences".
        step: of differences, in coordinates; None: 1e-2 in float32 or less, 1e-5 in float64, but no more than the
            points are apart: the plan says how fine its structure is.

    Raises:
        ValueError: for an unknown name, or "features" without any.
        NotImplementedError: for method="jvp" where an operation has no forward derivative.
        ArithmeticError: where the derivative is not finite.

    Example:
        >>> from hessfast.slices import from_callable
        >>> plan = SlicePlan([[[[0.0, 0.0]]], [[[3.0, 0.0]]], [[[0.0, 4.0]]]], [[0.5, 0.5]], normalise=False)
        >>> lipschitz(plan, from_callable(lambda z: 2 * z, "doubled")).singular_values.tolist()
        [[8.0, 6.0]]
    """
    described = None if features is None else feature_map(features)
    of = _checks.choice("of", of or ("images" if described is None else "features"), OUTPUTS)
    if of == "features" and described is None:
        raise ValueError('features must be given for of="features", got None.')
    _checks.choice("method", method, METHODS)
    usual = 1e-5 if plan.dtype == "float64" else 1e-2
    step = min(usual, _windows.apart(plan)) if step is None else _checks.positive("step", step)
    prepared = known(generator).plain().prepare(plan)
    extract = None if described is None else described.prepare(plan.dtype, prepared.device)

    def output(u: Tensor, ids: list[int]) -> Tensor:
        result = prepared.latents(plan.z(u), ids)
        if of != "latents":
            result = prepared.decode(result)
        if of == "features":
            assert extract is not None
            result = extract(result)
        return result.flatten(1)

    values = []
    # Forward derivatives need no graphs.
    with torch.inference_mode(False), computing(prepared.device) as threads, torch.no_grad(), plain_attention():
        torch.set_num_threads(threads)
        for start in range(0, plan.num, plan.micro_batch):
            ids = list(range(start, min(start + plan.micro_batch, plan.num)))
            u = torch.tensor(plan.parameters[ids])
            jacobian, method = _jacobian(lambda u, ids=ids: output(u, ids), u, method, step)
            bad = ~torch.isfinite(jacobian).flatten(1).all(dim=1)
            if bad.any():
                point = ids[int(bad.nonzero()[0])]
                raise ArithmeticError(f"{of} must have a finite derivative, got none at point {point}. Look at its z.")
            values.append(torch.linalg.svdvals(jacobian.double()).cpu().numpy())
    return Lipschitz(np.concatenate(values), method, step if method == "differences" else None, of)


def _jacobian(function: Callable[[Tensor], Tensor], u: Tensor, method: str, step: float) -> tuple[Tensor, str]:
    """d function / d u `[m, outputs, dim]` and how it was got; "auto" decides for the first batch."""
    directions = [torch.zeros_like(u).index_fill_(1, torch.tensor([k]), 1.0) for k in range(u.shape[1])]
    if method != "differences":
        try:
            columns = [_jvp(function, u, direction) for direction in directions]
            return torch.stack(columns, dim=2), "jvp"
        except (NotImplementedError, RuntimeError) as error:
            if not _lacks_forward_mode(error):
                raise
            if method == "jvp":
                raise NotImplementedError(
                    f'method must be "differences" for this model, got "jvp": {str(error).splitlines()[0]}'
                ) from error
    columns = [(function(u + step * d).double() - function(u - step * d).double()) / (2 * step) for d in directions]
    return torch.stack(columns, dim=2), "differences"


def _jvp(function: Callable[[Tensor], Tensor], u: Tensor, direction: Tensor) -> Tensor:
    load_forward_mode()
    # Dual tensors, not torch.func.jvp, in whose wrapped tensors schedulers cannot read their own tables.
    with forward_ad.dual_level(), _ContiguousGroupNorm():
        _, tangent = forward_ad.unpack_dual(function(forward_ad.make_dual(u, direction)))
        if tangent is None:
            raise NotImplementedError("the derivative is lost, as by .detach() or .numpy()")
        return tangent


class _ContiguousGroupNorm(TorchFunctionMode):
    """Torch (seen in 2.11) has no forward derivative of the norm of tensors whose channels are last in memory."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if args and func in (torch.nn.functional.group_norm, torch.group_norm):
            args = args[0].contiguous(), *args[1:]
        return func(*args, **(kwargs or {}))


def _lacks_forward_mode(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, NotImplementedError) or "forward ad" in text or "forward mode" in text or "jvp" in text
