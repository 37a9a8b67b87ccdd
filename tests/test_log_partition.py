"""log Z and its Hessian learned from posteriors of families whose log Z is known."""

import itertools
import json
import warnings

import numpy as np
import pytest

from hessfast import log_partition, potentials
from hessfast.log_partition import LogPartition, _descent
from hessfast.log_partition._rows import divergence, median_variance
from hessfast.posterior import ExactPosterior, ExponentialFamilyPosterior, Grid, Posterior

torch = pytest.importorskip("torch")
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
GRID = Grid((-2.0, -2.0), (2.0, 2.0), (25, 25))
BUNDLE = 64


pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_means_that_are_exact_give_the_metric_of_the_normal_family():
    """Mean and precision unknown, theta = (mu tau, -tau / 2): Adam alone leaves the convex network 28 % off."""
    mu, log_tau = np.random.default_rng(1).uniform(-1, 1, (2, 3000))
    tau = np.exp(log_tau)
    theta, mean = np.stack([mu * tau, -tau / 2], axis=1), np.stack([mu, mu**2 + 1 / tau], axis=1)
    inside = (np.abs(mu) < 0.8) & (np.abs(log_tau) < 0.8)
    mu, tau = mu[inside], tau[inside]
    truth = np.moveaxis(np.array([[1 / tau, 2 * mu / tau], [2 * mu / tau, 4 * mu**2 / tau + 2 / tau**2]]), 2, 0)

    def error(num_polish):
        fitted = LogPartition(num_steps=1000, num_polish=num_polish).fit_mean(theta, mean)
        off = np.linalg.norm(fitted.fisher_metric(theta[inside]) - truth, axis=(1, 2))
        return np.median(off / np.linalg.norm(truth, axis=(1, 2)))

    assert error(100) < 0.04 < 0.2 < error(0)


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


@pytest.mark.parametrize(("num_rows", "num_tosses"), [(200, 50), (41, 500)])
def test_few_rows_of_posteriors_are_not_followed_into_their_noise(num_rows, num_tosses):
    """Coins at theta, log Z = log(1 + e^theta). All 100 steps leave the metric .17 to .63 and .09 to .35 off."""
    rows = np.linspace(-3, 3, num_rows)[:, None]
    theta = np.linspace(-2.5, 2.5, 41)[:, None]
    truth = 1 / (4 * np.cosh(theta[:, 0] / 2) ** 2)
    coin = ExactPosterior(lambda x, t: x[:, None] * t[:, 0] - np.logaddexp(0, t[:, 0]))
    off = []
    for seed in range(3):
        tosses = np.random.default_rng(seed).random((num_rows, num_tosses)) < 1 / (1 + np.exp(-rows))
        posterior = coin.log_posterior(tosses.ravel(), Grid((-4.0,), (4.0,), (81,)), bundle=num_tosses)
        fitted = LogPartition(scale=num_tosses, num_steps=500).fit(posterior, rows)
        assert 0 < fitted.num_polish_ < 100
        off.append(np.sqrt(((fitted.fisher_metric(theta)[:, 0, 0] / truth - 1) ** 2).mean()))
    assert max(off) < 0.15


def test_a_single_row_is_not_polished():
    posterior, theta = gaussian(1)
    fitted = LogPartition(scale=BUNDLE, num_steps=5, num_polish=3).fit(posterior, theta)
    assert fitted.num_polish_ == 0


def test_steps_that_do_not_help_are_undone():
    """Of a loss that rises with every look."""
    network, looks = torch.nn.Linear(1, 1), itertools.count()
    before = [weight.detach().clone() for weight in network.parameters()]

    def loss(rows):
        return (network(torch.ones(1)) ** 2).sum() + next(looks)

    assert _descent.polish(network, loss, 2000, 3, 2000, 0) == 0
    assert all(map(torch.equal, network.parameters(), before))


def test_steps_that_only_follow_noise_leave_the_weights():
    """Of few rows: those after steps on the others are forgotten."""
    network = torch.nn.Linear(20, 1)
    torch.nn.init.zeros_(network.weight)
    torch.nn.init.zeros_(network.bias)
    noise = torch.randn(25, 21, generator=torch.Generator().manual_seed(0))

    def loss(rows):
        return ((network(noise[rows, :-1])[:, 0] - noise[rows, -1]) ** 2).mean()

    assert _descent.polish(network, loss, 25, 20, 25, 0) == 0
    assert not any(weight.any() for weight in network.parameters())


def test_rows_a_few_at_a_time_are_all_rows():
    """A mean of squares and its gradient, of parts of 3, 3 and 1."""
    weight, x = torch.tensor(2.0, requires_grad=True), torch.arange(7.0)
    found = _descent._mean(lambda rows: ((weight * x[rows]) ** 2).mean(), torch.arange(7), 3, [weight])
    assert found == pytest.approx(4 * 13) and weight.grad == pytest.approx(4 * 13)


def test_steps_are_those_that_lower_the_loss_of_rows_held_out():
    """Falls of the mean within a standard error of the lowest are chance; a look that is no number is none."""
    falls = np.array([[5.0, 3.0, 1.0, 1.1], [5.2, 3.1, 1.2, 1.0]])
    assert _descent.first_good(falls) == 2
    assert _descent.first_good(np.array([[5.0, 1.0, 0.0], [5.0, 1.0, 1.9]])) == 1
    assert _descent.first_good(np.array([[5.0, 4.0, np.nan], [5.0, 4.0, 3.0]])) == 1


@pytest.mark.parametrize("potential", ["convex", "softplus", "layernorm"])
@pytest.mark.parametrize("loss", ["jensen-shannon", "mse"])
def test_bernoulli_in_other_coordinates(potential, loss):
    """Coins given by p: theta = log(p / (1 - p)), log Z = log(1 + e^theta), metric p (1 - p)."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.15, 0.85, (200, 1))
    heads = rng.random((200, 400)) < p

    def log_likelihood(x, t):
        return x.sum(axis=1, keepdims=True) * np.log(t[:, 0]) + (~x).sum(axis=1, keepdims=True) * np.log(1 - t[:, 0])

    posterior = ExactPosterior(log_likelihood).log_posterior(heads, Grid((0.02,), (0.98,), (97,)))
    rate = {"layernorm": 1e-3}.get(potential, 1e-2)
    width = 64 if potential == "layernorm" else None

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
        < {"layernorm": 0.3}.get(potential, 0.15 if loss == "jensen-shannon" else 0.2) * bend
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
    with pytest.raises(FileNotFoundError, match=r"folder written by LogPartition\.save"):
        LogPartition.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.json", b"{}"),
        ("settings.json", b"null"),
        ("settings.json", b'{"potential": "convex", "dim'),
        ("weights.safetensors", b""),
        ("weights.safetensors", -100),
    ],
)
def test_damaged_folders_are_told(fitted, tmp_path, name, content):
    fitted.save(tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(ValueError, match=r"path must be a folder .*, damaged\. Fit it again\."):
        LogPartition.load(tmp_path)


def test_settings_are_those_of_their_weights(fitted, tmp_path):
    """Of two fits of one shape, and of an edited digit; folders of earlier versions say neither."""
    for name, seed in (("one", 0), ("other", 1)):
        LogPartition("softplus", num_steps=1, seed=seed).fit(*gaussian(10)).save(tmp_path / name)
    settings = tmp_path / "one" / "settings.json"
    whole = settings.read_text()
    settings.write_text(whole.replace('"scale": 1.0', '"scale": 2.0'))
    with pytest.raises(ValueError, match="damaged"):
        LogPartition.load(tmp_path / "one")
    settings.write_text((tmp_path / "other" / "settings.json").read_text())
    with pytest.raises(ValueError, match="damaged"):
        LogPartition.load(tmp_path / "one")
    fields = json.loads(whole)
    del fields["weights"], fields["sha256"]
    settings.write_text(json.dumps(fields))
    assert LogPartition.load(tmp_path / "one").scale == 1.0


def test_weights_of_another_network_are_damage(fitted, tmp_path):
    fitted.save(tmp_path / "one")
    LogPartition("softplus", num_steps=1).fit(*gaussian(10)).save(tmp_path / "other")
    (tmp_path / "one" / "weights.safetensors").write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match="damaged"):
        LogPartition.load(tmp_path / "one")


class Quadratic(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.eye(2))

    def forward(self, x):
        return ((x @ self.matrix) ** 2).sum(-1)


def test_modules_and_tensors_are_taken():
    posterior, theta = gaussian()
    fitted = LogPartition(Quadratic(), scale=BUNDLE, num_steps=600).fit(posterior, theta)
    metric = fitted.fisher_metric(torch.zeros(3, 1, 2))
    assert isinstance(metric, torch.Tensor) and metric.shape == (3, 1, 2, 2)
    assert metric.dtype == torch.float32
    assert fitted.mean(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64
    assert isinstance(fitted.log_z([0.0, 0.0]), np.ndarray)
    line = torch.linspace(0, 1, 5)
    assert log_partition.align(line**2, line[:, None], line**2).dtype == torch.float32
    np.testing.assert_allclose(metric[0, 0].numpy(), COVARIANCE, rtol=0.08)


def test_metrics_that_are_not_positive_are_reported():
    class Saddle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bend = torch.nn.Parameter(torch.tensor([1.0, -1.0]))

        def forward(self, x):
            return (self.bend * x**4).sum(-1)  # the second axis is concave, but at 0

    fitted = LogPartition(Saddle(), num_steps=1, num_polish=0).fit(*gaussian(40))
    theta = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 1.0], [0.5, -1.0]])
    with pytest.warns(UserWarning, match="not positive definite at 100.0% of the points, smallest eigenvalue -"):
        metric = fitted.fisher_metric(theta)
    assert metric.shape == (4, 2, 2)


def test_points_of_one_parameter_need_no_axis_of_their_own():
    class Square(torch.nn.Module):
        def forward(self, x):
            return (x**2).sum(-1) / 2

    fitted, line = LogPartition(), np.linspace(-1, 1, 7)
    fitted.potential_ = potentials.Standardised(Square(), [0.0], [1.0])
    np.testing.assert_allclose(fitted.log_z(line), line**2 / 2, atol=1e-6)
    np.testing.assert_allclose(fitted.mean(line), line[:, None], atol=1e-6)
    np.testing.assert_allclose(fitted.fisher_metric(line), np.ones((7, 1, 1)), atol=1e-6)
    assert fitted.log_z([0.5]) == fitted.log_z(0.5) == fitted.log_z([[0.5]])[0] == 0.125


def test_metrics_that_are_singular_are_reported():
    class Trough(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bend = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            return self.bend * x[..., 0] ** 2

    theta = inner(50)
    fitted = LogPartition(Trough(), num_steps=1, num_polish=0).fit_mean(theta, theta * [1, 0])
    with pytest.warns(UserWarning, match="not positive definite at 100.0% of the points, smallest eigenvalue 0;"):
        fitted.fisher_metric(theta)


def test_one_parameter_may_be_a_vector():
    posterior = Posterior(-((np.linspace(-1, 1, 3) - np.zeros((4, 1))) ** 2) - np.log(1 + 2 / np.e), LINE)
    parameters = np.linspace(0, 1, 4)
    one, other = (
        LogPartition(num_steps=2, num_polish=0).fit(posterior, x).losses_ for x in (parameters, parameters[:, None])
    )
    np.testing.assert_array_equal(one, other)


def test_parameters_far_from_the_fit_are_told(fitted):
    """As physical ones in place of natural ones: the fit is of -2 to 2."""
    with pytest.warns(
        UserWarning, match=r"far from the fit, \[-2\.0, -2\.0\] to \[2\.0, 2\.0\], at 50\.0% of the points"
    ):
        fitted.log_z([[0.0, 5.0], [-3.0, 3.0]])


def test_what_is_refused():
    posterior, theta = gaussian(10)
    with pytest.raises(ValueError, match="potential must be one of convex, softplus, layernorm"):
        LogPartition("deep")
    with pytest.raises(ValueError, match="loss must be one of"):
        LogPartition(loss="kl")
    with pytest.raises(ValueError, match="scale must be > 0, got -1"):
        LogPartition(scale=-1)
    with pytest.raises(ValueError, match=r"power must be <= 1, got 1\.5"):
        LogPartition(power=1.5)
    with pytest.raises(ValueError, match="one row a posterior"):
        LogPartition().fit(posterior, theta[:3])
    with pytest.raises(ValueError, match="parameters must be finite"):
        LogPartition().fit(posterior, theta * np.nan)
    with pytest.raises(ValueError, match="parameters must lie in the box of the grid"):
        LogPartition().fit(posterior, theta + 100)
    with pytest.raises(TypeError, match="posterior must be what log_posterior gives, a Posterior, got ndarray"):
        LogPartition().fit(posterior.log_mass, theta)
    with pytest.raises(
        TypeError, match=r"must be an ExponentialFamilyPosterior, got ExactPosterior\. Pass its log_post"
    ):
        LogPartition.from_posterior(ExactPosterior.tasep())
    with pytest.raises(ValueError, match="must have rows"):
        LogPartition().fit(Posterior(np.empty((0, 25, 25)), GRID), np.empty((0, 2)))
    with pytest.raises(ValueError, match="fit must be called first, got LogPartition without it"):
        LogPartition().log_z(theta)
    fitted = LogPartition(num_steps=1).fit(posterior, theta)
    with pytest.raises(ValueError, match=r"theta must have shape \[\*batch, 2\]"):
        fitted.log_z([[1.0, 2.0, 3.0]])
    with pytest.raises(ArithmeticError, match="Lower learning_rate"):
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
        ([[0.0, 1.0], [1.0, 1.0]], np.zeros((2, 2)), "theta must vary in every column, got 1 throughout column 1"),
        ([[0.5, 1.0]], np.zeros((1, 2)), "theta must vary in every column, got 0.5 throughout column 0"),
    ],
)
def test_means_that_do_not_fit_are_refused(theta, mean, message):
    with pytest.raises(ValueError, match=message):
        LogPartition(num_steps=1).fit_mean(theta, mean)


def test_a_mean_that_does_not_vary_is_matched():
    theta = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    fitted = fit_mean("softplus", theta, np.column_stack([theta[:, 0], np.full(500, 0.1)]))
    np.testing.assert_allclose(fitted.mean(inner() / 1.5)[:, 1], 0.1, atol=0.02)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1e-3, 1), (1, 1e-3), (1, 1e6)])
def test_means_in_any_units(a, b):
    """Means b C theta of theta a: the metric is C b / a."""
    theta = np.random.default_rng(0).uniform(-1, 1, (2000, 2))
    fitted = LogPartition("softplus", num_steps=300).fit_mean(theta * a, theta @ COVARIANCE * b)
    metric = fitted.fisher_metric(inner() / 1.5 * a) * a / b
    np.testing.assert_allclose(metric.mean(axis=0), COVARIANCE, atol=0.06)
    np.testing.assert_allclose(metric, np.broadcast_to(COVARIANCE, metric.shape), atol=0.3)


@pytest.mark.parametrize(("centre", "a", "b"), [(1e7, 1, 1), (0, 1e-20, 1e-20), (0, 1e25, 1e25), (1e-15, 1e-20, 1)])
def test_means_far_from_the_origin_and_in_units_beyond_float32(centre, a, b):
    """log Z = b exp(theta / a - centre) summed: in float32 nothing is left of theta, of the metric or of log Z."""
    theta = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    far = fit_mean("convex", centre + theta * a, np.exp(theta) * b)
    near = fit_mean("convex", theta, np.exp(theta))
    points = inner(50) / 1.5
    there = centre + points * a
    np.testing.assert_allclose(far.log_z(there) / (a * b), near.log_z(points), atol=0.02)
    np.testing.assert_allclose(far.mean(there) / b, near.mean(points), atol=0.05)
    np.testing.assert_allclose(far.fisher_metric(there) * a / b, near.fisher_metric(points), atol=0.3)


def fit_mean(potential, theta, mean):
    return LogPartition(potential, num_steps=200, num_polish=20).fit_mean(theta, mean)


@pytest.mark.parametrize("batch_size", [3, 625])  # with 625 nodes [n, 1] would be broadcast
def test_a_module_that_gives_columns_is_refused(batch_size):
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Softplus(), torch.nn.Linear(8, 1))
    with pytest.raises(ValueError, match=r"must map \[3, 2\] to \[3\], got \(3, 1\)\. Add torch\.nn\.Flatten"):
        LogPartition(network, num_steps=1, batch_size=batch_size).fit(*gaussian(10))


def test_a_module_is_not_shared_between_fits():
    posterior, theta = gaussian(40)
    module = Quadratic()
    first = LogPartition(module, scale=BUNDLE, num_steps=20, seed=1).fit(posterior, theta)
    before = first.log_z(theta)
    LogPartition(module, scale=BUNDLE, num_steps=20, seed=2).fit(posterior, theta)
    np.testing.assert_array_equal(first.log_z(theta), before)
    np.testing.assert_array_equal(module.matrix.detach(), np.eye(2))


@pytest.mark.parametrize(("rate", "num_steps"), [(1e30, 50), (1e30, 1)])
def test_a_fit_that_fails_leaves_the_one_before(rate, num_steps):
    posterior, theta = gaussian(10)
    options = {"scale": BUNDLE, "power": 1.0, "num_steps": num_steps}
    fresh = LogPartition("softplus", learning_rate=rate, **options)
    for fit in (lambda x: x.fit(posterior, theta), lambda x: x.fit_mean(theta, theta)):
        with pytest.raises(ArithmeticError, match="loss must be finite, got"):
            fit(fresh)
        with pytest.raises(ValueError, match="fit must be called first, got LogPartition without it"):
            fresh.log_z(theta)
    fitted = LogPartition("softplus", **options).fit(posterior, theta)
    before = fitted.log_z(theta)
    fitted.learning_rate = rate
    with pytest.raises(ArithmeticError):
        fitted.fit(posterior, theta)
    np.testing.assert_array_equal(fitted.log_z(theta), before)


def test_divergences_of_rows():
    """Of Jensen and Shannon, log 2 of rows apart, between scipy's squared; no mass in either row is no NaN."""
    distance = pytest.importorskip("scipy.spatial.distance")
    target = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.5, 0.0, 0.5]])
    scores = torch.tensor([[-200.0, 0.0, -200.0], [0.0, 1.0, 2.0], [0.0, -200.0, 0.0]], requires_grad=True)
    log_model = torch.log_softmax(scores, dim=1)
    model = log_model.detach().exp().numpy()
    expected = [distance.jensenshannon(p, q) ** 2 for p, q in zip(target.numpy(), model, strict=True)]
    assert expected[0] == pytest.approx(np.log(2)) and expected[2] == 0
    found = divergence("jensen-shannon", target, log_model)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert torch.autograd.grad(found, scores)[0].isfinite().all()
    expected = ((target.numpy() - model) ** 2).sum(axis=1).mean()
    assert divergence("mse", target, log_model).item() == pytest.approx(expected, rel=1e-5)


LINE = Grid((0.0,), (1.0,), (3,))
CERTAIN = [0.0, -np.inf, -np.inf]
UNIFORM = [-np.log(3)] * 3


@pytest.mark.parametrize(
    ("log_mass", "to_natural", "message"),
    [
        ([[0.0, np.nan, 0.0]], None, "log_mass must have exponentials that add to 1 in every row, got nan in row 0"),
        ([UNIFORM, [-np.inf] * 3], None, "log_mass must have exponentials that add to 1 in every row, got 0 in row 1"),
        ([CERTAIN, CERTAIN[::-1]], None, "posterior must be wider than a cell of its grid, got a median variance of 0"),
        ([UNIFORM], lambda t: 0 * t + 2, "theta must vary in every column, got 2 throughout column 0"),
        ([UNIFORM], lambda t: t[:, 0], r"to_natural must map \(3, 1\) to \[3, dim\], got \(3,\)"),
        ([UNIFORM], lambda t: t[:1], r"to_natural must map \(3, 1\) to \[3, dim\], got \(1, 1\)"),
    ],
)
def test_posteriors_that_are_refused(log_mass, to_natural, message):
    fitted = LogPartition(to_natural=to_natural, num_steps=1)
    with pytest.raises(ValueError, match=message):
        fitted.fit(Posterior(np.array(log_mass), LINE), np.full((len(log_mass), 1), 0.5))


def test_narrow_posteriors_far_from_zero_have_a_width():
    """E[x^2] - E[x]^2 in float32 would have no digits left, or be negative."""
    nodes = torch.linspace(-1, 1, 20001)[:, None]
    for centre in (0.0, 0.9):
        weights = -((nodes.T.double() - centre) ** 2) / 2e-8
        assert median_variance(weights.float(), nodes) == pytest.approx(1e-8, rel=0.05)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scale": [1, 2]}, TypeError, r"scale must be a number, got \[1, 2\]"),
        ({"power": [0.5, 1]}, TypeError, "power must be a number, got"),
        ({"power": 0}, ValueError, "power must be > 0, got 0"),
        ({"learning_rate": "a"}, TypeError, "learning_rate must be a number or an array of numbers, got 'a'"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be > 0, got 0"),
        ({"width": 0}, ValueError, "width must be >= 1, got 0"),
        ({"depth": 0}, ValueError, "depth must be >= 1, got 0"),
        ({"num_polish": -1}, ValueError, "num_polish must be >= 0, got -1"),
    ],
)
def test_settings_that_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        LogPartition(**options)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_fits_are_the_same_in_every_mode(mode):
    posterior, theta = gaussian(20)

    def losses():
        fits = LogPartition(num_steps=3).fit(posterior, theta), LogPartition(num_steps=3).fit_mean(theta, theta)
        return np.concatenate([fit.losses_ for fit in fits])

    expected = losses()
    with mode():
        np.testing.assert_array_equal(losses(), expected)


@pytest.mark.parametrize("potential", ["convex", torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Softplus())])
def test_fits_of_and_amid_double_precision(potential):
    posterior, theta = gaussian(20)
    if isinstance(potential, torch.nn.Module):
        potential = torch.nn.Sequential(potential, torch.nn.Linear(8, 1), torch.nn.Flatten(-2)).double()
    torch.set_default_dtype(torch.float64)
    try:
        fitted = LogPartition(potential, num_steps=3).fit(posterior, theta)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {x.dtype for x in fitted.potential_.parameters()} == {torch.float32}
    assert np.isfinite(fitted.log_z(theta)).all()


def test_no_points_have_no_values(fitted):
    assert [f(np.empty((0, 2))).shape for f in (fitted.log_z, fitted.mean, fitted.fisher_metric)] == [
        (0,),
        (0, 2),
        (0, 2, 2),
    ]
    assert fitted.mean(torch.empty(3, 0, 2)).shape == (3, 0, 2)


@pytest.mark.parametrize(
    "shapes", [[(3, 1), (3, 2), (3,)], [(3,), (3,), (3,)], [(3,), (3, 2), (1,)], [(4,), (3, 2), (4,)]]
)
def test_what_cannot_be_aligned(shapes):
    with pytest.raises(ValueError, match=r"values, theta and reference must have shapes \[n\], \[n, dim\] and"):
        log_partition.align(*map(np.zeros, shapes))


def test_aligned_along_the_columns_that_vary():
    theta = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [3.0, 1.0]])
    bend = theta[:, 0] ** 2
    np.testing.assert_allclose(log_partition.align(bend, theta, bend + 3 - 5 * theta[:, 0]), bend + 3 - 5 * theta[:, 0])
    assert log_partition.align(bend[:0], theta[:0], bend[:0]).shape == (0,)


@pytest.mark.parametrize(("centre", "width"), [(1e9, 1.0), (0.0, 1e-17), (1e7, 1e-3)])
def test_aligned_far_from_the_origin_and_in_small_units(centre, width):
    theta = centre + width * np.random.default_rng(0).uniform(-1, 1, (50, 2))
    bend = ((theta - centre) ** 2).sum(axis=1) / width**2
    tilted = bend + 3 + (theta - centre) @ [5.0, -7.0] / width
    np.testing.assert_allclose(log_partition.align(bend, theta, tilted), tilted, atol=1e-9)


def test_every_setting_is_saved(tmp_path):
    options = {"scale": 3.0, "power": 0.5, "loss": "mse", "num_steps": 2, "batch_size": 7, "learning_rate": 1e-3}
    options |= {"num_polish": 4, "width": 5, "depth": 2, "seed": 11}
    LogPartition("softplus", **options).fit(*gaussian(10)).save(tmp_path)
    again = LogPartition.load(tmp_path)
    assert again.potential == "softplus"
    assert {name: getattr(again, name) for name in options} == options


def test_log_z_of_a_posterior_keeps_its_scale(tmp_path):
    rng = np.random.default_rng(0)
    theta = rng.uniform(-2, 2, (1000, 1))
    samples = theta + rng.normal(size=(1000, 1)) / 5**0.5
    posterior = ExponentialFamilyPosterior(5, sufficient=True, kink=False).fit(samples, theta)
    fitted = LogPartition.from_posterior(posterior)
    fitted.save(tmp_path)
    loaded = LogPartition.load(tmp_path)
    assert fitted.scale == loaded.scale == 5
    np.testing.assert_allclose(loaded.mean(theta[:9]), posterior.mean(theta[:9]), rtol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(loaded.log_z([[3.0]])).all()  # extrapolated: it does not know its box
