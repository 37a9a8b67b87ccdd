"""``hessfast slice`` as a new user types it: a tiny demo, gone on with, and what is refused."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("diffusers")
pytest.importorskip("matplotlib")

from hessfast.cli import app, slice
from hessfast.slices import SliceProject

TINY = ["--points", "16", "--steps", "2", "--pairs", "3", "--maps", "3", "--fit-steps", "20", "--levels", "2"]


def run(*arguments, env=None):
    return CliRunner().invoke(app, ["slice", *map(str, arguments)], env=env)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demo that was interrupted and gone on with."""
    folder = tmp_path_factory.mktemp("cli") / "demo"
    command = [sys.executable, "-m", "hessfast", "slice", "demo", str(folder), *TINY]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (folder / "geometry" / "fits").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 130, told
    assert told.splitlines()[-1] == (
        f"hessfast: Interrupted; what is done stays in {folder}. Go on with the same command."
    )
    return folder, run("demo", folder, *TINY)


def test_an_interruption_before_the_first_file_names_no_folder(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hessfast.slices.SliceProject.begin", interrupted)
    result = run("generate", tmp_path / "new")
    assert (result.exit_code, result.stderr) == (130, "hessfast: Interrupted; nothing was made.\n")


def test_demo_goes_on_and_reports(demo):
    folder, result = demo
    assert result.exit_code == 0, result.output
    assert f"Report: {folder / 'report.html'}" in result.stdout
    assert "Levi-Civita geodesics over 3 pairs" in result.stdout
    assert "Levi-Civita" in (folder / "report.html").read_text()
    assert {path.name for path in folder.iterdir()} == {
        "command.json", "plan.safetensors", "slice", "geometry", "zoom-float32", "curves", "maps", "figures",
        "report.html", "report.json",
    }  # fmt: skip


@pytest.mark.slow
def test_interruptions_cannot_be_seen(demo, tmp_path):
    result = run("demo", tmp_path / "demo", *TINY)
    assert result.exit_code == 0, result.output
    ours, others = contents(demo[0]), contents(tmp_path / "demo")
    assert ours.keys() == others.keys()
    kinds = (".safetensors", ".html", ".json", ".png")
    assert [str(name) for name in ours if name.suffix in kinds and ours[name] != others[name]] == []


def test_demo_again_makes_nothing(demo):
    folder, _ = demo
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    assert run("demo", folder, *TINY).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} | before == before


@pytest.mark.slow
def test_commands_one_by_one(demo, tmp_path):
    """The parts of the demo, with the same settings, make the same geometry."""
    folder = tmp_path / "slice"
    made = run("generate", folder, "--points", 16, "--steps", 2)
    assert made.exit_code == 0, made.output
    assert "Next: hessfast slice fit" in made.stdout
    assert run("fit", folder, "--steps", 20).exit_code == 0
    assert (folder / "geometry/fits/ours/weights.safetensors").read_bytes() == (
        demo[0] / "geometry/fits/ours/weights.safetensors"
    ).read_bytes()
    zoomed = run("zoom", folder, "--levels", 1, "--dtype", "float64", "--window", 5)
    assert "1 levels. max_levels allows no more than 1 levels." in zoomed.stdout
    assert run("report", folder, "--pairs", 0, "--maps", 0).exit_code == 0
    page = (folder / "report.html").read_text()
    assert "Zoom in float64" in page
    assert "Table 2" not in page
    assert json.loads((folder / "report.json").read_text())["curves"] is None


def test_the_papers_slice_is_a_command_of_the_help(tmp_path, monkeypatch):
    told = {}

    def forecast(out, **arguments):
        told.update(arguments)
        raise ValueError("not here")

    monkeypatch.setattr("hessfast.slices.SliceProject.forecast", forecast)
    words = shlex.split(slice.PAPER)
    assert words[:3] == ["hessfast", "slice", "generate"] and "The paper's slice" in run("generate", "--help").output
    run("generate", tmp_path / "new", *words[4:], "--dry-run")
    assert told["points_per_axis"] ** 2 == pytest.approx(60_000, rel=1e-3) and told["guidance"] == 5
    assert (told["num_steps"], told["scheduler"], told["eta"]) == (50, "released", 0)
    assert told["prompt"] == "High quality picture, 4k, detailed"
    assert told["negative_prompt"] == "blurry, ugly, stock photo"


def test_refusals_are_one_sentence(demo, tmp_path):
    for arguments, code, sentence in (
        (["fit", tmp_path / "none"], 2, "holds no slice. Make one with: hessfast slice generate"),
        (["demo", demo[0], *TINY[:-2], "--seed", "1"], 2, "out must be a new folder or that of the same run"),
        (["generate", tmp_path / "a", "--features", "clip"], 2, "features must be digits, pixels or ARCHITECTURE:FILE"),
        (
            ["generate", tmp_path / "b", "--features", "ViT-B-32:none.bin"],
            2,
            "checkpoint must be a file of CLIP weights",
        ),
        (["generate", tmp_path / "c", "--model", "none"], 2, "path must be a folder or file of a diffusers model"),
        (["generate", tmp_path / "d", "--scheduler", "none"], 2, "scheduler must"),
        (["generate", tmp_path / "e", "--points", "1"], 2, "points_per_axis must be >= 2, got 1"),
        (["generate", "/proc/none"], 2, "is not there and cannot be made"),
    ):
        result = run(*arguments)
        assert (result.exit_code, sentence in result.stderr) == (code, True), result.output
        assert result.stderr.splitlines()[-1].startswith("hessfast: "), result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_diffusers_without_clip(tmp_path):
    """Coloured images by a U-Net of diffusers, seen by their pixels, from images to the report."""
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    options = "--model", tmp_path / "model", "--points", 12, "--steps", 2
    wrong = run("generate", out, *options)
    assert wrong.exit_code == 2 and "for this classifier, got (64, 3, 8, 8). Choose other features." in wrong.output
    assert not out.exists()
    result = run("generate", out, *options, "--features", "pixels")
    assert result.exit_code == 0, result.output
    store = SliceProject(out).store
    parts = np.asarray(store["images"]).reshape(144, -1) / 127.5 - 1
    features = parts / np.linalg.norm(parts, axis=1, keepdims=True)
    np.testing.assert_allclose(store["features"][:], features, atol=0.02)  # images are kept in 8 bits
    assert run("fit", out, "--steps", 20).exit_code == 0


def test_report_needs_a_fit(tmp_path):
    folder = tmp_path / "slice"
    result = run("generate", folder, "--points", 4, "--steps", 1)
    assert (result.exit_code, result.stdout) == (0, f"In {folder}: slice.\nNext: hessfast slice fit {folder}\n")
    quiet = run("generate", folder, "--points", 4, "--steps", 1, env={"RANK": "1", "WORLD_SIZE": "2"})
    assert (quiet.exit_code, quiet.output) == (0, "")  # of torchrun's processes the first speaks
    result = run("report", folder)
    assert result.exit_code == 2
    assert "holds no fit. Make one with: hessfast slice fit" in result.stderr
    result = run("demo", tmp_path / "demo", "--maps", 2)  # said before the work, not after it
    assert (result.exit_code, result.stderr) == (2, "hessfast: maps must be 0 for no maps, or >= 3, got 2.\n")
    assert not (tmp_path / "demo").exists()


def test_networks_are_compiled_on_demand(tmp_path, monkeypatch):
    """Before the trial of a forecast, which it must not lengthen, and before the folder is touched: it may fail."""
    options = ["--points", 3, "--steps", 1, "--compile"]
    slow = [0.7]

    def compile(function, **_):
        return lambda *args, **kwargs: (time.sleep(slow.pop() if slow else 0), function(*args, **kwargs))[1]

    monkeypatch.setattr("torch.compile", compile)
    told = re.search(r"\(9 took (\S+) s\)", run("generate", tmp_path / "compiled", *options, "--dry-run").stdout)
    assert told and float(told[1]) < 0.7 and not slow
    assert run("generate", tmp_path / "compiled", *options).exit_code == 0
    assert json.loads((tmp_path / "compiled" / "command.json").read_text())["compile"] is True

    def broken(function, **_):
        def run(*args, **kwargs):
            raise TorchDynamoException("no compiler\nin sight")

        return run

    from torch._dynamo.exc import TorchDynamoException

    monkeypatch.setattr("torch.compile", broken)
    result = run("generate", tmp_path / "new", *options)
    expected = "hessfast: compile must be False here: torch.compile failed, no compiler.\n"
    assert (result.exit_code, result.stderr) == (1, expected)
    assert not (tmp_path / "new").exists()


def test_dry_run_writes_nothing(tmp_path):
    result = run("generate", tmp_path / "slice", "--points", 20, "--steps", 3, "--dry-run")
    assert result.exit_code == 0, result.output
    images, missing, seconds = result.stdout.splitlines()
    assert images == "slice: 400 images of 3 steps in 2 shards of 256, 186 kB in all"
    assert missing.startswith(f"to make: 400 images by 21 calls of the U-Net, 186 kB in {tmp_path / 'slice'}, where ")
    assert re.fullmatch(r"time: about \S+ \w+ by 1 process\(es\) on cpu \(\d+ took \d+\.\d\d s\)", seconds)
    assert list(tmp_path.iterdir()) == []


def test_processes_share_the_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slice._distributed, "started", lambda: (0, 4))
    job = SimpleNamespace(num=8, num_shards=1, shard_size=8, num_bytes=80)
    found = SimpleNamespace(job=job, missing=8, calls=8, num_bytes=80, seconds=20.0, tried=1, trial=2.5)
    slice._tell(tmp_path, found, 5, "cpu")
    assert "time: about 5 s by 4 process(es) on cpu (1 took 2.50 s)" in capsys.readouterr().out


@pytest.fixture
def copy(demo, tmp_path):
    return Path(shutil.copytree(demo[0], tmp_path / "copy"))


@pytest.mark.parametrize("damage", ["{}", "{"])
def test_damaged_parts_are_made_again(demo, copy, damage):
    for name in ("held_out.json", "fits/ours/settings.json", "fits/paper/weights.safetensors"):
        (copy / "geometry" / name).write_text(damage)
    result = run("fit", copy, "--steps", 20)
    assert result.exit_code == 0, result.output
    assert contents(copy / "geometry") == contents(demo[0] / "geometry")


@pytest.mark.parametrize("damage", ["{}", "{"])
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("command.json", "run hessfast slice generate {0} with its options again, which mends it"),
        ("plan.safetensors", "run hessfast slice generate {0} with its options again, which mends it"),
        ("slice/plan.json", "run the command that began it again, put back the original, or delete the folder"),
        ("geometry/settings.json", "delete {0}/geometry and fit again"),
        ("curves/across-3-0/settings.json", "delete the folder {0}/curves/across-3-0 and run again, or choose another"),
    ],
)
def test_damage_is_one_sentence(copy, name, remedy, damage):
    (copy / name).write_text(damage)
    result = run("report", copy, "--pairs", 3, "--maps", 0)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"hessfast: {copy / name} is damaged; {remedy.format(copy)}."


def test_other_numbers_are_other_folders(copy):
    """None is refused for the pairs and maps of a report before."""
    result = run("report", copy, "--pairs", 2, "--maps", 4)
    assert result.exit_code == 0, result.output
    assert "geodesics over 2 pairs" in result.stdout
    assert {path.name for path in (copy / "curves").iterdir()} == {"across-3-0", "across-2-0"}
    assert {path.name for path in (copy / "maps").iterdir()} == {"3", "4"}
