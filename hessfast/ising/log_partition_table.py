"""log Z of the Ising model over a box of (T, H), tabulated once: microseconds a point, not tens of milliseconds."""

import json
import math
from dataclasses import asdict, dataclass
from dataclasses import field as attribute
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from hessfast import _arrays, _checks

from .log_partition import TEMPERATURE_CRITICAL, log_partition


@dataclass(frozen=True, eq=False)
class LogPartitionTable:
    """A polynomial of Chebyshev form for log Z per spin over [lowest, highest] temperature x [-H, H] on one torus.

    log Z(T, H) / N = sum_ij c_ij T_i(x) T_j(z), with T_i Chebyshev's polynomials, x linear in asinh((T - T_c) / w),
    z = 2 y^2 - 1, y linear in asinh(H / v). On a finite torus log Z is analytic, but bends within w ~ 1/size of T_c
    and, below it, within v ~ size^(-15/8) of H = 0: these variables stretch both to order one. The form is even in H.
    The posterior p(T, H | x) ~ exp(-E/T + H M/T - log Z) takes log Z of the whole lattice, `error` times size^2.

    Attributes:
        temperatures: (lowest, highest).
        largest_field: the box reaches from minus this to this.
        size: side of the square torus.
        max_bond: of the renormalization behind the values.
        coefficients: c, float64 `[temperature nodes, field nodes]`.
        error: the largest |table - log_partition| per spin at `num_checks` random points of the box, half of them
            uniform in (T, H), half in (x, y), which crowds them around (T_c, 0). The error of `log_partition` itself
            comes on top.
        num_checks: how many points that was.

    Example:
        >>> table = LogPartitionTable.build((1.0, 5.0), 2.0, size=4, nodes=(32, 24))
        >>> bool(abs(table(2.5, -0.3) - log_partition(2.5, -0.3, size=4)) < 1e-8)
        True
    """

    temperatures: tuple[float, float]
    largest_field: float
    size: int
    max_bond: int
    error: float
    num_checks: int
    coefficients: np.ndarray = attribute(repr=False)

    @classmethod
    def build(
        cls,
        temperatures: tuple[float, float] = (1.0, 5.0),
        largest_field: float = 2.0,
        size: int = 128,
        *,
        max_bond: int = 32,
        nodes: tuple[int, int] = (52, 44),
        num_checks: int = 100,
        seed: int = 0,
    ) -> "LogPartitionTable":
        """Fill a table with `log_partition` at nodes[0] x nodes[1] points and check it at `num_checks` others.

        Args:
            temperatures: lowest and highest T; 0.01 <= lowest < highest.
            largest_field: > 0.
            size: side of the square torus.
            max_bond: as for `log_partition`.
            nodes: numbers of temperatures and of fields, each >= 2.
            num_checks: number of random points where the error is measured, >= 2.
            seed: of these points.

        Raises:
            ValueError, TypeError: as `log_partition`, and for an empty box or too few nodes or checks.
        """
        low, high = _checks.interval("temperatures", temperatures)
        largest_field = _checks.positive("largest_field", largest_field)
        size = _checks.integer("size", size, 2)
        if np.shape(nodes) != (2,):
            raise ValueError(f"nodes must be two numbers, got {nodes}.")
        orders = [_checks.integer("nodes", number, 2) for number in nodes]
        num_checks = _checks.integer("num_checks", num_checks, 2)
        rng = np.random.default_rng(_checks.seed(seed))

        table = cls((low, high), largest_field, size, max_bond, math.nan, num_checks, np.zeros(orders))
        x, z = (np.cos(np.pi * (np.arange(order) + 0.5) / order) for order in orders)
        T, H = table._point(x, np.sqrt((1 + z) / 2))
        coefficients = log_partition(T[:, None], H, size, max_bond=max_bond)
        for axis, order in enumerate(orders):
            # the discrete cosine transform of the first-kind nodes
            to_coefficients = 2 / order * chebyshev.chebvander((x, z)[axis], order - 1).T
            to_coefficients[0] /= 2
            coefficients = np.moveaxis(np.tensordot(to_coefficients, coefficients, axes=(1, axis)), 0, axis)

        half = num_checks // 2
        T, H = table._point(rng.uniform(-1, 1, half), rng.uniform(0, 1, half))
        T = np.append(T, rng.uniform(low, high, num_checks - half))
        H = np.append(H, rng.uniform(0, largest_field, num_checks - half))
        unchecked = cls((low, high), largest_field, size, max_bond, math.nan, num_checks, coefficients)
        error = float(np.abs(unchecked(T, H) - log_partition(T, H, size, max_bond=max_bond)).max())
        return cls((low, high), largest_field, size, max_bond, error, num_checks, coefficients)

    def __call__(self, temperature: Any, field: Any) -> Any:
        """log Z per spin, float64 of the broadcast shape; ValueError outside the box."""
        T, H = self._within(temperature, field)
        return _arrays.back(self._evaluate(T, H, 0, 0), temperature, field)

    def mean_magnetization(self, temperature: Any, field: Any) -> Any:
        """E[sum_i s_i] per spin = T d log Z / dH, the derivative of the polynomial."""
        T, H = self._within(temperature, field)
        return _arrays.back(T * self._evaluate(T, H, 0, 1), temperature, field)

    def mean_bond_energy(self, temperature: Any, field: Any) -> Any:
        """E[-sum_<ij> s_i s_j] per spin = T^2 d log Z / dT + T H d log Z / dH, the derivatives of the polynomial."""
        T, H = self._within(temperature, field)
        means = T**2 * self._evaluate(T, H, 1, 0) + T * H * self._evaluate(T, H, 0, 1)
        return _arrays.back(means, temperature, field)

    def save(self, path: str | Path) -> None:
        """Write the table to an .npz file."""
        facts = {name: value for name, value in asdict(self).items() if name != "coefficients"}
        with open(path, "wb") as file:
            np.savez_compressed(file, facts=json.dumps(facts), coefficients=self.coefficients)

    @classmethod
    def load(cls, path: str | Path | None = None) -> "LogPartitionTable":
        """Read what `save` wrote; without a path the table that comes with hessfast.

        That is `build()` with its defaults, six minutes of one core. It is within about 1e-8 of `log_partition` for
        |H| >= 1e-3, 5e-8 elsewhere, and 2e-7 (0.003 in log Z of the lattice) for T < 1.2 and |H| < 3e-5.
        """
        path = Path(__file__).parent / "log_partition_128.npz" if path is None else path
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            facts["temperatures"] = tuple(facts["temperatures"])
            return cls(**facts, coefficients=file["coefficients"])

    def _widths(self) -> tuple[float, float]:
        return 2.0 / self.size, min(1.0, 1.5 * self.size**-1.875)

    def _point(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T, H) at x in [-1, 1] and y in [0, 1]."""
        w, v = self._widths()
        ends = np.arcsinh((np.array(self.temperatures) - TEMPERATURE_CRITICAL) / w)
        T = TEMPERATURE_CRITICAL + w * np.sinh((ends[0] * (1 - x) + ends[1] * (1 + x)) / 2)
        return np.clip(T, *self.temperatures), v * np.sinh(y * np.arcsinh(self.largest_field / v))

    def _within(self, temperature: Any, field: Any) -> list[np.ndarray]:
        """T and H in the box, of one shape."""
        T, H = _checks.float_array("temperature", temperature), _checks.float_array("field", field)
        T, H = _checks.broadcast(temperature=T, field=H)
        if T.size and not (self.temperatures[0] <= T.min() and T.max() <= self.temperatures[1]):
            raise ValueError(
                f"temperature must be within {self.temperatures}, the table's box, got {T.min()} to {T.max()}."
            )
        if H.size and np.abs(H).max() > self.largest_field:
            raise ValueError(f"field must be within +-{self.largest_field}, the table's box, got {np.abs(H).max()}.")
        return [T, H]

    def _evaluate(self, T: np.ndarray, H: np.ndarray, along_temperature: int, along_field: int) -> np.ndarray:
        """The table or one of its first derivatives."""
        w, v = self._widths()
        low, high = np.arcsinh((np.array(self.temperatures) - TEMPERATURE_CRITICAL) / w)
        x = np.clip((2 * np.arcsinh((T - TEMPERATURE_CRITICAL) / w) - low - high) / (high - low), -1, 1)
        top = np.arcsinh(self.largest_field / v)
        y = np.arcsinh(H / v) / top
        c = self.coefficients
        c = chebyshev.chebder(c, along_temperature, axis=0)
        c = chebyshev.chebder(c, along_field, axis=1)
        of_T = chebyshev.chebvander(x, c.shape[0] - 1)
        of_H = chebyshev.chebvander(2 * y**2 - 1, c.shape[1] - 1)
        if along_temperature:
            of_T = of_T * (2 / (high - low) / np.hypot(T - TEMPERATURE_CRITICAL, w))[..., None]
        if along_field:
            of_H = of_H * (4 * y / top / np.hypot(H, v))[..., None]
        return np.einsum("...i,...i->...", of_T @ c, of_H).reshape(T.shape)[()]  # Chebyshev makes an axis of a number
