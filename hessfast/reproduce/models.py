"""The two models of the paper's Table 1: what is sampled, what is measured, and the truth it is compared with."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hessfast import datasets, ising, tasep
from hessfast.posterior import ExactPosterior, Grid, ising_patterns, tasep_profile

CELLS = (128, 128)  # their centres are where errors are measured
_CHUNK = 4096  # samples at a time
_MANY = 100_000  # samples
_STEP = 1e-4  # of natural parameters: the width of a line of first order, to which it smooths the metric


class Ising:
    """T in [1, 5], H in [-2, 2]; natural parameters 1/T and H/T, F = -T log Z / N per site."""

    name = "ising"
    parameters = ("temperature", "field")
    quantities = ("F", "dF_dT", "dF_dH")
    box = (1.0, -2.0), (5.0, 2.0)
    num = 540_000  # of the paper
    bump_width = 1 / 150
    published_bump_width = 1 / 50  # wider than most posteriors: the metric came out too flat

    def __init__(self, size: int = 128, num: int = num, pixels: int = 32):
        self.size, self.num_sites, self.grid = size, size**2, Grid.cells(*self.box, CELLS)
        self.pixels = _pixels(size, pixels)  # a side of the images that networks see
        self.T, self.H = self.grid.points.reshape(-1, 2).T
        table, theta = ising.LogPartitionTable.load(), self.natural(np.column_stack([self.T, self.H]))

        def means(theta: np.ndarray) -> np.ndarray:
            T, H = 1 / theta[:, 0], theta[:, 1] / theta[:, 0]
            return np.column_stack([-table.mean_bond_energy(T, H), table.mean_magnetization(T, H)])

        self.log_z, self.means = table(self.T, self.H), means(theta)
        slopes = [(means(theta + e) - means(theta - e)) / (2 * _STEP) for e in _STEP * np.eye(2)]
        self.metric = (np.stack(slopes, axis=1) + np.stack(slopes, axis=2)) / 2  # per site, in natural parameters

    @staticmethod
    def natural(parameters: np.ndarray) -> np.ndarray:
        return np.stack([1 / parameters[..., 0], parameters[..., 1] / parameters[..., 0]], axis=-1)

    def plan(self, num: int, seed: int) -> Any:
        return datasets.ising_plan(num, size=self.size, seed=seed)

    def sample(self, parameters: np.ndarray, seed: int) -> Any:
        return ising.sample(*parameters.T, size=self.size, seed=seed)

    def features(self, batch: Any) -> np.ndarray:
        return ising_patterns(batch)

    def images(self, batch: Any) -> np.ndarray:
        return _shrunk(batch.spins(), self.pixels)

    def known_statistics(self, batch: Any) -> np.ndarray:
        return np.column_stack([-np.asarray(batch.bond_energy()), np.asarray(batch.magnetization())]) / self.num_sites

    def exact(self) -> ExactPosterior:
        """With log Z per spin of size 128, as the truth of this class, whatever the size."""
        return ExactPosterior.ising(ising.LogPartitionTable.load())

    def values(self, log_z: np.ndarray, means: np.ndarray) -> np.ndarray:
        """F and its derivatives `[3, nodes]`, from log Z per site and its gradient in the natural parameters."""
        along_temperature = -log_z + (means[:, 0] + self.H * means[:, 1]) / self.T
        return np.stack([-self.T * log_z, along_temperature, -means[:, 1]])

    def guesses(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """log Z and its gradient in the natural parameters of what needs no samples."""
        b, h = 1 / self.T, self.H / self.T
        field = np.abs(h), np.column_stack([np.zeros_like(b), np.sign(h)])
        paramagnet = np.log(2 * np.cosh(h)), np.column_stack([np.zeros_like(b), np.tanh(h)])
        return {"absolute_field": field, "paramagnet": paramagnet}


class Tasep:
    """Rates in (0, 1); natural parameters are their logits, log Z / N becomes -log(J) / 2, J the current."""

    name = "tasep"
    parameters = ("entry_rate", "exit_rate")
    quantities = ("J", "dJ_dalpha", "dJ_dbeta")
    box = (0.0, 0.0), (1.0, 1.0)
    num = 150_000
    bump_width = published_bump_width = 1 / 150

    def __init__(self, size: int = 128, num: int = num, pixels: int = 32):
        self.pixels = _pixels(size, pixels)
        self.num_sites, self.grid = size**2, Grid.cells(*self.box, CELLS)
        # One of an odd number of hats is at 1/2; f is piecewise linear in the density, and needs samples in each piece.
        self.num_densities = 65 if num < _MANY else 129
        self.rates = self.grid.points.reshape(-1, 2)
        self.log_z = -np.log(tasep.current(*self.rates.T, num_sites=self.num_sites)) / 2
        fewer, all_sites = (  # in log fugacities, minus the logits
            tasep.log_partition_derivatives(*self.rates.T, num_sites=m) for m in (self.num_sites - 1, self.num_sites)
        )
        self.means = (fewer.gradient - all_sites.gradient) / 2
        self.metric = (all_sites.hessian - fewer.hessian) / 2  # per site, in natural parameters

    @staticmethod
    def natural(parameters: np.ndarray) -> np.ndarray:
        return np.log(parameters / (1 - parameters))

    def plan(self, num: int, seed: int) -> Any:
        return datasets.tasep_plan(num, num_sites=self.num_sites, seed=seed)

    def sample(self, parameters: np.ndarray, seed: int) -> Any:
        return tasep.sample(*parameters.T, num_sites=self.num_sites, seed=seed)

    def features(self, batch: Any) -> np.ndarray:
        return tasep_profile(batch, num_densities=self.num_densities)

    def images(self, batch: Any) -> np.ndarray:
        side = int(self.num_sites**0.5)
        return _shrunk(batch.occupations().reshape(-1, side, side), self.pixels)

    def known_statistics(self, batch: Any) -> np.ndarray:
        """The density up to one half, and beyond: those of long chains off their first-order line."""
        density = batch.occupations().mean(axis=1, dtype=np.float64)
        return np.column_stack([np.minimum(density, 0.5), -np.maximum(density, 0.5)])

    def exact(self) -> ExactPosterior:
        return ExactPosterior.tasep()

    def values(self, log_z: np.ndarray, means: np.ndarray) -> np.ndarray:
        current = np.exp(-2 * log_z)
        slopes = -2 * current[:, None] * means / (self.rates * (1 - self.rates))
        return np.stack([current, *slopes.T])

    def guesses(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {}


MODELS = {"ising": Ising, "tasep": Tasep}
# RMSE of Table 1 of the paper, in its units.
PUBLISHED = {
    "ising": {
        "paper_method": (0.0883, 0.1106, 0.1237),
        "mean_as_stat": (0.0981, 0.4766, 1.0936),
        "pca_vae": (0.1669, 0.7428, 0.7988),
    },
    "tasep": {
        "paper_method": (0.0112, 0.1165, 0.1135),
        "mean_as_stat": (0.0529, 0.3832, 0.3833),
        "pca_vae": (0.0524, 0.3837, 0.3872),
    },
}


def gather(function, store) -> Iterator[np.ndarray]:
    """`function` of all samples of a store, a few at a time."""
    for start in range(0, store.plan.num, _CHUNK):
        yield function(datasets.batch(store, slice(start, start + _CHUNK)))


def _pixels(side: int, pixels: int) -> int:
    """Pixels of images whose blocks divide the side, `pixels` or a few more; all sites where these are fewer."""
    return side // max(block for block in range(1, max(side // pixels, 1) + 1) if side % block == 0)


def _shrunk(images: np.ndarray, pixels: int) -> np.ndarray:
    """Means over blocks in float32, down to `pixels` a side; images that are no larger stay as they are, integers."""
    num, side, _ = images.shape
    block = side // pixels
    if block == 1:
        return images
    return images.astype(np.float32).reshape(num, pixels, block, pixels, block).mean(axis=(2, 4))
