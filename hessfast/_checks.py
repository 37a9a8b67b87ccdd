"""Checks of arguments, made once in the public functions; kernels trust their callers.

Messages read: <argument> must <requirement>, got <value>. <remedy>.
"""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from hessfast._arrays import is_tensor, to_numpy


def float_array(name: str, value: Any) -> np.ndarray:
    """`value` (number, sequence, NumPy array or tensor) as float64 on the host; finite, or refused."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must not be masked, got {np.ma.count_masked(value)} masked entries.")
    try:
        array = to_numpy(value)
        # None would become NaN; casting would drop an imaginary part and read words.
        if value is None or array.dtype.kind not in "biufO":
            raise TypeError
        array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number or an array of numbers, got {value!r:.80}.") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}.")
    return array


def points_of(name: str, value: Any, dim: int) -> np.ndarray:
    """`value` as float64 `[*batch, dim]`; for dim = 1 a number is a point, and `[n]` are n, but that `[1]` is one."""
    array = np.atleast_1d(float_array(name, value))
    if dim == 1 and array.ndim == 1 and len(array) != 1:
        array = array[:, None]
    if array.shape[-1] != dim:
        raise ValueError(f"{name} must have shape [*batch, {dim}], got {array.shape}.")
    return array


def broadcast(**arrays: np.ndarray) -> list[np.ndarray]:
    """Copies of the arrays, broadcast to one shape; mismatched shapes are refused by name."""
    try:
        return [np.array(a, order="C") for a in np.broadcast_arrays(*arrays.values())]
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


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a float within [low, high]; arrays are refused."""
    array = float_array(name, value)
    if array.ndim:
        raise TypeError(f"{name} must be a number, got {value!r:.80}.")
    if not low <= array <= high:
        within = (
            f">= {low:g}" if high == math.inf else f"<= {high:g}" if low == -math.inf else f"in [{low:g}, {high:g}]"
        )
        raise ValueError(f"{name} must be {within}, got {array}.")
    return float(array)


def positive(name: str, value: Any) -> float:
    """`value` as a float > 0; arrays are refused."""
    checked = number(name, value)
    if not checked > 0:
        raise ValueError(f"{name} must be > 0, got {checked}.")
    return checked


def fitted(model: Any, attribute: str) -> Any:
    """The attribute that `fit` gives a model."""
    if not hasattr(model, attribute):
        raise ValueError(f"fit must be called first, got {type(model).__name__} without it. Call fit.")
    return getattr(model, attribute)


def potential(value: Any) -> Any:
    """A module or a function of points, or that of what learned one and gives it by `_as_potential`."""
    if hasattr(value, "_as_potential"):
        return value._as_potential()
    if not callable(value):
        raise TypeError(f"potential must be a module or a function of points, got {type(value).__name__}.")
    return value


def called(function: Any, points: Any, name: str = "potential") -> Any:
    """What a function makes of points, or a sentence where it wants another dtype or number of coordinates."""
    remedy = "Pass the module itself, or a function that converts them, as lambda x: -network(x.float())."
    try:
        return of_dtype(lambda: function(points), f"{name} must take points of {points.dtype}", remedy)
    except RuntimeError as error:
        if any(words in str(error) for words in _OF_NUMPY):
            raise ValueError(
                f"{name} must be made of operations on its points that torch can differentiate, got NumPy's. "
                "Use torch's."
            ) from error
        if _takes_one(function, points):
            values = "[n]" if name == "potential" else "[n, ...]"
            raise ValueError(
                f"{name} must map points [n, dim] to {values}, got a function of one point. Pass torch.vmap of it."
            ) from error
        if "mat1 and mat2 shapes" not in str(error):
            raise
        raise ValueError(
            f"points must have as many coordinates as the {name} takes, got {points.shape[-1]}: {error}."
        ) from error


def _takes_one(function: Any, points: Any) -> bool:
    """Whether a function that fails for points `[n, dim]` fails for one of them, too, but not for a point `[dim]`."""
    with contextlib.suppress(Exception):
        function(points[:1])
        return False
    with contextlib.suppress(Exception):
        return is_tensor(function(points[0]))
    return False


# What torch says to NumPy's functions of a tensor under reverse and under forward mode.
_OF_NUMPY = (
    "Can't call numpy() on Tensor that requires grad",
    "Cannot access data pointer of Tensor that doesn't have",
)


def of_dtype(call: Callable[[], Any], requirement: str, remedy: str) -> Any:
    """What `call` returns; torch's error of two dtypes in our words."""
    try:
        return call()
    except RuntimeError as error:
        text = str(error)
        if not any(words in text for words in ("dtype", "scalar type", "same type", "should be the same")):
            raise
        raise TypeError(f"{requirement}, got {text.splitlines()[0]!r:.100}. {remedy}") from error


def interval(name: str, ends: Any, positive: bool = False, point: bool = False) -> tuple[float, float]:
    """Two ascending numbers, positive if asked for; equal ones, a point, where that is allowed."""
    pair = float_array(name, ends)
    ascending = pair.shape == (2,) and (pair[0] < pair[1] or (point and pair[0] == pair[1]))
    if not ascending or (positive and not pair[0] > 0):
        raise ValueError(f"{name} must be two ascending {'positive ' if positive else ''}numbers, got {ends}.")
    return float(pair[0]), float(pair[1])


def seed(value: Any) -> int:
    """A seed: any integer in [0, 2^64)."""
    return integer("seed", value, 0, 2**64 - 1)


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, got {value!r}.")
    return value


def even(name: str, value: Any) -> int:
    """A lattice side: an even integer >= 2."""
    value = integer(name, value, 2)
    if value % 2:
        raise ValueError(f"{name} must be even for a checkerboard, got {value}. Use {value - 1} or {value + 1}.")
    return value


def broadcast_to(name: str, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.ascontiguousarray(np.broadcast_to(array, shape))
    except ValueError:
        raise ValueError(f"{name} must be a number or have shape {shape}, got shape {array.shape}.") from None


def integer_array(name: str, value: Any, shape: tuple[int, ...], minimum: int) -> np.ndarray:
    """Integers >= `minimum` as int64 of the given shape."""
    array = whole(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be an integer or integers, got {value!r:.80}.")
    if (array < minimum).any():
        raise ValueError(f"{name} must be >= {minimum}, got {array.min()}.")
    if (array > 2**62).any():
        raise ValueError(f"{name} must be <= 2^62, got {array.max()}.")
    return broadcast_to(name, array.astype(np.int64), shape)


def whole(name: str, value: Any) -> np.ndarray:
    """The array or tensor on the host; lists of unequal lengths are refused."""
    try:
        return to_numpy(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, got {value!r:.80}.") from None


def sample_ids(first_id: Any, num: int) -> np.ndarray:
    """The ids first_id, first_id + 1, ... of a batch as uint64 [num]."""
    first = integer("first_id", first_id, 0, 2**63)
    return np.uint64(first) + np.arange(num, dtype=np.uint64)
