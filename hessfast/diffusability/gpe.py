"""The geometry-preserving encoder (GPE), trained to keep the logarithms of distances, and its decoder."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hessfast._autograd import recording

from ._train_autoencoder import minimise, normalisation_of, prepare
from .autoencoder import Autoencoder, fixed
from .penalties import gpe_cost


@recording()
def train_gpe(
    images: Any,
    latent_dim: int,
    *,
    width: int = 32,
    num_steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
    checkpoint: str | Path | None = None,
    device: Any = None,
    seed: int = 0,
    progress: bool = False,
) -> Autoencoder:
    """The geometry-preserving encoder, from its published formula alone.

    The encoder minimises, over the pairs of different images of a batch and on raw latents,

        E (log(1 + |E(x) - E(x')|^2) - log(1 + |x - x'|^2))^2,

    after which the decoder minimises the mean square error with the encoder fixed. Distances are compared with 1, so
    that the unit of the images matters: nearer pairs than that hardly count. Training is a function of the seed: every
    step's batch is one of (seed, step).

    The method's authors hold a patent application and license it for research: ask them before any other use.

    Args:
        images: `[n, channels, side, side]`, side >= 8, n >= 2; such as [-1, 1].
        latent_dim: d, at most the numbers in an image.
        width: channels of the first layer; doubled at the first halving of the side, and again at the second.
        num_steps, batch_size, learning_rate: of Adam with cosine decay to zero, for the encoder and again for the
            decoder; a batch has at most n images.
        checkpoint: file in which training is kept, and gone on with.
        device: None: that of the images.

    Raises:
        ValueError: for images or sizes that do not fit, or a checkpoint of another training.
        ArithmeticError: for a loss, weights or latents that are not finite.

    References:
        Lee, O'Neill, Zou, Calder, Lerman, "Geometry-Preserving Encoder/Decoder in Latent Generative Models",
        arXiv 2501.09876.

    Example:
        >>> x = torch.rand(20, 1, 8, 8)
        >>> gpe = train_gpe(x, 2, width=4, num_steps=2)
        >>> gpe.encode(x).shape, gpe.decode(gpe.encode(x)).shape
        (torch.Size([20, 2]), torch.Size([20, 1, 8, 8]))
    """
    plan = {"method": "gpe", "latent_dim": latent_dim, "width": width, "num_steps": num_steps}
    plan |= {"batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
    x, encoder, decoder, plan = prepare(images, plan, device)
    # Training begins with latents as far apart as images: the cost alone would take long to bring them there.
    encoder.gain.copy_(encoder.spread * (x[0].numel() / latent_dim) ** 0.5 * normalisation_of(encoder, x).scale)

    def begin() -> None:
        shift, scale = normalisation_of(encoder, x)
        decoder.shift.copy_(shift)
        decoder.scale.fill_(scale)

    def geometry(batch: Tensor, _: torch.Generator) -> Tensor:
        z, n = encoder(batch), len(batch)
        pairs = (z[:, None].expand(n, n, -1).flatten(0, 1), z[None].expand(n, n, -1).flatten(0, 1))
        # On a line, so that n^2 differences of images are not kept.
        flat = batch.flatten(1)
        line = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").reshape(-1, 1)
        return gpe_cost(line, torch.zeros_like(line), *pairs).sum() / (n * (n - 1))

    def reconstruction(batch: Tensor, _: torch.Generator) -> Tensor:
        with torch.no_grad():
            z = encoder(batch)
        return (decoder(z) - batch).square().mean()

    networks = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    minimise(networks, x, [(None, geometry), (begin, reconstruction)], plan, checkpoint, progress)
    return fixed(encoder, decoder, normalisation_of(encoder, x), plan)
