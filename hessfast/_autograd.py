"""Graphs and dtypes for derivatives, whatever the mode of the caller."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """torch keeps graphs, in the dtypes given, also under `no_grad`, `inference_mode` and `autocast`."""
    with torch.inference_mode(False), torch.enable_grad(), without_autocast():
        yield


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """torch computes in the dtypes given."""
    with contextlib.ExitStack() as modes:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        yield


def load_forward_mode() -> None:
    """What torch loads at its first forward derivative, without its warning that torch.jit, which it uses, is old."""
    if not torch.compiler.is_compiling():
        _load_forward_mode()


@functools.cache
def _load_forward_mode() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.script`")
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))


def plain_attention() -> contextlib.AbstractContextManager[Any]:
    """Attention as products of matrices: fused kernels have neither second nor forward derivatives."""
    return sdpa_kernel(SDPBackend.MATH)
