"""A fit as named arrays, and back."""

import numpy as np

from ._basis import Basis, Hyperplane, Polynomials, Splines
from ._fit import Fit

_PLAIN = ("directions", "offset", "coefficients", "mixing")


def arrays_of(fit: Fit) -> dict[str, np.ndarray]:
    """All that a fit is made of."""
    basis, kink = fit.basis, fit.basis.kink
    arrays = {name: getattr(fit, name) for name in _PLAIN}
    if kink is not None:
        arrays |= {"kink": kink.normal, "place": np.array([kink.offset, kink.width])}
    for k, part in enumerate(basis.parts):
        if isinstance(part, Splines):
            arrays |= {f"part{k}.knots{axis}": spline.t for axis, spline in enumerate(part.axes)}
        else:
            arrays |= {f"part{k}.box": np.stack([part.low, part.high]), f"part{k}.degree": np.array([part.degree])}
    return arrays


def fit_of(arrays: dict[str, np.ndarray]) -> Fit:
    """The fit that `arrays_of` took apart."""
    kink, dim = None, arrays["directions"].shape[1]
    if "kink" in arrays:
        offset, width = arrays["place"].tolist()
        kink = Hyperplane(arrays["kink"], offset, width)
    parts = []
    for k in range(1 if kink is None else 2):
        if f"part{k}.degree" in arrays:
            low, high = arrays[f"part{k}.box"]
            parts.append(Polynomials(low, high, int(arrays[f"part{k}.degree"][0])))
        else:
            parts.append(Splines([arrays[f"part{k}.knots{axis}"] for axis in range(dim)]))
    directions, offset, coefficients, mixing = (arrays[name] for name in _PLAIN)
    return Fit(directions, offset, Basis(dim, kink, parts), coefficients, mixing)
