"""What is learned: statistics linear in the features, and the potential whose gradient is their mean."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ._basis import Basis


@dataclass(frozen=True, eq=False)
class Fit:
    """f(x) = directions^T z(x) + offset and phi = basis . coefficients, both per site."""

    directions: np.ndarray
    offset: np.ndarray
    basis: Basis
    coefficients: np.ndarray
    mixing: np.ndarray

    def log_z(self, theta: np.ndarray) -> np.ndarray:
        return self.basis.values(theta) @ self.coefficients

    def mean(self, theta: np.ndarray) -> np.ndarray:
        return np.stack([self.basis.gradient(theta, a) @ self.coefficients for a in range(self.basis.dim)], axis=-1)

    def fisher_metric(self, theta: np.ndarray) -> np.ndarray:
        metric = np.empty((len(theta), self.basis.dim, self.basis.dim))
        for a in range(self.basis.dim):
            for b in range(a + 1):
                metric[:, a, b] = metric[:, b, a] = self.basis.hessian(theta, a, b) @ self.coefficients
        return metric

    def centred(self, gauge: np.ndarray) -> "Fit":
        """The same but for an affine function: phi and grad phi have mean zero over `gauge`, `[n, dim]`."""
        linear, constant = self.basis.affine()
        slope = self.mean(gauge).mean(axis=0)
        c = self.coefficients - linear @ slope
        c = c - constant * (self.basis.values(gauge) @ c).mean()
        return dataclasses.replace(self, offset=self.offset - slope, coefficients=c)
