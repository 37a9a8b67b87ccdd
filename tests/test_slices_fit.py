"""The geometry of a slice whose phases are known, and curves across it whose lengths are."""

import numpy as np
import pytest
import torch

from hessfast import shards
from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, feature_map, from_callable, generate
from hessfast.slices.curves import PATHS, compare, measure, paired, pullback_paths, random_pairs
from hessfast.slices.fit import FITS, agreement, changing, choose_scale, fit, ridge

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
    return fit(slice_folder, geometry_folder, classify=classify, num_nodes=12, num_steps=700)


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
    again = fit(slice_folder, geometry_folder, classify=classify, num_nodes=12, num_steps=700)
    for name in FITS:
        np.testing.assert_array_equal(again.metric[name], geometry.metric[name])
    assert again.held_out == geometry.held_out


def test_what_is_lost_of_a_fit_is_made_again(slice_folder, tmp_path):
    first = fit(slice_folder, tmp_path, num_steps=5)
    (tmp_path / "fits" / "paper" / "settings.json").unlink()  # as after a kill between two files
    (tmp_path / "held_out.json").write_text("{")
    again = fit(slice_folder, tmp_path, num_steps=5)
    np.testing.assert_array_equal(again.metric["paper"], first.metric["paper"])
    assert again.held_out == first.held_out
    assert again.labels is None


def test_scale_is_the_best_of_those_tried(geometry):
    chosen = geometry.held_out
    scores = [s for each in chosen["tried"].values() for s in each["nats"] if s is not None]
    assert chosen["nats"] == max(scores) > 0


def test_features_that_know_nothing_score_nothing():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    chosen = choose_scale(features, rng.uniform(size=(600, 2)), Grid((0, 0), (1, 1), (8, 8)))
    assert abs(chosen["nats"]) < 0.05
    assert chosen["scale"] in (0.5, 2.5)  # the widest kernel: every other is overconfident


def test_fit_refuses(tmp_path, slice_folder, geometry_folder, geometry):
    with pytest.raises(ValueError, match=r"out must be a new folder or that of the same run, .* num_nodes 12, not 10"):
        fit(slice_folder, geometry_folder, num_nodes=10, num_steps=800)
    with pytest.raises(ValueError, match=r"grid must have samples at every node, got \(40, 40\) for 576"):
        fit(slice_folder, tmp_path / "fine", num_nodes=40)
    bare = tmp_path / "bare"
    generate(PLAN.at([[0.1, 0.2], [0.3, 0.4]]), GENERATOR, bare, keep=["latents"])
    with pytest.raises(ValueError, match=r"source must hold features, got .* without"):
        fit(bare, tmp_path / "geometry")
    with pytest.raises(FileNotFoundError, match="holds no data set"):
        fit(tmp_path / "missing", tmp_path / "geometry")
    with pytest.raises(ValueError, match=r"source must be \[n, d\] and \[n, dim\], got \(3, 2\) and \(2, 2\)"):
        fit((np.ones((3, 2)), np.ones((2, 2))), tmp_path / "geometry")
    with pytest.raises(ValueError, match="num_nodes must be >= 8, got 4"):
        fit(slice_folder, tmp_path / "geometry", num_nodes=4)


def test_agreement_of_perfect_and_of_wrong_ridges():
    labels = np.repeat([[0] * 8 + [1] * 8], 16, axis=0)
    assert changing(labels)[0].nonzero()[0].tolist() == [7, 8]
    right, wrong = (np.zeros((16, 16), bool) for _ in range(2))
    right[:, 8], wrong[:, 1] = True, True
    assert agreement(right, labels) == {"found": 1.0, "real": 1.0, "by_chance": 4 / 16}
    assert agreement(wrong, labels)["real"] == 0
    assert agreement(np.zeros((16, 16), bool), labels) == {"found": 0.0, "real": None, "by_chance": 4 / 16}
    assert agreement(right, np.zeros((16, 16), int))["found"] is None


def test_a_flat_metric_has_no_ridge():
    assert not ridge(np.broadcast_to(np.eye(2), (9, 9, 2, 2))).any()


@pytest.fixture(scope="module")
def comparison(slice_folder, geometry, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    classes = classify(np.asarray(shards.open(slice_folder)["features"][:]))
    options = {"classes": classes, "num_pairs": 8, "perceptual": lambda images: images.flatten(1)}
    found = compare(PLAN, GENERATOR, SAME, geometry, slice_folder, folder, **options)
    return found, folder, classes


def test_images_along_curves_are_generated_there(comparison):
    found, folder, _ = comparison
    with np.load(folder / "paths.npz") as file:
        paths = np.stack([file[name] for name in PATHS])
    store = shards.open(folder / "images")
    points = torch.tensor(paths.reshape(-1, 2))
    truth = turning(PLAN.z(points)).numpy()
    np.testing.assert_allclose(np.asarray(store["latents"][:]), truth, atol=1e-5)
    lengths = np.linalg.norm(np.diff(truth.reshape(*paths.shape[:3], 2), axis=2), axis=-1).sum(axis=2)
    for name, each in zip(PATHS, lengths, strict=True):
        assert found["table"][name]["pixel_length"]["mean"] == pytest.approx(each.mean(), abs=1e-4)
        assert found["table"][name]["perceptual_length"]["mean"] == pytest.approx(each.mean(), abs=1e-4)


def test_on_one_line_of_features_no_path_is_shorter(comparison):
    """Features are one angle, which grows with both coordinates: no path is shorter than what the angle grows by."""
    found, _, _ = comparison
    least = found["table"]["pullback of features"]["feature_length"]["mean"]
    assert found["table"]["exponential"]["feature_length"]["mean"] == pytest.approx(least, rel=0.02)
    assert found["table"]["levi-civita"]["feature_length"]["mean"] >= 0.99 * least


def test_ends_are_of_two_classes(comparison):
    classes = comparison[2]
    start, end = random_pairs(PLAN.parameters, classes, 50, seed=3)
    ids = [np.rint(each * 23).astype(int) @ [24, 1] for each in (start, end)]
    assert (classes[ids[0]] != classes[ids[1]]).all()
    np.testing.assert_array_equal(random_pairs(PLAN.parameters, classes, 20, seed=3)[0], start[:20])
    with pytest.raises(ValueError, match="classes must be two or more for curves to cross a boundary, got one"):
        random_pairs(PLAN.parameters, np.zeros(len(classes), int), 5)


def test_pullback_goes_around_a_hill():
    """The unit disc under the metric of a cone: the shortest path is a straight line on the unrolled cone."""
    grid = Grid((-1.0, -1.0), (1.0, 1.0), (41, 41))
    r = np.linalg.norm(grid.points, axis=-1, keepdims=True)
    cone = np.concatenate([grid.points, 2 * r], axis=-1).reshape(-1, 3)
    path = pullback_paths(grid, cone, [[-0.7, -0.1]], [[0.7, -0.1]])[0]
    radius, angle = np.sqrt(0.5) * 5**0.5, (np.pi - 2 * np.arctan2(0.1, 0.7)) / 5**0.5
    seen = np.concatenate([path, 2 * np.linalg.norm(path, axis=1, keepdims=True)], axis=1)
    length = np.linalg.norm(np.diff(seen, axis=0), axis=1).sum()
    assert length == pytest.approx(2 * radius * np.sin(angle / 2), rel=0.01)
    assert np.linalg.norm(path, axis=1).min() > 0.3  # a straight line would come to 0.1
    with pytest.raises(ValueError, match="grid must have two dimensions, got 1"):
        pullback_paths(Grid((0.0,), (1.0,), (5,)), np.zeros(5), [[0.0]], [[1.0]])


def test_a_circle_turns_and_a_line_does_not():
    turn = np.linspace(0, 2 * np.pi, 19)
    line = np.outer(np.linspace(0, 1, 19) ** 2, [3.0, 4.0])  # however fast it is walked
    found = measure(np.stack([np.stack([np.cos(turn), np.sin(turn)], axis=1), line]), np.zeros((2, 19, 1)))
    np.testing.assert_allclose(found["curvature"], [2 * np.pi * 8 / 9, 0], atol=0.02)
    np.testing.assert_allclose(found["feature_length"], [2 * 18 * np.sin(np.pi / 18), 5])
    assert found["pixel_length"].tolist() == [0, 0]


def test_paired_is_wilcoxons_test():
    ours, other = np.arange(10.0), np.arange(10.0) + 1 + np.arange(10) / 10
    found = paired(ours, other)
    assert found["p"] == pytest.approx(2 / 2**10)  # of 2^10 signs two are as extreme
    assert found["shorter"] == 1
    assert found["mean"] == pytest.approx(-1.45)
    assert paired(ours, ours)["p"] == 1


def test_compare_refuses_other_slices(slice_folder, geometry, tmp_path):
    line = SlicePlan(ANCHORS[:2], Grid((0,), (1,), (9,)), normalise=False)
    with pytest.raises(ValueError, match="plan must have the points of a Grid of two dimensions for curves"):
        compare(line, GENERATOR, SAME, geometry, slice_folder, tmp_path, classes=np.zeros(9, int))
