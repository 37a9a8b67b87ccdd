"""Rates of entry and exit as they are given."""

from typing import Any

import numpy as np

from hessfast import _checks

_MAX_SITES = 2**30
_LOWEST_RATE = float(np.finfo(np.float64).tiny)


def checked_rates(entry_rate: Any, exit_rate: Any, num_sites: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """The two rates, float64 of one shape and in (0, 1], not subnormal, and the number of sites; or a refusal."""
    rates = {"entry_rate": entry_rate, "exit_rate": exit_rate}
    arrays = {name: _checks.float_array(name, value) for name, value in rates.items()}
    for (name, rate), reason in zip(
        arrays.items(), ("no particle ever enters", "no particle ever leaves"), strict=True
    ):
        outside = rate[~((rate >= _LOWEST_RATE) & (rate <= 1))]
        if outside.size:
            because = ""
            if (outside == 0).any():
                because = f" At rate 0 {reason} and the stationary state is frozen."
            elif 0 < outside[0] < _LOWEST_RATE:
                because = f" Below {_LOWEST_RATE:.1e} numbers lose digits and (1 - rate) / rate overflows."
            raise ValueError(f"{name} must be in (0, 1], got {outside[0]}.{because}")
    alpha, beta = _checks.broadcast(**arrays)
    return alpha, beta, _checks.integer("num_sites", num_sites, 1, _MAX_SITES)
