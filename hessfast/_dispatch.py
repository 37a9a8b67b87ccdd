"""The only door to the kernels: by name, on first call; a backend is honoured or refused, never replaced."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

BACKENDS = ("reference", "cpu", "gpu")


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for cannot run here; the message says what would make it run."""


def kernel(op: str, device: str = "cpu", backend: str | None = None, name: str | None = None) -> Callable:
    """The function `name`, by default `op`, of ``hessfast.kernels.<op>.<backend>``.

    Args:
        op: name of the kernel's folder.
        device: "cpu" or "cuda" (optionally "cuda:N"); decides the backend where none is named.
        backend: "reference", "cpu" or "gpu".
        name: of the function, where a folder holds more than the one it is named after.

    Raises:
        ValueError: for an unknown device or backend, or a backend that is not for data on this device.
        BackendUnavailableError: if the kernel has no such form, or no GPU or no CuPy is present.
    """
    kind = device_kind(device)
    if backend is None:
        backend = "gpu" if kind == "cuda" else "cpu"
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    module = f"hessfast.kernels.{op}.{backend}"
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # not even the folder
        raise BackendUnavailableError(f"op must be the name of a kernel, got {op!r}.") from None
    if spec is None or spec.origin is None:
        others = " or ".join(each for each in BACKENDS if importlib.util.find_spec(f"hessfast.kernels.{op}.{each}"))
        raise BackendUnavailableError(f"{op} has no {backend} kernel; it has {others}.")
    if (backend == "gpu") != (kind == "cuda"):
        fitting = '"gpu"' if kind == "cuda" else '"cpu" or "reference"'
        raise ValueError(f"backend must be {fitting} for data on device {str(device)!r}, got {backend!r}.")
    if backend == "gpu":
        _require_gpu(device, in_cuda=any(Path(spec.origin).parent.glob("*.cu")))
    try:
        return getattr(importlib.import_module(module), name or op)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        raise BackendUnavailableError(
            "Compiled kernels must be kept in a folder, but neither the package's own nor the user's cache can be "
            "written; set the environment variable NUMBA_CACHE_DIR to a folder that can be."
        ) from error


def device_kind(device: str) -> str:
    """What decides the bytes: "cpu" or "cuda", whichever GPU it is.

    Example:
        >>> device_kind("cuda:3")
        'cuda'
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(device)):
        raise ValueError(f'device must be "cpu", "cuda" or "cuda:N", got {str(device)!r}.')
    return str(device).partition(":")[0]


def present(device: str) -> str:
    """The device, or an error if there is none such; torch is loaded for a GPU alone."""
    if device_kind(device) == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise BackendUnavailableError('No CUDA device was found; use device="cpu".')
        number = int(str(device).partition(":")[2] or 0)
        if number >= (num := torch.cuda.device_count()):
            raise BackendUnavailableError(f"device must be one of {num} CUDA devices, cuda:0 the first, got {device}.")
    return device


def _require_gpu(device: str, in_cuda: bool) -> None:
    """CUDA C++ is compiled by CuPy; Triton comes with torch."""
    present(device)
    if in_cuda and importlib.util.find_spec("cupy") is None:
        raise BackendUnavailableError("This GPU kernel needs CuPy; install hessfast[cuda].")
