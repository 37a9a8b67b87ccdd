"""Packed words to spins and back; the layout is described at `IsingBatch`."""

from typing import Any

import numpy as np

from hessfast import _arrays

# The eight bits of an octet at the even places of sixteen: black and white sites alternate in a lattice row.
_SPREAD = np.array([sum((octet >> k & 1) << 2 * k for k in range(8)) for octet in range(256)], "<u2")


def unpack(words: Any, size: int) -> Any:
    """Words uint64 [n, 4, size/2, ceil(size/128)] as spins int8 [n, size, size] in {-1, +1}, where the words are."""
    if _arrays.is_tensor(words) and words.device.type != "cpu":
        return _unpack_on_device(words, size)
    return _arrays.like(_unpack_on_host(_arrays.to_numpy(words), size), words)


def _unpack_on_host(words: np.ndarray, size: int) -> np.ndarray:
    octets = np.ascontiguousarray(words, "<u8").view(np.uint8)
    black_even, black_odd, white_even, white_odd = np.moveaxis(_SPREAD[octets], 1, 0)
    rows = np.stack([black_even | white_even << 1, white_odd | black_odd << 1], axis=2)
    spins = np.unpackbits(rows.view(np.uint8), axis=-1, count=size, bitorder="little").view(np.int8)
    spins *= 2
    spins -= 1
    return spins.reshape(-1, size, size)


def _unpack_on_device(words: Any, size: int) -> Any:
    import torch

    bits = words.view(torch.int64)[..., None] >> torch.arange(64, device=words.device) & 1
    bits = bits.to(torch.int8).flatten(-2)[..., : size // 2]
    spins = torch.empty((len(words), size, size), dtype=torch.int8, device=words.device)
    for plane in range(4):
        row, colour = plane & 1, plane >> 1
        spins[:, row::2, row ^ colour :: 2] = 2 * bits[:, plane] - 1
    return spins


def pack(spins: np.ndarray) -> np.ndarray:
    """Spins [n, size, size], up where positive, as words."""
    size = spins.shape[-1]
    bits = np.zeros((len(spins), 4, size // 2, -(-size // 128) * 64), np.uint8)
    for plane in range(4):
        row, colour = plane & 1, plane >> 1
        bits[:, plane, :, : size // 2] = spins[:, row::2, row ^ colour :: 2] > 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<u8").astype(np.uint64)
