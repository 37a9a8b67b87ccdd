"""The PCA-VAE baseline (Walker et al. 2020): principal components of a variational autoencoder's code as statistics."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hessfast import _random
from hessfast._training import descend

_LATENT, _WIDTH = 8, 16
_RATE = 1e-3
_CODED = 1024  # images at a time


class Autoencoder(nn.Module):
    """Images `[n, rows, columns]`, sides divisible by four, to a Gaussian code and back."""

    def __init__(self, side: int):
        super().__init__()
        small = (2 * _WIDTH, side // 4, side // 4)
        flat = int(np.prod(small))
        self.encode = nn.Sequential(
            nn.Conv2d(1, _WIDTH, 4, 2, 1), nn.ReLU(), nn.Conv2d(_WIDTH, 2 * _WIDTH, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(flat, 2 * _LATENT),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(_LATENT, flat), nn.ReLU(), nn.Unflatten(1, small),
            nn.ConvTranspose2d(2 * _WIDTH, _WIDTH, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(_WIDTH, 1, 4, 2, 1),
        )  # fmt: skip

    def loss(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Minus the evidence lower bound with a decoder of variance 1, in nats an image."""
        mean, log_variance = self.encode(images[:, None]).chunk(2, dim=1)
        code = mean + noise * (log_variance / 2).exp()
        misfit = functional.mse_loss(self.decode(code)[:, 0], images, reduction="sum") / 2
        divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum() / 2
        return (misfit + divergence) / len(images)


def pca_vae_statistics(images: np.ndarray, num_steps: int, batch_size: int = 128, seed: int = 0):
    """A function from images to the two leading principal components of the code's mean, of unit variance `[n, 2]`."""
    generator = torch.Generator().manual_seed(seed)
    with _random.seeded(seed):
        network = Autoencoder(images.shape[1])
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    for _ in range(num_steps):
        rows = torch.randint(len(images), (batch_size,), generator=generator)
        noise = torch.randn(batch_size, _LATENT, generator=generator)
        descend(optimiser, network.loss(_tensor(images[rows.numpy()]), noise), _RATE)

    def code(images: np.ndarray) -> np.ndarray:
        starts = range(0, len(images), _CODED)
        with torch.no_grad():
            parts = [network.encode(_tensor(images[s : s + _CODED])[:, None])[:, :_LATENT] for s in starts]
        return torch.cat(parts).double().numpy()

    known = code(images)
    _, spread, axes = np.linalg.svd(known - known.mean(axis=0), full_matrices=False)
    return lambda images: (code(images) - known.mean(axis=0)) @ axes[:2].T / spread[:2] * len(known) ** 0.5


def _tensor(images: np.ndarray) -> torch.Tensor:
    """Images of any real dtype, perhaps mapped from a file, in float32."""
    return torch.from_numpy(images.astype(np.float32))
