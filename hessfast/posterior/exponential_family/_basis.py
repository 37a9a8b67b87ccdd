"""Smooth functions of the natural parameters, with a kink across one hyperplane, and their penalised fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.polynomial import legendre
from scipy import linalg, sparse
from scipy.interpolate import BSpline

if TYPE_CHECKING:
    import torch

DEGREE = 3


@dataclass(frozen=True, eq=False)
class Hyperplane:
    """s(t) = normal . t - offset, with a unit normal; samples are on either side with odds exp(2 s / width)."""

    normal: np.ndarray
    offset: float
    width: float

    def __call__(self, points: np.ndarray) -> np.ndarray:
        return points @ self.normal - self.offset

    def side(self, points: np.ndarray) -> np.ndarray:
        """The mean side `[n]`, from -1 to 1."""
        return np.tanh(self(points) / self.width)

    def rounded(self, points: np.ndarray) -> list[np.ndarray]:
        """|s| rounded over the width, and its first and second derivative in s, `[n]` each."""
        s, side = self(points) / self.width, self.side(points)
        return [self.width * np.logaddexp(s, -s), side, (1 - side**2) / self.width]


class Splines:
    """All products of one cubic B-spline for each coordinate.

    Args:
        knots: of each coordinate, ascending, the first and the last four times.
    """

    def __init__(self, knots: Sequence[np.ndarray]):
        self.axes = [BSpline(each, np.eye(len(each) - DEGREE - 1), DEGREE) for each in knots]
        sizes, dim = [axis.c.shape[1] for axis in self.axes], len(knots)
        self.size = math.prod(sizes)
        # Third derivatives times the interval cubed, squared: parabolas are free, whatever the knots.
        bends = []
        for axis in self.axes:
            ends = axis.t[DEGREE:-DEGREE]
            bends.append(axis((ends[1:] + ends[:-1]) / 2, nu=3) * np.diff(ends)[:, None] ** 3)
        self.roughness = sum(
            np.kron(np.kron(np.eye(math.prod(sizes[:k])), bend.T @ bend), np.eye(math.prod(sizes[k + 1 :])))
            for k, bend in enumerate(bends)
        )
        self.constant = np.ones(self.size)
        # Marsden's identity: a coordinate is the spline whose coefficients are means of DEGREE successive knots.
        means = [np.lib.stride_tricks.sliding_window_view(axis.t[1:-1], DEGREE).mean(axis=1) for axis in self.axes]
        self.linear = np.stack(np.meshgrid(*means, indexing="ij"), axis=-1).reshape(-1, dim)

    @classmethod
    def over(cls, points: np.ndarray, num_intervals: int) -> Splines:
        """With quantiles of the points as knots: between two lie equally many, whatever the scale.

        Quantiles that coincide, of values that repeat, are one knot.
        """
        knots = []
        for coordinate in points.T:
            inner = np.unique(np.quantile(coordinate, np.linspace(0, 1, num_intervals + 1)))
            knots.append(np.concatenate([np.repeat(inner[0], DEGREE), inner, np.repeat(inner[-1], DEGREE)]))
        return cls(knots)

    def __call__(self, points: np.ndarray, orders: np.ndarray) -> sparse.csr_array:
        """[n, size]: the derivative of order orders[k] along each coordinate k."""
        values, columns = np.ones((len(points), 1)), np.zeros((len(points), 1), np.int64)
        for axis, coordinate, order in zip(self.axes, points.T, orders, strict=True):
            size = axis.c.shape[1]
            inner = np.clip(np.searchsorted(axis.t, coordinate, side="right") - 1, DEGREE, size - 1)
            local = inner[:, None] + np.arange(-DEGREE, 1)  # the functions that live there
            factor = np.take_along_axis(axis(coordinate, nu=order), local, axis=1)
            shape = len(points), values.shape[1] * (DEGREE + 1)
            values = (values[:, :, None] * factor[:, None, :]).reshape(shape)
            columns = (columns[:, :, None] * size + local[:, None, :]).reshape(shape)
        starts = np.arange(len(points) + 1) * values.shape[1]
        return sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(len(points), self.size))

    def potential(self, coefficients: np.ndarray) -> torch.nn.Module:
        """Their sum as a torch module."""
        import torch

        from hessfast import potentials

        shape = [axis.c.shape[1] for axis in self.axes]
        knots = [torch.as_tensor(axis.t) for axis in self.axes]
        return potentials.SplinePotential(knots, torch.as_tensor(coefficients.reshape(shape)))


class Polynomials:
    """Products of Legendre polynomials of total degree up to `degree`: where products of splines would be too many.

    Args:
        low, high: ends of the box, `[dim]`, between which they are orthogonal.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, degree: int):
        self.low, self.high, dim = low, high, len(low)
        self.indices = np.array([i for i in itertools.product(range(degree + 1), repeat=dim) if sum(i) <= degree])
        self.degree, self.size = degree, len(self.indices)
        self.roughness = np.diag(np.maximum(self.indices.sum(axis=1) - 2.0, 0) ** 6)
        self.constant = (self.indices.sum(axis=1) == 0).astype(float)
        self.linear = np.zeros((self.size, dim))
        for k in range(dim):
            self.linear[(self.indices == np.eye(dim, dtype=int)[k]).all(axis=1), k] = (self.high - self.low)[k] / 2
        self.linear += self.constant[:, None] * (self.high + self.low) / 2

    @classmethod
    def over(cls, points: np.ndarray, degree: int) -> Polynomials:
        """Between the least and the greatest of the points."""
        return cls(points.min(axis=0), points.max(axis=0), degree)

    def __call__(self, points: np.ndarray, orders: np.ndarray) -> sparse.csr_array:
        """[n, size]: the derivative of order orders[k] along each coordinate k."""
        product = np.ones((len(points), self.size))
        slope = 2 / (self.high - self.low)
        scaled = (points - self.low) * slope - 1
        for k, order in enumerate(orders):
            to_derivative = legendre.legder(np.eye(self.degree + 1), order, axis=0)
            values = legendre.legvander(scaled[:, k], len(to_derivative) - 1) @ to_derivative * slope[k] ** order
            product *= values[:, self.indices[:, k]]
        return sparse.csr_array(product)

    def potential(self, coefficients: np.ndarray) -> torch.nn.Module:
        """Their sum as a torch module."""
        import torch

        from hessfast import potentials

        return potentials.PolynomialPotential(
            *(torch.as_tensor(x) for x in (self.low, self.high, self.indices, coefficients))
        )


class Basis:
    """Functions b_k(t), and with a kink |s(t)| c_k(t), |s| rounded, with coarser c_k: gradients turn at s = 0.

    Args:
        parts: b, and c if there is a kink.
    """

    def __init__(self, dim: int, kink: Hyperplane | None, parts: Sequence[Splines | Polynomials]):
        self.dim, self.kink, self.parts = dim, kink, parts
        self.roughness = np.asarray(linalg.block_diag(*(part.roughness for part in self.parts)))
        self.size = len(self.roughness)

    @classmethod
    def over(cls, points: np.ndarray, kink: Hyperplane | None, resolution: int, kink_resolution: int = 6) -> Basis:
        """Products of splines up to three dimensions, polynomials beyond; on the kink no finer ones."""
        return cls(points.shape[1], kink, _parts(points, resolution, None if kink is None else kink_resolution))

    def values(self, points: np.ndarray) -> sparse.csr_array:
        """[n, size]."""
        return self._derivative(points, ())

    def gradient(self, points: np.ndarray, along: int) -> sparse.csr_array:
        """[n, size]: derivatives along one coordinate."""
        return self._derivative(points, (along,))

    def hessian(self, points: np.ndarray, first: int, second: int) -> sparse.csr_array:
        """[n, size]: second derivatives, on the kink as high as its width allows."""
        return self._derivative(points, (first, second))

    def potential(self, coefficients: np.ndarray) -> torch.nn.Module:
        """basis . coefficients as a torch module."""
        import torch

        from hessfast import potentials

        size = self.parts[0].size
        smooth = self.parts[0].potential(coefficients[:size])
        if self.kink is None:
            return smooth
        bent = self.parts[1].potential(coefficients[size:])
        normal = torch.as_tensor(self.kink.normal)
        offset, width = torch.tensor([self.kink.offset, self.kink.width], dtype=torch.float64)
        return potentials.KinkedPotential(smooth, bent, normal, offset, width)

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients [size, dim] of the functions t_1, ..., t_dim, and [size] of 1."""
        constant = np.zeros(self.size)
        linear = np.zeros((self.size, self.dim))
        size = self.parts[0].size
        constant[:size], linear[:size] = self.parts[0].constant, self.parts[0].linear
        return linear, constant

    def _derivative(self, points: np.ndarray, along: tuple[int, ...]) -> sparse.csr_array:
        orders = np.bincount(np.array(along, int), minlength=self.dim)
        smooth = self.parts[0](points, orders)
        if self.kink is None:
            return smooth
        rounded = self.kink.rounded(points)
        kinked = 0
        for on_kink in itertools.product((False, True), repeat=len(along)):  # the product rule
            rest = np.bincount(np.array(along, int)[~np.array(on_kink, bool)], minlength=self.dim)
            normals = math.prod(self.kink.normal[k] for k, here in zip(along, on_kink, strict=True) if here)
            kinked = scaled(self.parts[1](points, rest), rounded[sum(on_kink)] * normals) + kinked
        return sparse.csr_array(sparse.hstack([smooth, kinked]))


class JumpingBasis:
    """Functions b_k(u), and with two sides also side c_k(u) with coarser c_k, which jump from one side to the other.

    Each side is a number from -1 to 1.
    """

    def __init__(self, points: np.ndarray, side: np.ndarray | None, resolution: int, jump_resolution: int):
        self.points, self.side, self.dim = points, side, points.shape[1]
        self.parts = _parts(points, resolution, None if side is None else jump_resolution)
        self.roughness = np.asarray(linalg.block_diag(*(part.roughness for part in self.parts)))

    def __call__(self) -> sparse.csr_array:
        """[n, size] at the points."""
        orders = np.zeros(self.dim, int)
        columns = [self.parts[0](self.points, orders)]
        if self.side is not None:
            columns.append(scaled(self.parts[1](self.points, orders), self.side))
        return sparse.csr_array(sparse.hstack(columns))


def _parts(points: np.ndarray, resolution: int, coarser: int | None) -> list[Splines | Polynomials]:
    """A family of functions, and a second one, no finer, if `coarser` is given."""
    family = Splines if points.shape[1] <= 3 else Polynomials
    sizes = [resolution] if coarser is None else [resolution, min(coarser, resolution)]
    return [family.over(points, size) for size in sizes]


def scaled(A: sparse.csr_array, factors: np.ndarray) -> sparse.csr_array:
    """diag(factors) A."""
    return sparse.csr_array((A.data * np.repeat(factors, np.diff(A.indptr)), A.indices, A.indptr), shape=A.shape)


def penalized_least_squares(
    gram: np.ndarray, moment: np.ndarray, square: np.ndarray, num: int, roughness: np.ndarray, smoother: Any = 1.0
) -> np.ndarray:
    """Coefficients c that minimise |y - A c|^2 + penalty c^T roughness c, the penalty by generalised cross-validation.

    Args:
        gram: A^T A. moment: A^T y, a column for each right-hand side. square: y^T y of each. num: rows of A.
        smoother: times the penalty so found; a number, or one for each right-hand side.
    """
    return penalized_pencil(gram, roughness)(moment, square, num, smoother)


def penalized_pencil(gram: np.ndarray, roughness: np.ndarray) -> Callable[..., np.ndarray]:
    """`penalized_least_squares` as a function of moment, square, num and smoother, for many y of one A."""
    size = np.sqrt(np.diag(gram)) + 1e-12 * np.sqrt(np.trace(gram))
    rough = np.diag(roughness)
    roughness = roughness * (np.diag(gram)[rough > 0].sum() / max(rough.sum(), 1e-300))
    # Functions without data are held by the penalty alone: a little of it, and of a ridge, makes the pencil definite.
    definite = gram + 1e-9 * roughness + 1e-11 * np.diag(size**2 + (size**2).mean())
    gamma, vectors = linalg.eigh(roughness, definite)
    gamma = np.maximum(gamma, 0)
    penalties = 10.0 ** np.arange(-9, 9.5, 0.5)

    def solve(moment: np.ndarray, square: np.ndarray, num: int, smoother: Any = 1.0) -> np.ndarray:
        projected = vectors.T @ moment

        def score(penalty: float) -> np.ndarray:
            shrink = 1 / (1 + penalty * gamma)
            residual = square - ((2 * shrink - shrink**2)[:, None] * projected**2).sum(axis=0)
            return np.maximum(residual, 1e-12 * square) / max(1 - shrink.sum() / num, 1e-9) ** 2

        best = smoother * penalties[np.argmin([score(penalty) for penalty in penalties], axis=0)]
        return vectors @ (projected / (1 + best * gamma[:, None]))

    return solve


def weighted_gram(A: sparse.csr_array, weights: np.ndarray | None = None) -> np.ndarray:
    """A^T diag(weights) A, dense; weights are 1 if there are none."""
    if A.nnz > 0.2 * np.prod(A.shape):  # pyright: ignore[reportCallIssue, reportArgumentType]  # polynomials: every function is everywhere
        dense = A.toarray()
        return dense.T @ (dense if weights is None else dense * weights[:, None])
    return ((A if weights is None else scaled(A, weights)).T @ A).toarray()


def smooth(A: sparse.csr_array, values: np.ndarray, weights: np.ndarray, roughness: np.ndarray) -> np.ndarray:
    """Coefficients [size, columns] of the weighted penalised fit of `values` by A c, each column with its penalty."""
    gram = weighted_gram(A, weights)
    moment = A.T @ (values * weights[:, None])
    return penalized_least_squares(gram, moment, weights @ values**2, int((weights > 0).sum()), roughness)
