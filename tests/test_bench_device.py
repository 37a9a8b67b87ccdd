"""bench.device on a machine without a GPU: steps fail one by one, and the dry form says what the compilers say."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from bench import readme_table, report
from bench.device import ceilings, machine_code
from bench.device.dry import warps
from bench.device.measure import Row
from bench.device.steps import STEPS
from tests.kernels import test_compile_cuda


@pytest.fixture
def no_gpu():
    import torch

    if torch.cuda.is_available():
        pytest.skip("There is a GPU.")


def test_without_a_gpu_nothing_is_claimed(no_gpu, tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "bench.device", "--out", str(out)]
    done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "No CUDA device was found" in done.stderr and not out.exists()


def test_a_failed_step_does_not_stop_the_next(no_gpu, tmp_path, monkeypatch):
    import bench.device.__main__ as device

    monkeypatch.setattr(device, "system", dict)
    monkeypatch.setattr(report, "machine", lambda _: "none")
    run = device.Run(tmp_path / "out.json", commit="abc")
    run.steps(["ceilings", "ising_sweep"], time.time() + 100)
    assert list(run.failed) == ["ceilings", "ising_sweep"] and not run.left and not run.rows
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["rows"] == {} and content["device"] == "cuda"


def test_a_step_without_time_is_not_begun(tmp_path):
    import bench.device.__main__ as device

    run = device.Run(tmp_path / "out.json", commit=None)
    run.steps(["ceilings"], time.time() + 1)
    assert run.left == ["ceilings"] and not run.failed


def test_occupancy():
    """An H100 holds 16 warps of 128 registers or of 97, and 20 of 96, four to a block."""
    assert [warps(registers, 4) for registers in (128, 104, 97, 96, 32)] == [16, 16, 16, 20, 64]


@pytest.mark.parametrize(("operation", "unit"), [("lop3", "logic"), ("mad.lo", "product")])
def test_machine_code_of_a_loop_that_is_known(operation, unit, tmp_path):
    """The loop of a ceiling has its operation 64 times, or a multiple of that, and besides only its own counting."""
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH")
    source, binary = tmp_path / "chains.cu", tmp_path / "chains.cubin"
    source.write_text(ceilings.CHAINS.replace("OP", ceilings.OPERATIONS[operation]))
    subprocess.run(["nvcc", "-arch=sm_90", "-cubin", "-o", str(binary), str(source)], check=True, capture_output=True)
    (loop,) = machine_code.loops(machine_code.cuobjdump(binary.read_bytes(), "-sass"))
    assert (loop.kernel, loop.target) == ("chains", "sm_90")
    passages = loop.units[unit] // 64
    assert passages and loop.units.total() - 64 * passages <= 8, loop.units


def test_logic_and_products_share_the_loop_of_every_plane():
    """Six words of random bits a passage: a word takes four products for each half, and two majorities."""
    found = machine_code.loops(machine_code.cuobjdump(test_compile_cuda.binary("ising_sweep"), "-sass"))
    drawn = [units for kernel, _, units in found if kernel == "ising_sweep_128" and units.total() > 100]
    assert len(drawn) == 4 * len(test_compile_cuda.ARCHITECTURES)
    assert all(60 < units["logic"] <= 81 and 48 < units["product"] <= 81 for units in drawn), drawn


def test_every_gpu_kernel_has_a_step():
    steps = {name for name in STEPS if (report.ROOT / "kernels" / name / "gpu.py").exists()}
    assert steps == {path.parent.name for path in (report.ROOT / "kernels").glob("*/gpu.py")}


def test_what_was_never_measured_is_named():
    sweep: Row = {"rate": 1.0, "step": "ising_sweep"}
    results = [{"device": "cuda", "rows": {"ising_sweep: all": sweep}, "checks": {"tests: all": {"step": "tests"}}}]
    missing = readme_table.never_on_a_gpu(results)
    assert set(missing) == STEPS.keys() - {"ising_sweep", "tests"}
    on_a_cpu = {"device": "cpu", "rows": {"ising_sweep: 128x128": {"rate": 1.0}}}
    assert "ising_sweep" in readme_table.never_on_a_gpu([on_a_cpu])


def test_the_work_of_an_image():
    """82.8 TFLOP for 512 x 512 with 50 guided steps, as is published of version 1.5."""
    pytest.importorskip("diffusers")
    from bench.device.slices import tflop

    assert tflop() == pytest.approx(82.8, rel=1e-3)


def test_the_pipeline_that_is_measured():
    pytest.importorskip("transformers")
    from bench.device.slices import assembled
    from hessfast.posterior import Grid
    from hessfast.slices import SlicePlan, from_pipeline, random_anchors
    from tests import tiny_diffusion

    grid, asked = Grid((0, 0), (1, 1), (2, 2)), {"guidance": 5.0, "prompt": "high, 4k", "negative_prompt": "ugly"}
    plan = SlicePlan(random_anchors((4, 8, 8)), grid, num_steps=2, dtype="bfloat16", micro_batch=2, **asked)
    made = from_pipeline(assembled(tiny_diffusion.unet(), tiny_diffusion.autoencoder())).prepare(plan)
    assert bool(made.decode(made.latents(plan.z(plan.parameters[:2]), range(2))).isfinite().all())
