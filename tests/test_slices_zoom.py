"""Zooms into steps, staircases and smooth flanks of known place and slope, and into the shipped digits."""

import dataclasses
import itertools
import sys

import numpy as np
import pytest
import torch

from hessfast import shards
from hessfast.posterior import Grid
from hessfast.slices import SlicePlan, feature_map, from_callable, lipschitz, random_anchors
from hessfast.slices._last_bits import Perturbed, unmoved
from hessfast.slices._windows import steepest
from hessfast.slices.zoom import Level, Zoom, _shape, zoom

LINE = torch.tensor([[[[0.0, 1.0]]], [[[1.0, 1.0]]]], dtype=torch.float64)
PLANE = torch.tensor([[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]], dtype=torch.float64)


def line(dtype="float32", **more):
    return SlicePlan(LINE, Grid((0.0,), (1.0,), (2,)), normalise=False, dtype=dtype, micro_batch=17, **more)


def step(z):
    return (z[..., :1] > 1 / 3).to(z.dtype)


def flank(z):
    """A tanh of slope 1000 at 0.3."""
    return torch.tanh(1000 * (z[..., :1] - 0.3))


@pytest.mark.parametrize(("dtype", "epsilon"), [("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_a_step_is_found_to_the_last_bit_and_stays_sharp(tmp_path, dtype, epsilon):
    found = zoom(line(dtype), from_callable(step, "step"), tmp_path, points_per_axis=17)
    last = found.levels[-1]
    assert abs(last.place[0] - 1 / 3) < epsilon and found.dtype == dtype
    assert all(level.resolved and level.largest == 1 for level in found.levels[:-1])
    assert all(level.median == level.batching == 0 for level in found.levels[:-1])
    assert epsilon / 2 < found.finest < 64 * epsilon
    ratios = np.divide([level.spacing for level in found.levels[:-1]], [level.spacing for level in found.levels[1:]])
    np.testing.assert_allclose(ratios[:4], 8, rtol=1e-9)
    assert f"the boundary has no width that {dtype} could show" in found.reason
    if dtype == "float32":
        assert not last.resolved and (last.rounding == 1 or last.unmoved == 1) and "are rounding" in found.reason
    else:  # the coordinates are of the same dtype
        assert "float64 does not tell the coordinates of points apart" in found.reason


@pytest.mark.parametrize(("dtype", "epsilon"), [("float32", 2.0**-23), ("float64", 2.0**-52)])
def test_a_smooth_flank_ends_as_a_slope(tmp_path, dtype, epsilon):
    found = zoom(line(dtype), from_callable(flank, "flank"), tmp_path, points_per_axis=17)
    smooth = [level for level in found.levels if level.resolved and level.smooth]
    assert not found.levels[0].smooth and len(smooth) >= 2
    assert smooth[len(smooth) // 2].lipschitz == pytest.approx(1000, rel=0.01)
    assert epsilon / 8 < found.finest < 64 * epsilon  # 1000 epsilon is a change of output that can be seen
    assert "of Lipschitz constant 1e+03: no boundary is left" in found.reason


def test_in_two_dimensions_the_window_follows_the_steeper_axis(tmp_path):
    def slanted(z):
        return torch.sigmoid(200 * (z[..., 1:] - 0.2 * z[..., :1] - 0.4))

    plan = SlicePlan(PLANE, Grid((0.0, 0.0), (1.0, 2.0), (2, 2)), normalise=False, dtype="float64")
    found = zoom(plan, from_callable(slanted, "slanted"), tmp_path, max_levels=6)
    for level in found.levels:
        x, y = level.place
        assert level.axis == 1 and abs(y - 0.2 * x - 0.4) < level.spacing
    assert found.reason.startswith("max_levels allows no more than 6 levels. From spacing")
    assert found.levels[-1].lipschitz == pytest.approx(50, rel=1e-3)  # 200 / 4 along the axis
    assert [level.unmoved for level in found.levels] == [0.5] * 6  # each element depends on one coordinate


def test_levels_of_cantors_staircase_keep_jumping(tmp_path):
    """It rises by 2^-n over 3^-n: jumps fall as spacing^(log 2 / log 3), the Lipschitz constant has no limit."""

    def staircase(z):
        x, y, rising = z[..., :1].double(), 0.0, 1.0
        for n in range(1, 40):
            digit = (3 * x).floor().clamp(0, 2)
            y = y + rising * (digit >= 1) * 0.5**n
            rising = rising * (digit != 1)
            x = 3 * x - digit
        return y

    found = zoom(line("float64"), from_callable(staircase, "staircase"), tmp_path, points_per_axis=7)  # thirds
    levels = [level for level in found.levels if level.spacing > 1e-10]
    slope = np.polyfit(np.log([level.spacing for level in levels]), np.log([level.largest for level in levels]), 1)
    assert len(levels) > 15 and slope[0] == pytest.approx(np.log(2) / np.log(3), abs=0.05)  # Hoelder's exponent
    assert levels[-1].lipschitz > 50 * levels[0].lipschitz


@pytest.mark.parametrize(("micro_batch", "other"), [(8, 3), (1, 2)])
def test_batches_of_another_size_are_a_floor(tmp_path, micro_batch, other):
    """What depends on how many points are made together is not of the slice."""
    plan = SlicePlan(LINE, [[0.0], [1.0]], normalise=False, dtype="float64", micro_batch=micro_batch)
    crowded = from_callable(lambda z: z + 1e-3 * len(z), "crowded")
    level = zoom(plan, crowded, tmp_path / "size", points_per_axis=7, max_levels=1).levels[0]
    assert (
        level.batching == pytest.approx(1e-3 * abs(micro_batch - other) * 2**0.5, rel=1e-9) and level.rounding < 1e-14
    )
    assert level.largest == pytest.approx(1 / 6) and level.resolved


def test_noise_of_the_loop_is_a_floor(tmp_path):
    """With noise of standard deviation 0.01 a point, jumps are the slice's only above that."""

    anchors = random_anchors((1, 4, 4), 2, seed=1)
    plan = SlicePlan(anchors, Grid((0.0,), (1.0,), (2,)), eta=0.5, num_steps=2)
    with_noise = Noisy(from_callable(lambda z: z, "identity"))
    found = zoom(plan, with_noise, tmp_path, points_per_axis=17)
    assert len(found.levels) == 2 and found.levels[0].resolved
    assert found.levels[1].rounding < 1e-5 < 0.01 < found.levels[1].batching
    assert "noise floor" in found.reason and "which is the noise of the loop, of eta = 0.5: each point" in found.reason
    assert "rounding" not in found.reason


LEVEL = Level(Grid((0.0,), (1.0,), (5,)), 0, (0.5,), 1.0, 0.5, batching=0.2, rounding=0.49, unmoved=0.9)


def test_what_a_level_is_called():
    assert LEVEL.resolved and LEVEL.smooth and LEVEL.floor == 0.49
    assert not dataclasses.replace(LEVEL, rounding=0.5).resolved
    assert not dataclasses.replace(LEVEL, unmoved=1.0).resolved  # whatever differs is not of z
    assert not dataclasses.replace(LEVEL, median=0.49).smooth


def test_a_flank_is_what_is_smooth_below_every_boundary():
    """A wide level is smooth where the boundary lies between its points, too."""
    windows = [Grid((0.0,), (4 * 2.0**-k,), (5,)) for k in range(6)]
    levels = [
        dataclasses.replace(LEVEL, window=window, largest=(k + 1) * 2.0**-k, median=median, rounding=0.0, batching=0.0)
        for k, (window, median) in enumerate(zip(windows, (1, 0, 1, 1, 1, 1), strict=True))
    ]
    flank = "the slice is smooth there, of Lipschitz constant 5: no boundary is left to zoom into."
    assert _shape(levels, "float32") == f"From spacing 2.5e-01 down to 3.1e-02 {flank}"
    flat = "Down to 5.0e-01 the boundary has no width that float32 could show."
    assert _shape(levels[:2], "float32") == flat


@pytest.mark.parametrize("more", [{}, {"dtype": "float64"}])
def test_a_zoom_into_nothing_says_so(tmp_path, more):
    found = zoom(line(**more), from_callable(lambda z: 0 * z, "constant"), tmp_path, points_per_axis=5)
    assert found.reason == "At spacing 2.5e-01 all points are alike: nothing jumps. Nothing is resolved."


def test_a_floor_of_batches_is_no_rounding(tmp_path):
    found = zoom(line(), from_callable(lambda z: z + len(z), "crowded"), tmp_path, points_per_axis=5)
    assert "which is what the same point differs by in another batch" in found.reason
    assert "rounding" not in found.reason


def test_windows_stay_in_the_box(tmp_path):
    """The largest jump is at the edge: the next window ends there."""
    plan = SlicePlan(PLANE, Grid((0.0, 0.0), (1.0, 2.0), (2, 2)), normalise=False, dtype="float64")
    edge = from_callable(lambda z: z[..., :1] ** 40 + z[..., 1:], "edge")
    found = zoom(plan, edge, tmp_path, max_levels=12)
    for before, level in itertools.pairwise(found.levels):
        window, wider = level.window, found.levels[0].window
        assert window.lower >= wider.lower and window.upper[0] == 1.0 and window.upper[1] <= 2.0
        np.testing.assert_allclose(np.subtract(window.upper, window.lower), 2 * before.spacing * np.array([1, 2]))
    assert len(found.levels) == 12 and found.levels[-1].lipschitz == pytest.approx(40, rel=1e-3)
    corner = steepest(Grid((0.0, 0.0), (1.0, 1.0), (5, 5)), np.eye(25)[0])
    assert (corner.lower, corner.upper) == ((0.0, 0.0), (0.5, 0.5))


class Noisy:
    """A generator that adds the plan's noise to z."""

    def __init__(self, inner):
        self.inner, self.identity, self.device = inner, {"noisy": inner.identity}, inner.device

    def prepare(self, plan):
        prepared = self.inner.prepare(plan)

        def latents(z, ids):
            return prepared.latents(z, ids) + 0.01 * plan.noise(ids)[0]

        return dataclasses.replace(prepared, latents=latents)


@pytest.mark.parametrize(("dtype", "epsilon"), [("float16", 2**-10), ("float32", 2**-23), ("float64", 2**-52)])
def test_last_bits_of_every_element_are_changed_by_chance(dtype, epsilon):
    plan = SlicePlan(random_anchors((4, 8, 8), 2), [[0.1], [0.3], [0.3]], dtype=dtype)
    z = plan.z(plan.parameters)
    perturbed = Perturbed(from_callable(lambda z: z, "identity")).prepare(plan)
    moved = perturbed.latents(z, [0, 1, 2]).double() / z.to(getattr(torch, dtype)).double() - 1
    steps = (moved / epsilon).abs()
    assert steps.max() < 2.01 and 0.5 < (steps > 0).double().mean() < 0.8  # two thirds, but for rounding
    assert all(0.25 < (sign * moved > 0).double().mean() < 0.4 for sign in (-1, 1))
    assert torch.equal(moved, perturbed.latents(z, [0, 1, 2]).double() / z.to(getattr(torch, dtype)).double() - 1)
    assert not torch.equal(moved[1], moved[2])


def test_what_does_not_move_is_counted_along_every_axis():
    grid = Grid((1.0, 1.0), (2.0, 1 + 2.0**-40), (3, 3))  # the second coordinate stays as it is in float32
    assert unmoved(SlicePlan(PLANE, grid, normalise=False)) == 0.75
    assert unmoved(SlicePlan(PLANE, grid, normalise=False, dtype="float64")) == 0.5


def test_a_killed_zoom_goes_on(tmp_path, monkeypatch):
    plan, whole = line(), zoom(line(), from_callable(flank, "flank"), tmp_path / "whole", points_per_axis=17)
    assert Zoom.load(tmp_path / "whole") == whole
    module, calls = sys.modules["hessfast.slices.zoom"], []

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return generate(*arguments, **more)

    generate = module.generate
    monkeypatch.setattr(module, "generate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        zoom(plan, from_callable(flank, "flank"), tmp_path / "again", points_per_axis=17)
    partly = Zoom.load(tmp_path / "again")
    assert partly.levels == whole.levels[:2] and "not come to its end" in partly.reason
    monkeypatch.undo()
    assert zoom(plan, from_callable(flank, "flank"), tmp_path / "again", points_per_axis=17) == whole
    files = [path.relative_to(tmp_path / "whole") for path in sorted((tmp_path / "whole").rglob("*")) if path.is_file()]
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    with pytest.raises(ValueError, match="holds another plan: it differs in"):
        zoom(plan, from_callable(step, "step"), tmp_path / "again", points_per_axis=17)


def test_levels_keep_what_is_asked_for(tmp_path):
    plan = SlicePlan(LINE, [[0.0], [0.25], [1.0]], normalise=False)
    bright = feature_map(lambda images: images.mean(dim=(1, 2, 3)).unsqueeze(1), "brightness")
    found = zoom(plan, from_callable(step, "step"), tmp_path, bright, points_per_axis=5, max_levels=2, keep=["images"])
    store = shards.open(tmp_path / "level-01" / "points")
    assert set(store) == {"parameters", "features", "images"} and found.levels[1].window.shape == (5,)
    np.testing.assert_array_equal(store["parameters"][:], found.levels[1].window.points)
    np.testing.assert_allclose(found.levels[1].window.axes[0], np.linspace(0.125, 0.625, 5))


def test_a_window_lies_at_least_between_two_numbers():
    grid = Grid((1.0,), (1 + 2.0**-52,), (5,))
    assert steepest(grid, [0.0, 0.0, 1.0, 1.0, 1.0], 5).upper[0] == 1 + 2.0**-52


def test_steepest_takes_up_a_slice_that_is_there():
    values = np.zeros((4, 5, 2))
    values[2:, :, 0] += 1.0
    values[2:, 3, 1] += 0.5  # rows 1 and 2 at column 3 differ most
    window = steepest(Grid((0.0, 0.0), (3.0, 8.0), (4, 5)), values.reshape(20, 2), 9)
    assert (window.lower, window.upper, window.shape) == ((0.5, 4.0), (2.5, 8.0), (9, 9))


def digits():
    pytest.importorskip("diffusers")
    from hessfast.slices import digit_generator

    return digit_generator()


def test_the_zoom_into_digits_ends_at_the_floor_of_float32(tmp_path):
    """On a line between two anchors, in few steps: a boundary, then a smooth flank, then rounding."""
    plan = SlicePlan(random_anchors((1, 8, 8), 2, seed=1), Grid((0.0,), (1.0,), (2,)), num_steps=4, micro_batch=17)
    found = zoom(plan, digits(), tmp_path, "digits", points_per_axis=17)
    assert 1e-8 < found.finest < 1e-5 and not found.levels[-1].resolved
    assert all(1e-9 < level.floor < 1e-4 for level in found.levels)
    smooth = [level for level in found.levels[:-1] if level.smooth]
    there = plan.at([smooth[0].place], dtype="float64")
    slope = lipschitz(there, digits(), "digits").constant[0]
    assert smooth[1].lipschitz == pytest.approx(slope, rel=0.05)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"points_per_axis": 4}, "points_per_axis must be >= 5, got 4"),
        ({"max_levels": 0}, "max_levels must be >= 1, got 0"),
        ({"keep": ["pixels"]}, "keep must be one of latents, features, images, got 'pixels'"),
        ({"plan": SlicePlan(LINE, [[0.5]])}, "plan must have points that differ on every axis, got"),
    ],
    ids=["num", "max_levels", "keep", "plan"],
)
def test_zoom_refuses(tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        zoom(**{"plan": line(), "generator": from_callable(step, "step"), "out": tmp_path / "zoom"} | more)
    assert not (tmp_path / "zoom").exists()


def test_files_that_are_no_zoom(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no zoom: it has no zoom\.json"):
        Zoom.load(tmp_path)
    (tmp_path / "zoom.json").write_text('{"levels": [{}]}')
    with pytest.raises(ValueError, match=r"zoom\.json is damaged; delete it and zoom again"):
        Zoom.load(tmp_path)
    with pytest.raises(ValueError, match=r"values must have one row for each of 6 nodes, got shape \(5,\)"):
        steepest(Grid((0.0, 0.0), (1.0, 1.0), (2, 3)), np.zeros(5))
