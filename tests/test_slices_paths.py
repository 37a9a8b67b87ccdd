"""Curves across a slice under two potentials whose geodesics are known, and what is measured of the images there."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr, wilcoxon

from hessfast import _grid_paths, _polylines, shards
from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, feature_map, from_callable, generate
from hessfast.slices.fit import FITS, Geometry
from hessfast.slices.paths import (
    LINEAR,
    NUM_POINTS,
    OURS,
    PATHS,
    SHORTEST,
    compare,
    measure,
    paired,
    pixels_of,
    uniform_pairs,
)
from hessfast.slices.paths import random_pairs as draw
from hessfast.slices.pullback import _isometric, pullback_paths

BOUNDARY = 0.4
ANCHORS = [[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]]
PLAN = SlicePlan(ANCHORS, Grid((0, 0), (1, 1), (24, 24)), normalise=False)
PUBLISHED = "levi-civita, released kernel"


def turning(z):
    """A picture whose phase turns by a right angle within a few hundredths of u_1 = BOUNDARY, and a shade by u_2."""
    x, y = z[:, 0, 0, 0], z[:, 0, 0, 1]
    angle = torch.pi / 2 * torch.sigmoid(50 * (x - BOUNDARY)) + 0.2 * y
    return torch.stack([angle.cos(), angle.sin(), torch.sin(3 * y)], dim=1)[:, None, None]


GENERATOR = from_callable(turning, "turning")
PHASE = feature_map(lambda images: images.flatten(1)[:, :2], "phase")


# Separable potentials, of metric diag((c + x)^2, ...): geodesics are straight in the squares of c + x.
def ours(u):
    return ((u[..., 0] + 0.2) ** 4 + (u[..., 1] + 0.5) ** 4) / 12


def published(u):
    return (1.2 - u[..., 0]) ** 4 / 12 + u[..., 1] ** 2 / 2


def unrolled(name, u):
    """Coordinates in which the metric is the identity."""
    if name == PUBLISHED:
        return np.stack([-((1.2 - u[..., 0]) ** 2) / 2, u[..., 1]], axis=-1)
    return np.stack([(u[..., 0] + 0.2) ** 2 / 2, (u[..., 1] + 0.5) ** 2 / 2], axis=-1)


@pytest.fixture(scope="module")
def geometry():
    potentials = {"ours": ours, "released": published, "paper": published}
    grid = Grid((0, 0), (1, 1), (8, 8))
    log_z = {name: potentials[name](grid.points) for name in FITS}
    log_partitions: Any = {name: SimpleNamespace(potential_=potentials[name]) for name in FITS}
    return Geometry(grid, log_partitions, log_z, {}, {}, {}, None, None)


@pytest.fixture(scope="module")
def slice_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slice") / "slice"
    generate(PLAN, GENERATOR, folder, PHASE, keep=("latents", "features", "images"))
    return folder


@pytest.fixture(scope="module")
def options(slice_folder):
    features = np.asarray(shards.open(slice_folder)["features"][:])
    classes = (np.arctan2(features[:, 1], features[:, 0]) > np.pi / 4 + 0.1).astype(int)
    return {"classes": classes, "num_pairs": 12, "perceptual": lambda images: 2 * images.flatten(1)}


@pytest.fixture(scope="module")
def compared(slice_folder, geometry, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    return compare(PLAN, GENERATOR, folder, PHASE, geometry, slice_folder, **options), folder


@pytest.fixture(scope="module")
def paths(compared):
    with np.load(compared[1] / "paths.npz") as file:
        return {name: file[name] for name in file}


@pytest.fixture(scope="module")
def measured(compared):
    """Of each path, every quantity of every pair."""
    with np.load(compared[1] / "measured.npz") as file:
        kept = {key: file[key] for key in file if key != "chord"}
    return {name: {key: values[k] for key, values in kept.items()} for k, name in enumerate(PATHS)}


# ---------------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize("name", [OURS, PUBLISHED])
def test_geodesics_are_straight_and_equidistant_in_their_own_metric(paths, name):
    seen = unrolled(name, paths[name])
    even = np.linspace(0, 1, NUM_POINTS)[:, None]
    expected = seen[:, :1] + even * (seen[:, -1:] - seen[:, :1])
    np.testing.assert_allclose(seen, expected, atol=4e-3)
    other = unrolled(PUBLISHED if name == OURS else OURS, paths[name])
    steps = np.linalg.norm(np.diff(other, axis=1), axis=2)
    assert (np.ptp(steps, axis=1) > 0.02 * steps.mean(axis=1)).mean() > 0.9  # and not in the other


@pytest.mark.parametrize("name", ["mixture", "released"])
def test_points_of_other_geodesics_are_equidistant_in_the_learned_metric(paths, name):
    steps = np.linalg.norm(np.diff(unrolled(OURS, paths[name]), axis=1), axis=2)
    assert (np.ptp(steps, axis=1) < 0.03 * steps.mean(axis=1)).all()
    if name == "mixture":  # straight in the gradient of the potential
        means = (paths[name] + [0.2, 0.5]) ** 3 / 3
        chord = means[:, -1] - means[:, 0]
        aside = np.linalg.det(np.stack([means - means[:, :1], np.broadcast_to(chord[:, None], means.shape)], axis=-1))
        np.testing.assert_allclose(aside, 0, atol=2e-3 * (chord**2).sum(axis=1).max())


def test_straight_lines_are_straight_at_equal_steps(paths):
    line = paths[LINEAR]
    even = np.linspace(0, 1, NUM_POINTS)[:, None]
    np.testing.assert_allclose(line, line[:, :1] + even * (line[:, -1:] - line[:, :1]), atol=1e-12)
    ends = unrolled(OURS, line[:, [0, -1]])
    least = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)  # the length of the geodesic
    assert (paths["learned_length"] > 0.9999 * least).all() and (paths["learned_length"] > 1.001 * least).mean() > 0.5


def test_all_paths_of_a_pair_have_the_same_ends(paths):
    for name in PATHS:
        np.testing.assert_allclose(paths[name][:, [0, -1]], paths[OURS][:, [0, -1]], atol=1e-9)


def test_pullback_paths_are_shortest_in_what_they_are_named_for(measured):
    pixels, features = measured["pullback of pixels"], measured[SHORTEST]
    assert (pixels["pixel_length"] <= 1.005 * features["pixel_length"]).all()
    assert pixels["pixel_length"].mean() < 0.99 * features["pixel_length"].mean()
    for name in PATHS:
        assert pixels["pixel_length"].mean() < 1.002 * measured[name]["pixel_length"].mean()
        assert features["feature_length"].mean() < 1.002 * measured[name]["feature_length"].mean()


def test_pullback_goes_around_a_hill():
    """The unit disc under the metric of a cone: the shortest path is a straight line on the unrolled cone."""
    grid = Grid((-1.0, -1.0), (1.0, 1.0), (41, 41))
    r = np.linalg.norm(grid.points, axis=-1, keepdims=True)
    cone = np.concatenate([grid.points, 2 * r], axis=-1).reshape(-1, 3)
    path = pullback_paths(grid, cone, [[-0.7, -0.1]], [[0.7, -0.1]])[0]
    radius, angle = np.sqrt(0.5) * 5**0.5, (np.pi - 2 * np.arctan2(0.1, 0.7)) / 5**0.5
    seen = np.concatenate([path, 2 * np.linalg.norm(path, axis=1, keepdims=True)], axis=1)
    length = np.linalg.norm(np.diff(seen, axis=0), axis=1).sum()
    assert length == pytest.approx(2 * radius * np.sin(angle / 2), rel=0.002)  # over the grid alone it is 0.9 % longer
    assert np.linalg.norm(path, axis=1).min() > 0.3  # a straight line would come to 0.1
    with pytest.raises(ValueError, match="grid must have two dimensions, got 1"):
        pullback_paths(Grid((0.0,), (1.0,), (5,)), np.zeros(5), [[0.0]], [[1.0]])


def test_pullback_paths_on_a_plane_are_straight():
    start, end = np.random.default_rng(0).uniform(-1, 1, (2, 5, 2))
    grid = Grid((-1.0, -1.0), (1.0, 1.0), (9, 13))
    found = pullback_paths(grid, grid.points.reshape(-1, 2), start, end, 11)
    np.testing.assert_allclose(found, np.linspace(start, end, 11, axis=1), atol=1e-12)


def test_pullback_stays_in_the_box():
    """Waves are lowest at an edge, where the path is drawn to and on."""
    grid = Grid((-1.0, -1.0), (1.0, 1.0), (41, 41))
    x, y = np.moveaxis(grid.points, -1, 0)
    path = pullback_paths(grid, ((1.2 - y) * np.sin(8 * x)).reshape(-1, 1), [[-0.9, 0.8]], [[0.9, 0.8]])[0]
    assert np.abs(path).max() <= 1 and path[:, 1].max() > 0.95


def test_pullback_crosses_plateaus():
    grid = Grid((0.0, 0.0), (1.0, 1.0), (9, 9))
    values = (grid.points[..., 0] > 0.5).astype(float).reshape(-1, 1)
    path = pullback_paths(grid, values, [[0.1, 0.2]], [[0.9, 0.7]])[0]
    assert path[[0, -1]].tolist() == [[0.1, 0.2], [0.9, 0.7]] and np.isfinite(path).all()


@pytest.mark.parametrize("num", [40, 300])
def test_few_coordinates_have_the_distances_of_many(num):
    values = np.random.default_rng(0).normal(size=(num, 100)) * 0.7 ** np.arange(100)
    few = _isometric(values)
    assert few.shape[1] < 30
    np.testing.assert_allclose(pdist(few), pdist(values), rtol=1e-3)


# --------------------------------------------------------------------------------------------------------- measurements


def test_images_along_curves_are_generated_there(compared, paths, measured):
    points = np.stack([paths[name] for name in PATHS])
    truth = turning(PLAN.z(torch.tensor(points.reshape(-1, 2)))).numpy()
    np.testing.assert_allclose(np.asarray(shards.open(compared[1] / "images")["latents"][:]), truth, atol=1e-5)
    seen = truth.reshape(*points.shape[:3], 3)
    lengths = np.linalg.norm(np.diff(seen, axis=2), axis=-1).sum(axis=2)
    turned = np.linalg.norm(np.diff(seen[..., :2], axis=2), axis=-1).sum(axis=2)
    for k, name in enumerate(PATHS):
        np.testing.assert_allclose(measured[name]["pixel_length"], lengths[k], atol=1e-4)
        np.testing.assert_allclose(measured[name]["perceptual_length"], 2 * lengths[k], atol=2e-4)
        np.testing.assert_allclose(measured[name]["feature_length"], turned[k], atol=1e-4)


def test_on_one_line_of_features_no_path_is_shorter(measured):
    """Features are one angle, which grows with both coordinates: no path is shorter than what the angle grows by."""
    least = measured[SHORTEST]["feature_length"].mean()
    assert measured[LINEAR]["feature_length"].mean() == pytest.approx(least, rel=0.02)
    assert measured[OURS]["feature_length"].mean() >= 0.99 * least


def test_the_table_and_the_tests_are_those_of_the_measurements(compared, measured):
    found = compared[0]
    assert set(found["tests"]) == set(PATHS) - {OURS}
    for name, row in measured.items():
        for key, values in row.items():
            assert found["table"][name][key] == pytest.approx(summary(values))
            if name != OURS:
                less = measured[OURS][key] - values
                expected = summary(less) | {"shorter": np.mean(less < 0)}
                expected["p"] = wilcoxon(less).pvalue if less.any() else 1.0
                assert found["tests"][name][key] == pytest.approx(expected)
    assert any(test["feature_length"]["mean"] != 0 for test in found["tests"].values())


def summary(values):
    return {"mean": np.mean(values), "sem": np.std(values, ddof=1) / len(values) ** 0.5}


def test_why_is_that_of_the_measurements(compared, paths, measured):
    mean = {name: measured[name]["feature_length"].mean() for name in PATHS}
    features = np.asarray(shards.open(compared[1] / "images")["features"][:], float)
    ends = features.reshape(len(PATHS), -1, NUM_POINTS, 2)[0][:, [0, -1]]
    correlation = spearmanr(paths["learned_length"], measured[LINEAR]["feature_length"]).statistic
    why = compared[0]["why"]
    assert why["chord"] == pytest.approx(summary(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)))
    assert why["to_gain"] == pytest.approx(1 - mean[SHORTEST] / mean[LINEAR], abs=1e-12)
    assert why["gained"] == pytest.approx(1 - mean[OURS] / mean[LINEAR], abs=1e-12)
    assert why["rank_correlation"] == pytest.approx(correlation)
    assert len({round(value, 6) for value in mean.values()}) == len(PATHS)  # so that no path is taken for another
    assert compared[0]["converged"] == dict.fromkeys(PATHS, 1.0)


def test_segments_without_length_count_alike():
    line = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 2.0]])
    found = _polylines.equidistant(line, np.zeros(2), 5)
    assert found.tolist() == [[0, 0], [0.5, 0], [1, 0], [2, 1], [3, 2]]


def test_nodes_are_joined_to_48_others_each_in_a_direction_of_its_own():
    steps = [step for step, _, _ in _grid_paths.edges((9, 9))]
    assert len(steps) == len({np.arctan2(*step) for step in steps}) == 24


def test_a_circle_turns_and_a_line_does_not():
    turn = np.linspace(0, 2 * np.pi, 19)
    line = np.outer(np.linspace(0, 1, 19) ** 2, [3.0, 4.0])  # however fast it is walked
    found = measure(np.stack([np.stack([np.cos(turn), np.sin(turn)], axis=1), line]), np.zeros((2, 19, 1)))
    np.testing.assert_allclose(found["curvature"], [2 * np.pi * 8 / 9, 0], atol=0.02)
    np.testing.assert_allclose(found["feature_length"], [2 * 18 * np.sin(np.pi / 18), 5])
    np.testing.assert_allclose(found["feature_length_10"], [2 * 9 * np.sin(np.pi / 9), 5])
    np.testing.assert_allclose(found["unevenness"], [8 * 4 * np.sin(np.pi / 9) ** 2, 8 * 5 * 2 / 9**2])
    assert found["pixel_length"].tolist() == [0, 0]


def test_a_path_that_stands_still_does_not_turn():
    assert measure(np.ones((2, 19, 3)), np.zeros((2, 19, 1)))["curvature"].tolist() == [0, 0]


def test_paired_is_wilcoxons_test():
    ours, other = np.arange(10.0), np.arange(10.0) + 1 + np.arange(10) / 10
    found = paired(ours, other)
    assert found["p"] == pytest.approx(2 / 2**10)  # of 2^10 signs two are as extreme
    assert found["shorter"] == 1
    assert found["mean"] == pytest.approx(-1.45)
    assert found["sem"] == pytest.approx(np.sqrt(82.5 / 9) / 10 / 10**0.5)  # of 0, 0.1, ..., 0.9
    assert paired(ours, ours)["p"] == 1
    assert paired(ours, ours * (1 + 1e-15)) == {"mean": 0, "sem": 0, "shorter": 0, "p": 1}  # rounding has a sign


def test_pixels_are_latents_only_if_these_are_the_images(tmp_path):
    """Latents of the images' shape from which another image is decoded are not taken for it."""
    points = PLAN.at(np.random.default_rng(0).uniform(-1, 1, (9, 2)))
    kept = ("latents", "images")
    plain = generate(points, from_callable(lambda z: 1.5 * z, "plain"), tmp_path / "plain", keep=kept)
    np.testing.assert_array_equal(pixels_of(plain), np.clip(plain["latents"][:].astype(float), -1, 1))
    squeezed = from_callable(lambda z: 1.5 * z, "squeezed", decode=torch.tanh)
    decoded = generate(points, squeezed, tmp_path / "squeezed", keep=kept)
    truth = np.tanh(decoded["latents"][:])
    assert np.abs(decoded["latents"][:] - truth).max() > 0.3
    np.testing.assert_allclose(pixels_of(decoded), truth, atol=0.51 / 127.5)


# ------------------------------------------------------------------------------------------------------ pairs, refusals


def test_ends_are_of_two_classes(options):
    classes = options["classes"]
    start, end = draw(PLAN.parameters, classes, 50, seed=3)
    ids = [np.rint(each * 23).astype(int) @ [24, 1] for each in (start, end)]
    assert (classes[ids[0]] != classes[ids[1]]).all()
    assert 0.05 <= np.minimum(start, end).min() < 0.1 and 0.9 < np.maximum(start, end).max() <= 0.95
    np.testing.assert_array_equal(draw(PLAN.parameters, classes, 20, seed=3)[0], start[:20])
    with pytest.raises(ValueError, match="classes must be two or more for curves to cross a boundary, got one"):
        draw(PLAN.parameters, np.zeros(len(classes), int), 5)


def test_what_is_there_is_read_again(compared, slice_folder, geometry, options):
    again = compare(PLAN, GENERATOR, compared[1], PHASE, geometry, slice_folder, **options)
    assert json.dumps(again) == json.dumps(compared[0])


def test_curves_of_other_fits_classes_or_perception_are_refused(compared, slice_folder, geometry, options):
    def refuses(what, by=geometry, **more):
        message = rf"out must be a new folder or that of the same run, got .* with {what}"
        with pytest.raises(ValueError, match=message):
            compare(PLAN, GENERATOR, compared[1], PHASE, by, slice_folder, **{**options, **more})

    for name in FITS:
        changed = geometry.log_z | {name: geometry.log_z[name] + 1e-9}
        refuses(rf"log_z\.{name}", dataclasses.replace(geometry, log_z=changed))
    refuses("classes", classes=np.roll(options["classes"], 1))
    refuses("perceptual True, not False", perceptual=None)
    refuses("num_pairs 12, not 11", num_pairs=11)
    refuses("seed 0, not 1", seed=1)
    refuses("ends across, not random", ends="random")


def test_ends_of_the_papers_table_are_uniform(slice_folder, geometry, options, tmp_path):
    """Without regard to classes, in [0.1, 0.9]^2 of the box."""
    found = compare(PLAN, GENERATOR, tmp_path, PHASE, geometry, slice_folder, **options | {"ends": "random"})
    with np.load(tmp_path / "paths.npz") as file:
        ends = file[LINEAR][:, [0, -1]]
    assert found["ends"] == "random" and (ends >= 0.1).all() and (ends <= 0.9).all()
    start, end = uniform_pairs(2 * PLAN.parameters - 1, 4000, seed=3)
    for values in (start, end):
        for moment, expected in ((1, 0.0), (2, 0.8**2 / 3), (4, 0.8**4 / 5)):
            np.testing.assert_allclose((values**moment).mean(axis=0), expected, atol=0.02)
        assert np.abs(values).max() <= 0.8
    np.testing.assert_allclose(np.corrcoef(start.T, end.T), np.eye(4), atol=0.05)
    with pytest.raises(ValueError, match="ends must be one of across, random, got 'both'"):
        compare(PLAN, GENERATOR, tmp_path, PHASE, geometry, slice_folder, **options | {"ends": "both"})


def test_compare_refuses_other_slices_and_classes(slice_folder, geometry, tmp_path):
    line = SlicePlan(ANCHORS[:2], Grid((0,), (1,), (9,)), normalise=False)
    with pytest.raises(ValueError, match="plan must have the points of a Grid of two dimensions for curves"):
        compare(line, GENERATOR, tmp_path, PHASE, geometry, slice_folder, classes=np.zeros(9, int))
    with pytest.raises(ValueError, match=r"classes must be 576 integers, got int64 of shape \(575,\)"):
        compare(PLAN, GENERATOR, tmp_path / "out", PHASE, geometry, slice_folder, classes=np.zeros(575, int))
    assert not (tmp_path / "out" / "settings.json").exists()
    (tmp_path / "settings.json").write_text('{"seed": 5}')  # as after another fit
    with pytest.raises(ValueError, match=r"Delete it to make them anew\."):
        compare(PLAN, GENERATOR, tmp_path, PHASE, geometry, slice_folder, classes=np.zeros(576, int))
