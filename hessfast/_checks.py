"""Checks of arguments, made once in the public functions; kernels trust their callers.

Messages read: <argument> must <requirement>, got <value>. <remedy>.
"""

import sys
from typing import Any

import numpy as np


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor, without importing torch: if nobody has, it cannot be one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def float_array(name: str, value: Any) -> np.ndarray:
    """`value` (number, sequence, NumPy array or tensor) as float64 on the host; finite, or refused."""
    if is_tensor(value):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or an array of numbers, got {value!r:.80}.") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}.")
    return array


def broadcast(**arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays broadcast to one shape; mismatched shapes are refused by name."""
    try:
        return [np.ascontiguousarray(a) for a in np.broadcast_arrays(*arrays.values())]
    except ValueError:
        shapes = " and ".join(f"{a.shape}" for a in arrays.values())
        names = " and ".join(arrays)
        raise ValueError(f"{names} must have shapes that broadcast, got {shapes}.") from None


def integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """`value` as an int within [minimum, maximum]; booleans and non-integers are refused."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < minimum or (maximum is not None and value > maximum):
        upper = "" if maximum is None else f" and <= {maximum}"
        raise ValueError(f"{name} must be >= {minimum}{upper}, got {value}.")
    return int(value)


def seed(value: Any) -> int:
    """A seed: any integer in [0, 2^64)."""
    return integer("seed", value, 0, 2**64 - 1)


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}.")
    return value
