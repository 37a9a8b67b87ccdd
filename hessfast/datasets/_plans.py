"""Plans of the two data sets: which arrays, how parameters are drawn, which sampler fills a shard."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hessfast import _arrays, _checks, _random
from hessfast._dispatch import kernel, present
from hessfast.shards import Plan
from hessfast.tasep._rates import checked_rates

CERTIFICATES = ("cftp", "fk-cftp", "mcmc")
# Raise it when equal seeds begin to give other samples: folders begun before are then refused, never mixed.
REVISION = 1


def ising_plan(
    num: int = 540_000,
    *,
    temperature: Sequence[float] = (1.0, 5.0),
    field: Sequence[float] = (-2.0, 2.0),
    size: int = 128,
    seed: int = 0,
    method: str = "auto",
    shard_size: int = 8192,
) -> Plan:
    """The plan of `num` Ising lattices, each with its own temperature and field, drawn uniformly from two ranges.

    Arrays: ``words`` (bit-packed spins, layout of `hessfast.ising`), ``temperature``, ``field``, and ``certificate``,
    an index into the plan's parameter of that name ("cftp" and "fk-cftp" are exact).

    Args:
        num: number of lattices.
        temperature: lowest and highest T, > 0.
        field: lowest and highest H.
        size: side of the lattice, even.
        seed: of parameters and spins.
        method: "auto", "cftp", "fk-cftp" or "mcmc", see `hessfast.ising.sample`.
        shard_size: lattices per shard; 8,192 of 128 x 128 are 17 MB.

    Raises:
        TypeError, ValueError: for values outside those ranges.
    """
    size = _checks.even("size", size)
    _checks.choice("method", method, ("auto", *CERTIFICATES))
    low, high = _checks.interval("temperature", temperature, point=True)
    if low <= 0:
        raise ValueError(f"temperature must be > 0, got {low}.")
    arrays = {
        "words": ("uint64", (4, size // 2, -(-size // 128))),
        "temperature": ("float64", ()),
        "field": ("float64", ()),
        "certificate": ("uint8", ()),
    }
    parameters = {
        "temperature": (low, high),
        "field": _checks.interval("field", field, point=True),
        "size": size,
        "seed": _checks.seed(seed),
        "method": method,
        "certificate": CERTIFICATES,
        "revision": REVISION,
    }
    return Plan("ising", num, shard_size, arrays, parameters)


def tasep_plan(
    num: int = 150_000,
    *,
    entry_rate: Sequence[float] = (0.0, 1.0),
    exit_rate: Sequence[float] = (0.0, 1.0),
    num_sites: int = 16_384,
    seed: int = 0,
    shard_size: int = 8192,
) -> Plan:
    """The plan of `num` stationary TASEP configurations, each with its own rates, drawn uniformly from two ranges.

    Arrays: ``words`` (bit-packed occupations, layout of `hessfast.tasep`), ``entry_rate``, ``exit_rate``. The lower
    ends of the ranges are excluded, the upper ends included, so that (0, 1) never yields a rate of 0.

    Args:
        num: number of configurations, all exact.
        entry_rate, exit_rate: lower and upper end of the range, within [0, 1].
        num_sites: sites of the chain, from 1 to 2^30.
        seed: of rates and configurations.
        shard_size: configurations per shard; 8,192 of 16,384 sites are 17 MB.

    Raises:
        TypeError, ValueError: for values outside those ranges.
    """
    rates = {"entry_rate": entry_rate, "exit_rate": exit_rate}
    ranges = {name: _checks.interval(name, ends, point=True) for name, ends in rates.items()}
    for name, (low, high) in ranges.items():
        if low < 0 or high > 1 or high == 0:
            raise ValueError(f"{name} must be within (0, 1], got {low:g} to {high:g}.")
    # What the sampler would refuse while a shard is made is refused now.
    entries, exits = (_from_high(ends, 1 - 2.0**-53) for ends in ranges.values())
    *_, num_sites = checked_rates(entries, exits, num_sites)
    arrays = {"words": ("uint64", (-(-num_sites // 64),)), "entry_rate": ("float64", ()), "exit_rate": ("float64", ())}
    parameters = ranges | {"num_sites": num_sites, "seed": _checks.seed(seed), "revision": REVISION}
    return Plan("tasep", num, shard_size, arrays, parameters)


def maker(plan: Plan, device: str = "cpu") -> Callable[[int, int], dict[str, np.ndarray]]:
    """The function ``make(start, stop)`` that fills a shard of a plan; the device cannot be seen in the bytes."""
    if plan.name not in _MAKERS:
        raise ValueError(f"plan must be of {' or '.join(_MAKERS)}, got {plan.name!r}.")
    revision = plan.parameters.get("revision")
    if revision != REVISION:
        raise ValueError(f"The plan must be of revision {REVISION} for this version of hessfast, got {revision}.")
    present(device)  # or refused now, not after a folder was begun
    for op in _OPS[plan.parameters.get("method", plan.name)]:
        kernel(op, device)
    make = _MAKERS[plan.name]
    return lambda start, stop: make(plan.parameters, start, stop, device)


def _make_ising(parameters: Any, start: int, stop: int, device: str) -> dict[str, np.ndarray]:
    from hessfast.ising.sampling import sample

    first, second = _draw(parameters["seed"], start, stop)
    temperature = _from_low(parameters["temperature"], first)
    field = _from_low(parameters["field"], second)
    size, seed, method = (parameters[name] for name in ("size", "seed", "method"))
    batch = sample(temperature, field, size, seed, method=method, device=device, first_id=start)
    certificate = np.array([CERTIFICATES.index(name) for name in batch.certificate], np.uint8)
    return {
        "words": _arrays.to_numpy(batch.words),
        "temperature": temperature,
        "field": field,
        "certificate": certificate,
    }


def _make_tasep(parameters: Any, start: int, stop: int, device: str) -> dict[str, np.ndarray]:
    from hessfast.tasep.sampling import sample

    first, second = _draw(parameters["seed"], start, stop)
    entry_rate = _from_high(parameters["entry_rate"], first)
    exit_rate = _from_high(parameters["exit_rate"], second)
    num_sites, seed = parameters["num_sites"], parameters["seed"]
    batch = sample(entry_rate, exit_rate, num_sites, seed, device=device, first_id=start)
    return {"words": _arrays.to_numpy(batch.words), "entry_rate": entry_rate, "exit_rate": exit_rate}


_MAKERS = {"ising": _make_ising, "tasep": _make_tasep}
_OPS = {
    "auto": ("ising_cftp",),
    "cftp": ("ising_cftp",),
    "fk-cftp": (),  # on the host
    "mcmc": ("ising_sweep",),
    "tasep": ("tasep_sample",),
}


def _draw(seed: int, start: int, stop: int) -> np.ndarray:
    """Two numbers of [0, 1) for each sample: ``[2, stop - start]``, a function of seed and sample id."""
    key = _random.derive(seed, _random.PARAMETERS, np.arange(start, stop, dtype=np.uint64))
    return np.stack([_random.uniform(_random.derive(key, parameter)) for parameter in range(2)])


def _from_low(ends: Sequence[float], unit: np.ndarray) -> np.ndarray:
    """[0, 1) onto [low, high)."""
    return ends[0] + (ends[1] - ends[0]) * unit


def _from_high(ends: Sequence[float], unit: Any) -> Any:
    """[0, 1) onto (low, high]."""
    return ends[1] - (ends[1] - ends[0]) * unit
