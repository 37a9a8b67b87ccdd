"""The geometry of a slice whose phases are known: scales by held-out samples, log Z, metric, ridges."""

import re
import sys

import numpy as np
import pytest
import torch

from hessfast.log_partition import LogPartition
from hessfast.posterior import FeaturePosterior, Grid
from hessfast.slices import SlicePlan, feature_map, from_callable, generate
from hessfast.slices.fit import FITS, _levelled, agreement, changing, choose_scale, fit, ridge

BOUNDARY = 0.4
ANCHORS = [[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]]


def turning(z):
    """A picture whose phase turns by a right angle within a few hundredths of u_1 = BOUNDARY."""
    angle = torch.pi / 2 * torch.sigmoid(50 * (z[:, 0, 0, 0] - BOUNDARY)) + 0.2 * z[:, 0, 0, 1]
    return torch.stack([angle.cos(), angle.sin()], dim=1)[:, None, None]


def classify(features):
    angle = np.arctan2(features[:, 1], features[:, 0])
    return (angle > np.pi / 4 + 0.1).astype(int)


PLAN = SlicePlan(ANCHORS, Grid((0, 0), (1, 1), (24, 24)), normalise=False)
GENERATOR = from_callable(turning, "turning")
SAME = feature_map(lambda images: images.flatten(1), "same")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def slice_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slice") / "slice"
    generate(PLAN, GENERATOR, folder, SAME, keep=("latents", "features", "images"))
    return folder


@pytest.fixture(scope="module")
def geometry_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("geometry")


@pytest.fixture(scope="module")
def geometry(slice_folder, geometry_folder):
    return fit(slice_folder, geometry_folder, classify=classify, points_per_axis=12, num_steps=700)


@pytest.mark.parametrize("name", ["ours", "released"])
def test_metric_is_largest_at_the_boundary(geometry, name):
    across = geometry.metric[name][..., 0, 0].mean(axis=1)
    assert abs(geometry.grid.axes[0][across.argmax()] - BOUNDARY) < 0.1
    assert across.max() > 3 * np.median(across)


def test_ridges_are_where_classes_change(geometry):
    found = geometry.agreement["ours"]
    assert found["real"] > 0.9
    assert found["by_chance"] < 0.4
    assert found["found"] > 0.6


def test_everything_is_read_again_and_the_same(geometry, slice_folder, geometry_folder, monkeypatch):
    monkeypatch.setattr("hessfast.log_partition.LogPartition.fit", None)  # must not be needed
    again = fit(slice_folder, geometry_folder, classify=classify, points_per_axis=12, num_steps=700)
    for name in FITS:
        np.testing.assert_array_equal(again.metric[name], geometry.metric[name])
    assert again.held_out == geometry.held_out


def test_what_is_lost_or_damaged_of_a_fit_is_made_again(slice_folder, tmp_path):
    first = fit(slice_folder, tmp_path, points_per_axis=8, num_steps=3)
    (tmp_path / "fits" / "paper" / "settings.json").unlink()  # as after a kill between two files
    (tmp_path / "fits" / "released" / "settings.json").write_text("{}")
    weights = tmp_path / "fits" / "ours" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    (tmp_path / "held_out.json").write_text("{")
    again = fit(slice_folder, tmp_path, points_per_axis=8, num_steps=3)
    for name in FITS:
        np.testing.assert_array_equal(again.metric[name], first.metric[name])
        LogPartition.load(tmp_path / "fits" / name)
    assert again.held_out == first.held_out
    assert again.labels is None


def test_scale_is_the_best_of_those_tried(geometry):
    chosen = geometry.held_out
    scores = [s for each in chosen["tried"].values() for s in each["nats"] if s is not None]
    assert chosen["nats"] == max(scores) > 0


def turned(num, width):
    """Samples on a grid, and features that turn by a right angle at u_1 = 0.5."""
    u = Grid((0, 0), (1, 1), (num, num)).points.reshape(-1, 2)
    angle = np.pi / 2 / (1 + np.exp(-(u[:, 0] - 0.5) / width))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1), u


# With halves drawn from all samples at once these seeds leave a node without samples of one.
@pytest.mark.parametrize("seed", [21, 101, 106, 118])
def test_every_node_has_samples_of_both_halves(seed):
    chosen = choose_scale(*turned(16, 1 / 30), Grid((0, 0), (1, 1), (8, 8)), seed)
    assert chosen["nats"] > 0.1


def test_ours_is_fitted_to_the_held_out_posteriors_and_the_published_ones_as_published(tmp_path, monkeypatch):
    """The posteriors of "ours" are those whose score was the best; among its own neighbours a sample scores higher."""
    features, u = turned(16, 1 / 30)
    given, whole = [], LogPartition.fit

    def watched(self, posterior, parameters):
        given.append((self.power, posterior))
        return whole(self, posterior, parameters)

    monkeypatch.setattr(LogPartition, "fit", watched)
    chosen = fit((features, u), tmp_path, points_per_axis=8, num_steps=1).held_out
    nodes = Grid((0, 0), (1, 1), (8, 8)).nearest(u)
    prior = np.log(np.bincount(nodes)[nodes] / 256)
    powers, posteriors = zip(*given, strict=True)
    scores = [(each.log_likelihood(u) - prior).mean() for each in posteriors]
    assert powers == (0.05, 1, 1) and scores[0] == pytest.approx(chosen["nats"])
    scales = {"ours": (chosen["kernel"], chosen["scale"]), "released": ("laplace", 10.0), "paper": ("gaussian", 0.5)}
    for name, score, posterior in zip(FITS, scores, posteriors, strict=True):
        kernel, scale = scales[name]
        among = FeaturePosterior(kernel=kernel, scale=scale).fit(features, u).log_posterior(None, posterior.grid)
        if name == "ours":
            assert score < (among.log_likelihood(u) - prior).mean() - 0.02
        else:
            np.testing.assert_allclose(posterior.log_mass, among.log_mass)


def test_a_scale_at_the_end_of_what_counts_is_told(tmp_path):
    """Samples at the nodes twice over, all different: the narrower the kernel, the better, as long as it counts."""
    nodes = Grid((0, 0), (1, 1), (8, 8))
    u = np.repeat(nodes.points.reshape(-1, 2), 4, axis=0)
    angles = np.stack([u[:, 0], u[:, 1]], axis=1)
    features = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / 2**0.5
    chosen = choose_scale(features, u, nodes)
    scores = chosen["tried"][chosen["kernel"]]["nats"]
    assert chosen["nats"] == scores[-1] == pytest.approx(np.log(64), abs=1e-3) and chosen["at_the_end"] is True


def test_the_end_of_what_counts_may_come_before_that_of_the_ladder(monkeypatch):
    monkeypatch.setattr(
        sys.modules["hessfast.slices.fit"], "_score", lambda *given: given[4] if given[4] < 30 else None
    )
    chosen = choose_scale(np.ones((2, 2)), np.ones((2, 2)), Grid((0, 0), (1, 1), (8, 8)))
    assert (chosen["kernel"], chosen["scale"], chosen["at_the_end"]) == ("laplace", 20.0, True)


@pytest.mark.parametrize(
    ("side", "dim", "nodes"), [(12, 2, 8), (40, 2, 20), (100, 2, 32), (40, 1, 20), (20, 3, 10), (64, 3, 32)]
)
def test_nodes_are_half_as_many_as_samples_along_an_axis(tmp_path, monkeypatch, side, dim, nodes):
    class Begun(Exception):
        pass

    def begun(features, parameters, grid, seed):
        raise Begun(grid.shape)

    monkeypatch.setattr(sys.modules["hessfast.slices.fit"], "choose_scale", begun)
    u = Grid((0,) * dim, (1,) * dim, (side,) * dim).points.reshape(-1, dim)
    with pytest.raises(Begun, match=re.escape(str((nodes,) * dim))):
        fit((u, u), tmp_path)


def test_log_z_is_levelled():
    grid = Grid((0, 0), (1, 2), (8, 8))
    x, y = np.moveaxis(grid.points, -1, 0)
    np.testing.assert_allclose(_levelled(3 + 2 * x - 5 * y, grid), 0, atol=1e-12)
    np.testing.assert_allclose(_levelled(x * y**2 + 3 + 2 * x - 5 * y, grid), _levelled(x * y**2, grid), atol=1e-12)


def test_a_damaged_slice_is_not_fitted(tmp_path):
    plan = PLAN.at(Grid((0, 0), (1, 1), (8, 8)))
    generate(plan, GENERATOR, tmp_path / "slice", SAME)
    path = tmp_path / "slice" / "00000.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + bytes(range(8)))
    with pytest.raises(ValueError, match="1 of its 1 shards are missing or broken"):
        fit(tmp_path / "slice", tmp_path / "geometry")


def test_features_that_know_nothing_score_nothing():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    chosen = choose_scale(features, rng.uniform(size=(600, 2)), Grid((0, 0), (1, 1), (8, 8)))
    assert -0.1 < chosen["nats"] < 0.01  # below nothing: where a node's samples are odd in number, one fewer is seen
    assert chosen["scale"] in (0.5, 2.5)  # the widest kernel: every other is overconfident
    assert chosen["at_the_end"] is False


def test_fit_refuses(tmp_path, slice_folder, geometry_folder, geometry):
    with pytest.raises(ValueError, match=r"out must be a new folder .* points_per_axis 12, not 10\. Delete it"):
        fit(slice_folder, geometry_folder, points_per_axis=10, num_steps=700)
    with pytest.raises(ValueError, match=r"grid must have samples at every node, got \(40, 40\) for 576"):
        fit(slice_folder, tmp_path / "fine", points_per_axis=40)
    bare = tmp_path / "bare"
    generate(PLAN.at([[0.1, 0.2], [0.3, 0.4]]), GENERATOR, bare, keep=["latents"])
    with pytest.raises(ValueError, match=r"source must hold features, got .* without"):
        fit(bare, tmp_path / "geometry")
    with pytest.raises(FileNotFoundError, match="holds no data set"):
        fit(tmp_path / "missing", tmp_path / "geometry")
    with pytest.raises(ValueError, match=r"source must be \[n, d\] and \[n, dim\], got \(3, 2\) and \(2, 2\)"):
        fit((np.ones((3, 2)), np.ones((2, 2))), tmp_path / "geometry")
    with pytest.raises(ValueError, match="points_per_axis must be >= 8, got 4"):
        fit(slice_folder, tmp_path / "geometry", points_per_axis=4)


def test_agreement_of_perfect_and_of_wrong_ridges():
    labels = np.repeat([[0] * 8 + [1] * 8], 16, axis=0)
    assert changing(labels)[0].nonzero()[0].tolist() == [7, 8]
    right, wrong = (np.zeros((16, 16), bool) for _ in range(2))
    right[:, 8], wrong[:, 1] = True, True
    assert agreement(right, labels) == {"found": 1.0, "real": 1.0, "by_chance": 4 / 16}
    assert agreement(wrong, labels)["real"] == 0
    assert agreement(np.zeros((16, 16), bool), labels) == {"found": 0.0, "real": None, "by_chance": 4 / 16}
    assert agreement(right, np.zeros((16, 16), int))["found"] is None


def test_a_ridge_midway_between_two_nodes_is_on_both():
    x = np.arange(20) - 9.5
    metric = np.zeros((20, 20, 2, 2))
    metric[..., 0, 0] = np.exp(-(x[:, None] ** 2) / 4)
    assert np.flatnonzero(ridge(metric).any(axis=1)).tolist() == [9, 10]


def test_a_flat_metric_has_no_ridge():
    assert not ridge(np.broadcast_to(np.eye(2), (9, 9, 2, 2))).any()


@pytest.mark.parametrize(("width", "nodes"), [(2, [9, 10]), (3, [10]), (5, [])])
def test_the_rim_of_a_plateau_is_no_ridge(width, nodes):
    metric = np.zeros((20, 20, 2, 2))
    metric[..., 0, 0] = 1 + 1e-3 * np.minimum(np.arange(20), 19 - np.arange(20))[:, None]
    metric[9 : 9 + width, :, 0, 0] = 5
    assert np.flatnonzero(ridge(metric).any(axis=1)).tolist() == nodes


def test_a_ripple_and_an_edge_are_no_ridges():
    x = np.linspace(-1, 1, 21)
    metric = np.zeros((21, 21, 2, 2))
    for height, centre, found in ((0.9, 0.0, []), (1.1, 0.0, [10]), (5.0, -1.0, []), (5.0, 1.0, [])):
        metric[..., 0, 0] = 1 + height * np.exp(-100 * (x[:, None] - centre) ** 2)  # of median 1
        marks = ridge(metric)
        assert np.flatnonzero(marks.any(axis=1)).tolist() == found and not marks[:, [0, -1]].any()
