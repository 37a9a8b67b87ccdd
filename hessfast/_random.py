"""Random numbers for the API: the key tree of the kernels (SplitMix64, hessfast.kernels._random) on NumPy arrays."""

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np

# Branches of the key tree beside those of the kernels: parameters of data sets; Fisher curves and training; slices.
PARAMETERS, DIFFUSABILITY, SLICES = 8, 9, 10
# Paths beneath, by what is drawn there. The first 2^63 children of DIFFUSABILITY are the blocks of a sweep.
DENOISER_BATCHES, AUTOENCODER_BATCHES, GENERATED, RANDOM_AXES, RANDOM_GAINS, STREAMED = (
    (DIFFUSABILITY, 2**63 + k) for k in range(6)
)
PAIRS, ENCODER_TANGENTS, DATA_TANGENTS, DROPOUT = ((DIFFUSABILITY, 2**63 + k) for k in range(6, 10))
NOISE, ANCHORS, SHIPPED_MODEL, ORDERS, LAST_BITS, HALVES, ENDS = ((SLICES, k) for k in (0, 1, 2, 3, 4, 6, 7))
_SEEDING = threading.RLock()
os.register_at_fork(before=_SEEDING.acquire, after_in_parent=_SEEDING.release, after_in_child=_SEEDING.release)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def derive(key: np.ndarray | int, *path: np.ndarray | int) -> np.ndarray:
    """The child of `key` with that number, its child with the next ...; all uint64, broadcast against each other."""
    # At least 1-d: NumPy warns when scalars wrap around 2^64, arrays do so in silence.
    key, *indices = (np.atleast_1d(np.asarray(each, dtype=np.uint64)) for each in (key, *path))
    for index in indices:
        key = mix64(key + _GOLDEN * (index + np.uint64(1)))
    return key


def generator(seed: int, *path: int):
    """torch's generator, on the host, of a place in the key tree: the same numbers whoever draws them."""
    import torch

    return torch.Generator().manual_seed(int(derive(seed, *path)[0]) >> 1)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's numbers on the host begin at a seed, for weights; afterwards, and on GPUs, they go on as before.

    The process has them but once: other threads wait, so nothing long belongs in here.
    """
    import torch

    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        yield


def uniform(words: np.ndarray) -> np.ndarray:
    """Random words as multiples of 2^-53 in [0, 1), every one of them equally likely."""
    return (words >> np.uint64(11)) * 2.0**-53
