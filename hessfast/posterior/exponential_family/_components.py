"""Which combinations of the features are kept: what predicts the parameters, and what else varies most."""

import warnings

import numpy as np

_SAMPLES_A_FEATURE = 20  # at least, for predictions of the parameters without a penalty
_NOISY = 0.15  # share of the metric that is lost to noise of such a prediction
_LEAST_SPREAD = 1e-4  # of a feature, as a share of the largest: those of smaller units are brought there
_FEWEST_SAMPLES = 30  # that have a feature; the weight of a rarer one may be infinite


def chosen_components(centred: np.ndarray, theta: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal axes `[num_features, k]`, k <= most, of features that many samples have; the samples' components.

    If there are more, the first span the linear prediction of theta, and others have the largest variance of what is
    left. With fewer than twenty samples a feature that would follow the samples: their first components are then
    predictions that leave the sample itself out, and not centred @ axes.
    """
    common = _common(centred)
    spread = centred.std(axis=0)
    unit = np.minimum(spread / (_LEAST_SPREAD * spread.max()), 1)[common]
    unit[unit == 0] = 1
    x = centred[:, common] / unit
    principal = _principal(x)
    components = x @ principal
    varied = components.std(axis=0) > 1e-6 * components.std(axis=0).max()  # along others a combination is constant
    principal, components = principal[:, varied], components[:, varied]
    if principal.shape[1] > most:
        many = len(x) >= _SAMPLES_A_FEATURE * x.shape[1]
        if many:
            slopes, leverage = np.linalg.lstsq(components, theta, rcond=None)[0], np.zeros((len(x), 1))
        else:
            slopes, leverage = ridge(x, theta)
            slopes = principal.T @ slopes
        telling, triangle = np.linalg.qr(slopes)
        left = components - components @ telling @ telling.T
        turn = np.hstack([telling, _principal(left)[:, : most - theta.shape[1]]])
        principal, components = principal @ turn, components @ turn
        if not many:
            held_out = (x @ principal[:, : theta.shape[1]] @ triangle - leverage * theta) / (1 - leverage)
            # A prediction varies by R^2 (1 - R^2) at one theta, and by leverage (1 - R^2) more for its noise.
            explained = 1 - ((theta - held_out) ** 2).sum(axis=0) / (theta**2).sum(axis=0)
            if leverage.mean() > _NOISY * explained.min():
                warnings.warn(
                    f"{x.shape[1]} features are many for {len(x)} samples: what they tell of the parameters is partly "
                    "lost, and the metric too small. Give fewer features, or more samples.",
                    stacklevel=3,
                )
            components[:, : theta.shape[1]] = held_out @ np.linalg.pinv(triangle)
    axes = np.zeros((len(common), principal.shape[1]))
    axes[common] = principal / unit[:, None]
    return axes, components


def _principal(x: np.ndarray) -> np.ndarray:
    """Principal axes of columns with mean zero, `[columns, axes]`, as many as there are columns or rows; widest first.

    From the smaller of the two matrices of products.
    """
    if x.shape[1] <= len(x):
        return np.linalg.eigh(x.T @ x)[1][:, ::-1]
    squares, scores = np.linalg.eigh(x @ x.T)
    spanned = squares > 1e-12 * squares[-1]
    return (x.T @ (scores[:, spanned] / np.sqrt(squares[spanned])))[:, ::-1]


def ridge(x: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes `[columns, dim]` of theta on standardised columns, all with mean zero; leverages `[n, 1]`.

    The penalty minimises the generalised cross-validation of Golub, Heath and Wahba (1979).
    """
    spread = x.std(axis=0)
    u, s, vt = np.linalg.svd(x / spread, full_matrices=False)
    c, whole = u.T @ theta, (theta**2).sum(axis=0)
    penalties = s[0] ** 2 * np.geomspace(1e-8, 1e2, 61)[:, None]
    kept = s**2 / (s**2 + penalties)
    missed = (whole - (c**2).sum(axis=0)) / whole + (1 - kept) ** 2 @ (c**2 / whole)
    best = np.argmin(missed.sum(axis=1) / (len(x) - 1 - kept.sum(axis=1)).clip(min=1e-9) ** 2)
    slopes = vt.T @ ((kept[best] / s.clip(min=1e-300))[:, None] * c) / spread[:, None]
    return slopes, (u**2 @ kept[best])[:, None]


def _common(centred: np.ndarray) -> np.ndarray:
    """Which features many samples have, bool `[num_features]`: the kurtosis is their number over that of these."""
    square = centred**2
    enough = len(square) * square.mean(axis=0) ** 2 >= min(_FEWEST_SAMPLES, len(square) / 10) * (square**2).mean(axis=0)
    common = enough & (square.max(axis=0) > 0)
    return common if common.any() else np.ones_like(common)
