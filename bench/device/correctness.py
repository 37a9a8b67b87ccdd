"""The tests that need a GPU: each kernel against its CPU twin or the truth; and compute-sanitizer on small cases."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench import report

from .measure import Row


def tests() -> Iterator[Row]:
    """One row a file of tests."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        parallel = ["-n", "8"] if importlib.util.find_spec("xdist") else []
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", *parallel, f"--junitxml={results}", "tests"]
        done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True)
        if not results.exists():
            raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
        outcomes: dict[str, Counter] = {}
        for case in ElementTree.parse(results).iter("testcase"):
            outcome = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), "passed")
            outcomes.setdefault(case.get("classname", "").rpartition(".")[2], Counter())[outcome] += 1
    for name, counts in sorted(outcomes.items()):
        yield {"name": f"tests: {name}", **counts}
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:])


def memcheck() -> Iterator[Row]:
    yield from _sanitized("memcheck")


def racecheck() -> Iterator[Row]:
    yield from _sanitized("racecheck")


def _sanitized(tool: str) -> Iterator[Row]:
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise RuntimeError("compute-sanitizer is not on PATH.")
    command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "bench.device.small"]
    done = subprocess.run(command, cwd=report.ROOT, capture_output=True, text=True)
    summary = next((line for line in done.stdout.splitlines()[::-1] if "SUMMARY" in line), done.stdout[-300:])
    yield {"name": f"compute-sanitizer: {tool}", "summary": summary.strip("= "), "clean": done.returncode == 0}
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-1000:])
