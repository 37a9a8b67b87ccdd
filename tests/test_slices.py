"""Slices: plans against their formulas, the shipped digits, features, noise floor and Lipschitz constant."""

import dataclasses
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import torch
from scipy.special import softmax

from hessfast._fingerprint import fingerprint, structure
from hessfast.posterior import Grid
from hessfast.slices import (
    NoiseFloor,
    SlicePlan,
    _windows,
    clip_features,
    clip_input,
    digit_classifier,
    feature_map,
    from_callable,
    lipschitz,
    noise_floor,
    random_anchors,
)
from hessfast.slices._extra import open_clip
from hessfast.slices.generators import Prepared

ANCHORS = random_anchors((1, 4, 4), seed=1)
ON_A_LINE = torch.stack([ANCHORS[0], ANCHORS[1], (ANCHORS[0] + ANCHORS[1]) / 2])
GRID = Grid((-0.5, 0.0), (1.0, 2.0), (4, 3))


def needs_diffusers():
    pytest.importorskip("diffusers")
    from hessfast.slices import digit_generator

    return digit_generator()


@pytest.fixture(scope="module")
def generator():
    return needs_diffusers()


# ---------------------------------------------------------------------------------------------------------------- plans


def test_a_shape_of_anchors_is_a_tuple():
    with pytest.raises(TypeError, match="latent_shape must be a tuple of integers, got 8"):
        random_anchors(8)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("num", [2, 3, 4])
def test_z_is_its_formula(normalise, num):
    anchors = random_anchors((2, 3, 3), num, seed=4)
    u = np.random.default_rng(0).uniform(-1, 2, (5, num - 1))
    z0, *others = anchors.double().numpy()
    expected = np.stack([z0 + sum(c * (z - z0) for c, z in zip(row, others, strict=True)) for row in u])
    if normalise:
        expected = np.stack([z / z.std(ddof=1) for z in expected])
    plan = SlicePlan(anchors, u, normalise=normalise)
    np.testing.assert_allclose(plan.z(plan.parameters).numpy(), expected, rtol=1e-13, atol=1e-14)
    assert (plan.dim, plan.num, plan.latent_shape) == (num - 1, 5, (2, 3, 3))


def test_points_of_a_grid_are_numbered_with_the_last_axis_fastest():
    plan = SlicePlan(ANCHORS, GRID)
    assert plan.num == 12 and plan.parameters[:4].tolist() == [[-0.5, 0.0], [-0.5, 1.0], [-0.5, 2.0], [0.0, 0.0]]


def test_z_of_a_point_does_not_depend_on_the_others():
    plan = SlicePlan(random_anchors((4, 16, 16)), np.random.default_rng(1).uniform(size=(37, 2)))
    together = plan.z(plan.parameters)
    for k in (0, 17, 36):
        assert torch.equal(plan.z(plan.parameters[k : k + 1])[0], together[k])


def test_z_has_a_derivative():
    plan = SlicePlan(ANCHORS, GRID)
    u = torch.tensor(plan.parameters[:2])
    jacobian = torch.func.jacfwd(plan.z)(u)
    for k in range(2):
        step = torch.zeros(2, 2, dtype=torch.float64)
        step[:, k] = 1e-6
        difference = (plan.z(u + step) - plan.z(u - step)) / 2e-6
        for point in range(2):
            torch.testing.assert_close(jacobian[point, ..., point, k], difference[point], atol=1e-8, rtol=1e-7)


def test_plans_are_equal_by_their_hash_and_every_field_counts():
    plan = SlicePlan(ANCHORS, GRID)
    changes = {
        "anchors": random_anchors((1, 4, 4), seed=2),
        "points": Grid((-0.5, 0.0), (1.0, 2.0), (4, 4)),
        "normalise": False,
        "scheduler": "released",
        "num_steps": 20,
        "guidance": 5.0,
        "eta": 0.1,
        "prompt": "a digit",
        "negative_prompt": "ugly",
        "seed": 1,
        "dtype": "float64",
        "micro_batch": 32,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(SlicePlan)}
    others = [dataclasses.replace(plan, **{name: value}) for name, value in changes.items()]
    assert len({plan, *others}) == 13
    assert plan == SlicePlan(ANCHORS.numpy().copy(), Grid([-0.5, 0], [1, 2], (4, 3)))
    assert plan.at([[0.0, 0.0]], seed=3) == SlicePlan(ANCHORS, [[0.0, 0.0]], seed=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.seed = 2
    with pytest.raises(ValueError, match="read-only"):
        plan.anchors[0] = 0


@pytest.mark.parametrize("points", [GRID, [[0.1, 0.2], [0.3, 0.4]]], ids=["grid", "list"])
def test_plans_are_saved_whole_and_damage_is_found(tmp_path, points):
    plan = SlicePlan(ANCHORS, points, eta=0.3, prompt="ein Bild, größer", seed=2**64 - 1)
    plan.save(tmp_path / "slice.safetensors")
    assert SlicePlan.load(tmp_path) == SlicePlan.load(tmp_path / "slice.safetensors") == plan
    assert np.array_equal(SlicePlan.load(tmp_path).anchors, plan.anchors)
    data = bytearray((tmp_path / "slice.safetensors").read_bytes())
    data[-1] ^= 1
    for damaged in (data, data[:100], b""):
        (tmp_path / "slice.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"slice\.safetensors is damaged; put back the original"):
            SlicePlan.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"path must be the file or folder of a slice, got .*other, where"):
        SlicePlan.load(tmp_path / "other")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileNotFoundError, match=r"other holds no slice: it has no slice\.safetensors"):
        SlicePlan.load(tmp_path / "other")


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 7), ("prompt", "two"), ("points", {"upper": [1.0, 3.0]}), ("anchors", "0"), ("hash", "0")],
)
def test_changed_settings_of_a_saved_plan_are_found(tmp_path, field, value):
    """The arrays are as they were; what is said beside them is not."""
    path, plan = tmp_path / "slice.safetensors", SlicePlan(ANCHORS, GRID)
    plan.save(path)
    with safetensors.safe_open(path, "np") as file:
        arrays, fields = {"anchors": file.get_tensor("anchors")}, json.loads(file.metadata()["slice"])
    safetensors.numpy.save_file(arrays, path, {"slice": json.dumps(fields)})
    assert SlicePlan.load(path) == plan
    changed = fields | {field: fields[field] | value if isinstance(value, dict) else value}
    safetensors.numpy.save_file(arrays, path, {"slice": json.dumps(changed)})
    with pytest.raises(ValueError, match=r"slice\.safetensors is damaged; put back the original"):
        SlicePlan.load(path)


def test_schedulers_travel_with_a_plan(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(beta_end=0.012, trained_betas=[0.1, 0.2])
    plan = SlicePlan(ANCHORS, GRID, scheduler=scheduler)
    assert plan.scheduler["_class_name"] == "EulerDiscreteScheduler" and plan.scheduler["trained_betas"] == [0.1, 0.2]
    plan.save(tmp_path / "plan")
    assert SlicePlan.load(tmp_path / "plan") == plan


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"anchors": [[[[math.nan]]]]}, ValueError, "anchors must be finite, got nan"),
        (
            {"anchors": ANCHORS[:1]},
            ValueError,
            r"anchors must have shape \[n, \*latent], of two numbers or more, with n >= 2, got \(1, 1, 4, 4\)",
        ),
        ({"anchors": "noise"}, TypeError, "anchors must be a number or an array of numbers, got 'noise'"),
        ({"anchors": ANCHORS[[0, 1, 0]]}, ValueError, "anchors must differ from the first, got .* number 2"),
        ({"points": [[0.0]]}, ValueError, "points must have 2 coordinates for 3 anchors, got 1"),
        ({"points": [0.0, 1.0]}, ValueError, r"points must be a Grid or have shape \[m, 2\], got \(2,\)"),
        ({"points": Grid((0,), (1,), (3,))}, ValueError, "points must have 2 coordinates for 3 anchors, got 1"),
        ({"points": [[0.0, math.inf]]}, ValueError, "points must be finite, got inf"),
        ({"scheduler": 3}, TypeError, "scheduler must be a name or a scheduler of diffusers, got 3"),
        ({"scheduler": Grid}, TypeError, "scheduler must be a name or a scheduler .*got class Grid. Call it"),
        ({"anchors": ANCHORS[[0, 1, 1]]}, ValueError, "anchors must span 2 dimensions, got 3 in 1"),
        ({"anchors": ON_A_LINE}, ValueError, "anchors must span 2 dimensions, got 3 in 1"),
        ({"num_steps": 0}, ValueError, "num_steps must be >= 1, got 0"),
        ({"guidance": -1}, ValueError, r"guidance must be >= 0, got -1\.0"),
        ({"eta": 1.5}, ValueError, r"eta must be in \[0, 1\], got 1.5"),
        ({"prompt": None}, TypeError, "prompt must be a text, got None"),
        ({"seed": -1}, ValueError, "seed must be >= 0"),
        ({"dtype": "float8"}, ValueError, "dtype must be one of float16, bfloat16, float32, float64, got 'float8'"),
        ({"micro_batch": 2.0}, TypeError, "micro_batch must be an integer, got 2.0"),
    ],
)
def test_impossible_plans_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        SlicePlan(**{"anchors": ANCHORS, "points": GRID} | changes)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([0.0, 1.0], r"parameters must have shape \[m, 2\], got \(2,\)"),
        (torch.zeros(3, 1), r"parameters must have shape \[m, 2\], got \(3, 1\)"),
        ([[0.0, math.nan]], "parameters must be finite, got nan"),
    ],
)
def test_points_of_another_dimension_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        SlicePlan(ANCHORS, GRID).z(parameters)


def test_a_plan_is_shown_without_its_numbers():
    shown = repr(SlicePlan(ANCHORS, [[0.25, 0.5]], prompt="a cat"))
    assert "anchors=<array (3, 1, 4, 4)>, points=<array (1, 2)>" in shown and "prompt='a cat'" in shown
    assert len(shown) < 400


def test_torch_dtypes_name_dtypes():
    assert SlicePlan(ANCHORS, GRID, dtype=torch.float64).dtype == "float64"


# ------------------------------------------------------------------------------------------------------- shipped digits


def test_the_classifier_knows_digits_it_has_not_seen():
    datasets = pytest.importorskip("sklearn.datasets")
    from hessfast.diffusability import digits

    pixels, labels = datasets.load_digits(return_X_y=True)
    label = {image.tobytes(): k for image, k in zip((pixels / 8 - 1).astype(np.float32), labels, strict=True)}
    _, held_out = digits()
    classifier = digit_classifier()
    guesses = classifier.logits(classifier(held_out)).argmax(1).tolist()
    truth = [label[image.tobytes()] for image in held_out.flatten(1).numpy()]
    assert np.mean(np.equal(guesses, truth)) >= 0.97
    np.testing.assert_allclose(classifier(held_out).norm(dim=1), 1, rtol=1e-5)


def test_the_classifier_takes_no_other_images():
    with pytest.raises(
        ValueError, match=r"images must have shape \[n, 1, 8, 8\] for this classifier, got \(2, 3, 8, 8\)"
    ):
        digit_classifier()(torch.zeros(2, 3, 8, 8))


def test_generated_digits_are_digits_of_every_kind(generator):
    """At 120 independent noises: the classifier is sure of most and finds all ten; pixels average as in the data."""
    pytest.importorskip("sklearn")
    from hessfast.diffusability import digits

    anchors = random_anchors((1, 8, 8), 121, seed=7)
    plan = SlicePlan(anchors, np.eye(120), num_steps=25)
    prepared, classifier = generator.prepare(plan), digit_classifier()
    with torch.no_grad():
        images = prepared.decode(prepared.latents(plan.z(plan.parameters), range(120)))
        sure = softmax(classifier.logits(classifier(images)).numpy(), axis=1)
    assert set(sure.argmax(axis=1)) == set(range(10))
    assert np.mean(sure.max(axis=1) > 0.9) > 0.7
    data, _ = digits()
    assert (images.mean(dim=0) - data.mean(dim=0)).abs().max() < 0.3  # of a range of 2; seen: .12 for 250 images
    assert sum(p.numel() for p in next(iter(generator._unet.values())).parameters()) < 700_000


def test_training_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """A few steps of both networks, whole and interrupted: the same file."""
    pytest.importorskip("diffusers")
    pytest.importorskip("sklearn")
    from hessfast import _checkpoint
    from hessfast.slices import train_digits

    monkeypatch.setattr(train_digits, "CHECKPOINT_EVERY", 2)
    train_digits.train(tmp_path / "whole.safetensors", num_steps=3, classifier_steps=2, seed=1)
    save = _checkpoint.save

    def interrupted(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(_checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_digits.train(tmp_path / "again.safetensors", num_steps=3, classifier_steps=2, seed=1)
    monkeypatch.undo()
    train_digits.train(tmp_path / "again.safetensors", num_steps=3, classifier_steps=2, seed=1)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "whole.safetensors"]


# ------------------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize(
    "shape", [(3, 96, 96), (3, 61, 90), (3, 91, 61), (3, 32, 32), (3, 49, 49), (3, 49, 98)], ids=str
)
def test_preprocessing_is_pils(shape):
    """As open_clip does it: PIL's bicubic resize of the 8-bit image, cut in the centre, colours normalised."""
    image = pytest.importorskip("PIL.Image")
    coarse = torch.rand((1, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear")[0].mul(255).round().byte()
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    got = clip_input(pixels.float()[None] / 127.5 - 1, 32, mean, std)
    rows, columns = shape[1:]
    size = (32, int(32 * columns / rows)) if rows <= columns else (int(32 * rows / columns), 32)
    resized = image.fromarray(pixels.permute(1, 2, 0).numpy()).resize(size[::-1], image.Resampling.BICUBIC)
    top, left = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
    cut = np.asarray(resized)[top : top + 32, left : left + 32] / 255
    expected = (cut - mean) / std
    levels = np.abs(got[0].permute(1, 2, 0).numpy() - expected) * std * 255
    assert levels.max() < 1.01 and levels.mean() < 0.35  # PIL rounds to 8 bits after each of two passes


def test_preprocessing_overshoots_no_more_than_pil():
    """Beside black and white stripes a bicubic is below 0 and above 1: PIL cuts that off."""
    image = pytest.importorskip("PIL.Image")
    stripes = (torch.arange(96) // 12 % 2).mul(255).byte().expand(3, 96, 96)
    for side in (32, 128):
        got = clip_input(stripes.float()[None] / 127.5 - 1, side, (0, 0, 0), (1, 1, 1))[0].permute(1, 2, 0)
        resized = image.fromarray(stripes.permute(1, 2, 0).numpy()).resize((side, side), image.Resampling.BICUBIC)
        np.testing.assert_allclose(got, np.asarray(resized) / 255, atol=1.01 / 255)
        assert got.min() == 0 and got.max() == 1


def test_features_that_are_none():
    with pytest.raises(TypeError, match='features must be "digits", "pixels", a module, or a function'):
        feature_map(lambda images: images)
    with pytest.raises(TypeError, match="got 'clip'"):
        feature_map("clip")
    with pytest.raises(TypeError, match="name must be a text that stands for the function, got 3"):
        from_callable(lambda z: z, 3)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match=r"checkpoint must be a file of CLIP weights, got missing\.pt"):
        clip_features("ViT-B-32", "missing.pt")


def test_what_an_installed_package_lacks_is_named(monkeypatch, tmp_path):
    (tmp_path / "open_clip.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    with pytest.raises(ModuleNotFoundError, match="No module named 'a_package_that_nobody_has'"):
        open_clip()


def test_missing_packages_are_named(monkeypatch):
    from hessfast.slices import digit_generator, from_pretrained

    for package in ("diffusers", "open_clip"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"diffusers must be installed .* Run pip install 'hessfast\[slices\]'"):
        digit_generator()
    with pytest.raises(ImportError, match="diffusers must be installed"):
        from_pretrained(".")
    with pytest.raises(
        ImportError, match=r"open_clip must be installed for CLIP features. Run pip install open_clip_torch"
    ):
        clip_features("ViT-B-32", __file__)


def test_import_loads_no_optional_package():
    code = "import sys, hessfast.slices; print({'diffusers', 'transformers', 'open_clip', 'sklearn'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# ----------------------------------------------------------------------------------------------- Lipschitz, noise floor


def test_singular_values_of_a_linear_slice_are_those_of_its_anchors():
    anchors = random_anchors((1, 4, 4), 4, seed=3).double()
    plan = SlicePlan(anchors, [[0.1, 0.2, 0.3], [1.0, 0.0, 0.0]], normalise=False, dtype="float64", micro_batch=1)
    tripled = from_callable(lambda z: 3 * z, "tripled")
    expected = 3 * np.linalg.svd((anchors[1:] - anchors[0]).flatten(1).numpy(), compute_uv=False)
    for method in ("auto", "differences"):
        result = lipschitz(plan, tripled, method=method)
        np.testing.assert_allclose(result.singular_values, [expected] * 2, rtol=1e-8)
        assert result.method == ("jvp" if method == "auto" else "differences") and result.of == "images"
        assert (result.step is None) == (method == "auto")
        np.testing.assert_array_equal(result.constant, result.singular_values[:, 0])


@pytest.mark.parametrize("scheduler", ["ddim", "released"])
def test_forward_mode_through_loop_and_features_is_the_limit_of_differences(generator, scheduler):
    points = [[0.2, 0.1], [0.6, 0.3], [0.9, 0.9]]
    plan = SlicePlan(random_anchors((1, 8, 8)), points, num_steps=4, dtype="float64", scheduler=scheduler)
    exact = lipschitz(plan, generator, "digits")
    assert exact.method == "jvp" and exact.of == "features" and (exact.constant > 1e-3).all()
    near = lipschitz(plan, generator, "digits", method="differences")
    np.testing.assert_allclose(near.singular_values, exact.singular_values, rtol=1e-4)
    single = lipschitz(plan.at(points, dtype="float32"), generator, "digits")
    np.testing.assert_allclose(single.singular_values, exact.singular_values, rtol=1e-2)


class NoForwardMode(torch.autograd.Function):
    """x^2 with a backward pass alone, as third-party operations come."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        raise NotImplementedError


def test_differences_go_no_farther_than_the_points_are_apart():
    """A sigmoid of width 1e-4 through NumPy has slope 2500 in its middle; a step of 1e-2 would leap over it."""

    def sigmoid(z):
        return torch.from_numpy(1 / (1 + np.exp((0.3141 - z.double().numpy()[..., :1]) / 1e-4)))

    anchors = torch.tensor([[[[0.0, 1.0]]], [[[1.0, 1.0]]]])
    points, generator = Grid((0.314,), (0.3142,), (9,)), from_callable(sigmoid, "sigmoid")
    for of in (points, points.points.reshape(-1, 1)):
        found = lipschitz(SlicePlan(anchors, of, normalise=False), generator, of="latents")
        assert (found.method, found.step) == ("differences", pytest.approx(2.5e-5))
        assert found.constant.max() == pytest.approx(2500, rel=0.02)  # 0.02 of that with the usual step
    for of, step in (([[0.3]], 1e-2), ([[0.3], [0.9], [0.3]], 1e-2), (Grid((0.0,), (1.0,), (3,)), 1e-2)):
        assert lipschitz(SlicePlan(anchors, of, normalise=False), generator, of="latents").step == step


def test_points_are_apart_by_the_median_of_places():
    points = [[0.0, 0.0], [0.0, 0.0], [0.1, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]
    assert _windows.apart(SlicePlan(ANCHORS, points)) == pytest.approx(0.9)
    assert _windows.apart(SlicePlan(ANCHORS, points[:2])) == math.inf
    assert _windows.apart(SlicePlan(ANCHORS, Grid((0.0, 0.0), (1.0, 2.0), (11, 5)))) == pytest.approx(0.1)


def test_differences_are_labelled_where_forward_mode_is_missing():
    plan = SlicePlan(ANCHORS, [[0.1, 0.2]], normalise=False, dtype="float64")
    squared = from_callable(NoForwardMode.apply, "squared")
    result = lipschitz(plan, squared)
    assert (result.method, result.step) == ("differences", 1e-5)
    expected = lipschitz(plan, from_callable(lambda z: z**2, "squared"))
    assert expected.method == "jvp"
    np.testing.assert_allclose(result.singular_values, expected.singular_values, rtol=1e-8)
    with pytest.raises(NotImplementedError, match='method must be "differences" for this model, got "jvp"'):
        lipschitz(plan, squared, method="jvp")


def test_a_derivative_that_is_lost_is_not_taken_for_zero():
    """Behind .detach() forward mode sees a constant."""
    plan = SlicePlan(ANCHORS, [[0.1, 0.2]], normalise=False, dtype="float64")
    generator = from_callable(lambda z: z, "identity")
    detached = feature_map(lambda images: 2 * images.flatten(1).detach(), "detached")
    found = lipschitz(plan, generator, detached)
    expected = 2 * np.linalg.svd((ANCHORS.double()[1:] - ANCHORS.double()[0]).flatten(1).numpy(), compute_uv=False)
    assert found.method == "differences"
    np.testing.assert_allclose(found.singular_values, [expected], rtol=1e-8)
    with pytest.raises(NotImplementedError, match='must be "differences" for this model, got "jvp": the derivative is'):
        lipschitz(plan, generator, detached, method="jvp")


@pytest.mark.parametrize(("method", "point"), [("auto", 1), ("jvp", 1), ("differences", 0)])
def test_points_without_a_derivative_are_named(method, point):
    """Half way between z and -z there is nothing to divide by its spread; differences look there from point 0."""
    plan = SlicePlan(torch.stack([ANCHORS[0], -ANCHORS[0]]), [[0.2], [0.5]], dtype="float64")
    message = rf"images must have a finite derivative, got none at point {point}\. Look at its z"
    with pytest.raises(ArithmeticError, match=message):
        lipschitz(plan, from_callable(lambda z: z, "identity"), method=method, step=0.3)


@pytest.mark.parametrize("micro_batch", [2, 3])
def test_noise_of_a_derivative_is_that_of_the_point(micro_batch):
    """z times the plan's noise: the Jacobian is the anchors' differences, times the noise of the point's own id."""

    class Multiplied:
        identity, device = {"name": "multiplied"}, torch.device("cpu")

        def prepare(self, plan):
            return Prepared(lambda z, ids: z * plan.noise(ids)[0].double(), lambda x: x, self.device)

        def plain(self):
            return self

    points = [[0.1, 0.2], [0.5, 0.5], [0.9, 0.1]]
    plan = SlicePlan(ANCHORS, points, normalise=False, eta=0.5, num_steps=1, dtype="float64", micro_batch=micro_batch)
    jacobians = (plan.noise(range(3))[0].double()[:, None] * (ANCHORS.double()[1:] - ANCHORS.double()[0])).flatten(2)
    expected = np.linalg.svd(jacobians.numpy(), compute_uv=False)
    assert np.ptp(expected, axis=0).min() > 0.1
    np.testing.assert_allclose(lipschitz(plan, Multiplied()).singular_values, expected, rtol=1e-10)


def test_errors_of_the_model_are_not_taken_for_a_lack_of_forward_mode():
    def broken(z):
        raise RuntimeError("out of paint")

    with pytest.raises(RuntimeError, match="out of paint"):
        lipschitz(SlicePlan(ANCHORS, [[0.1, 0.2]]), from_callable(broken, "broken"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"of": "pixels"}, "of must be one of latents, images, features, got 'pixels'"),
        ({"of": "features"}, 'features must be given for of="features", got None'),
        ({"method": "vjp"}, "method must be one of auto, jvp, differences, got 'vjp'"),
        ({"step": 0.0}, "step must be > 0, got 0.0"),
    ],
)
def test_lipschitz_refuses(more, message):
    with pytest.raises(ValueError, match=message):
        lipschitz(SlicePlan(ANCHORS, [[0.1, 0.2]]), from_callable(lambda z: z, "identity"), **more)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDPMScheduler"])
def test_noise_that_schedulers_draw_is_no_rounding(generator, scheduler):
    """torch draws other numbers in float64 than in float32."""
    anchors = random_anchors((1, 8, 8))
    plan = SlicePlan(anchors, Grid((0.4, 0.4), (0.41, 0.41), (3, 3)), scheduler=scheduler, num_steps=4, micro_batch=4)
    assert noise_floor(plan, generator, "digits", num_repeats=1).precision.max() < 1e-4


def test_the_noise_floor_of_digits_lies_far_below_its_boundaries(generator):
    plan = SlicePlan(random_anchors((1, 8, 8), seed=1), Grid((0, 0), (1, 1), (5, 5)), num_steps=6, micro_batch=8)
    floor = noise_floor(plan, generator, "digits", num_repeats=2)
    assert floor.batching.shape == floor.precision.shape == floor.jump.shape == (25,)
    assert 0 < floor.precision.max() < 1e-3 and floor.batching.max() < 1e-3
    assert floor.resolved.all() and not floor.flip.any() and floor.jump.min() > 1e-3
    assert floor.boundary.sum() == (floor.jump > floor.threshold).sum()
    fine = noise_floor(plan.at(plan.points, dtype="float64"), generator, "digits", num_repeats=1)
    assert fine.precision is None and fine.batching.max() < 1e-11
    assert fine.floor.min() > 1e-16 and fine.floor.max() < 1e-11  # nothing else tells of rounding in float64


def test_the_last_bits_of_z_are_a_part_of_the_floor():
    """Under a slope of 1e6 a step of one machine epsilon, and the roundings beside it, are at most 2.5e6 of them."""
    plan = SlicePlan(ANCHORS, GRID, normalise=False, dtype="float64")
    floor = noise_floor(plan, from_callable(lambda z: 1e6 * z, "steep"))
    size = 1e6 * np.linalg.norm(plan.z(plan.parameters).flatten(1).numpy(), axis=1)
    assert (floor.rounding <= 2.5 * np.finfo(np.float64).eps * size).all()
    assert floor.rounding.max() > 0.1 * np.finfo(np.float64).eps * size.max() and not floor.batching.any()
    np.testing.assert_array_equal(floor.floor, floor.rounding)


@pytest.mark.parametrize(("micro_batch", "other"), [(4, 1), (1, 2), (8, 3)])
def test_batches_of_another_size_are_a_part_of_the_floor(micro_batch, other):
    """What depends on how many are made together shows when it is another number, in every second repetition."""
    plan = SlicePlan(ANCHORS, GRID, dtype="float64", micro_batch=micro_batch)
    crowded = from_callable(lambda z: z + 1e-3 * len(z), "crowded")
    np.testing.assert_allclose(noise_floor(plan, crowded, num_repeats=1).batching, 0, atol=1e-12)
    expected = 1e-3 * abs(micro_batch - other) * 4  # of sixteen elements
    np.testing.assert_allclose(noise_floor(plan, crowded, num_repeats=2).batching, expected, rtol=1e-9)


def test_other_slots_are_a_part_of_the_floor():
    """What depends on the slot shows in every repetition, which are all in other orders."""
    plan = SlicePlan(ANCHORS, GRID, dtype="float64", micro_batch=8)
    seated = from_callable(lambda z: z + 1e-3 * torch.arange(len(z)).reshape(-1, 1, 1, 1), "seated")
    floors = [noise_floor(plan, seated, num_repeats=num).batching for num in (1, 2, 3)]
    slots = np.rint(floors[0] / 4e-3)
    np.testing.assert_allclose(floors[0], 4e-3 * slots, atol=1e-9)
    assert 0 < slots.max() < 8 and (slots > 0).sum() > 6
    assert (floors[2] >= floors[1]).all() and (floors[2] > floors[1] + 1e-6).any()


def test_jumps_are_those_to_the_nearest_nodes_of_a_grid():
    """By steps of its axes, however far apart these are in their coordinates."""
    axes = torch.tensor([[[[0.0, 0.0]]], [[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    plan = SlicePlan(axes, Grid((0, 0), (1, 10), (11, 11)), normalise=False)
    step = from_callable(lambda z: (z[..., 1:] > 5.5).to(z.dtype), "step")
    beside = plan.parameters[noise_floor(plan, step, threshold=0.5, num_repeats=1).boundary]
    assert len(beside) == 22 and set(beside[:, 1]) == {5.0, 6.0}


def test_without_features_latents_are_compared():
    hidden = from_callable(lambda z: z, "hidden", decode=lambda z: 0 * z)
    plan = SlicePlan(ANCHORS, GRID)
    floor, z = noise_floor(plan, hidden), plan.z(plan.parameters).flatten(1).numpy().reshape(4, 3, 16)
    assert floor.jump[0] >= np.linalg.norm(z[0, 0] - z[0, 1]) > 0.1
    assert floor.threshold == pytest.approx(5 * np.median(floor.jump))


def test_twice_the_floor_is_resolved():
    floor, jump = np.array([1.0, 1.0, 1.0]), np.array([0.9, 1.9, 2.1])
    found = NoiseFloor(floor, 0 * floor, 0 * floor, jump, 2.0, "float32", "float64", 1)
    assert found.resolved.tolist() == [False, False, True] == found.boundary.tolist()
    quiet = NoiseFloor(0 * floor, 0 * floor, floor, jump, 0.5, "float32", "float64", 1)
    assert quiet.resolved.tolist() == [False, False, True] and quiet.flip.all()


def test_a_flip_is_told_from_a_boundary():
    """A step at z = 0: far from it all is well; a point that rounding puts on either side is a flip."""
    third = 1 / 3
    anchors = torch.tensor([[[[-third, 1.0]]], [[[1 - third, 1.0]]]], dtype=torch.float64)
    points = np.array([[0.0], [0.2], [third], [0.6], [0.8], [1.0], [1.2], [1.4]])
    # At u = 1/3 z is 0 but for rounding of float64; float32 makes something else of it.
    plan = SlicePlan(anchors, points, normalise=False, micro_batch=3)

    def step(z):
        first = z[..., :1].double() - (1e-9 if z.dtype == torch.float32 else -1e-9)
        return (first > 0).to(z.dtype) + 0 * z

    floor = noise_floor(plan, from_callable(step, "step"), threshold=0.5)
    assert floor.flip.nonzero()[0].tolist() == [2]
    assert floor.boundary.nonzero()[0].tolist() == [2, 3]
    assert not floor.resolved[2] and floor.resolved[3]


def test_noise_floor_refuses():
    identity = from_callable(lambda z: z, "identity")
    with pytest.raises(ValueError, match="plan must have at least 5 points, got 1"):
        noise_floor(SlicePlan(ANCHORS, [[0.1, 0.2]]), identity)
    with pytest.raises(ValueError, match="num_repeats must be >= 1, got 0"):
        noise_floor(SlicePlan(ANCHORS, GRID), identity, num_repeats=0)


class Power(torch.nn.Module):
    def __init__(self, power, config=None):
        super().__init__()
        self.power, self.config = power, config

    def forward(self, x):
        return x.flatten(1).abs() ** self.power


@pytest.mark.parametrize("config", [None, "a text", {1: 2}, SimpleNamespace(layers=3)])
def test_what_a_module_keeps_in_attributes_is_part_of_what_it_is(config):
    one, other = (feature_map(Power(power, config)).identity for power in (2, 3))
    assert one == feature_map(Power(2, config)).identity != other
    assert one == feature_map(Power(2, config).eval()).identity


def test_the_structure_of_a_module_does_not_depend_on_its_weights():
    network = Power(2)
    network.weight = torch.nn.Parameter(torch.zeros(3))
    before, whole = structure(network), fingerprint(network)
    network.weight.data += 1
    assert structure(network) == before and fingerprint(network) != whole


def test_modules_are_known_by_their_weights_and_run_in_evaluation_mode():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Dropout(0.5)).train()
    generator = from_callable(network, "network")
    plan = SlicePlan(ANCHORS, GRID, dtype="float64")
    one, other = (generator.prepare(plan).latents(plan.z(plan.parameters), range(12)) for _ in range(2))
    assert torch.equal(one, other) and one.dtype == torch.float64 and network.training
    before = generator.identity
    with torch.no_grad():
        network[0].weight.mul_(2)
    assert from_callable(network, "network").identity != before
    with pytest.raises(ValueError, match="function must be in evaluation mode, got Dropout"):
        from_callable(lambda z: network(z), "network")
    network.eval()
    double = from_callable(lambda z: network(z), "network").prepare(plan).latents
    with pytest.raises(TypeError, match=r"function must take torch\.float64, got .* Pass a module itself"):
        double(plan.z(plan.parameters), range(12))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda z: z.numpy(), TypeError, "function must return a tensor, got ndarray"),
        (lambda z: z[:1], ValueError, "function must return a row for each of 12, got shape"),
    ],
)
def test_what_functions_must_return(function, error, message):
    plan = SlicePlan(ANCHORS, GRID)
    with pytest.raises(error, match=message):
        from_callable(function, "f").prepare(plan).latents(plan.z(plan.parameters), range(12))
