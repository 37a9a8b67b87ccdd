"""log Z learned from posteriors, and with it the means and the Fisher metric: its gradient and its Hessian."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hessfast import _arrays, _atomic, _checkpoint, _checks, _random, derivatives, potentials
from hessfast._autograd import recording
from hessfast._modules import dtype_of
from hessfast.posterior import ExponentialFamilyPosterior, Posterior

from ._descent import Loss, adam, polish
from ._rows import LOSSES, divergence, median_variance

_MOST_NUMBERS = 2**23  # of a matrix of rows and nodes that is held at a time
_FAR = 2.0  # from the centre of the fit, in half widths
_CLOSED_FORM = "closed form"  # in settings.json
_DAMAGED = "path must be a folder written by LogPartition.save, got {!r}, damaged. Fit it again."
_SETTINGS = (
    "scale",
    "power",
    "loss",
    "num_steps",
    "batch_size",
    "learning_rate",
    "num_polish",
    "width",
    "depth",
    "seed",
)


class LogPartition:
    """The log partition function of p(x | theta) ~ exp(<f(x), theta> - scale phi(theta)), from posteriors on a grid.

    For samples of theta', p(theta | samples) tends to softmax over theta of scale (<grad phi(theta'), theta> -
    phi(theta)), the Bregman divergence of phi (theorem 3.1 of the paper). phi is fitted so that this matches the
    posteriors, row by row. It is determined up to an affine function of theta: compare after `align`.
    theta must be natural parameters: there, and only there, the Fisher metric is a Hessian.

    A posterior is centred beside theta' by about its own width: matched as it is, phi would come out too flat. Both
    sides are therefore raised to a small power (the 1/N of the theorem), which widens them and not the scatter of their
    centres; the metric keeps a relative bias of about -power, as long as the widened rows fit on the grid.

    Args:
        potential: "convex" (positive semi-definite metric by construction), "softplus", "layernorm" (the paper's
            network, for parity), or a torch module that maps `[..., dim]` to `[...]`; a copy of it is fitted.
        scale: what phi is divided by: samples a bundle times sites a sample gives log Z per site.
        power: of both rows before they are compared, in (0, 1].
        loss: "jensen-shannon" or "mse" between the rows.
        to_natural: maps grid points and parameters, arrays `[..., dim]`, to theta; None: they are natural.
        num_steps, batch_size, learning_rate: of Adam, with a cosine decay to zero.
        num_polish: steps of L-BFGS that follow, each of one or two passes over all rows. Without them the metric is
            often tens of percent off; a hundred bring it to a few, as far as the rows determine it. Of at most
            1,000 rows a fifth at a time is held out, and the steps end where these rows do not gain any more, so that
            the metric does not follow noise; this takes six times as long. Rows that share samples share their noise,
            which is then not noticed.
        width, depth: of the potential; None: its own.
        seed: of the initial weights and of the order of rows.

    Attributes:
        potential_: the fitted module, of theta.
        losses_: float `[num_steps]`, of Adam's batches.
        num_polish_: steps of L-BFGS taken.

    References:
        Lobashev et al., "Hessian Geometry of Latent Space in Generative Models", ICML 2025, section 3.

    Example:
        >>> from hessfast.posterior import ExactPosterior, Grid
        >>> gauss = ExactPosterior(lambda x, t: -((x[:, None] - t[:, 0]) ** 2) / 2)  # x ~ N(t, 1): log Z = t^2 / 2
        >>> t = np.repeat(np.linspace(-2, 2, 41), 64)
        >>> x = t + np.random.default_rng(0).normal(size=t.size)
        >>> posterior = gauss.log_posterior(x, Grid((-3.0,), (3.0,), (61,)), bundle=64)
        >>> fitted = LogPartition(scale=64, num_steps=500).fit(posterior, t[::64, None])
        >>> bool(abs(fitted.fisher_metric([[0.5]])[0, 0, 0] - 1) < 0.1)
        True
    """

    def __init__(
        self,
        potential: str | nn.Module = "convex",
        *,
        scale: float = 1.0,
        power: float = 0.05,
        loss: str = "jensen-shannon",
        to_natural: Callable[[Any], Any] | None = None,
        num_steps: int = 2000,
        batch_size: int = 32,
        learning_rate: float = 1e-2,
        num_polish: int = 100,
        width: int | None = None,
        depth: int | None = None,
        seed: int = 0,
    ):
        if not isinstance(potential, nn.Module):
            _checks.choice("potential", potential, potentials.KINDS)
        self.potential = potential
        self.scale = _checks.positive("scale", scale)
        self.power = _checks.positive("power", _checks.number("power", power, high=1))
        self.loss = _checks.choice("loss", loss, LOSSES)
        self.to_natural = to_natural
        self.num_steps = _checks.integer("num_steps", num_steps, 1)
        self.batch_size = _checks.integer("batch_size", batch_size, 1)
        self.learning_rate = _checks.positive("learning_rate", learning_rate)
        self.num_polish = _checks.integer("num_polish", num_polish, 0)
        self.width = None if width is None else _checks.integer("width", width, 1)
        self.depth = None if depth is None else _checks.integer("depth", depth, 1)
        self.seed = _checks.seed(seed)

    def fit(self, posterior: Posterior, parameters: Any) -> "LogPartition":
        """Fit phi to the rows of `posterior`, whose samples come from `parameters` `[n, dim]`.

        Raises:
            TypeError: for anything but a `Posterior`.
            ValueError: for shapes that do not fit, NaN, parameters outside the grid, or posteriors all on one node.
            ArithmeticError: for a loss that is not finite; an earlier fit stays.
        """
        if not isinstance(posterior, Posterior):
            kind = type(posterior).__name__
            raise TypeError(f"posterior must be what log_posterior gives, a Posterior, got {kind}.")
        dim = posterior.grid.dim
        parameters = _checks.float_array("parameters", parameters)
        parameters = parameters[:, None] if parameters.ndim == dim == 1 else parameters
        if parameters.shape != (len(posterior), dim):
            shape = (len(posterior), dim)
            raise ValueError(f"parameters must have shape {shape}, one row a posterior, got {parameters.shape}.")
        if not len(posterior):
            raise ValueError("posterior must have rows, got none.")
        posterior.grid.inside(parameters)  # rows of samples from elsewhere say nothing of log Z there
        with recording():
            theta = self._natural(posterior.grid.points.reshape(-1, dim))
            potential = self._initial(theta)
            nodes, truth = (_in_units(potential, x) for x in (theta, self._natural(parameters)))
            target = torch.as_tensor(posterior.log_mass.reshape(len(posterior), -1), dtype=torch.float32)
            variance = float(median_variance(self.power * target, nodes))
            if not variance > 0:
                raise ValueError(
                    "posterior must be wider than a cell of its grid, got a median variance of 0. Refine it."
                )
            potential.height.fill_(1 / (variance * self.power * self.scale))

            def loss(rows: Tensor) -> Tensor:
                log_ratio = _gradient(potential.potential, truth[rows]) @ nodes.T - potential.potential(nodes)
                log_model = torch.log_softmax(log_ratio / variance, dim=1)
                return divergence(self.loss, torch.softmax(self.power * target[rows], dim=1), log_model)

            return self._descend(potential, len(truth), max(_MOST_NUMBERS // len(nodes), 1), loss)

    def fit_mean(self, theta: Any, mean: Any) -> "LogPartition":
        """Fit phi to statistics of samples, or to means of them: grad phi(theta) = E[f | theta], by least squares.

        ``LogPartition().fit_mean(theta, posterior.mean(theta))`` makes that of an `ExponentialFamilyPosterior` convex
        everywhere.

        Args:
            theta: natural parameters `[n, dim]`, whatever `to_natural` is.
            mean: `[n, dim]`, over scale.

        Example:
            >>> theta = np.random.default_rng(0).uniform(-2, 2, (500, 1))
            >>> fitted = LogPartition(num_steps=300).fit_mean(theta, theta)  # phi = theta^2 / 2
            >>> bool(abs(fitted.fisher_metric([[0.5]])[0, 0, 0] - 1) < 0.1)
            True
        """
        theta, mean = _checks.float_array("theta", theta), _checks.float_array("mean", mean)
        if theta.ndim != 2 or not len(theta):
            raise ValueError(f"theta must have shape [n, dim], got {theta.shape}.")
        if mean.shape != theta.shape:
            raise ValueError(f"mean must have the shape of theta, {theta.shape}, got {mean.shape}.")
        spread = np.where(np.ptp(mean, axis=0) > 0, mean.std(axis=0), 1)
        with recording():
            potential = self._initial(theta)
            potential.height.fill_(float(np.median(spread * np.ptp(theta, axis=0) / 2)))
            slope = potential.height.numpy() / potential.width.numpy() / spread
            target, slope = (torch.as_tensor(x, dtype=torch.float32) for x in (mean / spread, slope))
            points = _in_units(potential, theta)

            def loss(rows: Tensor) -> Tensor:
                return ((_gradient(potential.potential, points[rows]) * slope - target[rows]) ** 2).sum(dim=1).mean()

            return self._descend(potential, len(points), _MOST_NUMBERS // 64, loss)

    @classmethod
    def from_posterior(cls, posterior: ExponentialFamilyPosterior) -> "LogPartition":
        """log Z of a fitted `ExponentialFamilyPosterior`, the same function; beyond its `box_` it is extrapolated.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> t = rng.uniform(-2, 2, (2000, 1))  # x ~ N(t, 1): the metric is 1
            >>> posterior = ExponentialFamilyPosterior().fit(t + rng.normal(size=(2000, 1)), t)
            >>> bool(abs(LogPartition.from_posterior(posterior).fisher_metric([[0.5]])[0, 0, 0] - 1) < 0.2)
            True
        """
        if not isinstance(posterior, ExponentialFamilyPosterior):
            kind = type(posterior).__name__
            raise TypeError(
                f"posterior must be an ExponentialFamilyPosterior, got {kind}. Pass its log_posterior to fit."
            )
        fitted = cls(posterior.potential(), scale=posterior.num_sites)
        fitted.potential_ = _in_own_units(posterior.potential(), posterior.box_.shape[1])
        return fitted

    def _initial(self, theta: np.ndarray) -> potentials.Standardised:
        low, high = theta.min(axis=0), theta.max(axis=0)
        if not (low < high).all():
            column = int((low >= high).argmax())
            raise ValueError(f"theta must vary in every column, got {low[column]:g} throughout column {column}.")
        with _random.seeded(self.seed):
            network = copy.deepcopy(self.potential)
            if isinstance(network, str):
                network = potentials.build(network, theta.shape[1], self.width, self.depth)
            network = network.float()
            _refuse_columns(network, theta.shape[1])
            return potentials.Standardised(network, ((low + high) / 2).tolist(), ((high - low) / 2).tolist())

    def _descend(self, potential: nn.Module, num_rows: int, most_rows: int, loss_of: Loss) -> "LogPartition":
        """Only then is the potential the fitted one. `most_rows` are taken at a time."""
        if not any(True for _ in potential.parameters()):
            raise ValueError("potential must have weights to be fitted, got none.")
        losses = adam(potential, loss_of, num_rows, self.num_steps, self.batch_size, self.learning_rate, self.seed)
        num_polish = polish(potential, loss_of, num_rows, self.num_polish, most_rows, self.seed)
        self.potential_, self.losses_, self.num_polish_ = potential, losses, num_polish
        return self

    def log_z(self, theta: Any) -> Any:
        """phi at natural parameters `[*batch, dim]`, `[*batch]`: log Z / scale up to an affine function of theta.

        Here and in the methods below `[n]` will do for n points of dim = 1, if n is not 1.
        """
        return self._map(lambda network, x: network(x), theta, 0)

    def mean(self, theta: Any) -> Any:
        """grad phi, `[*batch, dim]`: the mean of the sufficient statistics up to a constant, over scale."""
        return self._map(derivatives.gradient, theta, 1)

    def fisher_metric(self, theta: Any) -> Any:
        """Hessian of phi, `[*batch, dim, dim]`; times scale it is the Fisher metric of the whole.

        Warns if the metric is not positive definite somewhere, with the fraction of points and the smallest eigenvalue.
        """
        metric = self._map(derivatives.fisher_metric, theta, 2)
        smallest = np.linalg.eigvalsh(_arrays.to_numpy(metric).astype(np.float64))[..., 0]
        if (smallest <= 0).any():
            share = float((smallest <= 0).mean())
            warnings.warn(
                f"fisher_metric is not positive definite at {share:.1%} of the points, smallest eigenvalue "
                f'{smallest.min():.3g}; potential="convex" is semi-definite everywhere.',
                stacklevel=2,
            )
        return metric

    def save(self, path: str | Path) -> None:
        """Write a folder with the weights (safetensors) and the settings (JSON)."""
        self._fitted()
        kind = _CLOSED_FORM if isinstance(self.potential, potentials.CLOSED_FORMS) else self.potential
        if not isinstance(kind, str):
            raise TypeError(
                "potential must be one of the package's to be saved; save a module of your own with safetensors."
            )
        folder = Path(path)
        _checkpoint.write(folder / "weights.safetensors", self.potential_.state_dict(), {})
        settings = {"potential": kind, "dim": len(self.potential_.get_buffer("centre"))}
        settings |= {name: getattr(self, name) for name in _SETTINGS}
        settings["weights"] = _atomic.checksum(folder / "weights.safetensors")
        _atomic.write(folder / "settings.json", [_atomic.sealed_json(settings)])

    @classmethod
    def load(cls, path: str | Path) -> "LogPartition":
        """A fitted LogPartition from the folder that `save` wrote; theta is natural, whatever `to_natural` was."""
        folder = Path(path)
        try:
            settings = _atomic.read_sealed(folder / "settings.json")
            _, weights = _checkpoint.read(folder / "weights.safetensors")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(
                f"path must be a folder written by LogPartition.save, got {str(path)!r}."
            ) from error
        except ValueError:
            raise ValueError(_DAMAGED.format(str(path))) from None
        try:
            if settings.get("weights") not in (None, _atomic.checksum(folder / "weights.safetensors")):
                raise ValueError(_DAMAGED.format(str(path)))  # not its weights; earlier versions did not say which
            return cls._restored(settings, weights)
        except (AttributeError, KeyError, TypeError, RuntimeError):
            raise ValueError(_DAMAGED.format(str(path))) from None

    @classmethod
    def _restored(cls, settings: dict[str, Any], weights: dict[str, Tensor]) -> "LogPartition":
        kind, dim = settings["potential"], settings["dim"]
        options = {name: settings[name] for name in _SETTINGS}
        if kind == _CLOSED_FORM:
            kind = module = potentials.restored(_checkpoint.part(weights, "potential"))
        else:
            module = potentials.build(kind, dim, options["width"], options["depth"])
        fitted = cls(kind, **options)
        fitted.potential_ = _in_own_units(module, dim)
        fitted.potential_.load_state_dict(weights)
        return fitted

    def _fitted(self) -> potentials.Standardised:
        return _checks.fitted(self, "potential_")

    def _as_potential(self) -> nn.Module:
        return self._fitted()

    def _natural(self, points: np.ndarray) -> np.ndarray:
        theta = points if self.to_natural is None else _checks.float_array("to_natural", self.to_natural(points))
        if theta.ndim != 2 or len(theta) != len(points):
            raise ValueError(f"to_natural must map {points.shape} to [{len(points)}, dim], got {theta.shape}.")
        return theta

    def _map(self, function: Callable[[nn.Module, Tensor], Tensor], theta: Any, order: int) -> Any:
        """The derivative of that order, `function` of the network and a flat batch, in the shape and kind of theta."""
        potential = self._fitted()
        dim = len(potential.centre)
        points = _checks.points_of("theta", theta, dim)
        self._warn_far(points)
        flat = _in_units(potential, points.reshape(-1, dim))
        result = function(potential.potential, flat).detach().double() * potential.height
        for axis in range(order):
            result = result / potential.width.reshape(-1, *(1,) * axis)
        result = result.reshape((*points.shape[:-1], *result.shape[1:]))
        return _arrays.as_given(result, theta)

    def _warn_far(self, theta: np.ndarray) -> None:
        """Of theta that look as if they were no natural parameters; closed forms do not know where they were fitted."""
        if isinstance(self.potential, potentials.CLOSED_FORMS):
            return
        centre, width = self._fitted().centre.numpy(), self._fitted().width.numpy()
        far = (np.abs(theta - centre) > _FAR * width).any(axis=-1)
        if far.any():
            low, high = ((centre + sign * width).round(6).tolist() for sign in (-1, 1))
            warnings.warn(
                f"theta is far from the fit, {low} to {high}, at {far.mean():.1%} of the points, where log Z is not "
                "known. Pass natural parameters.",
                stacklevel=4,
            )


def _in_own_units(potential: nn.Module, dim: int) -> potentials.Standardised:
    return potentials.Standardised(potential, [0.0] * dim, [1.0] * dim)


def _refuse_columns(network: nn.Module, dim: int) -> None:
    with torch.no_grad():
        shape = tuple(network(torch.zeros(3, dim, dtype=torch.float32)).shape)
    if shape != (3,):
        raise ValueError(f"potential must map [3, {dim}] to [3], got {shape}. Add torch.nn.Flatten(-2) to [n, 1].")


def _in_units(potential: potentials.Standardised, theta: np.ndarray) -> Tensor:
    """What its network is given."""
    units = (torch.as_tensor(theta) - potential.centre) / potential.width
    return units.to(dtype_of(potential.potential) or torch.float32)


def _gradient(potential: nn.Module, theta: Tensor) -> Tensor:
    theta = theta.requires_grad_()
    return torch.autograd.grad(potential(theta).sum(), theta, create_graph=True)[0]
