"""The posterior of the paper: a U2-Net that maps a few samples of nearly one parameter to a map over parameters."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from scipy.special import softmax

from hessfast import _checks, _random
from hessfast._dispatch import present

from .grid import Grid, checked_grid
from .result import Posterior

SIZES = ("full", "small", "tiny")  # 44, 1.1 and 0.14 million weights
_CHECKPOINT_EVERY = 200  # steps
_EVALUATED = 64  # bundles at once
_CHECKED = 4096  # images at once


class U2NetPosterior:
    """p(t | x_1 .. x_K) as a picture: samples are the channels of an image, the output its softmax over a grid.

    Trained on bundles of K samples drawn from the nearest neighbours of a random sample in parameter space; the target
    is the mean of Gaussian bumps at their parameters, the loss cross-entropy, as published. Two biases follow: no
    posterior comes out narrower than the bump, and the samples of a bundle differ a little in parameter. Bundles are a
    function of (seed, step, position) alone. In a process group (torchrun) each rank takes its share of a batch and
    gradients are averaged; BatchNorm then sees that share only.

    Args:
        images: maps samples to arrays `[n, rows, columns]` of order one; None if they are that. A memory map is read
            as it is needed, and images of any real dtype stay what they are: a few at a time become float32.
        box: lowest and highest parameters, the box of the grid.
        size: "full" (the published network), "small" or "tiny".
        bundle: K.
        num_neighbours: from which a bundle is drawn.
        bump_width: standard deviation of the bumps, in units of the box's sides.
        num_steps, batch_size, learning_rate: of Adam, with a cosine decay to zero.
        checkpoint: file in which training is kept, and gone on with; None for none. Under torchrun on a disk that all
            ranks see.
        device: "cpu" or "cuda".
        seed: of weights and bundles.
        progress: show a bar.

    Attributes:
        grid_: cells of the output, as many as an image has pixels; `log_posterior` answers on it alone.
        losses_: cross-entropy of each step of this run.

    References:
        Lobashev et al., "Hessian Geometry of Latent Space in Generative Models", ICML 2025, section 4; Qin et al.,
        "U2-Net: Going deeper with nested U-structure", 2020.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> t = rng.uniform(0, 1, (200, 2))
        >>> x = t.mean(axis=1)[:, None, None] + rng.normal(size=(200, 16, 16))
        >>> network = U2NetPosterior(box=((0, 0), (1, 1)), size="tiny", num_steps=2, batch_size=8).fit(x, t)
        >>> posterior = network.log_posterior(x[:8], network.grid_)
        >>> posterior.log_mass.shape, bool(np.allclose(np.exp(posterior.log_mass).sum(axis=(1, 2)), 1, atol=1e-5))
        ((2, 16, 16), True)
    """

    def __init__(
        self,
        images: Callable[[Any], Any] | None = None,
        *,
        box: tuple[Any, Any],
        size: str = "full",
        bundle: int = 4,
        num_neighbours: int = 8,
        bump_width: float = 1 / 50,
        num_steps: int = 20_000,
        batch_size: int = 2048,
        learning_rate: float = 1e-5,
        checkpoint: str | Path | None = None,
        device: str = "cpu",
        seed: int = 0,
        progress: bool = False,
    ):
        self.images = images
        ends = _checks.float_array("box", box)
        if ends.shape != (2, 2) or not (ends[0] < ends[1]).all():
            raise ValueError(f"box must be the lowest and the highest of two parameters, got {box}.")
        self.box = tuple(map(tuple, ends.tolist()))
        self.size = _checks.choice("size", size, SIZES)
        self.bundle = _checks.integer("bundle", bundle, 1)
        self.num_neighbours = _checks.integer("num_neighbours", num_neighbours, self.bundle)
        self.bump_width = _checks.positive("bump_width", bump_width)
        self.num_steps = _checks.integer("num_steps", num_steps, 1)
        self.batch_size = _checks.integer("batch_size", batch_size, 2)
        self.learning_rate = _checks.positive("learning_rate", learning_rate)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.device, self.progress = present(device), progress
        self.seed = _checks.seed(seed)

    def fit(self, samples: Any, parameters: Any) -> "U2NetPosterior":
        """Train on samples and their parameters `[n, 2]`.

        Raises:
            ValueError: for shapes that do not fit, NaN, parameters outside the box, or another training's checkpoint.
            ArithmeticError: for a loss or weights that are not finite.
        """
        from hessfast._autograd import recording

        from ._u2net import U2Net

        images = self._images(samples)
        if images.shape[1] < 16 or images.shape[2] < 16:
            raise ValueError(f"images must be at least 16 x 16, got {images.shape[1]} x {images.shape[2]}.")
        grid = Grid.cells(self.box[0], self.box[1], images.shape[1:])
        place = self._place(parameters, len(images))
        if len(place) < self.num_neighbours:
            raise ValueError(f"samples must number at least {self.num_neighbours}, got {len(place)}.")
        with recording(), _random.seeded(self.seed):
            network = U2Net(self.bundle, self.size).float().to(self.device)
        near = np.reshape(KDTree(place).query(place, self.num_neighbours)[1], (len(place), -1))  # of one neighbour [n]
        with recording():
            losses = self._train(network, images, place, near)
        self._network, self.grid_, self.losses_ = network.eval(), grid, losses
        return self

    def _train(self, network: Any, images: np.ndarray, place: np.ndarray, near: np.ndarray) -> np.ndarray:
        import torch

        from hessfast import _distributed
        from hessfast._training import cosine, descend, steps

        rank, ranks = _distributed.ranks()
        if self.batch_size % ranks or self.batch_size // ranks < 2:
            raise ValueError(f"batch_size must give each of {ranks} ranks as many, 2 or more, got {self.batch_size}.")
        trained = torch.nn.parallel.DistributedDataParallel(network) if ranks > 1 else network
        optimiser = torch.optim.Adam(network.parameters(), self.learning_rate)
        plan = {name: getattr(self, name) for name in ("size", "bundle", "num_neighbours", "bump_width", "num_steps")}
        plan |= {"batch_size": self.batch_size, "learning_rate": self.learning_rate, "seed": self.seed}
        plan |= {"box": self.box, "images": images.shape, "samples": _digest(images, place)}
        axes = [(np.arange(size) + 0.5) / size for size in images.shape[1:]]
        losses = []
        for step in steps(
            network, optimiser, self.num_steps, plan, self.checkpoint,
            every=_CHECKPOINT_EVERY, name="U2-Net", progress=self.progress, rank=rank,
        ):  # fmt: skip
            rng = np.random.default_rng([self.seed, step])
            first = rng.integers(len(images), size=self.batch_size)
            chosen = rng.permuted(np.tile(np.arange(self.num_neighbours), (self.batch_size, 1)), axis=1)
            bundles = near[first[:, None], chosen[:, : self.bundle]][rank::ranks]
            bumps = [
                softmax(-(((place[bundles][..., k, None] - axis) / self.bump_width) ** 2) / 2, axis=-1)
                for k, axis in enumerate(axes)
            ]
            target = np.einsum("nkr,nkc->nrc", *bumps) / self.bundle
            x = _float32(images[bundles]).to(self.device)
            log_p = torch.log_softmax(trained(x).flatten(1), dim=1)
            loss = -(torch.as_tensor(target, dtype=torch.float32, device=self.device).flatten(1) * log_p).sum(1).mean()
            losses.append(descend(optimiser, loss, self.learning_rate * cosine(step / self.num_steps)))
        if ranks > 1:  # BatchNorm saw the last batch of each rank; the checkpoint holds what rank 0 saw
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, 0)
        return np.array(losses)

    def log_posterior(self, samples: Any, grid: Grid, *, bundle: int | None = None) -> Posterior:
        """The posterior of every K consecutive samples of one parameter.

        Args:
            samples: as in `fit`.
            grid: `grid_`.
            bundle: K; also if None.

        Raises:
            ValueError: for another grid than `grid_`, another bundle than K, or a number of samples K does not divide.
        """
        import torch

        network = _checks.fitted(self, "_network")
        if checked_grid(grid) != self.grid_:
            raise ValueError("grid must be grid_, the pixels of the network's output. Pass posterior.grid_.")
        if bundle not in (None, self.bundle):
            raise ValueError(f"bundle must be {self.bundle}, the network's number of channels, got {bundle}.")
        images = self._images(samples)
        if images.shape[1:] != grid.shape:
            raise ValueError(f"images must have shape [n, {grid.shape[0]}, {grid.shape[1]}], got {images.shape}.")
        if len(images) % self.bundle:
            raise ValueError(f"bundle must divide the number of samples, got {self.bundle} for {len(images)}.")
        bundles = images.reshape(-1, self.bundle, *grid.shape)
        starts = range(0, len(bundles), _EVALUATED)
        with torch.no_grad():
            maps = [network(_float32(bundles[s : s + _EVALUATED]).to(self.device)).cpu() for s in starts]
        flat = torch.cat([*maps, torch.empty(0, *grid.shape)]).flatten(1)
        return Posterior(torch.log_softmax(flat, dim=1).numpy().reshape(-1, *grid.shape), grid)

    def _images(self, samples: Any) -> np.ndarray:
        """As they came, after a look at all of them, a few at a time."""
        images = _checks.whole("images", samples if self.images is None else self.images(samples))
        if images.ndim != 3:
            raise ValueError(f"images must have shape [n, rows, columns], got {images.shape}.")
        for few in _parts(images):
            with np.errstate(over="ignore"):
                if np.isinf(_checks.float_array("images", few).astype(np.float32)).any():
                    raise ValueError(
                        "images must be of order one, got numbers beyond float32. Divide them by their spread."
                    )
        return images

    def _place(self, parameters: Any, num: int) -> np.ndarray:
        """Parameters in units of the box."""
        parameters = _checks.float_array("parameters", parameters)
        if parameters.shape != (num, 2):
            raise ValueError(f"parameters must have shape [{num}, 2], got {parameters.shape}.")
        low, high = np.array(self.box)
        place = (parameters - low) / (high - low)
        if ((place < 0) | (place > 1)).any():
            raise ValueError(f"parameters must lie in the box, {self.box[0]} to {self.box[1]}.")
        return place


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    return (images[start : start + _CHECKED] for start in range(0, len(images), _CHECKED))


def _float32(images: np.ndarray) -> Any:
    """A tensor with memory of its own."""
    import torch

    return torch.from_numpy(images.astype(np.float32))


def _digest(images: np.ndarray, place: np.ndarray) -> str:
    """SHA-256 of images in float32 and of their parameters."""
    digest = hashlib.sha256()
    for few in _parts(images):
        digest.update(few.astype(np.float32).tobytes())
    digest.update(np.ascontiguousarray(place).data)
    return digest.hexdigest()
