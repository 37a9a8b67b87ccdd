"""Adaptive slices: what is made, in which order, and how near to the whole slice that comes."""

import sys

import numpy as np
import pytest
import torch

from hessfast.log_partition import LogPartition, align
from hessfast.posterior import FeaturePosterior, Grid
from hessfast.slices import SlicePlan, feature_map, from_callable
from hessfast.slices.adaptive import AdaptiveSlice, adaptive, replayed, subgrid
from hessfast.slices.generators import Prepared

ANCHORS = torch.tensor([[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]], dtype=torch.float64)
GRID = Grid((0.0, 0.0), (1.0, 1.0), (33, 33))
FLAT = feature_map(lambda images: images.flatten(1), "pixels")


def phases(z):
    """Directions on a circle: two plateaus, gently tilted, and a steep flank between them on an arc."""
    x, y = z[..., 0].double(), z[..., 1].double()
    angle = 0.6 * torch.tanh(25 * (torch.hypot(x, y) - 0.7)) + 0.1 * x * y
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


def plan(grid=GRID, anchors=ANCHORS, **more):
    return SlicePlan(anchors, grid, normalise=False, **more)


CIRCLE = from_callable(phases, "phases")


def whole(grid=GRID):
    return phases(plan(grid).z(plan(grid).parameters).float()).reshape(grid.num_nodes, 2).numpy()


def root_mean_square(difference):
    return float(np.sqrt(np.mean(np.sum(np.square(difference), axis=1))))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return adaptive(plan(), CIRCLE, tmp_path_factory.mktemp("adaptive"), FLAT, stride=8)


def test_images_are_made_where_features_change(found):
    truth = whole()
    assert found.fraction <= 0.2 and len(found.ids) == len(set(found.ids.tolist())) == found.rounds[-1]
    assert found.rounds[0] == 25 and all(a < b for a, b in zip(found.rounds, found.rounds[1:], strict=False))
    np.testing.assert_allclose(found.values, truth[found.ids], atol=1e-6)
    radius = np.hypot(*GRID.points.reshape(-1, 2).T)
    flank, made = abs(radius - 0.7) < 0.06, np.isin(np.arange(GRID.num_nodes), found.ids)
    assert made[flank].mean() > 4 * made[~flank].mean()


def test_interpolation_is_several_times_nearer_than_from_as_many_points_evenly_spread(found):
    truth = whole()
    ours = root_mean_square(found.features() - truth)
    np.testing.assert_allclose(np.linalg.norm(found.features(), axis=1), 1, rtol=1e-6)
    even = type(found)(GRID, *even_points(truth, 14), (196,))
    assert len(even.ids) >= len(found.ids) * 0.9
    assert ours < root_mean_square(even.features() - truth) / 3 and ours < 0.02
    errors = [root_mean_square(found.features(num) - truth) for num in found.rounds]
    assert errors[-1] < errors[0] / 10


def test_known_features_are_chosen_as_images_are(found):
    truth = whole()
    again = replayed(GRID, truth, fraction=0.2, stride=8)
    assert set(again.ids) == set(found.ids) and again.rounds == found.rounds
    numbers, errors = again.feature_errors(truth)
    assert numbers.tolist() == list(found.rounds)
    expected = [root_mean_square(again.features(num) - truth) for num in again.rounds]
    np.testing.assert_allclose(errors, expected, rtol=1e-12)
    part = subgrid(GRID, truth, 4)
    assert part.rounds == (81,) and part.ids.tolist() == even_points(truth, 9)[0].tolist()
    with pytest.raises(ValueError, match=r"features must have shape \[1089, d\] for this grid, got \(3, 2\)"):
        replayed(GRID, truth[:3])


def test_cells_are_halved_by_squared_distance_times_the_points_left_out():
    values = np.zeros((12, 1))
    values[8:11], values[11] = 1, 1 + 3**0.5  # 1 times 7 points up to 8, 3 times 2 of them from there to 11
    found = replayed(Grid((0.0,), (1.0,), (12,)), values, fraction=4 / 12, num_rounds=1, stride=8)
    assert found.ids.tolist() == [0, 8, 11, 4]


def test_features_that_were_made_are_kept_as_they_are():
    values = np.array([[1.0, 0.0], [0.0, 1.0005]])
    found = AdaptiveSlice(Grid((0.0,), (1.0,), (3,)), np.array([0, 2]), values, (2,)).features()
    assert found[[0, 2]].tolist() == values.tolist()
    np.testing.assert_allclose(found[1], 1.00025 * np.array([1, 1.0005]) / np.hypot(1, 1.0005), rtol=1e-12)


def even_points(values, num):
    line = np.unique(np.rint(np.linspace(0, 32, num)).astype(int))
    ids = (line[:, None] * 33 + line).ravel()
    return ids, values[ids]


def test_all_points_give_the_whole_slice(tmp_path):
    grid = Grid((0.0, 0.0), (1.0, 1.0), (7, 10))
    found = adaptive(plan(grid), CIRCLE, tmp_path, FLAT, fraction=1, num_rounds=12, stride=3)
    assert sorted(found.ids) == list(range(70)) and found.fraction == 1
    np.testing.assert_allclose(found.features(), whole(grid), atol=1e-6)


@pytest.mark.parametrize("dim", [1, 3])
def test_in_other_dimensions(tmp_path, dim):
    anchors = np.concatenate([np.zeros((1, 1, 1, 3)), np.eye(3)[:dim].reshape(dim, 1, 1, 3)])
    grid = Grid((0.0,) * dim, (1.0,) * dim, (17,) * dim)
    steep = from_callable(lambda z: torch.tanh(20 * (z[..., :1] - 0.4)), "steep")
    found = adaptive(plan(grid, anchors), steep, tmp_path, FLAT, fraction=0.7, stride=4)
    truth = np.tanh(20 * (grid.points.reshape(-1, dim)[:, :1] - 0.4))
    assert found.fraction <= 0.7 and abs(found.features() - truth).max() < 0.02


def test_the_order_of_work_is_a_function_of_the_features(tmp_path, monkeypatch, found):
    """A killed run makes the rest of the same points, and the same bytes."""
    module, calls = sys.modules["hessfast.slices.adaptive"], []
    generate = module.generate

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return generate(*arguments, **more)

    monkeypatch.setattr(module, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adaptive(plan(), CIRCLE, tmp_path, FLAT, stride=8)
    monkeypatch.undo()
    again = adaptive(plan(), CIRCLE, tmp_path, FLAT, stride=8)
    np.testing.assert_array_equal(again.ids, found.ids)
    np.testing.assert_array_equal(again.values, found.values)
    assert again.rounds == found.rounds and len(list(tmp_path.iterdir())) == len(found.rounds)
    with pytest.raises(ValueError, match="holds another plan: it differs in"):
        adaptive(plan(micro_batch=3), CIRCLE, tmp_path, FLAT, stride=8)


def test_noise_is_another_in_every_round(tmp_path):
    """The points of each round are numbered from 0: with one seed for all, two of them would have the same noise."""

    class Noise:
        identity, device = {"name": "noise"}, torch.device("cpu")

        def prepare(self, plan):
            return Prepared(lambda z, ids: plan.noise(ids)[0], lambda x: x, self.device)

    noisy = plan(Grid((0.0, 0.0), (1.0, 1.0), (9, 9)), eta=1.0, num_steps=1, seed=2**64 - 1)
    found = adaptive(noisy, Noise(), tmp_path, FLAT, fraction=0.9, num_rounds=3, stride=4)
    assert len(found.rounds) == 4 and len(np.unique(found.values, axis=0)) == len(found.ids) > 60


def test_log_partition_from_a_fifth_of_the_images(found):
    """Its difference from that of the whole slice is less than what the seed of the fit alone changes."""
    nodes = Grid((0.0, 0.0), (1.0, 1.0), (9, 9))
    theta, parameters = nodes.points.reshape(-1, 2), GRID.points.reshape(-1, 2)

    def log_z(features, seed=0):
        posterior = FeaturePosterior().fit(features, parameters).log_posterior(None, nodes)
        return LogPartition(num_steps=60, seed=seed).fit(posterior, parameters).log_z(theta)

    reference, other = log_z(whole()), log_z(whole(), seed=1)
    first, last = (log_z(found.features(num)) for num in (found.rounds[0], None))
    errors = [np.std(align(values, theta, reference) - reference) for values in (first, last, other)]
    assert errors[1] < errors[0] / 5 and errors[1] < errors[2]


def test_errors_do_not_count_affine_functions_of_theta(found):
    theta = GRID.points.reshape(-1, 2)

    def log_z(features):  # any functional of features
        return 3 + theta @ [len(features), np.sum(features)] + features[:, 1]

    numbers, errors = found.errors(log_z, theta, whole()[:, 1])
    direct = [align(found.features(num)[:, 1], theta, whole()[:, 1]) - whole()[:, 1] for num in found.rounds]
    assert numbers.tolist() == list(found.rounds)
    np.testing.assert_allclose(errors, np.sqrt(np.mean(np.square(direct), axis=1)), rtol=1e-6)
    assert errors[-1] < errors[0] / 5 and found.errors(log_z, theta)[1][-1] < 1e-9


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"plan": plan([[0.1, 0.2]])}, "plan must have the points of a Grid, got a list of 1"),
        ({"fraction": 0}, "fraction must be > 0, got 0.0"),
        ({"fraction": 0.02}, "fraction must allow for the 25 points of the first round, got 21 of 1089. Use a greater"),
        ({"num_rounds": 0}, "num_rounds must be >= 1, got 0"),
        ({"stride": 1}, "stride must be >= 2, got 1"),
    ],
    ids=["plan", "fraction", "coarse", "num_rounds", "stride"],
)
def test_refuses(tmp_path, more, message):
    arguments = {"plan": plan(), "generator": CIRCLE, "out": tmp_path / "out", "features": FLAT}
    with pytest.raises(ValueError, match=message):
        adaptive(**arguments | more)
    assert not (tmp_path / "out").exists()


def test_refuses_fewer_points_than_the_first_round(found):
    with pytest.raises(ValueError, match="num must be >= 25"):
        found.features(24)


@pytest.mark.slow
def test_a_fifth_of_the_digits_is_as_good_as_all_of_them(tmp_path):
    """log Z of 819 images is nearer to that of all 4,096 than a bootstrap of these is (acceptance D5)."""
    pytest.importorskip("diffusers")
    from hessfast.slices import digit_generator, generate, random_anchors

    grid, nodes = Grid((0.0, 0.0), (1.0, 1.0), (64, 64)), Grid((0.0, 0.0), (1.0, 1.0), (32, 32))
    digits, model = SlicePlan(random_anchors((1, 8, 8), seed=1), grid, num_steps=20), digit_generator()
    features = generate(digits, model, tmp_path / "whole", "digits", keep=["features"])["features"][:]
    part = adaptive(digits, model, tmp_path / "part", "digits", fraction=0.2)
    assert len(part.ids) == 819
    np.testing.assert_allclose(part.values, features[part.ids], atol=1e-4)
    theta, parameters = nodes.points.reshape(-1, 2), digits.parameters

    def log_z(features, parameters=parameters):
        posterior = FeaturePosterior(kernel="gaussian", scale=20).fit(features, parameters).log_posterior(None, nodes)
        return LogPartition(num_steps=600).fit(posterior, parameters).log_z(theta)

    reference, rng = log_z(features), np.random.default_rng(0)
    resampled = [rng.integers(4096, size=4096) for _ in range(4)]
    bootstrap = [align(log_z(features[rows], parameters[rows]), theta, reference) - reference for rows in resampled]
    difference = align(log_z(part.features()), theta, reference) - reference
    assert np.std(difference) < np.mean(np.std(bootstrap, axis=1))
    print(f"\nlog Z: adaptive {np.std(difference):.3g}, bootstrap {np.std(bootstrap, axis=1)}")
