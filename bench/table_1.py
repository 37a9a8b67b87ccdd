"""Errors of log Z learned from samples, on the models and the grid of Table 1 of the paper, beside the published ones.

    python -m bench.table_1 ising [--num 20000] [--seeds 4 5 6]
    python -m bench.table_1 tasep

Root mean square over the centres of 128 x 128 cells, in raw units: F = -T log Z / N per site and its derivatives in T
and H; for the TASEP the current J and its derivatives in the rates. log Z is known up to an affine function of the
natural parameters only; its three coefficients are those closest to the truth by least squares, for every row.
"""

import argparse
import statistics
import time

import numpy as np

from hessfast import ising, tasep
from hessfast.log_partition import affine_fit
from hessfast.posterior import ExponentialFamilyPosterior, Grid, ising_patterns, tasep_profile

NUM_SITES = 16_384
PUBLISHED = {"ising": (0.0883, 0.1106, 0.1237), "tasep": (0.0112, 0.1165, 0.1135)}
HEADER = {"ising": ("F", "dF/dT", "dF/dH"), "tasep": ("J", "dJ/dalpha", "dJ/dbeta")}


class Ising:
    """T in [1, 5], H in [-2, 2]; natural parameters 1/T and H/T."""

    box = (1.0, -2.0), (5.0, 2.0)
    grid = Grid.cells(*box, (128, 128))

    @staticmethod
    def natural(parameters):
        return np.column_stack([1 / parameters[:, 0], parameters[:, 1] / parameters[:, 0]])

    @staticmethod
    def features(parameters, seed):
        return ising_patterns(ising.sample(*parameters.T, seed=seed))

    def __init__(self):
        self.T, self.H = self.grid.points.reshape(-1, 2).T
        table = ising.LogPartitionTable.load()
        self.log_z, self.magnetization = table(self.T, self.H), table.mean_magnetization(self.T, self.H)
        energy = table.mean_energy(self.T, self.H)
        # d log Z / d(1/T) = -(energy without the field)
        self.means = np.column_stack([-energy, self.magnetization])

    def values(self, log_z, means):
        """F and its derivatives, from log Z per site and its gradient in the natural parameters."""
        along_temperature = -log_z + (means[:, 0] + self.H * means[:, 1]) / self.T
        return -self.T * log_z, along_temperature, -means[:, 1]


class Tasep:
    """Rates in (0, 1); natural parameters are their logits, log Z / N becomes -log(J) / 2."""

    box = (0.0, 0.0), (1.0, 1.0)
    grid = Grid.cells(*box, (128, 128))

    @staticmethod
    def natural(parameters):
        return np.log(parameters / (1 - parameters))

    @staticmethod
    def features(parameters, seed):
        return tasep_profile(tasep.sample(*parameters.T, num_sites=NUM_SITES, seed=seed))

    def __init__(self):
        self.rates = self.grid.points.reshape(-1, 2)
        current = tasep.current(*self.rates.T, num_sites=NUM_SITES)
        fewer, all_sites = (
            tasep.log_partition_derivatives(*self.rates.T, num_sites=m, with_respect_to="rates").gradient
            for m in (NUM_SITES - 1, NUM_SITES)
        )
        self.log_z = -np.log(current) / 2
        self.means = -(fewer - all_sites) / 2 * self.rates * (1 - self.rates)

    def values(self, log_z, means):
        current = np.exp(-2 * log_z)
        slopes = -2 * current[:, None] * means / (self.rates * (1 - self.rates))
        return current, slopes[:, 0], slopes[:, 1]


def errors(model, log_z, means):
    """Root mean square errors after the affine alignment, of the potential and of its gradient alike."""
    theta = model.natural(model.grid.points.reshape(-1, 2))
    constant, slope = affine_fit(model.log_z - log_z, theta)
    learned = model.values(log_z + constant + theta @ slope, means + slope)
    truth = model.values(model.log_z, model.means)
    return [float(np.sqrt(np.mean((a - b) ** 2))) for a, b in zip(learned, truth, strict=True)]


def learn(model, num, seed, resolution):
    """Errors of one fit to `num` fresh samples, with the seconds of all of it, and the fit."""
    start = time.perf_counter()
    parameters = np.random.default_rng(seed).uniform(*model.box, (num, 2))
    posterior = ExponentialFamilyPosterior(NUM_SITES, to_natural=model.natural, resolution=resolution)
    posterior.fit(model.features(parameters, seed), parameters)
    seconds = time.perf_counter() - start
    theta = model.natural(model.grid.points.reshape(-1, 2))
    return errors(model, posterior.phi(theta), posterior.mean(theta)), seconds, posterior


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.table_1", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", choices=sorted(PUBLISHED))
    parser.add_argument("--num", type=int, default=20_000, help="samples")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 5, 6])
    parser.add_argument("--resolution", type=int, help="intervals of the splines")
    arguments = parser.parse_args()
    model = {"ising": Ising, "tasep": Tasep}[arguments.model]()
    line = "{:<44}" + "{:>11}" * 3
    print(line.format("", *HEADER[arguments.model]))
    print(line.format("published", *PUBLISHED[arguments.model]))
    flat = np.zeros_like(model.log_z), np.zeros_like(model.means)
    print(line.format("affine log Z: nothing learned", *(f"{x:.4f}" for x in errors(model, *flat))))
    rows = []
    for seed in arguments.seeds:
        row, seconds, posterior = learn(model, arguments.num, seed, arguments.resolution)
        rows.append(row)
        name = f"{arguments.num} samples, seed {seed}, {seconds:.0f} s, {posterior.convexity_:.0%} convex"
        print(line.format(name, *(f"{x:.4f}" for x in row)), flush=True)
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    print(line.format("median", *(f"{x:.4f}" for x in medians)))
    times = [p / m for p, m in zip(PUBLISHED[arguments.model], medians, strict=True)]
    print(line.format("times below the published", *(f"{x:.1f}" for x in times)))


if __name__ == "__main__":
    main()
