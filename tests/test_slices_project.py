"""The folder of a slice: begun by many at once, damaged, mended, and what it would take before it is made."""

import errno
import json
import multiprocessing
import os
import shutil
import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from hessfast._dispatch import device_kind
from hessfast._distributed import local_device
from hessfast._steps import Steps
from hessfast.slices import SlicePlan, SliceProject, digits, from_callable, project
from hessfast.slices.project import check_report

pytest.importorskip("tests.slices_worker")
SMALL: dict[str, Any] = {"points_per_axis": 20, "num_steps": 1}  # 400 images in two shards


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project") / "new"
    SliceProject.begin(folder, **SMALL).generate()
    return folder


@pytest.fixture
def begun(tmp_path):
    """A folder without images yet."""
    SliceProject.begin(tmp_path / "begun", **SMALL)
    return tmp_path / "begun"


# --------------------------------------------------------------------------------------------------------- many at once


def together(work, num):
    """The work of each of `num` threads, begun at one moment: what it returned or raised."""
    barrier, results = threading.Barrier(num), [None] * num

    def run(k):
        barrier.wait()
        try:
            results[k] = work(k)
        except Exception as error:
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(num)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_any_number_claim_a_folder_at_once(tmp_path):
    def claim(folder):
        steps = Steps(folder)
        steps.claim({"seed": 1}, "command.json")
        steps.share("plan", b"the same" * 1000)
        (folder / "more").touch()  # what a slower one must not take for another run's

    for round in range(30):
        folder = tmp_path / str(round)
        assert together(lambda _, folder=folder: claim(folder), 8) == [None] * 8
        assert {path.name for path in folder.iterdir()} == {"command.json", "plan", "more"}
        assert (folder / "plan").read_bytes() == b"the same" * 1000


def test_of_two_runs_one_has_the_folder(tmp_path):
    for round in range(20):
        found = together(lambda k, round=round: Steps(tmp_path / str(round)).claim({"seed": k % 2}), 6)
        seed = json.loads((tmp_path / str(round) / "settings.json").read_text())["seed"]
        assert [error is None for error in found] == [k % 2 == seed for k in range(6)]
        assert all("same run" in str(error) for error in found if error is not None)


def begin(folder, rank, barrier):
    os.environ.update(RANK=str(rank), WORLD_SIZE="3", LOCAL_RANK=str(rank))
    barrier.wait()
    SliceProject.begin(folder, **SMALL).generate()


def test_three_processes_begin_a_folder_at_once(made, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.slices_worker"])
    for round in range(3):
        folder, barrier = tmp_path / str(round), context.Barrier(3)
        workers = [context.Process(target=begin, args=(folder, rank, barrier)) for rank in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert contents(folder) == contents(made)


# ------------------------------------------------------------------------------------------------- damage and refusals


@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"model": "digits"}', None])
@pytest.mark.parametrize("name", ["command.json", "plan.safetensors"])
def test_damage_is_said_and_mended(begun, name, damage):
    before = contents(begun)
    if damage is None:
        (begun / name).unlink()
    else:
        (begun / name).write_text(damage)
    sentence = "holds no slice. Make one with" if damage is None else f"{name} is damaged; run hessfast slice generate"
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        SliceProject(begun)
    SliceProject.begin(begun, **SMALL)
    assert contents(begun) == before


def test_a_damaged_command_opens_no_door_to_another_slice(made, tmp_path):
    (made / "command.json").rename(tmp_path / "kept")
    try:
        with pytest.raises(ValueError, match=r"holds another plan: it differs in parameters.slice.anchors"):
            SliceProject.begin(made, **SMALL, seed=1)
        assert not (made / "command.json").exists()
    finally:
        (tmp_path / "kept").rename(made / "command.json")


def test_files_of_others_are_left(tmp_path):
    for name, sentence in (("thesis.tex", "that of a run"), ("command.json", "command.json is damaged; delete the")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("{")
        with pytest.raises(ValueError, match=sentence):
            SliceProject.begin(folder, **SMALL)
        assert contents(folder) == {name: b"{"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"features": "clip"}, "features must be digits, pixels or ARCHITECTURE:FILE, got 'clip'"),
        ({"scheduler": "none"}, "scheduler must be ddim"),
        ({"guidance": 2.0}, "guidance must be 1 and prompts empty for a model without text"),
        ({"points_per_axis": 1}, "points_per_axis must be >= 2, got 1"),
        ({"lower": 1, "upper": 1.0}, r"upper must be above lower, got 1 and 1\.$"),
        ({"device": "tpu"}, 'device must be "cpu", "cuda" or "cuda:N", got \'tpu\''),
    ],
)
def test_what_is_refused_leaves_no_folder(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        SliceProject.begin(tmp_path / "new", **SMALL | change)
    with pytest.raises(ValueError, match=sentence):
        SliceProject.forecast(tmp_path / "new", **SMALL | change)
    assert not (tmp_path / "new").exists()


def test_a_model_without_a_shape_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "_model", lambda *_: from_callable(lambda z: z, "same"))
    with pytest.raises(
        ValueError, match="model must tell the shape of its latents, as U-Nets of diffusers do, got 'x'"
    ):
        SliceProject.begin(tmp_path / "new", model="x")


@pytest.mark.parametrize("given", [None, torch.nn.Identity()], ids=["none", "module"])
@pytest.mark.parametrize("name", ["model", "features"])
def test_models_and_features_are_named(tmp_path, name, given):
    with pytest.raises(TypeError, match=f"{name} must be digits.* or .*, got (None|Identity).* of your own use"):
        SliceProject.begin(tmp_path / "new", **{name: given})
    assert not (tmp_path / "new").exists()


def test_settings_of_no_plan_are_named(tmp_path):
    with pytest.raises(TypeError, match=r"settings must be some of dtype, eta, .*, got \['points', 'stpes'\]"):
        SliceProject.begin(tmp_path / "new", points=3, stpes=3)


def test_before_the_images_the_command_that_makes_them_is_said(begun):
    this = SliceProject(begun)
    for work in (lambda: this.store, this.fit, this.zoom):
        with pytest.raises(FileNotFoundError, match=r"begun holds no images\. Make them with: hessfast slice generate"):
            work()
    assert not (begun / "geometry").exists()


def test_reports_are_refused_before_the_work(begun, monkeypatch):
    for pairs, maps in ((0, 0), (2, 3), (100, 24)):
        check_report(pairs, maps)
    for pairs, maps, sentence in (
        (1, 0, "pairs must be 0 for no paths, or >= 2, got 1"),
        (0, 2, "maps must be 0 for no maps, or >= 3, got 2"),
        (-1, 0, "pairs must be >= 0, got -1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            SliceProject(begun).report(pairs, maps)
    with pytest.raises(FileNotFoundError, match=r"holds no fit\. Make one with: hessfast slice fit"):
        SliceProject(begun).report()
    monkeypatch.setattr(project._figures, "available", lambda: False)
    with pytest.raises(ImportError, match="matplotlib must be installed for reports"):
        SliceProject(begun).report()


# -------------------------------------------------------------------------------------------------------------- devices


def test_a_slice_keeps_whether_it_is_compiled(tmp_path):
    begun = SliceProject.begin(tmp_path, **SMALL, compile=True)
    again = SliceProject(tmp_path)
    assert begun.generator.compile and again.generator.compile and again.options["compile"] is True
    SliceProject.begin(tmp_path, **SMALL, compile=True)
    with pytest.raises(ValueError, match="with compile True, not none"):
        SliceProject.begin(tmp_path, **SMALL)


def test_the_number_of_a_gpu_is_of_the_process(begun, monkeypatch):
    """A GPU is one of a kind: kinds decide bytes, numbers do not."""
    assert [device_kind(device) for device in ("cpu", "cuda", "cuda:0", "cuda:11")] == ["cpu", "cuda", "cuda", "cuda"]
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert local_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [local_device(device) for device in ("cuda", "cuda:1", "cpu")] == ["cuda:3", "cuda:1", "cpu"]
    assert json.loads((begun / "command.json").read_text())["device"] == "cpu"
    with pytest.raises(ValueError, match="device must be of the slice's kind, cpu, got 'cuda:1'"):
        SliceProject(begun, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match='No CUDA device was found; use device="cpu"'):
        SliceProject.begin(begun, **SMALL, device="cuda:1")


# ------------------------------------------------------------------------------------------------- forecast and classes


def test_a_forecast_counts_what_is_missing(made, tmp_path):
    found = SliceProject.forecast(tmp_path / "new", **SMALL | {"num_steps": 3})
    assert (found.missing, found.calls, found.num_bytes) == (400, 7 * 3, 400 * (2 * 8 + 64 * 4 + 32 * 4 + 64))
    assert found.seconds > 0 and found.tried >= 64
    assert not (tmp_path / "new").exists()
    before = contents(made)
    done = SliceProject.forecast(made, **SMALL)
    assert (done.missing, done.calls, done.num_bytes, done.seconds) == (0, 0, 0, 0)
    (made / "slice" / "00001.done").rename(tmp_path / "seal")
    try:
        assert SliceProject.forecast(made, **SMALL).missing == 400 - 256
    finally:
        (tmp_path / "seal").rename(made / "slice" / "00001.done")
    with pytest.raises(ValueError, match=r"holds another plan: it differs in parameters\.slice\.anchors"):
        SliceProject.forecast(made, **SMALL, seed=1)
    assert contents(made) == before


@pytest.mark.parametrize(
    ("num", "micro_batch", "trial", "tried", "seconds"),
    [(9, 1, 5.0, 1, 5 * 9 / 4), (9, 1, 0.1, 4, 0.1 * 9 / 4), (3, 2, 0.1, 3, 0.1), (3, 2, 5.0, 2, 5.0)],
)
def test_a_forecast_is_of_as_many_micro_batches_as_there_are_threads(
    tmp_path, monkeypatch, num, micro_batch, trial, tried, seconds
):
    module = sys.modules["hessfast.slices.forecast"]
    monkeypatch.setattr(module, "_seconds", lambda make, num: trial)
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 4)
    points = [[k / num] for k in range(num)]
    plan = SlicePlan([[0.0, 1.0], [1.0, 0.0]], points, micro_batch=micro_batch)
    found = module.forecast(plan, from_callable(lambda z: z, "same"), tmp_path, keep=["latents"])
    assert (found.tried, found.seconds) == (tried, pytest.approx(seconds))


def test_classes_are_digits_or_clusters(made):
    this = SliceProject(made)
    assert this.plan == SlicePlan.load(made / "slice")
    features = np.asarray(this.store["features"][:])
    digits = this.classify(features)
    np.testing.assert_array_equal(this.classify(features.astype(np.float64)), digits)  # of a slice in float64
    assert digits.shape == (400,) and set(digits) <= set(range(10)) and len(set(digits)) > 1
    this.options["features"] = "of another kind"
    places = np.repeat(np.arange(6), 5)
    clusters = this.classify(100 * np.eye(6)[places] + 0.1 * np.random.default_rng(0).normal(size=(30, 6)))
    assert len(set(zip(places, clusters, strict=True))) == len(set(clusters)) == 6


def test_a_slice_has_the_bounds_and_the_seed_that_it_was_begun_with(tmp_path):
    plan = SliceProject.begin(tmp_path / "x", **SMALL, lower=-1.0, upper=2.0, seed=5).plan
    points = np.asarray(plan.parameters)
    assert points.min(axis=0).tolist() == [-1, -1] and points.max(axis=0).tolist() == [2, 2]
    assert plan.seed == 5 and SliceProject(tmp_path / "x").plan == plan


def test_steps_have_the_settings_that_were_asked_for(made, monkeypatch):
    """And `geometry` those that the fit was begun with."""
    this, asked = SliceProject(made), []
    monkeypatch.setattr(
        project, "fit", lambda *_, points_per_axis, num_steps, seed, **__: (points_per_axis, num_steps, seed)
    )
    assert this.fit(12, 34, 56) == (12, 34, 56)
    (made / "geometry").mkdir()
    (made / "geometry" / "settings.json").write_text('{"seed": 3, "points_per_axis": 5, "num_steps": 7}')
    assert this.geometry == (5, 7, 3)
    shutil.rmtree(made / "geometry")
    monkeypatch.setattr(project, "zoom", lambda plan, *_, **__: plan.dtype)
    assert [this.zoom(), this.zoom("float64")] == ["float32", "float64"]
    monkeypatch.setattr(SliceProject, "geometry", None)
    monkeypatch.setattr(project, "compare", lambda *_, **given: asked.append((given["num_pairs"], given["seed"])))
    monkeypatch.setattr(project, "write_report", lambda *_, **__: made)
    this.report(pairs=3, maps=0, seed=9)
    assert asked == [(3, 9)]


def test_a_digit_is_the_one_the_classifier_holds_for_likeliest(made):
    this = SliceProject(made)
    features = np.asarray(this.store["features"][:])
    logits = digits.digit_classifier().logits(torch.tensor(features)).detach().numpy()
    np.testing.assert_array_equal(logits[range(400), this.classify(features)], logits.max(axis=1))


def test_features_that_have_changed_since_are_refused(made):
    this = SliceProject(made)
    this.options["features"] = "pixels"
    with pytest.raises(
        ValueError, match="features must be what the slice was made by, got 'pixels', which has changed"
    ):
        _ = this.features


# -------------------------------------------------------------------------------------------------------------- steps


def test_who_comes_second_waits_for_a_record_and_reads_it(tmp_path):
    calls = []

    def make():
        calls.append(None)
        return {"made": len(calls)}

    found = together(lambda k: Steps(tmp_path).record("rows/one", make), 6)
    assert found == [{"made": 1}] * 6
    arrays = together(lambda k: Steps(tmp_path).arrays("rows/two", lambda: {"x": np.array(len(calls))}), 6)
    assert all(int(each["x"]) == 1 for each in arrays)  # type: ignore[index]


def test_a_model_by_a_relative_path_is_the_same_from_everywhere(tmp_path, monkeypatch):
    import diffusers

    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    unet = diffusers.UNet2DModel(**digits.UNET)
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained("model")
    SliceProject.begin(tmp_path / "slice", model="model", **SMALL)
    monkeypatch.chdir(tmp_path / "there")
    again = SliceProject(tmp_path / "slice")
    assert again.options["model"] == str(tmp_path / "here" / "model")
    assert again.generator.latent_shape == (1, 8, 8)


def test_a_folder_by_a_relative_path_is_the_same_from_everywhere(made, tmp_path, monkeypatch):
    monkeypatch.chdir(made.parent)
    this, steps = SliceProject(made.name), Steps("steps")
    monkeypatch.chdir(tmp_path)
    assert len(this.store["images"]) == 400
    steps.record("one", lambda: {"made": 1})
    assert contents(tmp_path) == {}


def test_a_zoom_begins_from_whole_images_and_says_how_to_begin_anew(tmp_path):
    SliceProject.begin(tmp_path / "x", points_per_axis=12, num_steps=1).generate()
    SliceProject(tmp_path / "x").zoom(None, 5, 1)
    with pytest.raises(ValueError, match=r"holds another zoom.* delete .*zoom-float32 to zoom anew"):
        SliceProject(tmp_path / "x").zoom(None, 7, 1)
    path = tmp_path / "x" / "slice" / "00000.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + bytes(range(8)))
    with pytest.raises(ValueError, match="1 of its 1 shards are missing or broken"):
        SliceProject(tmp_path / "x").zoom(None, 5, 1)


def test_a_full_disk_and_a_file_in_place_of_a_folder_are_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file must be a folder that can be written; choose another"):
        Steps(tmp_path / "file").claim({"seed": 1})

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for work in (
        lambda: Steps(tmp_path / "x").record("one", lambda: 1),
        lambda: Steps(tmp_path / "x").write("two", ""),
    ):
        with pytest.raises(
            OSError, match=r"The disk of .*x/(one.json|two) is full\. Free some and run the same command"
        ):
            work()
