"""The process group of torchrun's processes."""

import subprocess
import sys

WORKER = """
import pathlib, time
from hessfast import _distributed

with _distributed.group("cpu"):
    rank, ranks = _distributed.ranks()
    assert ranks == 2
    if rank == 0:
        time.sleep(1)
        pathlib.Path("worked").touch()
assert pathlib.Path("worked").exists()
assert _distributed.ranks() == (0, 1)
"""


TRAINING = """
import numpy as np, torch
from hessfast import _checkpoint, _distributed
from hessfast.posterior import U2NetPosterior

torch.set_num_threads(1)
rng = np.random.default_rng(0)
place, images = rng.uniform(size=(40, 2)), rng.normal(size=(40, 16, 16))
options = {"size": "tiny", "num_steps": 2, "batch_size": 4, "checkpoint": "u2net.safetensors"}
with _distributed.group("cpu"):
    trained = U2NetPosterior(box=((0, 0), (1, 1)), **options).fit(images, place)
    torch.distributed.barrier()  # rank 0 has written
    kept = _checkpoint.part(_checkpoint.read("u2net.safetensors")[1], "module")
    assert all(torch.equal(value, kept[name]) for name, value in trained._network.state_dict().items())
"""


def run(tmp_path, worker):
    (tmp_path / "worker.py").write_text(worker)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "worker.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_all_leave_when_the_last_has_done_its_work(tmp_path):
    run(tmp_path, WORKER)


def test_ranks_have_the_network_of_the_checkpoint(tmp_path):
    """Running statistics, too, which are of each rank's share."""
    run(tmp_path, TRAINING)
