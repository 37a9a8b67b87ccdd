"""log Z of the Ising model on a finite torus, its mean energy and magnetisation, and their variances."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hessfast import _checks

from ._bond_weighted_trg import bond_weighted_trg
from ._kaufman import kaufman
from ._transfer_matrix import WIDEST, transfer_matrix

TEMPERATURE_CRITICAL = 2 / math.log(1 + math.sqrt(2))  # Onsager 1944
LOWEST_TEMPERATURE = 0.01  # sinh(2 / T)^3 must stay finite


def log_partition(temperature: Any, field: Any, size: int | tuple[int, int] = 128, *, max_bond: int = 32) -> np.ndarray:
    """log Z per spin of the Ising model with periodic boundaries, E = -sum_<ij> s_i s_j - H sum_i s_i, p = exp(-E/T)/Z.

    Every site has four neighbour slots, so a side of 2 has double bonds. Three exact or nearly exact methods:

    - H = 0: Kaufman's finite torus, any size, exact to rounding (1e-15), microseconds a point.
    - H != 0 and a side <= 14: the transfer matrix, exact to rounding; 1 ms a point (side 8) to seconds (12 and more).
    - H != 0 and a square torus of side 2^m: bond-weighted tensor renormalization with `max_bond` legs. Close to
      (T_c, 0) its known error at H = 0 is taken off: log Z(T, H) = TRG(T, H) + w(H) [Kaufman(T) - TRG(T, 0)].
      Error per spin at side 128 and max_bond = 32: <= 1e-8 where |T - T_c| > 0.2, <= 1e-7 elsewhere. It falls as
      about max_bond^-4 at T_c and exponentially away from it; 10 to 250 ms a point.

    Args:
        temperature: T >= 0.01, in units of the coupling J = 1, k_B = 1.
        field: H, finite, broadcast against `temperature`.
        size: side of the square torus, or (rows, columns); each >= 2.
        max_bond: legs kept by the tensor renormalization, 8 to 96; its time grows as max_bond^5.

    Returns:
        float64 array of the broadcast shape.

    Raises:
        ValueError: for NaN, infinite or too low temperatures, mismatched shapes, or a size with no method in a field.
        TypeError: for what is no number, or a size that is no integer.

    References:
        L. Onsager, Phys. Rev. 65, 117 (1944); B. Kaufman, Phys. Rev. 76, 1232 (1949);
        D. Adachi, T. Okubo, S. Todo, Phys. Rev. B 105, L060402 (2022).

    Example:
        Four spins without a field: 16 states, 2 of energy -8, 12 of 0 and 2 of +8.

        >>> bool(np.isclose(log_partition(4.0, 0.0, size=2), np.log(4 * np.cosh(2) + 12) / 4))
        True
    """
    temperature, field, sides = _arguments(temperature, field, size, max_bond)
    return _map(lambda T, H: _value(1 / T, H / T, sides, max_bond), temperature, field)


def mean_energy(temperature: Any, field: Any, size: int | tuple[int, int] = 128, *, max_bond: int = 32) -> np.ndarray:
    """E[-sum_<ij> s_i s_j] per spin: the bonds' part of the energy, without the term of the field.

    = -d log Z / d(1/T) at fixed H/T, per spin. Exact at H = 0; otherwise by `moments`' differences. Arguments and
    errors as for `log_partition`.

    Example:
        >>> weights = 2 * np.exp(2) + 12 + 2 * np.exp(-2)
        >>> bool(np.isclose(mean_energy(4.0, 0.0, size=2), (-16 * np.exp(2) + 16 * np.exp(-2)) / weights / 4))
        True
    """
    temperature, field, sides = _arguments(temperature, field, size, max_bond)
    return _map(lambda T, H: _energy_moments(T, abs(H), sides, max_bond)[0], temperature, field)


def mean_magnetization(
    temperature: Any, field: Any, size: int | tuple[int, int] = 128, *, max_bond: int = 32
) -> np.ndarray:
    """E[sum_i s_i] per spin = d log Z / d(H/T) at fixed T, per spin; 0 at H = 0 on a finite torus.

    By `moments`' differences. Arguments and errors as for `log_partition`.

    Example:
        >>> bool(np.isclose(mean_magnetization(1e6, 1e6, size=4), np.tanh(1), atol=1e-5))  # no coupling is felt
        True
    """
    temperature, field, sides = _arguments(temperature, field, size, max_bond)
    return _map(lambda T, H: math.copysign(_field_moments(T, abs(H), sides, max_bond)[0], H), temperature, field)


@dataclass(frozen=True)
class Moments:
    """First and second moments of E = -sum_<ij> s_i s_j (bonds only) and M = sum_i s_i, each divided by the N spins.

    E[E^2] = N^2 mean_energy^2 + N variance_energy, and so on. With theta = (1/T, H/T) and statistics (-E, M) the matrix
    [[variance_energy, -covariance], [-covariance, variance_magnetization]] is the Fisher metric per spin.
    """

    mean_energy: np.ndarray
    mean_magnetization: np.ndarray
    variance_energy: np.ndarray
    covariance: np.ndarray
    variance_magnetization: np.ndarray


def moments(temperature: Any, field: Any, size: int | tuple[int, int] = 128, *, max_bond: int = 32) -> Moments:
    """Means, variances and covariance of bond energy and magnetisation, per spin.

    First and second derivatives of log Z in (1/T, H/T). At H = 0 mean and variance of E are exact. The others are
    differences of sixth order with steps of a quarter of a standard deviation (sides <= 14: a fiftieth), 27 values of
    log Z a point. Arguments and errors as for `log_partition`.

    Example:
        Far above T_c the spins are nearly free, and M is a sum of N independent signs:

        >>> bool(np.isclose(moments(1e6, 0.0, size=8).variance_magnetization, 1, atol=1e-4))
        True
    """
    temperature, field, sides = _arguments(temperature, field, size, max_bond)

    def both(T: float, H: float) -> tuple[float, ...]:
        sign, H = math.copysign(1, H), abs(H)
        energy, variance_energy = _energy_moments(T, H, sides, max_bond)
        magnetization, variance_magnetization = _field_moments(T, H, sides, max_bond)
        covariance = _covariance(T, H, sides, max_bond) if H else 0.0
        return energy, sign * magnetization, variance_energy, sign * covariance, variance_magnetization

    return Moments(*np.moveaxis(_map(both, temperature, field, 5), -1, 0))


def _arguments(
    temperature: Any, field: Any, size: Any, max_bond: Any
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    temperature, field = _checks.float_array("temperature", temperature), _checks.float_array("field", field)
    pairs = _checks.broadcast(temperature=temperature, field=field)
    temperature, field = (array.reshape(np.broadcast(temperature, field).shape) for array in pairs)
    if temperature.size and temperature.min() < LOWEST_TEMPERATURE:
        raise ValueError(f"temperature must be >= {LOWEST_TEMPERATURE}, got {temperature.min()}.")
    sides = size if isinstance(size, tuple) and len(size) == 2 else (size, size)
    rows, columns = (_checks.integer("size", side, 2) for side in sides)
    _checks.integer("max_bond", max_bond, 8, 96)
    renormalizable = rows == columns and rows & (rows - 1) == 0
    if field.any() and min(rows, columns) > WIDEST and not renormalizable:
        raise ValueError(
            f"size must be a power of two, or have a side <= {WIDEST}, for a field other than 0, got {size}. "
            f"Use size={2 ** round(math.log2(math.sqrt(rows * columns)))}."
        )
    return temperature, field, (rows, columns)


def _map(function: Callable, temperature: np.ndarray, field: np.ndarray, outputs: int | None = None) -> np.ndarray:
    """The function at every pair (T, H), once for equal pairs."""
    pairs, where = np.unique(np.stack([temperature.ravel(), field.ravel()]), axis=1, return_inverse=True)
    shape = () if outputs is None else (outputs,)
    values = np.array([function(T, H) for T, H in pairs.T.tolist()], dtype=np.float64).reshape(-1, *shape)
    return values[where.ravel()].reshape((*temperature.shape, *shape))


def _value(coupling: float, field: float, sides: tuple[int, int], max_bond: int) -> float:
    """log Z per spin at K = 1/T and h = H/T."""
    rows, columns = sides
    if field == 0:
        return _kaufman(coupling, rows, columns)[0] / (rows * columns)
    if min(sides) <= WIDEST:
        return transfer_matrix(coupling, abs(field), max(sides), min(sides)) / (rows * columns)
    doublings = rows.bit_length() - 1
    value = bond_weighted_trg(coupling, abs(field), doublings, max_bond)
    # The error at H = 0 persists while H is small on the scale side^(-15/8) of the critical point, and is then lost
    # quickly: at (T_c, H), side 128, this weight follows it within a factor of two (measured against max_bond = 48).
    weight = 1 / (1 + (field / coupling / 5e-4 * (rows / 128) ** 1.875) ** 2)
    if weight < 1e-3 or abs(1 / coupling - TEMPERATURE_CRITICAL) > 0.25:
        return value
    return value - weight * _error_without_field(coupling, doublings, max_bond)


def _kaufman(coupling: float, rows: int, columns: int) -> list[float]:
    return [float(value) for value in kaufman(np.array(coupling), rows, columns)]


@functools.lru_cache(maxsize=4096)
def _error_without_field(coupling: float, doublings: int, max_bond: int) -> float:
    side = 1 << doublings
    return bond_weighted_trg(coupling, 0.0, doublings, max_bond) - _kaufman(coupling, side, side)[0] / side**2


def _energy_moments(T: float, H: float, sides: tuple[int, int], max_bond: int) -> tuple[float, float]:
    """Mean and variance of E per spin."""
    sites = sides[0] * sides[1]
    if H == 0:
        _, slope, curvature = _kaufman(1 / T, *sides)
        return -slope / sites, curvature / sites
    step = _energy_step(T, sides)
    slope, curvature = _differences(lambda K: _value(K, H / T, sides, max_bond), 1 / T, step)
    return -slope, curvature


def _energy_step(T: float, sides: tuple[int, int]) -> float:
    # the variance without a field: cheap, and not far below the true one
    return min(_relative_steps(sides)[0] / math.sqrt(_kaufman(1 / T, *sides)[2]), 0.1 / T)


def _field_moments(T: float, H: float, sides: tuple[int, int], max_bond: int) -> tuple[float, float]:
    """Mean and variance of M per spin."""
    slope, curvature = _differences(
        lambda h: _value(1 / T, h, sides, max_bond), H / T, _field_step(T, H, sides, max_bond)
    )
    return slope if H else 0.0, curvature


def _field_step(T: float, H: float, sides: tuple[int, int], max_bond: int) -> float:
    sites = sides[0] * sides[1]
    probe = 1 / sites  # |M| <= sites: log Z cannot bend within less
    below, middle, above = (_value(1 / T, H / T + k * probe, sides, max_bond) for k in (-1, 0, 1))
    variance = (above - 2 * middle + below) / probe**2
    deviations, scales = _relative_steps(sides)
    # The zeros of Z lie on imaginary h (Lee and Yang 1952): log Z is smooth on the scale of |h|, except that the phase
    # against the field has the weight exp(-2 M h), M <= sites.
    smooth = H / T if H / T * sites > 20 else probe
    return min(deviations / math.sqrt(sites * max(variance, 1e-2)), scales * smooth)


def _relative_steps(sides: tuple[int, int]) -> tuple[float, float]:
    """Steps in standard deviations and in scales of the field: short where rounding is the only noise."""
    return (0.02, 0.1) if min(sides) <= WIDEST else (0.25, 0.2)


def _covariance(T: float, H: float, sides: tuple[int, int], max_bond: int) -> float:
    """Covariance of E and M per spin: minus the mixed derivative, extrapolated from three squares of points."""
    dK, dh = _energy_step(T, sides), _field_step(T, H, sides, max_bond)

    def mixed(k: int) -> float:
        corner = {
            (i, j): _value(1 / T + i * k * dK, H / T + j * k * dh, sides, max_bond) for i in (-1, 1) for j in (-1, 1)
        }
        return (corner[1, 1] - corner[1, -1] - corner[-1, 1] + corner[-1, -1]) / (4 * k**2 * dK * dh)

    return -(15 * mixed(1) - 6 * mixed(2) + mixed(3)) / 10


def _differences(function: Callable[[float], float], x: float, step: float) -> tuple[float, float]:
    """First and second derivative: central differences of sixth order on seven points."""
    f = [function(x + k * step) for k in range(-3, 4)]
    odd = [f[3 + k] - f[3 - k] for k in (1, 2, 3)]
    even = [f[3 + k] + f[3 - k] for k in (1, 2, 3)]
    first = (45 * odd[0] - 9 * odd[1] + odd[2]) / (60 * step)
    second = (270 * even[0] - 27 * even[1] + 2 * even[2] - 490 * f[3]) / (180 * step**2)
    return first, second
