"""Grids, posteriors, the exact ones and those by similarity, against independent calculations."""

import numpy as np
import pytest
import torch

from hessfast import ising, tasep
from hessfast.posterior import (
    ExactPosterior,
    ExponentialFamilyPosterior,
    FeaturePosterior,
    Grid,
    Posterior,
    U2NetPosterior,
    result,
)

UNIT = Grid((0.0, 0.0), (1.0, 1.0), (9, 7))
LINE = Grid((0.0,), (1.0,), (3,))


def unit_features(num, seed=0, num_features=12):
    rng = np.random.default_rng(seed)
    parameters = rng.uniform(0, 1, (num, 2))
    features = np.cos(parameters @ rng.normal(size=(2, num_features)) * 2) + 0.1 * rng.normal(size=(num, num_features))
    return features / np.linalg.norm(features, axis=1, keepdims=True), parameters


def test_interpolation_on_a_grid_reproduces_multilinear_functions():
    grid = Grid((-1.0, 2.0, 0.0), (1.0, 5.0, 0.5), (4, 3, 6))
    points = np.random.default_rng(0).uniform(grid.lower, grid.upper, (50, 3))
    points[0], points[1] = grid.lower, grid.upper

    def function(p):
        return 1 + p[..., 0] * p[..., 1] - 3 * p[..., 1] * p[..., 2] + p.prod(axis=-1)

    cells, weights, offsets = grid.corners(points)
    values = function(grid.points).ravel()[cells[:, None] + offsets]
    np.testing.assert_allclose((weights * values).sum(axis=1), function(points), atol=1e-12)
    assert (weights >= 0).all()
    np.testing.assert_array_equal(grid.nearest(grid.points.reshape(-1, 3)), np.arange(grid.num_nodes))


def test_points_outside_the_grid():
    centres = Grid.cells((0.0,), (1.0,), (4,))
    np.testing.assert_array_equal(centres.nearest([[0.0], [1.0]]), [0, 3])  # within the cells of the outer nodes
    _, weights, _ = centres.corners([[0.0]])
    np.testing.assert_array_equal(weights, [[1.0, 0.0]])
    for low, high, num in ((0.1, 0.7, 5), (0.6, 0.9, 3)):  # half a cell beyond the outer nodes, less rounding
        Grid.cells((low,), (high,), (num,)).inside([[low], [high]])
    for outside in (-0.01, 1.01):
        with pytest.raises(ValueError, match=r"must lie in the box of the grid.* at 1"):
            centres.corners([[0.5], [outside]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0.0,), (0.0,), (3,)), "upper must be above lower"),
        (((0.0,), (1.0,), (1,)), "shape must be >= 2"),
        (((0.0, 0.0), (1.0,), (3, 3)), "one entry an axis"),
        (((np.nan,), (1.0,), (3,)), "lower must be finite"),
        (((), (), ()), "one entry an axis, and one axis or more, got 0, 0 and 0"),
    ],
)
def test_grids_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def test_posterior_scores():
    rng = np.random.default_rng(1)
    mass = rng.dirichlet(np.ones(63), 4)
    posterior = Posterior(np.log(mass).reshape(4, 9, 7), UNIT)
    np.testing.assert_allclose(posterior.mean(), mass @ UNIT.points.reshape(-1, 2))
    np.testing.assert_allclose(posterior.entropy(), -(mass * np.log(mass)).sum(axis=1))
    truth = [[0.0, 0.0], [1.0, 1.0], [0.51, 0.49], [0.99, 0.05]]
    np.testing.assert_allclose(posterior.log_likelihood(truth), np.log(mass[range(4), [0, 62, 31, 56]]))


def test_nodes_without_mass_add_nothing_to_the_entropy():
    assert Posterior(np.log([[0.5, 0.5, 1.0]]) - [0, 0, np.inf], LINE).entropy()[0] == pytest.approx(np.log(2))


def published_script(features, parameters, shape):
    """What the authors' script does to every sample: softened distance, exp(-10 d), splat, cap, normalise."""
    grids = np.zeros((len(features), *shape))
    place = parameters * (np.array(shape) - 1)
    low = np.minimum(place.astype(int), np.array(shape) - 2)
    part = place - low
    for i, feature in enumerate(features):
        kernel = np.exp(-10 * np.sqrt(2 * (1.00001 - features @ feature)))
        for a in (0, 1):
            for b in (0, 1):
                weight = np.abs(1 - a - part[:, 0]) * np.abs(1 - b - part[:, 1])
                np.add.at(grids[i], (low[:, 0] + a, low[:, 1] + b), weight * kernel)
        grids[i] = np.clip(grids[i], 0, 1) / np.clip(grids[i], 0, 1).sum()
    return grids


def test_released_kernel_is_the_published_script():
    features, parameters = unit_features(400)
    mass = np.exp(FeaturePosterior().fit(features, parameters).log_posterior(None, UNIT).log_mass)
    expected = published_script(features, parameters, UNIT.shape)
    assert (expected == expected.max(axis=(1, 2), keepdims=True)).sum() > 400  # some nodes are capped
    np.testing.assert_allclose(mass, expected, rtol=3e-5)


def test_paper_kernel_and_backends():
    features, parameters = unit_features(300)
    new, _ = unit_features(20, seed=3)
    answers = []
    for backend in ("cpu", "reference"):
        fitted = FeaturePosterior(kernel="gaussian", scale=0.4, backend=backend).fit(3 * features, parameters)
        answers.append(fitted.log_posterior(3 * new, UNIT).log_mass)
    cells, weights, offsets = UNIT.corners(parameters)
    expected = np.zeros((20, UNIT.num_nodes))
    kernel = np.exp(-0.4 * 9 * ((new[:, None] - features) ** 2).sum(axis=2))
    for k, offset in enumerate(offsets):
        np.add.at(expected.T, cells + offset, weights[:, k, None] * kernel.T)
    expected = np.log(expected / expected.sum(axis=1, keepdims=True)).reshape(answers[0].shape)
    for answer in answers:
        np.testing.assert_allclose(answer, expected, atol=3e-4)


def test_the_scale_of_the_paper_is_a_half():
    mass = np.exp(FeaturePosterior(kernel="gaussian").fit(np.eye(2), [[0.0], [1.0]]).log_posterior(None, LINE).log_mass)
    np.testing.assert_allclose(mass[0, 2] / mass[0, 0], np.exp(-1), rtol=1e-6)  # |e - e'|^2 = 2


def test_features_are_computed_and_tensors_are_taken():
    torch = pytest.importorskip("torch")
    features, parameters = unit_features(50)
    plain = FeaturePosterior().fit(features, parameters).log_posterior(features[:5], UNIT)
    mapped = (
        FeaturePosterior(lambda x: x[:, ::-1])
        .fit(features[:, ::-1], parameters)
        .log_posterior(features[:5, ::-1], UNIT)
    )
    tensor = (
        FeaturePosterior().fit(torch.as_tensor(features), parameters).log_posterior(torch.as_tensor(features[:5]), UNIT)
    )
    np.testing.assert_array_equal(plain.log_mass, mapped.log_mass)
    np.testing.assert_array_equal(plain.log_mass, tensor.log_mass)


def test_what_feature_posteriors_refuse():
    features, parameters = unit_features(10)
    with pytest.raises(ValueError, match="kernel must be one of gaussian, laplace"):
        FeaturePosterior(kernel="gauss")
    with pytest.raises(ValueError, match="scale must be > 0"):
        FeaturePosterior(scale=0)
    with pytest.raises(ValueError, match="fit must be called first, got FeaturePosterior without it"):
        FeaturePosterior().log_posterior(features, UNIT)
    with pytest.raises(ValueError, match="one row a sample"):
        FeaturePosterior().fit(features, parameters[:5])
    for length in (0.998, 2):
        with pytest.raises(ValueError, match="length 1"):
            FeaturePosterior().fit(length * features, parameters)
    with pytest.raises(ValueError, match="samples must be finite"):
        FeaturePosterior().fit(features * np.nan, parameters)
    with pytest.raises(ValueError, match="samples must not be empty"):
        FeaturePosterior().fit(features[:0], parameters[:0])
    fitted = FeaturePosterior(kernel="gaussian").fit(features, parameters)
    with pytest.raises(ValueError, match="12 features as in fit, got 3"):
        fitted.log_posterior(features[:, :3], UNIT)
    with pytest.raises(ValueError, match="Use a smaller scale"):
        FeaturePosterior(kernel="gaussian", scale=1e6).fit(features, parameters).log_posterior(features + 1, UNIT)
    with pytest.raises(ValueError, match="bundle must be >= 1 and <= 1, got 5"):
        fitted.log_posterior(features, UNIT, bundle=5)
    with pytest.raises(ValueError, match="must lie in the box"):
        fitted.log_posterior(features, Grid((0.4, 0.4), (0.6, 0.6), (3, 3)))


def test_exact_posterior_of_small_lattices():
    """Bayes by hand, with the Boltzmann weight of every spin and Z from all 2^16 states."""
    grid = Grid((1.5, -0.5), (3.5, 0.5), (5, 3))
    batch = ising.sample([2.0, 3.0], [0.4, -0.2], size=4, seed=3)
    states = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1).reshape(-1, 4, 4)

    def bonds(spins):
        return (spins * np.roll(spins, 1, axis=1)).sum(axis=(1, 2)) + (spins * np.roll(spins, 1, axis=2)).sum(
            axis=(1, 2)
        )

    def weight(spins, t, h):
        return np.exp((bonds(spins) + h * spins.sum(axis=(1, 2))) / t)

    spins = np.asarray(batch.spins(), np.int64)
    expected = np.array(
        [[weight(spins, t, h) / weight(states, t, h).sum() for h in grid.axes[1]] for t in grid.axes[0]]
    )
    expected = np.moveaxis(expected, 2, 0)
    exact = ExactPosterior.ising(lambda t, h: ising.log_partition(t, h, size=4))
    mass = np.exp(exact.fit(None, None).log_posterior(batch, grid).log_mass)
    np.testing.assert_allclose(mass, expected / expected.sum(axis=(1, 2), keepdims=True), rtol=1e-6)
    both = np.exp(exact.log_posterior(batch, grid, bundle=2).log_mass)
    np.testing.assert_allclose(both[0], expected.prod(axis=0) / expected.prod(axis=0).sum(), rtol=1e-6)
    with pytest.raises(ValueError, match="bundle must divide"):
        exact.log_posterior(batch, grid, bundle=3)


def test_exact_posteriors_are_calibrated():
    """The nodes that parameters were drawn from have on average the probability that is claimed for them."""
    grid = Grid.cells((1.0, -2.0), (5.0, 2.0), (32, 32))
    rng = np.random.default_rng(5)
    nodes = grid.points.reshape(-1, 2)[rng.integers(0, grid.num_nodes, 600)]
    batch = ising.sample(nodes[:, 0], nodes[:, 1], seed=6)
    posterior = ExactPosterior.ising().log_posterior(batch, grid)
    rows = posterior.log_mass.reshape(600, -1)
    claimed = np.exp(2 * rows).sum(axis=1)  # sum p^2: the expected probability of the truth
    found = np.exp(posterior.log_likelihood(nodes))
    error = (found - claimed).std() / np.sqrt(600)
    assert abs((found - claimed).mean()) < 5 * error
    entropy = posterior.entropy()
    assert abs((entropy + posterior.log_likelihood(nodes)).mean()) < 5 * (
        entropy + posterior.log_likelihood(nodes)
    ).std() / np.sqrt(600)
    assert 0.05 < entropy.mean() < 2  # neither certain nor ignorant on this grid


def test_exact_posterior_of_short_chains():
    grid = Grid((0.2, 0.1), (0.9, 0.8), (4, 3))
    chains = tasep.sample(0.5, [0.5, 0.3, 0.9], num_sites=4, seed=2)
    posterior = ExactPosterior.tasep().log_posterior(chains, grid)
    places = np.asarray(chains.occupations(), int) @ (1 << np.arange(4))
    expected = np.array([[tasep.stationary_law(a, b, 4)[places] for b in grid.axes[1]] for a in grid.axes[0]])
    expected = np.moveaxis(expected, 2, 0)
    np.testing.assert_allclose(
        np.exp(posterior.log_mass), expected / expected.sum(axis=(1, 2), keepdims=True), rtol=1e-8
    )


def test_a_likelihood_stays_what_it_is_and_any_array_will_do():
    torch = pytest.importorskip("torch")
    table = np.log([[1.0, 2.0, 1.0], [0.25, 0.5, 0.25]])
    kept = table.copy()
    for given in (table, torch.as_tensor(table), table.astype(np.float32)):
        posterior = ExactPosterior(lambda x, t, given=given: given).log_posterior(None, LINE)
        assert isinstance(posterior.log_mass, np.ndarray) and posterior.log_mass.dtype == np.float64
        np.testing.assert_allclose(np.exp(posterior.log_mass), [[0.25, 0.5, 0.25]] * 2, rtol=1e-6)
        np.testing.assert_array_equal(given, kept.astype(np.asarray(given).dtype))


def test_nodes_that_a_sample_cannot_be_from():
    table = np.array([[0.0, -np.inf, 0.0]])
    posterior = ExactPosterior(lambda x, t: table).log_posterior(None, LINE)
    np.testing.assert_allclose(np.exp(posterior.log_mass), [[0.5, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((3, 2)), r"log_likelihood must have shape \(n, \*\(3,\)\), got \(3, 2\)"),
        (np.zeros(3), r"must have shape .*, got \(3,\)"),
        (np.zeros((2, 3, 1)), r"must have shape .*, got \(2, 3, 1\)"),
        (
            np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]]),
            "log_likelihood must be .*, got nan for .* in row 1",
        ),
        (np.array([[0.0, 0.0, 0.0], [-np.inf] * 3]), "not all of the nodes, got -inf for the highest in row 1"),
        (np.array([[0.0, np.inf, 0.0]]), "got inf for the highest in row 0"),
    ],
)
def test_likelihoods_that_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        ExactPosterior(lambda x, t: table).log_posterior(None, LINE)


def test_no_samples_have_no_posteriors():
    posterior = ExactPosterior(lambda x, t: np.zeros((0, 9, 7))).log_posterior(None, UNIT, bundle=2)
    assert len(posterior) == 0 and posterior.log_mass.shape == (0, 9, 7)
    assert posterior.mean().shape == (0, 2)
    assert posterior.entropy().shape == posterior.log_likelihood(np.empty((0, 2))).shape == (0,)


def test_what_posteriors_refuse(monkeypatch):
    with pytest.raises(ValueError, match=r"log_mass must have shape \(n, \*\(9, 7\)\), got \(4, 7, 9\)"):
        Posterior(np.zeros((4, 7, 9)), UNIT)
    with pytest.raises(ValueError, match=r"exponentials that add to 1 in every row, got 1\.5 in row 1"):
        Posterior(np.log([[0.25, 0.25, 0.5], [0.5, 0.5, 0.5]]), LINE)
    with pytest.raises(ValueError, match=r"add to 1 in every row, got 1\.002 in row 0"):
        Posterior(np.log([[0.25, 0.25, 0.502]]), LINE)
    with pytest.raises(ValueError, match="add to 1 in every row, got inf in row 0"):
        Posterior([[1e3, 0.0, 0.0]], LINE)
    monkeypatch.setattr(result, "_AT_ONCE", 3)
    with pytest.raises(ValueError, match="add to 1 in every row, got 3 in row 1"):
        Posterior([[0.0, -np.inf, -np.inf], [0.0, 0.0, 0.0]], LINE)
    with pytest.raises(ValueError, match="parameters must be one row for each of the 4 posteriors, got 1"):
        Posterior(np.full((4, 9, 7), -np.log(63)), UNIT).log_likelihood([[0.5, 0.5]])


def test_log_masses_may_be_tensors_or_lists():
    rows = np.log([[0.25, 0.25, 0.5]])
    for given in (rows.tolist(), torch.tensor(rows)):
        np.testing.assert_array_equal(Posterior(given, LINE).log_mass, rows)
    assert repr(Posterior(rows, LINE)) == f"Posterior(1 distributions, {LINE!r})"


@pytest.mark.parametrize("exact", [ExactPosterior.ising(), ExactPosterior.tasep()])
@pytest.mark.parametrize("dim", [1, 3])
def test_two_parameters_need_a_grid_of_two_axes(exact, dim):
    grid = Grid((1.0,) * dim, (2.0,) * dim, (3,) * dim)
    with pytest.raises(ValueError, match=f"grid must have two axes, one a parameter, got {dim}"):
        exact.log_posterior(ising.sample(2.0, 0.1, size=4, seed=0), grid)


def test_points_are_no_grid():
    features = np.eye(2)
    unfitted = U2NetPosterior(box=((0, 0), (1, 1)))
    unfitted._network = None
    family = ExponentialFamilyPosterior()
    refused = [
        lambda grid: ExactPosterior.ising().log_posterior(ising.pack(np.ones((1, 4, 4))), grid),
        lambda grid: FeaturePosterior().fit(features, features).log_posterior(features, grid),
        lambda grid: unfitted.log_posterior(features, grid),
        lambda grid: family.log_posterior(features, grid),
        lambda grid: Posterior(np.full((1, 9, 7), -np.log(63)), grid),
    ]
    for call in refused:
        with pytest.raises(TypeError, match=r"grid must be a Grid, got ndarray\. Make one with Grid\(lower, upper, sh"):
            call(UNIT.points)


def test_likelihoods_that_forget_the_axes_of_the_grid_are_told():
    forgetful = ExactPosterior(lambda x, t: -((x[:, None] - t[..., 0]) ** 2))
    message = r"n samples and points \[9, 7, 2\] to \(n, \*\(9, 7\)\), got: .* Give samples an axis"
    with pytest.raises(ValueError, match=message) as refusal:
        forgetful.log_posterior(np.zeros(5), UNIT)
    assert "\n" not in str(refusal.value)


def test_samples_of_another_model_are_refused():
    spins, chain = ising.sample(2.0, 0.1, size=4, seed=0), tasep.sample(0.3, 0.4, num_sites=8)
    grid = Grid((0.25, 0.25), (0.75, 0.75), (3, 3))
    for samples, kind in ((chain, "TasepBatch"), (spins.spins(), "ndarray")):
        with pytest.raises(TypeError, match=rf"IsingBatch, got {kind}\. Pass spins -1 and \+1 through ising\.pack"):
            ExactPosterior.ising().log_posterior(samples, grid)
    with pytest.raises(TypeError, match="samples must be a TasepBatch or an array of 0 and 1, got IsingBatch"):
        ExactPosterior.tasep().log_posterior(spins, grid)


def test_the_table_is_for_one_size():
    batch = ising.sample([2.0], [0.4], size=32, seed=3)
    grid = Grid((1.5, -0.5), (3.5, 0.5), (5, 3))
    with pytest.raises(ValueError, match=r"samples must have size 128 for the table of log Z, got 32\. Pass log_part"):
        ExactPosterior.ising().log_posterior(batch, grid)
    explicit = ExactPosterior.ising(ising.LogPartitionTable.load()).log_posterior(batch, grid)
    assert np.isfinite(explicit.log_mass).all()


def test_features_that_overflow_are_refused():
    features, parameters = unit_features(10)
    with pytest.raises(ValueError, match="samples must have features whose squares fit in float32, got a sum of inf"):
        FeaturePosterior(kernel="gaussian").fit(features * 1e20, parameters)
    with pytest.raises(ValueError, match="squares fit in float32"):
        FeaturePosterior(kernel="gaussian").fit(features * 1e300, parameters)
    fitted = FeaturePosterior(kernel="gaussian").fit(features, parameters)
    with pytest.raises(ValueError, match="squares fit in float32"):
        fitted.log_posterior(-1.5e19 * features, UNIT)  # fits, but not its difference from another


def test_masses_that_are_not_numbers_are_refused(monkeypatch):
    features, parameters = unit_features(10)
    fitted = FeaturePosterior().fit(features, parameters)
    mass = np.ones((10, UNIT.num_nodes), np.float32)
    mass[7, 3] = np.nan
    monkeypatch.setattr("hessfast._dispatch.kernel", lambda *_: lambda *_: mass)
    with pytest.raises(ValueError, match=r"scale must leave .* at sample 7\. Use a smaller scale"):
        fitted.log_posterior(None, UNIT)


def test_nodes_are_counted_without_overflow():
    assert Grid((0.0,) * 3, (1.0,) * 3, (2**30,) * 3).num_nodes == 2**90
