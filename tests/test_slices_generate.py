"""A generated slice: the same bytes by any number of processes, after kills, damage and a full disk."""

import contextlib
import multiprocessing
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from hessfast import shards
from hessfast._fingerprint import fingerprint
from hessfast.posterior import Grid
from hessfast.slices import (
    SlicePlan,
    digit_classifier,
    digit_generator,
    feature_map,
    forecast,
    from_callable,
    generate,
    lipschitz,
    noise_floor,
    random_anchors,
    shard_job,
    zoom,
)
from hessfast.slices.digits import digit_unet

slices_worker = pytest.importorskip("tests.slices_worker")
plan = slices_worker.plan

KEEP = ("latents", "features", "images")


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.fixture(scope="module")
def generator():
    return digit_generator()


@pytest.fixture(scope="module")
def filled(tmp_path_factory, generator):
    folder = tmp_path_factory.mktemp("filled") / "new"
    generate(plan(), generator, folder, "digits", keep=KEEP, shard_size=4)
    return folder


@pytest.fixture
def copy(filled, tmp_path):
    return Path(shutil.copytree(filled, tmp_path / "copy"))


@pytest.fixture(scope="module")
def start():
    """A function that starts processes which have imported everything, and run on one thread."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.slices_worker"])

    def begin(folder, ranks, world_size, **more):
        workers = [
            context.Process(target=slices_worker.fill, args=(str(folder), r, world_size), kwargs=more) for r in ranks
        ]
        for worker in workers:
            worker.start()
        return workers

    return begin


def join(workers):
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


# ------------------------------------------------------------------------------------------------------- what is stored


def test_the_store_holds_what_the_networks_give(filled, generator):
    store, this = shards.open(filled), plan()
    assert {name: store.plan.arrays[name] for name in store} == {
        "parameters": ("float64", (2,)),
        "latents": ("float32", (1, 8, 8)),
        "features": ("float32", (32,)),
        "images": ("uint8", (1, 8, 8)),
    }
    np.testing.assert_array_equal(store["parameters"][:], this.parameters)
    prepared, classifier = generator.prepare(this), digit_classifier()
    with torch.no_grad():
        latents = prepared.latents(this.z(this.parameters), range(22))
        features = classifier(latents)
    np.testing.assert_allclose(store["latents"][:], latents.numpy(), atol=1e-5)
    np.testing.assert_allclose(store["features"][:], features.numpy(), atol=1e-5)
    np.testing.assert_allclose(store["images"][:], ((latents + 1) * 127.5).clamp(0, 255).numpy(), atol=0.51)
    assert SlicePlan.load(filled) == this


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_cannot_be_seen(tmp_path, filled, generator, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        generate(plan(), generator, tmp_path, "digits", keep=KEEP, shard_size=12)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    one, other = shards.open(tmp_path), shards.open(filled)
    for name in one:
        np.testing.assert_array_equal(one[name][:], other[name][:])


def test_autocast_around_it_cannot_be_seen(tmp_path, filled, generator):
    with torch.autocast("cpu", torch.bfloat16):
        store = generate(plan(), generator, tmp_path, "digits", keep=KEEP, shard_size=12)
    for name in store:
        np.testing.assert_array_equal(store[name][:], shards.open(filled)[name][:])


@pytest.mark.parametrize(
    ("dtype", "latents", "features"), [("float64", "float64", "float64"), ("bfloat16", "float16", "float32")]
)
def test_dtypes(tmp_path, generator, dtype, latents, features):
    this = plan(dtype=dtype, num_steps=2, points=[[0.2, 0.3]])
    store = generate(this, generator, tmp_path, "digits")
    assert store["latents"].dtype == latents and store["features"].dtype == features


def test_only_what_is_kept(tmp_path, generator):
    this = plan(num_steps=1)
    assert list(generate(this, generator, tmp_path / "a", keep=["images"])) == ["parameters", "images"]
    assert list(generate(this, generator, tmp_path / "b")) == ["parameters", "latents"]  # no features were asked for
    with pytest.raises(ValueError, match="holds another plan: it differs in arrays"):
        generate(this, generator, tmp_path / "a", keep=["images", "latents"])


def test_any_function_generates(tmp_path):
    """z itself in place of images, in three dimensions: what is stored is known in closed form."""
    anchors = random_anchors((2, 3, 3), 4, seed=5)
    this = SlicePlan(anchors, np.eye(3), micro_batch=2, dtype="float64")
    mean = feature_map(lambda images: images.mean(dim=(1, 2, 3))[:, None], "mean")
    store = generate(this, from_callable(lambda z: z, "identity"), tmp_path, mean)
    z = anchors[1:].double().numpy()
    z = z / z.std(axis=(1, 2, 3), ddof=1, keepdims=True)
    np.testing.assert_allclose(store["latents"][:], z, rtol=1e-14)
    np.testing.assert_allclose(store["features"][:, 0], z.mean(axis=(1, 2, 3)), rtol=1e-12)


def test_every_micro_batch_is_full(tmp_path):
    """Of five points in fours the fifth is made among four, in the first slot."""
    this = SlicePlan(random_anchors((1, 2, 2)), np.random.default_rng(0).uniform(size=(5, 2)), micro_batch=4)
    z = this.z(this.parameters).numpy()
    crowded = from_callable(lambda z: z + 1e-3 * len(z), "crowded")
    np.testing.assert_allclose(generate(this, crowded, tmp_path / "a")["latents"][:], z + 4e-3, atol=1e-6)
    seated = from_callable(lambda z: z + 1e-3 * torch.arange(len(z)).reshape(-1, 1, 1, 1), "seated")
    slots = 1e-3 * np.array([0, 1, 2, 3, 0]).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(generate(this, seated, tmp_path / "b")["latents"][:], z + slots, atol=1e-6)


@pytest.mark.parametrize(("dtype", "stored"), [("float64", "float64"), ("float32", "float32"), ("bfloat16", "float32")])
@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float64])
def test_features_are_stored_in_one_dtype(tmp_path, dtype, stored, given):
    this = SlicePlan(random_anchors((1, 2, 2)), [[0.1, 0.2], [0.3, 0.4]], dtype=dtype)
    halves = feature_map(lambda images: (2 * images.flatten(1)).round().to(given), "halves")
    store = generate(this, from_callable(lambda z: z, "identity"), tmp_path, halves)
    assert store.plan.arrays["features"] == (stored, (4,)) and store["features"].dtype == stored
    dtype = getattr(torch, dtype)
    expected = (2 * this.z(this.parameters).to(dtype).flatten(1)).float().round().to(given).float()
    np.testing.assert_array_equal(store["features"][:], expected.numpy())


# ------------------------------------------------------------------------------------------------------- many processes


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_number_of_processes_cannot_be_seen(tmp_path, filled, start, world_size):
    join(start(tmp_path, range(world_size), world_size))
    assert contents(tmp_path) == contents(filled)


def killed(folder, start, rounds, seed):
    """Two ranks at a time, one or both of them killed at random moments."""
    random = np.random.default_rng(seed)
    for _ in range(rounds):
        workers = start(folder, range(2), 2, seconds=0.1)  # too slow to end before
        time.sleep(random.uniform(0.1, 0.6))
        for worker in workers[: random.integers(1, 3)]:
            worker.kill()
        time.sleep(0.1)
        for worker in workers:
            worker.kill()
            worker.join()


def test_killed_and_gone_on_with(tmp_path, filled, start, generator):
    killed(tmp_path, start, 3, seed=0)
    store = generate(plan(), generator, tmp_path, "digits", keep=KEEP, shard_size=4)
    assert contents(tmp_path) == contents(filled) and store.broken() == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_ten_times(tmp_path, filled, start, generator, seed):
    killed(tmp_path, start, 10, seed)
    survivors = start(tmp_path, range(3), 3)
    survivors[1].kill()
    join([survivors[0], survivors[2]])
    assert contents(tmp_path) == contents(filled)


def test_a_damaged_shard_is_made_again(copy, filled, generator, caplog):
    path = copy / "00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (copy / "slice.safetensors").unlink()
    generate(plan(), generator, copy, "digits", keep=KEEP, shard_size=4)
    assert "Shard 3 of" in caplog.text and contents(copy) == contents(filled)


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_steps": 4}, r"parameters.slice.num_steps \(3, not 4\)"),
        ({"scheduler": "released"}, r'parameters.slice.scheduler \("ddim", not "released"\)'),
        ({"points": np.zeros((22, 2))}, "parameters.slice.points"),
        ({"anchors": random_anchors((1, 8, 8), seed=1)}, "parameters.slice.anchors"),
        ({"micro_batch": 2}, r"parameters.slice.micro_batch \(4, not 2\)"),
    ],
    ids=["steps", "scheduler", "points", "anchors", "micro-batch"],
)
def test_another_plan_is_refused(copy, generator, changes, field):
    before = contents(copy)
    with pytest.raises(ValueError, match=f"holds another plan: it differs in .*{field}"):
        generate(plan(**changes), generator, copy, "digits", keep=KEEP, shard_size=4)
    assert contents(copy) == before


def test_other_weights_and_features_are_refused(copy):
    generator = digit_generator()
    next(generator._unet[torch.float32].parameters()).data[0] += 1
    generator = type(generator)(generator._unet[torch.float32], generator.scheduler)
    with pytest.raises(ValueError, match=r"differs in parameters.generator.weights.unet"):
        generate(plan(), generator, copy, "digits", keep=KEEP, shard_size=4)
    classifier = digit_classifier()
    classifier.layers[0].bias.data += 1
    with pytest.raises(ValueError, match=r"differs in parameters.features.weights"):
        generate(plan(), digit_generator(), copy, classifier, keep=KEEP, shard_size=4)


def test_another_structure_of_the_same_weights_is_refused(tmp_path):
    this, identity = plan(), from_callable(lambda z: z, "identity")
    flat, other = (torch.nn.Sequential(torch.nn.Flatten(), bend) for bend in (torch.nn.ReLU(), torch.nn.Tanh()))
    assert feature_map(flat).identity == feature_map(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())).identity
    assert feature_map(flat).identity != feature_map(other).identity
    generate(this, identity, tmp_path, flat, keep=["features"])
    with pytest.raises(ValueError, match=r"holds another plan: it differs in parameters\.features\.weights"):
        generate(this, identity, tmp_path, other, keep=["features"])


def test_another_configuration_of_the_same_weights_has_another_identity():
    """Of a network of diffusers, whose text does not tell all that it does."""
    unet, other = digit_unet(), digit_unet()
    assert fingerprint(unet) == fingerprint(other)
    other.register_to_config(center_input_sample=True)
    assert repr(unet) == repr(other) and fingerprint(unet) != fingerprint(other)


def test_images_that_are_not_finite_are_refused(tmp_path):
    blank = from_callable(lambda z: z, "blank", decode=lambda z: z * torch.nan)
    this = SlicePlan(random_anchors((1, 2, 2)), np.zeros((5, 2)), micro_batch=4)
    with pytest.raises(
        ArithmeticError, match=r"images must be finite, got NaN or infinity at point [04]\. Look at its z"
    ):
        generate(this, blank, tmp_path, keep=["latents", "images"])


def test_latents_beyond_what_stores_them_are_refused(tmp_path):
    """bfloat16 is stored as float16, which ends at 65,504."""
    this = SlicePlan(random_anchors((1, 2, 2)), [[0.5, 0.5]], dtype="bfloat16", micro_batch=1)
    with pytest.raises(ArithmeticError, match="latents must be finite, got NaN or infinity at point 0"):
        generate(this, from_callable(lambda z: z * 1e6, "large"), tmp_path, keep=["latents"])


def test_a_complete_store_is_read_without_a_call(tmp_path):
    calls = []

    def double(z):
        calls.append(len(z))
        return 2 * z

    this = SlicePlan(random_anchors((1, 2, 2)), np.zeros((5, 2)), micro_batch=4)
    first = generate(this, from_callable(double, "double"), tmp_path, keep=["latents"])["latents"][:]
    calls.clear()
    again = generate(this, from_callable(double, "double"), tmp_path, keep=["latents"])["latents"][:]
    assert not calls and (first == again).all()
    (tmp_path / "00000.safetensors").unlink()
    assert (generate(this, from_callable(double, "double"), tmp_path, keep=["latents"])["latents"][:] == first).all()
    assert calls == [4, 4]


def test_what_is_not_finite_is_refused_and_what_is_sealed_stays(tmp_path):
    def overflows(z):
        return torch.where(z.mean(dim=(1, 2, 3), keepdim=True) > 0.9, torch.nan, z)

    anchors = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    this = SlicePlan(anchors, np.linspace(0, 1, 8)[:, None], normalise=False, micro_batch=2)
    with pytest.raises(
        ArithmeticError, match=r"latents must be finite, got NaN or infinity at point 7\. Look at its z"
    ):
        generate(this, from_callable(overflows, "overflows"), tmp_path, shard_size=2)
    assert shards.open(tmp_path, partial=True).shards == [0, 1, 2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"keep": ["pixels"]}, "keep must be one of latents, features, images, got 'pixels'"),
        ({"shard_size": 6}, "shard_size must be a multiple of the micro-batch, 4, got 6"),
        (
            {"features": feature_map(lambda x: x, "none")},
            r"features must give \[4, dim\] for images, got \(4, 1, 8, 8\)",
        ),
    ],
)
def test_options_that_do_not_fit(generator, more, message):
    with pytest.raises(ValueError, match=message):
        shard_job(plan(), generator, **more)


def test_a_generator_in_place_of_the_plan_is_refused(generator, tmp_path):
    with pytest.raises(TypeError, match=r"plan must be a SlicePlan, got .*\. Pass the plan before the generator"):
        generate(generator, plan(), tmp_path / "out")


def test_latents_that_are_no_images_have_none():
    this = SlicePlan([[1.0, 2.0], [3.0, 2.0]], [[0.0], [0.5]])
    with pytest.raises(ValueError, match="keep must not name images for this generator"):
        shard_job(this, from_callable(lambda z: z, "vectors"), keep=["latents", "images"])


def test_a_store_that_cannot_be_written(tmp_path, generator):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file must be a folder that can be written; choose another"):
        generate(plan(), generator, tmp_path / "file")


@contextlib.contextmanager
def small_disk(folder, size):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_ends_with_a_sentence_and_a_store_to_go_on_with(tmp_path, generator):
    many = plan(points=np.random.default_rng(0).uniform(size=(64, 2)), num_steps=1)
    with small_disk(tmp_path, "40k"):
        with pytest.raises(OSError, match=r"The disk of .* is full: \d+ of 16 shards are sealed and stay"):
            generate(many, generator, tmp_path, shard_size=4)
        subprocess.run(["mount", "-o", "remount,size=4m", tmp_path], check=True)
        assert generate(many, generator, tmp_path, shard_size=4).broken() == []
    with small_disk(tmp_path, "4k"), pytest.raises(OSError, match=r"The disk of .* is full"):
        generate(many, generator, tmp_path, shard_size=4)


# ------------------------------------------------------------------------------------------------------- other callers


LINE = [[[[0.0, 1.0]]], [[[1.0, 1.0]]]]


@pytest.mark.parametrize(
    "work",
    [
        lambda *given: generate(*given, "out"),
        lambda *given: zoom(*given, "out"),
        lambda *given: forecast(*given, "out"),
        lipschitz,
        noise_floor,
    ],
    ids=["generate", "zoom", "forecast", "lipschitz", "noise_floor"],
)
def test_a_bare_function_is_no_generator(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TypeError, match=r"generator must be a Generator, got <function .* Use from_callable for a func"
    ):
        work(SlicePlan(LINE, Grid((0,), (1,), (5,))), lambda z: z)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (from_callable(lambda z: z.numpy(), "a"), "function must return a tensor, got ndarray. Use torch.from_numpy"),
        (from_callable(lambda z: z, "b", decode=lambda z: z.numpy()), "decode must return a tensor, got ndarray"),
    ],
)
def test_functions_return_tensors(tmp_path, generator, message):
    with pytest.raises(TypeError, match=message):
        generate(SlicePlan(LINE, [[0.5]]), generator, tmp_path / "out")
    with pytest.raises(TypeError, match="decode must be a function of tensors, got 3"):
        from_callable(lambda z: z, "c", decode=3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["features"], "features must be given to keep nothing else, got None"),
        ([], "keep must name one of latents, features, images or more, got none"),
    ],
)
def test_a_store_of_coordinates_alone_is_refused(tmp_path, keep, message):
    """It would take the time of all images, and keep none."""
    with pytest.raises(ValueError, match=message):
        generate(SlicePlan(LINE, [[0.5]]), from_callable(lambda z: z, "same"), tmp_path / "out", keep=keep)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (lambda x: (x * 40 + 128).to(torch.uint8), r"images must be floating point in \[-1, 1\], got torch.uint8"),
        (lambda x: x * 40 + 128, r"images must be floating point in \[-1, 1\], got \d+.* in size. Map 0 to 255"),
        (lambda x: x.repeat(1, 5, 1, 1), r"images must have 1, 3 or 4 channels, their second axis, got shape \(8, 5"),
    ],
)
def test_images_that_are_none_are_refused(decode, message, tmp_path):
    """They would be stored as white. Latents are stored whatever they are."""
    square = SlicePlan(random_anchors((1, 4, 4)), Grid((0, 0), (1, 1), (3, 3)), micro_batch=8)
    wrong = from_callable(lambda z: z, "same", decode=decode)
    with pytest.raises(ValueError, match=message):
        generate(square, wrong, tmp_path / "images", keep=["images"])
    store = generate(square, wrong, tmp_path / "latents", keep=["latents"])
    assert store["latents"].shape == (9, 1, 4, 4)
