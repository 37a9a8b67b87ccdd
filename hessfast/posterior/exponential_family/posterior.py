"""The exponential-family posterior: statistics by logistic regression on pairs of samples, log Z by splines."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from hessfast import _arrays, _checks

from ..grid import Grid, checked_grid
from ..result import Posterior, bundled, normalise
from ._basis import Hyperplane
from ._components import chosen_components
from ._fit import Fit
from ._learn import learn, sharpen
from ._saved import arrays_of, fit_of

_SAMPLES_A_COMPONENT = 300  # at least; with fewer S would be noise
_MARGIN = 0.05  # of the range of the parameters of the fit: so far beyond it phi is extrapolated
_FORMAT = "hessfast.posterior.ExponentialFamilyPosterior 1"
_SETTINGS = ("num_sites", "num_components", "resolution", "kink", "sufficient", "num_splits", "seed")
_FUNCTIONS = ("features", "to_natural")


class ExponentialFamilyPosterior:
    """p(t | x) ~ exp(N <f(x), t> - N phi(t)), with f and phi learned from samples x of p(x | t) at known t.

    Nothing but samples, their natural parameters t and features z(x) enters. The statistics are linear in the
    features, f = S^T z. Of two samples and two parameters, which belongs to which? The odds, exp(N <f - f', t -
    t'>), know no phi: S is a logistic regression on such pairs, near ones for log Z, and ones from all over for
    posteriors. Nearness is in the parameters as given, so give those in which means vary evenly. Regions whose odds
    do not hold (features that fluctuate in ways t does not move) count less. The means of f are a gradient, E[f|t]
    = grad phi(t): this corrects the mixing of the components of f. phi is fitted to means and to covariances, N Cov(f |
    t) = Hess phi(t), each weighted by its noise; that of posteriors is calibrated by ranking parameters. log Z is N phi
    up to an affine function of t, which no posterior determines: here phi and its gradient have mean zero over the
    samples of the fit. A first-order transition is allowed for:
    if neighbours jump across a hyperplane, phi has a kink there, rounded over the width within which samples leave its
    place open. A finite system may have a sharper one: the metric on it is right as an integral, not as a height.

    phi is a product of cubic splines in each coordinate, with knots at quantiles, in one to three dimensions (a
    minute for 20,000 samples in two; coarse in three), a polynomial of total degree four or less beyond. It is as
    smooth as makes its Hessian closest to the covariances. A peak of the metric narrower than an interval, of which
    there are about 2 n^(1/4) along each of two axes, is spread over it, and beside it the metric is too low: a third of
    the peak at the critical point of 16 x 16 spins is left by 5,000 samples of T in [2, 4], H in [-.5, .5]. Fit a
    smaller box around what is sharp. The other bias is that of features whose linear functions miss the sufficient
    statistics. The errors from halves see neither, held-out samples (`score`) do.

    Attributes:
        directions_: S, float64 `[num_features, dim]`, per site.
        offset_: of the statistics, float64 `[dim]`.
        kink_: the hyperplane normal . t = offset across which grad phi jumps, within `width` to both sides, or None.
        mixing_: B in f -> (1 + B) f, which makes E[f | t] a gradient; large entries: the pairs alone were off.
        convexity_: fraction of the samples of the fit at which the metric is positive definite.
        smallest_eigenvalue_: of the metric at those samples.
        box_: lowest and highest natural parameters of the fit, `[2, dim]`; a twentieth of the range beyond it phi is
            extrapolated, farther points are refused.

    Example:
        One normal variable of variance 1 and mean t: f = x, phi = t^2 / 2, and the metric is 1.

        >>> rng = np.random.default_rng(0)
        >>> t = rng.uniform(-2, 2, (2000, 1))
        >>> posterior = ExponentialFamilyPosterior().fit(t + rng.normal(size=(2000, 1)), t)
        >>> bool(abs(posterior.fisher_metric(np.array([0.5]))[0, 0] - 1) < 0.2)
        True
    """

    def __init__(
        self,
        num_sites: int = 1,
        features: Callable[[Any], Any] | None = None,
        to_natural: Callable[[np.ndarray], Any] | None = None,
        *,
        num_components: int = 128,
        resolution: int | None = None,
        kink: bool = True,
        sufficient: bool = False,
        num_splits: int = 0,
        seed: int = 0,
    ):
        """
        Args:
            num_sites: N, by which exponents are divided; f, phi and metric are per site.
            features: maps what `fit` and others are given as samples to z, `[n, num_features]`; None if they are z.
            to_natural: maps the parameters, an array `[n, dim]`, to natural ones; None if they are natural. That they
                are not is not noticed: the metric is then that of no family.
            num_components: most combinations of the features that are kept; one for 300 samples at most, and dim at
                least. They are the linear prediction of the parameters and what else varies most: give features on one
                scale, and twenty samples for each, or noise of the prediction is lost to the metric (with a warning
                where it may be more than a tenth). A feature that fewer than 30 samples have, or a tenth of fewer than
                300, is dropped.
            resolution: intervals of the splines (degree of the polynomials); by default from the number of samples.
            kink: whether to look for one.
            sufficient: whether the features are the sufficient statistics, dim of them, per site: then only phi is
                learned, as a ceiling for what can be.
            num_splits: of the samples into two random halves; half the difference of fits to them is an estimate of the
                statistical error of the fit to all. 0 for none. Twice that covered the truth in two thirds to five
                sixths of the elements of the metric, in trials on five families.
            seed: of the splits.
        """
        self.num_sites = _checks.integer("num_sites", num_sites, 1)
        self.features, self.to_natural = features, to_natural
        self.num_components = _checks.integer("num_components", num_components, 1)
        self.resolution = None if resolution is None else _checks.integer("resolution", resolution, 2)
        self.kink, self.sufficient = bool(kink), bool(sufficient)
        self.num_splits = _checks.integer("num_splits", num_splits, 0)
        self.seed = _checks.seed(seed)

    def fit(self, samples: Any, parameters: Any) -> "ExponentialFamilyPosterior":
        """Learn from samples x_i of p(x | t_i).

        Args:
            samples: features `[n, num_features]` (`[n]` for one), or what `features` maps to them; independent: copies,
                as of a bootstrap, would count as samples of their own, and their noise as signal.
            parameters: `[n, dim]` (`[n]` for dim = 1), spread over the region of interest: of few different values, as
                five on a line, the metric is right to some ten percent only.

        Raises:
            ValueError, TypeError: for shapes that do not fit, NaN, features or parameters that do not vary, or fewer
                than 100 samples for each dimension, linearly dependent parameters, features that tell them exactly.
        """
        given = self._given("parameters", parameters)
        theta = self._natural("parameters", given)
        z = self._features(samples)
        num, dim = theta.shape
        if len(z) != num:
            raise ValueError(f"parameters must be one row for each of the {len(z)} samples, got {num}.")
        if self.sufficient and z.shape[1] != dim:
            raise ValueError(f"features must be {dim} to be the sufficient statistics, got {z.shape[1]}.")
        if not dim or not z.shape[1]:
            raise ValueError(f"samples and parameters must have columns, got {z.shape[1]} and {dim}.")
        if num < 100 * dim:
            raise ValueError(
                f"samples must number at least {100 * dim} for {dim} parameters, got {num}. Draw more samples."
            )
        for name, columns in (("parameters", theta), ("features", z)):
            constant = np.flatnonzero(np.ptp(columns, axis=0) == 0)
            if (name == "parameters" and constant.size) or constant.size == columns.shape[1]:
                raise ValueError(f"{name} must vary, got the constant {columns[0, constant[0]]} in a column.")
        if np.linalg.eigvalsh(np.corrcoef(theta, rowvar=False).reshape(dim, dim))[0] < 1e-8:
            raise ValueError("parameters must not be linearly dependent, got columns that are.")
        center = z.mean(axis=0)
        rotation, components = np.eye(dim), z - center
        components[:, z.std(axis=0) <= 1e-12 * np.abs(z).max(axis=0)] = 0  # constants, but for rounding
        if not self.sufficient:
            most = max(min(self.num_components, num // _SAMPLES_A_COMPONENT), dim)
            rotation, components = chosen_components(components, theta - theta.mean(axis=0), most)
        options = theta, self.num_sites, self.kink, self.resolution, self.sufficient, self.seed
        fit = learn(components, given, theta, *options)
        posterior_fit = sharpen(
            fit, components, given, theta, self.num_sites, self.resolution, self.sufficient, self.seed
        )
        rng = np.random.default_rng(self.seed)
        halves = []
        for _ in range(self.num_splits):
            order = rng.permutation(num)
            pair = (np.sort(half) for half in (order[: num // 2], order[num // 2 :]))
            halves.append(tuple(learn(components[half], given[half], theta[half], *options) for half in pair))
        box = np.stack([theta.min(axis=0), theta.max(axis=0)])
        eigenvalues = np.linalg.eigvalsh(fit.fisher_metric(theta))[:, 0]
        # Nothing is kept of a fit that failed.
        self._keep(center, rotation, box, fit, posterior_fit, halves)
        self.convexity_, self.smallest_eigenvalue_ = float((eigenvalues > 0).mean()), float(eigenvalues.min())
        return self

    def _keep(
        self,
        center: np.ndarray,
        rotation: np.ndarray,
        box: np.ndarray,
        fit: Fit,
        posterior_fit: Fit,
        halves: list[tuple[Fit, ...]],
    ) -> None:
        self._center, self._rotation, self._halves = center, rotation, halves
        self._fit, self._posterior_fit, self.box_ = fit, posterior_fit, box
        self.directions_, self.offset_, self.mixing_ = rotation @ fit.directions, fit.offset, fit.mixing
        self.kink_: Hyperplane | None = fit.basis.kink

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, all but the functions `features` and `to_natural`."""
        from hessfast import _checkpoint

        fits = {"fit": self._fitted(), "posterior_fit": self._posterior_fit}
        fits |= {f"half{2 * k + j}": half for k, pair in enumerate(self._halves) for j, half in enumerate(pair)}
        arrays = {"center": self._center, "rotation": self._rotation, "box": self.box_}
        arrays |= {f"{name}.{part}": array for name, fit in fits.items() for part, array in arrays_of(fit).items()}
        fields = {"format": _FORMAT, "settings": {name: getattr(self, name) for name in _SETTINGS}}
        fields |= {name: getattr(self, name) is not None for name in _FUNCTIONS}
        fields |= {"convexity": self.convexity_, "smallest_eigenvalue": self.smallest_eigenvalue_}
        tensors = {name: _arrays.tensor(np.ascontiguousarray(array), "cpu") for name, array in arrays.items()}
        _checkpoint.write(path, tensors, fields)

    @classmethod
    def load(
        cls,
        path: str | Path,
        features: Callable[[Any], Any] | None = None,
        to_natural: Callable[[np.ndarray], Any] | None = None,
    ) -> "ExponentialFamilyPosterior":
        """The posterior that `save` wrote.

        Args:
            features, to_natural: those of the fit, which no file can hold; None where it had none.

        Raises:
            FileNotFoundError: without a file.
            ValueError: for a file of another kind, or a function missing or too many.

        Example:
            >>> import tempfile
            >>> rng = np.random.default_rng(0)
            >>> t = rng.uniform(-2, 2, 1000)
            >>> posterior = ExponentialFamilyPosterior().fit(t + rng.normal(size=1000), t)
            >>> posterior.save(file := tempfile.mkdtemp() + "/normal.safetensors")
            >>> again = ExponentialFamilyPosterior.load(file)
            >>> bool((again.fisher_metric([[0.5]]) == posterior.fisher_metric([[0.5]])).all())
            True
        """
        from hessfast import _checkpoint

        fields, tensors = _checkpoint.read_as(_FORMAT, path)
        for name, given in zip(_FUNCTIONS, (features, to_natural), strict=True):
            if fields[name] != (given is not None):
                wanted = "the function that the posterior was fitted with" if fields[name] else "None, as in the fit"
                raise ValueError(f"{name} must be {wanted}, got {given!r:.80}.")
        arrays = {name: _arrays.to_numpy(x) for name, x in tensors.items()}
        posterior = cls(features=features, to_natural=to_natural, **fields["settings"])

        def kept(name: str) -> Fit:
            return fit_of(_checkpoint.part(arrays, name))

        halves = [(kept(f"half{2 * k}"), kept(f"half{2 * k + 1}")) for k in range(posterior.num_splits)]
        fit, posterior_fit = kept("fit"), kept("posterior_fit")
        posterior._keep(arrays["center"], arrays["rotation"], arrays["box"], fit, posterior_fit, halves)
        posterior.convexity_, posterior.smallest_eigenvalue_ = fields["convexity"], fields["smallest_eigenvalue"]
        return posterior

    def statistics(self, samples: Any) -> Any:
        """f(x), `[n, dim]`, per site: those of `log_z`. Posteriors and `score` have others, calibrated for ranking."""
        return _arrays.as_given(self._statistics(samples, self._fitted()), samples)

    def log_z(self, theta: Any) -> Any:
        """phi = log Z / N up to an affine function, at natural parameters `[*batch, dim]`: `[*batch]`.

        Here and in the methods below `[n]` will do for n points of dim = 1, if n is not 1.
        """
        return self._evaluate("log_z", theta)

    def mean(self, theta: Any) -> Any:
        """E[f | t] = grad phi, `[*batch, dim]`."""
        return self._evaluate("mean", theta)

    def fisher_metric(self, theta: Any) -> Any:
        """The Hessian of phi, `[*batch, dim, dim]`: per site; N times as much for the whole."""
        return self._evaluate("fisher_metric", theta)

    def potential(self) -> Any:
        """phi as a torch module of natural parameters, `[..., dim]` to `[...]`, in float64."""
        fit = self._fitted()
        return fit.basis.potential(fit.coefficients)

    _as_potential = potential

    def standard_error(self, quantity: str, theta: Any) -> Any:
        """The statistical error of "log_z", "mean" or "fisher_metric" at theta.

        Half the difference of two halves' fits, root mean square over the splits; with one split it has itself an error
        of its own size.
        """
        self._fitted()
        _checks.choice("quantity", quantity, ("log_z", "mean", "fisher_metric"))
        if not self._halves:
            raise ValueError("num_splits must be >= 1 for errors, got 0. Fit with num_splits=4.")

        def error(points: np.ndarray) -> np.ndarray:
            halves = ([getattr(half, quantity)(points) for half in pair] for pair in self._halves)
            return np.sqrt(np.mean([((a - b) / 2) ** 2 for a, b in halves], axis=0))

        return self._at(theta, error)

    def log_posterior(self, samples: Any, grid: Grid, *, bundle: int = 1) -> Posterior:
        """The posterior of every sample, or of every `bundle` consecutive samples of one parameter.

        Args:
            samples: as in `fit`.
            grid: of parameters as in `fit`.
            bundle: so many exponents are added.
        """
        points = checked_grid(grid).points
        exponents = self._exponents(self._bundled(samples, bundle), points, bundle)
        return Posterior(normalise(exponents).reshape(-1, *grid.shape), grid)

    def score(self, samples: Any, parameters: Any, points: Any, *, bundle: int = 1) -> float:
        """Mean of log (posterior / prior) at the parameters of held-out samples, in nats: the higher the better.

        The prior is uniform over the points, and the posterior is normalised by their mean: they must be many and close
        enough to resolve it.

        Args:
            samples, bundle: as in `log_posterior`.
            parameters: of each bundle, `[n / bundle, dim]`.
            points: `[*grid, dim]`, drawn from or spread over the prior.
        """
        f = self._bundled(samples, bundle)
        exponents = self._exponents(f, points, bundle)
        theta = self._inside("parameters", self._natural("parameters", self._given("parameters", parameters)))
        if len(theta) != len(exponents):
            raise ValueError(f"parameters must be one row for each of the {len(exponents)} bundles, got {len(theta)}.")
        own = self.num_sites * ((f * theta).sum(axis=1) - bundle * self._posterior_fit.log_z(theta))
        return float(np.mean(own - logsumexp(exponents, axis=1) + math.log(exponents.shape[1])))

    def _statistics(self, samples: Any, fit: Fit) -> np.ndarray:
        z = self._features(samples)
        if z.shape[1] != len(self._center):
            raise ValueError(f"samples must have {len(self._center)} features as in fit, got {z.shape[1]}.")
        return (z - self._center) @ (self._rotation @ fit.directions) + fit.offset

    def _features(self, samples: Any) -> np.ndarray:
        if self.features is not None:
            samples = self.features(samples)
        elif not hasattr(samples, "__array__") and not isinstance(samples, list | tuple):
            raise TypeError(f"samples must be features, got {type(samples).__name__}. Pass features= to make them.")
        z = _checks.float_array("features", samples)
        z = z[:, None] if z.ndim == 1 else z
        if z.ndim != 2:
            raise ValueError(f"features must have shape [n, num_features], got {z.shape}. Pass features= to make them.")
        return z

    def _given(self, name: str, parameters: Any) -> np.ndarray:
        values = _checks.float_array(name, parameters)
        values = values[:, None] if values.ndim == 1 and name == "parameters" else values
        if values.ndim < 1 or (name == "parameters" and values.ndim != 2):
            raise ValueError(f"{name} must have shape [n, dim], got {values.shape}.")
        return values

    def _natural(self, name: str, given: np.ndarray) -> np.ndarray:
        if self.to_natural is None:
            return given
        flat = self.to_natural(given.reshape(-1, given.shape[-1]))
        return _checks.float_array(f"to_natural({name})", flat).reshape(*given.shape[:-1], -1)

    def _inside(self, name: str, theta: np.ndarray) -> np.ndarray:
        dim = self.box_.shape[1]
        if theta.shape[-1] != dim:
            raise ValueError(f"{name} must have shape [*batch, {dim}], got {theta.shape}.")
        slack = _MARGIN * np.ptp(self.box_, axis=0)
        outside = ((theta < self.box_[0] - slack) | (theta > self.box_[1] + slack)).any(axis=-1)
        if outside.any():
            low, high = self.box_
            raise ValueError(
                f"{name} must be within {low.tolist()} and {high.tolist()}, the parameters of the fit, "
                f"or a twentieth of their range beyond, got {theta[outside][0].tolist()}."
            )
        return theta

    def _evaluate(self, quantity: str, theta: Any) -> Any:
        return self._at(theta, getattr(self._fitted(), quantity))

    def _at(self, theta: Any, function: Callable[[np.ndarray], np.ndarray]) -> Any:
        """`function` of a flat batch of natural parameters, in the shape and the kind of array in which they came."""
        points = self._inside("theta", _checks.points_of("theta", theta, self.box_.shape[1]))
        values = function(points.reshape(-1, points.shape[-1]))
        return _arrays.as_given(values.reshape((*points.shape[:-1], *values.shape[1:])), theta)

    def _bundled(self, samples: Any, bundle: int) -> np.ndarray:
        """Sums of the statistics of `bundle` consecutive samples, `[n / bundle, dim]`."""
        self._fitted()
        return bundled(self._statistics(samples, self._posterior_fit), _checks.integer("bundle", bundle, 1))

    def _exponents(self, f: np.ndarray, points: Any, bundle: int) -> np.ndarray:
        """N (<f, t> - bundle phi(t)) for each bundle and point, `[n / bundle, points]`."""
        theta = self._inside("points", self._natural("points", self._given("points", points)))
        flat = theta.reshape(-1, theta.shape[-1])
        return self.num_sites * (f @ flat.T - bundle * self._posterior_fit.log_z(flat))

    def _fitted(self) -> Fit:
        return _checks.fitted(self, "_fit")
