"""Which sampler serves which (T, H), and with what horizon or burn-in. Decided from the parameters alone.

Looking at a run to choose its sampler would bias the samples; the curves here were measured once, on 128 x 128.
"""

import numpy as np

from hessfast._random import derive

from . import _thresholds
from .log_partition import TEMPERATURE_CRITICAL

# |H| from which coupling from the past of spins is faster than that of Fortuin-Kasteleyn bonds.
_CFTP_TEMPERATURES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.1, 2.2, 2.27, 2.3)
_CFTP_FIELDS = (0.95, 0.45, 0.27, 0.13, 0.043, 0.022, 0.0075, 0.0016, 0.0)

# Rungs of `ising_cftp` measured on 128 x 128; outside the declared region extrapolated, never used much.
_RUNG_TEMPERATURES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.7, 3.0, 3.5, 4.0, 5.0)
_RUNG_FIELDS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
# fmt: off
_RUNGS = (
    (24, 24, 24, 24, 24, 22, 19, 16, 13, 10,  8,  5,  4,  2),
    (24, 24, 24, 24, 22, 19, 16, 13, 10,  7,  6,  4,  3,  2),
    (24, 24, 24, 23, 20, 17, 14, 10,  8,  6,  5,  3,  3,  1),
    (24, 24, 24, 22, 19, 14, 11,  8,  6,  5,  4,  3,  2,  1),
    (24, 22, 19, 16, 13, 11,  9,  7,  5,  4,  4,  3,  2,  1),
    (24, 21, 18, 14, 12, 10,  8,  7,  5,  4,  3,  3,  2,  1),
    (23, 20, 15, 13, 11,  9,  8,  6,  5,  4,  3,  3,  2,  1),
    (20, 17, 14, 12, 11,  9,  8,  6,  5,  4,  3,  3,  2,  1),
    (17, 16, 13, 11, 10,  9,  7,  6,  5,  4,  3,  3,  2,  1),
    (15, 14, 13, 11, 10,  9,  7,  6,  5,  4,  3,  3,  2,  1),
    (11, 11, 11, 11,  9,  8,  7,  6,  5,  4,  3,  3,  2,  1),
    ( 9,  9,  9,  9,  9,  8,  7,  6,  5,  4,  3,  3,  2,  1),
    ( 7,  7,  7,  7,  7,  6,  6,  5,  5,  4,  3,  3,  2,  2),
    ( 6,  5,  5,  5,  6,  5,  5,  5,  5,  4,  3,  3,  3,  2),
    ( 4,  4,  4,  4,  4,  4,  4,  4,  4,  3,  3,  3,  3,  2),
)
# fmt: on

CERTIFICATE_DTYPE = "<U7"
_MOST_CUT = 11  # e^11 sweeps: seconds a lattice, and ten times that at 13
_ISING_FLIP, _ISING_MCMC = 4, 5  # branches of the key tree (kernels/_random)


def certificates(temperature: np.ndarray, field: np.ndarray, method: str) -> np.ndarray:
    """The method of every sample: "auto" is "cftp" in the declared region, "fk-cftp" outside it."""
    if method != "auto":
        return np.full(len(temperature), method, CERTIFICATE_DTYPE)
    return np.where(declared(temperature, field), "cftp", "fk-cftp").astype(CERTIFICATE_DTYPE)


def declared(temperature: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Where cftp is declared the faster exact method: |H| >= H_c(T), and never below T = 1."""
    return np.abs(field) >= _limit(temperature)


def _limit(temperature: np.ndarray) -> np.ndarray:
    # Below T = 1 the field must beat the four neighbours.
    limit = np.interp(temperature, _CFTP_TEMPERATURES, _CFTP_FIELDS)
    return np.where(temperature < _CFTP_TEMPERATURES[0], 4.0, limit)


def refuse_endless(temperature: np.ndarray, field: np.ndarray, size: int, certificate: np.ndarray) -> None:
    """Refuse cftp where metastability makes it run for minutes or for ever: far inside the declared region of fk-cftp.

    To turn over, a lattice must be cut by two interfaces: exp(2 size tension / T) sweeps, with Onsager's tension.
    """
    cut = 2 * size * (2 / temperature + np.log(np.tanh(1 / temperature)))
    endless = (certificate == "cftp") & (np.abs(field) < _limit(temperature) / 2) & (cut > _MOST_CUT)
    if endless.any():
        t, h = temperature[endless][0], field[endless][0]
        raise ValueError(f'method must not be "cftp" at T = {t:g}, H = {h:g}: it would hardly end. Use "auto".')


def work(temperature: np.ndarray, field: np.ndarray) -> np.ndarray:
    """What orders the samples of one method by their cost: nearness to (T_c, 0)."""
    return -np.hypot(temperature - TEMPERATURE_CRITICAL, 2 * field)


def first_rungs(temperature: np.ndarray, field: np.ndarray, size: int) -> np.ndarray:
    """The rung of `ising_cftp` to begin with; it sets the cost, never the sample.

    The rung from which three quarters of 32 chains met (the spread is one or two rungs), interpolated. Larger sides
    meet a little later and need at most one attempt more; small ones meet within about size^2.17 / 2 sweeps.
    """
    from scipy.interpolate import RegularGridInterpolator

    axes = np.array(_RUNG_TEMPERATURES), np.array(_RUNG_FIELDS)
    points = [np.clip(x, axis[0], axis[-1]) for x, axis in zip((temperature, np.abs(field)), axes, strict=True)]
    rungs = RegularGridInterpolator(axes, np.array(_RUNGS, float))(np.stack(points, axis=-1))
    largest = 2 * np.log2(size**2.17 / 8)  # a rung of 4 * 2^(rung / 2) sweeps
    return np.maximum(np.rint(np.minimum(rungs, largest) + 0.25), 0).astype(np.int64)


def burn_in(temperature: np.ndarray, field: np.ndarray, size: int) -> np.ndarray:
    """32 + 20 tau sweeps; tau = 1.75 xi^2.17 with the correlation length cut off by the field and by the side.

    1/xi = |ln coth K - 2K| above T_c, twice that below (Onsager 1944; McCoy and Wu 1973), and xi ~ |H|^(-8/15) on the
    critical isotherm; the prefactors were fitted to measured autocorrelation times of the magnetisation.
    """
    inverse = 1 / temperature
    rate = np.abs(-np.log(np.tanh(inverse)) - 2 * inverse) * np.where(temperature < TEMPERATURE_CRITICAL, 2, 1)
    length = 1 / np.maximum.reduce([rate, np.abs(field) ** (8 / 15) / 0.41, np.full_like(rate, 2.5 / size)])
    return np.ceil(32 + 20 * 1.75 * length**2.17).astype(np.int64)


def mcmc_seeds(seed: int) -> tuple[np.uint64, np.uint64]:
    """Seeds of the sweeps and of the global flips, other than those of `sweep` with the same seed."""
    return np.uint64(derive(seed, _ISING_MCMC)[0]), np.uint64(derive(seed, _ISING_FLIP)[0])


def flips(temperature, field, magnetization, sample_ids, flip_seed) -> np.ndarray:
    """Whether to turn the whole lattice: the heat bath of its sign, P(M) / P(-M) = exp(2 H M / T)."""
    return derive(flip_seed, sample_ids) >= _thresholds.stays(temperature, field, magnetization)
