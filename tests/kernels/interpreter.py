"""Triton kernels without a GPU: in another process, for its interpreter is asked for before Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def run(module: str) -> subprocess.CompletedProcess:
    """Call the function `interpret` of a test module there."""
    done = subprocess.run(
        [sys.executable, "-c", f"from {module} import interpret; interpret()"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode and "only 0-dimensional arrays can be converted" in done.stderr.rstrip().rpartition("\n")[2]:
        pytest.skip("Triton 3.6 interprets no loops with NumPy 2.4 or later")  # int() of an array, in triton.runtime
    return done
