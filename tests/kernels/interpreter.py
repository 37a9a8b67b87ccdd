"""Triton kernels without a GPU: in another process, for its interpreter is asked for before Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def run(module: str) -> subprocess.CompletedProcess:
    """Call the function `interpret` of a test module there."""
    return subprocess.run(
        [sys.executable, "-c", f"from {module} import interpret; interpret()"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
