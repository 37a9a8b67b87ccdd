"""Random numbers for the API: the key tree of the kernels (SplitMix64, hessfast.kernels._random) on NumPy arrays."""

import numpy as np

PARAMETERS = 8  # the branch of the key tree from which data sets draw their parameters
DIFFUSABILITY = 9  # that of the noise and the probes of Fisher curves, and of training
SLICES = 10  # and that of the noise and the anchors of latent slices
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def derive(key: np.ndarray | int, index: np.ndarray | int) -> np.ndarray:
    """The child of `key` with number `index`; both uint64, broadcast against each other."""
    # At least 1-d: NumPy warns when scalars wrap around 2^64, arrays do so in silence.
    key, index = (np.atleast_1d(np.asarray(each, dtype=np.uint64)) for each in (key, index))
    return mix64(key + _GOLDEN * (index + np.uint64(1)))


def generator(seed: int, *path: int):
    """torch's generator, on the host, of a place in the key tree: the same numbers whoever draws them."""
    import torch

    key: int | np.ndarray = seed
    for index in path:
        key = derive(key, index)
    return torch.Generator().manual_seed(int(np.ravel(key)[0]) >> 1)


def uniform(words: np.ndarray) -> np.ndarray:
    """Random words as multiples of 2^-53 in [0, 1), every one of them equally likely."""
    return (words >> np.uint64(11)) * 2.0**-53
