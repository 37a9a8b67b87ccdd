"""Encoders trained on images, decoders included: the geometry-preserving one (GPE) and a plain VAE, built alike.

They differ in what they are trained for alone, so that what diffusion makes of their latents can be laid to that.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from hessfast import _arrays, _atomic, _checkpoint, _checks, _random

from .deviations import Normalisation, normalisation
from .penalties import gpe_cost

_CHECKPOINT_EVERY = 500  # steps
_AT_ONCE = 1024  # images through a network
_PARTS = ("encoder", "decoder")
_FORMAT = "hessfast.diffusability.Autoencoder 1"


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """An encoder of images `[n, channels, side, side]` and its decoder, both fixed; differentiable in what they map.

    Attributes:
        encoder, decoder: the networks, smooth (SiLU).
        normalisation: of the training images' latents, for `latents`: their mean vector and one number.
        provenance: method, settings, seed and digest of the training images.
    """

    encoder: "Encoder"
    decoder: "Decoder"
    normalisation: Normalisation
    provenance: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        return self.encoder.shape

    @property
    def latent_dim(self) -> int:
        """Numbers that an image is encoded in."""
        return self.encoder.latent_dim

    def encode(self, x: Tensor) -> Tensor:
        """Raw latents `[n, latent_dim]` of images `[n, channels, side, side]`; of a VAE the mean, not a sample."""
        return _apply(self.encoder, "x", x, self.shape)

    def decode(self, z: Tensor) -> Tensor:
        """Images `[n, channels, side, side]` of raw latents `[n, latent_dim]`."""
        return _apply(self.decoder, "z", z, (self.latent_dim,))

    def latents(self, x: Tensor) -> Tensor:
        """Latents `[n, latent_dim]` with the mean 0 and the mean square coordinate 1 over the training images."""
        return self.normalisation(self.encode(x))

    def images(self, latents: Tensor) -> Tensor:
        """Images of normalised latents: what `decode` makes of the raw ones."""
        return self.decode(self.normalisation.inverse(latents))

    def save(self, path: str | Path) -> None:
        """Write one safetensors file."""
        from safetensors.torch import save

        tensors = {
            f"{part}.{k}": v.contiguous() for part in _PARTS for k, v in getattr(self, part).state_dict().items()
        }
        settings = {"shape": self.shape, "latent_dim": self.latent_dim, "width": self.encoder.width}
        settings |= {"scale": self.normalisation.scale, "provenance": self.provenance}
        metadata = {"format": _FORMAT, "settings": json.dumps(settings)}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _atomic.write(path, [save(tensors | {"shift": self.normalisation.shift.contiguous()}, metadata)])

    @classmethod
    def load(cls, path: str | Path, device: Any = "cpu") -> "Autoencoder":
        """What `save` wrote.

        Raises:
            FileNotFoundError: without a file.
            ValueError: for a file of another kind.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"path must be a file written by Autoencoder.save, got {str(path)!r}.")
        try:
            with safe_open(path, "pt", device) as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except SafetensorError:
            metadata, tensors = {}, {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"path must be a file written by Autoencoder.save, got {str(path)!r} of another kind.")
        settings = json.loads(metadata["settings"])
        size = tuple(settings["shape"]), settings["latent_dim"], settings["width"]
        encoder, decoder = Encoder(*size).to(device), Decoder(*size).to(device)
        for part, network in zip(_PARTS, (encoder, decoder), strict=True):
            own = {name.removeprefix(f"{part}."): v for name, v in tensors.items() if name.startswith(f"{part}.")}
            network.load_state_dict(own)
        return _fixed(encoder, decoder, Normalisation(tensors["shift"], settings["scale"]), settings["provenance"])


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
    x, encoder, decoder, plan = _begun(images, plan, device)
    # Training begins with latents as far apart as images: the cost alone would take long to bring them there.
    encoder.gain.copy_(encoder.spread * (x[0].numel() / latent_dim) ** 0.5 * _normalisation(encoder, x).scale)

    def begin() -> None:
        shift, scale = _normalisation(encoder, x)
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
    _train(networks, x, [(None, geometry), (begin, reconstruction)], plan, checkpoint, progress)
    return _fixed(encoder, decoder, _normalisation(encoder, x), plan)


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
    plan["beta"] = float(_checks.float_array("beta", beta))
    if not plan["beta"] >= 0:
        raise ValueError(f"beta must be >= 0, got {beta}.")
    x, encoder, decoder, plan = _begun(images, plan, device)
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
    _train(networks, x, [(None, bound)], plan, checkpoint, progress)
    return _fixed(encoder, decoder, _normalisation(encoder, x), plan)


class Encoder(nn.Module):
    """Convolutions that halve the side down to 4 to 7, and a linear map: near to linear before it is trained.

    Args:
        shape: channels, side, side.
        latent_dim: numbers an image is mapped to.
        width: channels of the first layer, at most four times as many later.
    """

    centre: Tensor
    spread: Tensor
    gain: Tensor

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int = 32):
        super().__init__()
        self.shape, self.latent_dim, self.width = shape, latent_dim, width
        widths, sides = _stages(shape, width)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1)]
        for now, wide in zip(widths, [*widths[1:], None], strict=True):
            layers.append(_Block(now))
            if wide:
                layers.append(nn.Conv2d(now, wide, 3, stride=2, padding=1))
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * sides[-1] ** 2, latent_dim)
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("gain", torch.tensor(1.0))

    def features(self, x: Tensor) -> Tensor:
        return self.layers((x - self.centre) / self.spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.head(self.features(x))


class Decoder(nn.Module):
    """The encoder's layers backwards, with nearest neighbours where it halves the side."""

    centre: Tensor
    spread: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, int, int], latent_dim: int, width: int = 32):
        super().__init__()
        widths, self.sides = _stages(shape, width)
        self.first = nn.Linear(latent_dim, widths[-1] * self.sides[-1] ** 2)
        self.blocks = nn.ModuleList([_Block(wide) for wide in reversed(widths)])
        narrower = zip(reversed(widths), [*reversed(widths[:-1]), shape[0]], strict=True)
        self.convs = nn.ModuleList([nn.Conv2d(now, wide, 3, padding=1) for now, wide in narrower])
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("spread", torch.tensor(1.0))
        self.register_buffer("shift", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, z: Tensor) -> Tensor:
        side = self.sides[-1]
        h = self.first(self.scale * (z - self.shift)).unflatten(1, (-1, side, side))
        for block, conv, larger in zip(self.blocks, self.convs, [*reversed(self.sides[:-1]), None], strict=True):
            h = block(h)
            h = conv(functional.interpolate(h, size=larger) if larger else functional.silu(h))
        return self.centre + self.spread * h


class _Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.silu(self.conv(functional.silu(x))))


def _stages(shape: tuple[int, int, int], width: int) -> tuple[list[int], list[int]]:
    """Channels and sides from the image's own side to the least one, 4 to 7."""
    sides = [shape[1]]
    while sides[-1] >= 8:
        sides.append((sides[-1] + 1) // 2)
    return [width * min(2**k, 4) for k in range(len(sides))], sides


def _begun(images: Any, plan: dict, device: Any) -> tuple[Tensor, Encoder, Decoder, dict]:
    """Images and networks where they are to be trained, and the plan, checked."""
    x, plan = _checked(images, plan)
    encoder, decoder = _networks(x, plan)
    device = _arrays.device_of(images) if device is None else device
    return x.to(device), encoder.to(device), decoder.to(device), plan


def _networks(x: Tensor, plan: dict) -> tuple[Encoder, Decoder]:
    """Encoder and decoder of the seed, in units of the images."""
    size = (x.shape[1], x.shape[2], x.shape[3]), plan["latent_dim"], plan["width"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan["seed"] % 2**63)
        networks = Encoder(*size), Decoder(*size)
    centre = x.mean(dim=0)
    spread = float((x - centre).double().square().mean()) ** 0.5
    if not spread > 0:
        raise ValueError("images must differ, got the same one throughout.")
    for network in networks:
        network.centre.copy_(centre)
        network.spread.fill_(spread)
    return networks


def _train(
    networks: nn.ModuleDict,
    x: Tensor,
    phases: list[tuple[Callable[[], None] | None, Callable[[Tensor, torch.Generator], Tensor]]],
    plan: dict,
    checkpoint: str | Path | None,
    progress: bool,
) -> None:
    """Minimise each phase's loss of a batch for `num_steps`; what a phase leaves without a gradient stays as it is."""
    optimiser = torch.optim.Adam(networks.parameters(), plan["learning_rate"])
    path = None if checkpoint is None else Path(checkpoint)
    done = 0 if path is None else _checkpoint.load(path, networks, optimiser, plan)
    total = plan["num_steps"] * len(phases)
    for step in tqdm(range(done, total), plan["method"].upper(), total, initial=done, disable=not progress):
        phase, now = divmod(step, plan["num_steps"])
        begin, loss_of = phases[phase]
        if now == 0 and begin is not None:
            begin()
        for group in optimiser.param_groups:
            group["lr"] = plan["learning_rate"] * (1 + cos(pi * now / plan["num_steps"])) / 2
        rows, generator = _batch(len(x), plan, step)
        loss = loss_of(x[rows.to(x.device)], generator)
        if not torch.isfinite(loss):
            raise ArithmeticError(f"loss must be finite, got {loss.item()} at step {step}. Lower learning_rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        complete = now + 1 == plan["num_steps"] or (step + 1) % _CHECKPOINT_EVERY == 0
        if complete and not all(bool(weight.isfinite().all()) for weight in networks.parameters()):
            raise ArithmeticError(f"weights must be finite, got NaN or infinity at step {step}. Lower learning_rate.")
        if complete and path is not None:
            _checkpoint.save(path, networks, optimiser, step + 1, plan)


def _batch(n: int, plan: dict, step: int) -> tuple[Tensor, torch.Generator]:
    """Numbers of different images, and what else the step draws from: a function of (seed, step)."""
    generator = _random.generator(plan["seed"], *_random.AUTOENCODER_BATCHES, step)
    return torch.randperm(n, generator=generator)[: plan["batch_size"]], generator


def _fixed(encoder: Encoder, decoder: Decoder, normal: Normalisation, provenance: dict) -> Autoencoder:
    return Autoencoder(encoder.eval().requires_grad_(False), decoder.eval().requires_grad_(False), normal, provenance)


def _normalisation(encoder: Encoder, x: Tensor) -> Normalisation:
    """Of the latents of images."""
    with torch.no_grad():
        z = _apply(encoder, "images", x, encoder.shape)
    if not torch.isfinite(z).all():
        raise ArithmeticError("latents must be finite, got NaN or infinity. Lower learning_rate.")
    return normalisation(z)


def _apply(network: nn.Module, name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    if not _arrays.is_tensor(x) or x.shape[1:] != shape or not x.is_floating_point():
        got = f"{x.dtype} {tuple(x.shape)}" if _arrays.is_tensor(x) else type(x).__name__
        raise ValueError(
            f"{name} must be a floating point tensor of shape [n, {', '.join(map(str, shape))}], got {got}."
        )
    own = next(network.parameters()).dtype
    return torch.cat([network(few.to(own)) for few in x.split(_AT_ONCE)])


def _checked(images: Any, plan: dict) -> tuple[Tensor, dict]:
    """Images in float32 on the host, and the plan with their digest."""
    x = torch.as_tensor(images if _arrays.is_tensor(images) else _checks.float_array("images", images))
    if x.ndim != 4 or len(x) < 2 or x.shape[1] < 1 or x.shape[2] != x.shape[3] or x.shape[2] < 8:
        raise ValueError(
            f"images must have shape [n, channels, side, side] with n >= 2 and side >= 8, got {tuple(x.shape)}."
        )
    x = x.detach().cpu().float().contiguous()
    if not torch.isfinite(x).all():
        raise ValueError("images must be finite, got NaN or infinity.")
    plan = plan | {"latent_dim": _checks.integer("latent_dim", plan["latent_dim"], 1, x[0].numel())}
    plan |= {name: _checks.integer(name, plan[name], 1) for name in ("width", "num_steps")}
    plan |= {"batch_size": _checks.integer("batch_size", plan["batch_size"], 2), "seed": _checks.seed(plan["seed"])}
    plan["learning_rate"] = float(_checks.float_array("learning_rate", plan["learning_rate"]))
    if not plan["learning_rate"] > 0:
        raise ValueError(f"learning_rate must be > 0, got {plan['learning_rate']}.")
    return x, plan | {"shape": list(x.shape), "images": hashlib.sha256(x.numpy().tobytes()).hexdigest()}
