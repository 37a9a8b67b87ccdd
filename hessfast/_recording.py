"""Graphs for derivatives, whatever the mode of the caller."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def recording(device: str = "cpu") -> Iterator[None]:
    """torch keeps graphs, in the dtypes given, also under `no_grad`, `inference_mode` and `autocast`."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        yield
