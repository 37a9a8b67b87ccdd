"""log Z and its Hessian learned from posteriors of families whose log Z is known."""

import numpy as np
import pytest

from hessfast import log_partition
from hessfast.log_partition import LogPartition
from hessfast.posterior import ExactPosterior, Grid, Posterior

torch = pytest.importorskip("torch")
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
GRID = Grid((-2.0, -2.0), (2.0, 2.0), (25, 25))
BUNDLE = 64


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small are slower on several threads, and very slow when other jobs hold the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gaussian(num=300, seed=0):
    """x ~ N(C theta, C): log Z = theta C theta / 2, Fisher metric C. Posteriors of bundles, and their parameters."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-1.4, 1.4, (num, 2))
    samples = np.repeat(theta, BUNDLE, axis=0) @ COVARIANCE + rng.multivariate_normal([0, 0], COVARIANCE, num * BUNDLE)

    def log_likelihood(x, t):
        return x @ t.reshape(-1, 2).T - np.einsum("...i,ij,...j", t, COVARIANCE, t).ravel() / 2

    posterior = ExactPosterior(lambda x, t: log_likelihood(x, t).reshape(len(x), *t.shape[:-1]))
    return posterior.log_posterior(samples, GRID, bundle=BUNDLE), theta


@pytest.fixture(scope="module")
def fitted():
    return LogPartition(scale=BUNDLE, num_steps=1000, seed=3).fit(*gaussian())


def inner(num=200):
    return np.random.default_rng(9).uniform(-1.2, 1.2, (num, 2))


def test_metric_of_gaussians(fitted):
    theta = inner()
    metric = fitted.fisher_metric(theta)
    assert metric.shape == (200, 2, 2)
    np.testing.assert_allclose(metric.mean(axis=0), COVARIANCE, rtol=0.1)
    np.testing.assert_allclose(metric, np.broadcast_to(COVARIANCE, metric.shape), atol=0.35)
    assert (np.linalg.eigvalsh(metric)[:, 0] > 0).all()


def test_log_z_and_mean_of_gaussians(fitted):
    theta = inner()
    exact = np.einsum("...i,ij,...j", theta, COVARIANCE, theta) / 2
    learned = log_partition.align(fitted.log_z(theta), theta, exact)
    assert np.sqrt(((learned - exact) ** 2).mean()) < 0.05 * exact.std()
    gradient = fitted.mean(theta) - theta @ COVARIANCE
    assert (gradient.std(axis=0) < 0.1 * (theta @ COVARIANCE).std(axis=0)).all()


def test_gradient_and_hessian_belong_to_log_z(fitted):
    theta, step = np.array([0.3, -0.2]), 0.02
    around = theta + step * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    value = fitted.log_z(around)
    np.testing.assert_allclose(fitted.mean(theta), (value[::2] - value[1::2]) / (2 * step), atol=2e-3)
    slope = fitted.mean(around)
    np.testing.assert_allclose(fitted.fisher_metric(theta), (slope[::2] - slope[1::2]) / (2 * step), atol=2e-3)


def test_matching_posteriors_as_they_are_flattens_the_metric():
    """Why `power` is small: the scatter of a posterior's centre, as wide as itself, is taken for width."""
    posterior, theta = gaussian()
    flat = (
        LogPartition(scale=BUNDLE, power=1.0, num_steps=600).fit(posterior, theta).fisher_metric(inner()).mean(axis=0)
    )
    assert (np.diag(flat) < 0.75 * np.diag(COVARIANCE)).all()


@pytest.mark.parametrize("potential", ["convex", "softplus", "paper"])
@pytest.mark.parametrize("loss", ["jensen-shannon", "mse"])
def test_bernoulli_in_other_coordinates(potential, loss):
    """Coins given by p: theta = log(p / (1 - p)), log Z = log(1 + e^theta), metric p (1 - p)."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.15, 0.85, (200, 1))
    heads = rng.random((200, 400)) < p

    def log_likelihood(x, t):
        return x.sum(axis=1, keepdims=True) * np.log(t[:, 0]) + (~x).sum(axis=1, keepdims=True) * np.log(1 - t[:, 0])

    posterior = ExactPosterior(log_likelihood).log_posterior(heads, Grid((0.02,), (0.98,), (97,)))
    rate = {"paper": 1e-3}.get(potential, 1e-2)
    width = 64 if potential == "paper" else None

    def odds(q):
        return np.log(q / (1 - q))

    settings = {"scale": 400, "loss": loss, "to_natural": odds, "num_steps": 500, "learning_rate": rate, "width": width}
    fitted = LogPartition(potential, **settings).fit(posterior, p)
    theta = np.linspace(-1.2, 1.2, 30)[:, None]
    exact = np.log1p(np.exp(theta[:, 0]))
    learned = log_partition.align(fitted.log_z(theta), theta, exact)
    bend = np.sqrt(((log_partition.align(0 * exact, theta, exact) - exact) ** 2).mean())  # what no fit at all leaves
    assert (
        np.sqrt(((learned - exact) ** 2).mean())
        < {"paper": 0.3}.get(potential, 0.15 if loss == "jensen-shannon" else 0.2) * bend
    )


def test_a_seed_decides_everything():
    posterior, theta = gaussian(40)
    first, second, other = (
        LogPartition(scale=BUNDLE, num_steps=20, seed=seed).fit(posterior, theta).log_z(theta) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_saved_and_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    again = LogPartition.load(tmp_path / "model")
    theta = inner(10)
    np.testing.assert_array_equal(again.log_z(theta), fitted.log_z(theta))
    np.testing.assert_array_equal(again.fisher_metric(theta), fitted.fisher_metric(theta))
    assert again.scale == BUNDLE
    with pytest.raises(FileNotFoundError, match=r"folder written by LogPartition\.save"):
        LogPartition.load(tmp_path / "nothing")


def test_modules_and_tensors_are_taken():
    class Quadratic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = torch.nn.Parameter(torch.eye(2))

        def forward(self, x):
            return ((x @ self.matrix) ** 2).sum(-1)

    posterior, theta = gaussian()
    fitted = LogPartition(Quadratic(), scale=BUNDLE, num_steps=600).fit(posterior, theta)
    metric = fitted.fisher_metric(torch.zeros(3, 1, 2))
    assert isinstance(metric, torch.Tensor) and metric.shape == (3, 1, 2, 2)
    np.testing.assert_allclose(metric[0, 0].numpy(), COVARIANCE, rtol=0.08)


def test_metrics_that_are_not_positive_are_reported():
    class Saddle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bend = torch.nn.Parameter(torch.tensor([1.0, -1.0]))

        def forward(self, x):
            return (self.bend * x**4).sum(-1)  # the second axis is concave, but at 0

    fitted = LogPartition(Saddle(), num_steps=1).fit(*gaussian(40))
    theta = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0], [0.5, -1.0]])
    with pytest.warns(UserWarning, match="not positive definite at 100.0% of the points, smallest eigenvalue -"):
        metric = fitted.fisher_metric(theta)
    assert metric.shape == (4, 2, 2)


def test_what_is_refused():
    posterior, theta = gaussian(10)
    with pytest.raises(ValueError, match="potential must be one of convex, softplus, paper"):
        LogPartition("deep")
    with pytest.raises(ValueError, match="loss must be one of"):
        LogPartition(loss="kl")
    with pytest.raises(ValueError, match="scale must be > 0"):
        LogPartition(scale=-1)
    with pytest.raises(ValueError, match=r"power must be in \(0, 1\]"):
        LogPartition(power=0)
    with pytest.raises(ValueError, match="one row a posterior"):
        LogPartition().fit(posterior, theta[:3])
    with pytest.raises(ValueError, match="parameters must be finite"):
        LogPartition().fit(posterior, theta * np.nan)
    with pytest.raises(ValueError, match="must have rows"):
        LogPartition().fit(Posterior(np.empty((0, 25, 25)), GRID), np.empty((0, 2)))
    with pytest.raises(ValueError, match="fit must be called first"):
        LogPartition().log_z(theta)
    fitted = LogPartition(num_steps=1).fit(posterior, theta)
    with pytest.raises(ValueError, match=r"theta must have shape \[\.\.\., 2\]"):
        fitted.log_z([[1.0, 2.0, 3.0]])
    with pytest.raises(ArithmeticError, match="Use a smaller one"):
        LogPartition("softplus", scale=BUNDLE, power=1.0, num_steps=50, learning_rate=1e30).fit(posterior, theta)


def test_means_of_coins_give_their_log_partition():
    """phi = log(1 + e^a) + log(1 + e^b): its gradient is the chance of heads, whatever the noise of single tosses."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, (4000, 2))
    tosses = rng.binomial(20, 1 / (1 + np.exp(-theta))) / 20
    fitted = LogPartition("softplus", num_steps=600, batch_size=512).fit_mean(theta, tosses)
    points = theta[(np.abs(theta) < 1.5).all(axis=1)][:200]
    p = 1 / (1 + np.exp(-points))
    np.testing.assert_allclose(fitted.mean(points), p, atol=0.05)
    metric = np.asarray(fitted.fisher_metric(points))
    assert np.abs(np.diagonal(metric, axis1=1, axis2=2) - p * (1 - p)).mean() < 0.03


@pytest.mark.parametrize(
    ("theta", "mean", "message"),
    [
        (np.zeros(3), np.zeros(3), r"theta must have shape \[n, dim\], got \(3,\)"),
        (np.zeros((0, 2)), np.zeros((0, 2)), r"theta must have shape \[n, dim\]"),
        (np.zeros((3, 2)), np.zeros((3, 1)), r"mean must have the shape of theta"),
        (np.zeros((3, 2)), np.full((3, 2), np.nan), "mean must be finite"),
    ],
)
def test_means_that_do_not_fit_are_refused(theta, mean, message):
    with pytest.raises(ValueError, match=message):
        LogPartition(num_steps=1).fit_mean(theta, mean)
