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


def test_all_leave_when_the_last_has_done_its_work(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "worker.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
