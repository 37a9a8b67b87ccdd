"""NumPy arrays and torch tensors side by side, without importing torch where nobody has."""

import hashlib
import sys
from typing import Any

import numpy as np


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor, without importing torch: if nobody has, it cannot be one."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any) -> np.ndarray:
    """The array or tensor on the host, shared where it is there already."""
    if not is_tensor(value):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()  # NumPy has no bfloat16


def tensor(array: Any, device: Any) -> Any:
    import torch

    return torch.as_tensor(array).to(device)


def like(array: Any, other: Any) -> Any:
    """`array` as a tensor on the device of `other` if that is a tensor, else unchanged."""
    return tensor(array, other.device) if is_tensor(other) and not is_tensor(array) else array


def back(result: Any, *given: Any) -> Any:
    """`result` in its own dtype: on the device of the first tensor among `given`, if there is one, else unchanged."""
    return next((tensor(result, each.device) for each in given if is_tensor(each)), result)


def as_given(result: Any, given: Any) -> Any:
    """`result` as `given` is: a tensor on its device and in its dtype, where both are floating point; else an array."""
    if not is_tensor(given):
        return to_numpy(result)
    result = back(result, given)
    return result.to(given.dtype) if result.is_floating_point() and given.is_floating_point() else result


def device_of(value: Any) -> str:
    return str(value.device) if is_tensor(value) else "cpu"


def home(device: str, *arguments: Any) -> str | None:
    """Where results belong: the device, as tensors, if it is a GPU or an argument is a tensor; else None, for NumPy."""
    return device if str(device) != "cpu" or any(is_tensor(each) for each in arguments) else None


def empty(shape: tuple[int, ...], dtype: str, device: str | None) -> Any:
    """An array on the host for None, else a tensor on the device."""
    if device is None:
        return np.empty(shape, dtype)
    import torch

    return torch.empty(shape, dtype=getattr(torch, dtype), device=device)


def native(value: Any) -> Any:
    """What a kernel takes, contiguous: NumPy arrays on the host (sharing a tensor's memory), tensors on a GPU."""
    if is_tensor(value):
        value = value.contiguous()
        return value.numpy() if value.device.type == "cpu" else value
    return np.ascontiguousarray(value)


def copy(value: Any) -> Any:
    """A contiguous copy."""
    return value.contiguous().clone() if is_tensor(value) else np.array(value, order="C")


def put(words: Any, indices: np.ndarray, values: Any) -> None:
    """words[indices] = values along the first axis, words and values uint64 arrays or tensors."""
    if is_tensor(words):  # torch indexes signed integers only
        import torch

        values = tensor(values, words.device).view(torch.int64)
        words.view(torch.int64)[torch.as_tensor(indices, device=words.device)] = values
    else:
        words[indices] = values


def selected(index: Any, length: int) -> np.ndarray:
    """The numbers, of `length` samples, that an integer, slice, index array or mask selects."""
    if isinstance(index, slice):
        return np.arange(*index.indices(length))
    samples = to_numpy(index)
    if samples.size == 0 and samples.dtype != bool:
        return samples.astype(np.int64)
    if samples.dtype == bool:
        if samples.shape != (length,):
            raise IndexError(f"A mask must have shape ({length},), got {samples.shape}.")
        return np.flatnonzero(samples)
    if samples.dtype.kind not in "iu":
        raise TypeError(f"An index of samples must hold integers or booleans, got dtype {samples.dtype}.")
    if samples.min() < -length or samples.max() >= length:
        raise IndexError(f"The index of a sample must be in [{-length}, {length}), got {index!r:.80}.")
    samples = samples.astype(np.int64)
    return np.where(samples < 0, samples + length, samples)


def take(array: Any, rows: slice | np.ndarray) -> Any:
    """array[rows]: a view for a slice, else a copy."""
    if is_tensor(array) and not isinstance(rows, slice):  # torch indexes signed integers only
        import torch

        return array.view(torch.int64)[torch.as_tensor(rows, device=array.device)].view(array.dtype)
    return array[rows]


def digest(array: np.ndarray) -> str:
    """SHA-256 of an array's shape and bytes."""
    return hashlib.sha256(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
