"""Conditions of a denoiser: one of each kind for all samples, or one for each."""

import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditional:
    """The `predict` of a denoiser with conditions, of all samples or of each, that `ask` takes beside y and tau."""

    ask: Callable[[Tensor, float, dict[str, Any]], Tensor]
    conditions: dict[str, Any]

    def __call__(self, y: Tensor, tau: float) -> Tensor:
        def spread(value: Tensor) -> Tensor:
            return value.to(y.device).expand(len(y), *value.shape[1:])

        return self.ask(y, tau, _mapped(self.conditions, len(y), spread))

    def for_rows(self, num: int, rows: Tensor) -> "Conditional":
        """With the conditions of some of `num` samples."""

        def chosen(value: Tensor) -> Tensor:
            return value if len(value) == 1 else value[rows.to(value.device)]

        return replace(self, conditions=_mapped(self.conditions, num, chosen))


def _mapped(value: Any, num: int, change: Callable[[Tensor], Tensor], name: str = "condition") -> Any:
    """Conditions in dicts and lists, one for all or one for each of `num`, changed one by one; numbers are labels."""
    if isinstance(value, dict):
        return {key: _mapped(part, num, change, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, num, change, name) for part in value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        value = torch.tensor([int(value)])
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if not isinstance(value, Tensor):
        return value
    value = value.clone() if value.is_inference() else value  # of which a graph cannot be kept
    if value.ndim < 1 or len(value) not in (1, num):
        raise ValueError(
            f"{name} must be one condition for all samples, of shape [1, ...], or one for each of {num}, "
            f"got {tuple(value.shape)}."
        )
    return change(value)
