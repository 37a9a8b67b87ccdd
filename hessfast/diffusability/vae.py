"""A plain variational autoencoder, built like the GPE: what differs is what it is trained for alone."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hessfast import _checks
from hessfast._autograd import recording

from ._train_autoencoder import minimise, normalisation_of, prepare
from .autoencoder import Autoencoder, fixed


@recording()
def train_vae(
    images: Any,
    latent_dim: int,
    *,
    beta: float = 0.1,
    width: int = 32,
    num_steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    checkpoint: str | Path | None = None,
    device: Any = None,
    seed: int = 0,
    progress: bool = False,
) -> Autoencoder:
    """A variational autoencoder: its posterior is normal with a diagonal covariance, its prior N(0, I).

    Encoder and decoder minimise E |x - D(z)|^2 + beta KL, z ~ q(z | x), the evidence bound for pixels with a noise of
    variance beta / 2. `Autoencoder.encode` gives the mean of q; its variance is not kept. Otherwise as `train_gpe`.

    Args:
        images, latent_dim, width: see `train_gpe`.
        beta: of the KL divergence, in units of the images squared.
        num_steps, batch_size, learning_rate: of Adam with cosine decay to zero; a batch has at most n images.
        checkpoint: file in which training is kept, and gone on with.
        device: None: that of the images.

    Raises:
        ValueError: for images or sizes that do not fit, or a checkpoint of another training.
        ArithmeticError: for a loss, weights or latents that are not finite.

    References:
        Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014; beta: Higgins et al., ICLR 2017.

    Example:
        >>> x = torch.rand(20, 1, 8, 8)
        >>> vae = train_vae(x, 2, width=4, num_steps=2)
        >>> round(float((vae.latents(x) ** 2).mean()), 4)
        1.0
    """
    plan = {"method": "vae", "latent_dim": latent_dim, "width": width, "num_steps": num_steps}
    plan |= {"batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    plan["beta"] = _checks.number("beta", beta, low=0)
    x, encoder, decoder, plan = prepare(images, plan, device)
    log_variance = nn.utils.skip_init(nn.Linear, encoder.head.in_features, latent_dim, device=x.device)
    for part in log_variance.parameters():
        nn.init.zeros_(part)  # the prior's

    def bound(batch: Tensor, generator: torch.Generator) -> Tensor:
        h = encoder.features(batch)
        mean, log = encoder.head(h), log_variance(h)
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        error = (decoder(mean + (log / 2).exp() * noise) - batch).square().flatten(1).sum(dim=1)
        divergence = (mean**2 + log.exp() - 1 - log).sum(dim=1) / 2
        return (error + plan["beta"] * divergence).mean() / batch[0].numel()

    networks = nn.ModuleDict({"encoder": encoder, "decoder": decoder, "log_variance": log_variance})
    minimise(networks, x, [(None, bound)], plan, checkpoint, progress)
    return fixed(encoder, decoder, normalisation_of(encoder, x), plan)
